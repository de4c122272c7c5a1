"""The authors' results to compare with: scores of their runs and their learning rates.

"What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning", Lee, Tang, Lin, arXiv:1911.03090; the scores are
computed from the per-run result files in the first author's public repository, ljj7975/transformers.
"""

import csv
import functools
from importlib import resources
from pathlib import PurePosixPath
from typing import NamedTuple

from jaxfreeze.freezing import ALL, Layers

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


class Snapshot(NamedTuple):
    """The authors' runs of one model, task and k at one date; scores as fractions."""

    runs: int
    mean: float
    sd: float | None
    """Sample standard deviation; None for one run."""
    kept: int
    filtered_mean: float | None
    """Mean under the authors' filter; None where it keeps no run."""


class AuthorsScores(NamedTuple):
    """The authors' runs of one model and task, by k, at both dates."""

    eve: dict[Layers, Snapshot]
    later: dict[Layers, Snapshot]


def authors_epochs(model: str) -> tuple[str, int]:
    """The authors' family that a model is compared with, by its name, and the epochs of its runs."""
    return ("RoBERTa", 10) if "roberta" in model.lower() else ("BERT", 3)


def authors_model(model: str, num_layers: int) -> str | None:
    """The authors' name of a model, from its hub name or its folder; None if they have no such model."""
    name = PurePosixPath(model).name
    layers = {known: layers for known, _, layers in _table()}
    return name if layers.get(name) == num_layers else None


def authors_scores(model: str, task: str, num_layers: int) -> AuthorsScores | None:
    """What the authors have for a model and a task; None if they have nothing."""
    name = authors_model(model, num_layers)
    return None if name is None else _table().get((name, task, num_layers))


@functools.cache
def _table() -> dict[tuple[str, str, int], AuthorsScores]:
    text = resources.files("jaxfreeze.report").joinpath("reference.csv").read_text(encoding="utf-8")
    table: dict[tuple[str, str, int], AuthorsScores] = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        layers: Layers = ALL if row["trainable_layers"] == ALL else int(row["trainable_layers"])
        scores = table.setdefault((row["model"], row["task"], int(row["num_layers"])), AuthorsScores({}, {}))
        for snapshots, date in zip(scores, (EVE, LATER), strict=True):
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
