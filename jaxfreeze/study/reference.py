"""The paper's figures, to compare with: scores of the authors' runs, their filter, their learning rates.

"What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning", Lee, Tang, Lin, arXiv:1911.03090; the scores are
computed from the per-run result files in the first author's public repository, ljj7975/transformers.
"""

import csv
import functools
from importlib import resources
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxfreeze.study.results import ALL, Layers

EVE, LATER = "2019-11-07", "2020-05"
"""The two dates of the authors' result files: the eve of the paper, and with more seeds."""

LEARNING_RATES: dict[str, dict[str, float]] = {
    model: dict(zip(("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"), rates, strict=True))
    for model, rates in {
        "bert-base-uncased": (4e-5, 2e-5, 3e-5, 5e-5, 2e-5, 3e-5, 2e-5, 3e-5),
        "bert-large-uncased": (2e-5, 1e-5, 2e-5, 4e-5, 1e-5, 1e-5, 2e-5, 3e-5),
        "roberta-base": (4e-5, 1e-5, 2e-5, 2e-5, 1e-5, 1e-5, 1e-5, 3e-5),
        "roberta-large": (1e-5, 1e-5, 1e-5, 2e-5, 1e-5, 1e-5, 1e-5, 1e-5),
    }.items()
}
"""Chosen by the authors with the full model on the dev set, out of 1e-5 to 5e-5, and used for every k."""


ONE_ANSWER: dict[str, float] = {
    "cola": 0.0,
    "sst2": 444 / 872,
    "mrpc": 2 * 279 / (408 + 279),  # F1 of 279 right positives in 408
    "stsb": 0.0,
    "qqp": 2 * 14885 / (40430 + 14885),
    "mnli": 3479 / 9815,
    "mnli_mismatched": 3463 / 9832,
    "qnli": 2761 / 5463,
    "rte": 146 / 277,
}
"""Score on GLUE's whole dev sets of the best answer that is the same for every row: 0 for the correlations."""


class Snapshot(NamedTuple):
    """The authors' runs of one model, task and k at one date; scores as fractions."""

    runs: int
    mean: float
    sd: float | None
    """Sample standard deviation; None for one run."""
    kept: int
    filtered_mean: float | None
    """Mean under the authors' filter; None where it keeps no run."""


class Figures(NamedTuple):
    """The authors' runs of one model and task, by k, at both dates."""

    eve: dict[Layers, Snapshot]
    later: dict[Layers, Snapshot]


def kept_by_authors(scores: np.ndarray) -> np.ndarray:
    """The authors' filter over the runs of one cell [n] -> bool [n]: drops zeros and what is at most 0.9 x the best.

    A zero needs no rule of its own: it is never above 0.9 x a best that is 0 or more.
    """
    return scores > 0.9 * scores.max()


def authors_model(model: str, num_layers: int) -> str | None:
    """The authors' name of a model, from its hub name or its folder; None if they have no such model."""
    name = PurePosixPath(model).name
    layers = {known: layers for known, _, layers in _table()}
    return name if layers.get(name) == num_layers else None


def authors_figures(model: str, task: str, num_layers: int) -> Figures | None:
    """What the authors have for a model and a task; None if they have nothing."""
    name = authors_model(model, num_layers)
    return None if name is None else _table().get((name, task, num_layers))


@functools.cache
def _table() -> dict[tuple[str, str, int], Figures]:
    text = resources.files("jaxfreeze.study").joinpath("reference.csv").read_text(encoding="utf-8")
    table: dict[tuple[str, str, int], Figures] = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        layers: Layers = ALL if row["trainable_layers"] == ALL else int(row["trainable_layers"])
        figures = table.setdefault((row["model"], row["task"], int(row["num_layers"])), Figures({}, {}))
        for snapshots, date in zip(figures, (EVE, LATER), strict=True):
            if row[f"runs_{date}"]:
                snapshots[layers] = Snapshot(
                    int(row[f"runs_{date}"]),
                    float(row[f"mean_{date}"]) / 100,
                    _fraction(row[f"stdev_{date}"]),
                    int(row[f"kept_{date}"]),
                    _fraction(row[f"filtered_mean_{date}"]),
                )
    return table


def _fraction(percent: str) -> float | None:
    return float(percent) / 100 if percent else None
