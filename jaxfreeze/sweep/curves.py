"""Score against k: the finished runs of a model, task and learning rate, with their statistics and costs."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from jaxfreeze.freezing import ALL, Layers, order
from jaxfreeze.sweep.results import RunResult
from jaxfreeze.sweep.statistics import (
    Cell,
    Difference,
    Quality,
    Smallest,
    difference,
    relative_qualities,
    resampled_means,
    smallest_layers,
)

THRESHOLDS = (0.90, 0.95, 0.99)
"""Shares of the full model's mean of which the smallest k is looked for."""
MISMATCHED = "_mismatched"
"""End of the name of MNLI's second dev set, and of its metrics."""

CONSTANT_ANSWER: dict[str, float] = {
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
"""Score on GLUE's whole dev sets of the best constant prediction, one answer for every row: 0 for correlations."""


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Score against k: one model, task and learning rate."""

    model: str
    task: str
    learning_rate: float
    metric: str
    num_layers: int
    cells: tuple[Cell, ...]
    """By k; the full model, if it was run, last."""
    differences: dict[Layers, Difference]
    """For the k that have seeds in common with the full model."""
    qualities: dict[Layers, Quality]
    """Relative quality by k; empty without the full model, or where its mean is not above 0."""
    smallest: tuple[Smallest, ...]
    """For each threshold; empty where there is no relative quality."""

    @property
    def full(self) -> Cell | None:
        """The full model's cell."""
        return self.cells[-1] if self.cells[-1].layers == ALL else None

    @property
    def partial(self) -> tuple[Cell, ...]:
        """The cells below the full model."""
        return tuple(cell for cell in self.cells if cell.layers != ALL)

    @property
    def runs(self) -> tuple[RunResult, ...]:
        """All runs."""
        return tuple(run for cell in self.cells for run in cell.runs)

    def cell(self, layers: Layers) -> Cell | None:
        """The cell of a k."""
        return next((cell for cell in self.cells if cell.layers == layers), None)


def curves(runs: Iterable[RunResult]) -> list[Curve]:
    """All curves, in the order of their first runs; MNLI's second dev set makes a curve of its own."""
    groups: dict[tuple[str, str, float, int, str], list[RunResult]] = {}
    for run in runs:
        for metric in (run.primary_metric, f"{run.primary_metric}{MISMATCHED}"):
            if metric in run.metrics:
                task = run.task_name + (MISMATCHED if metric.endswith(MISMATCHED) else "")
                groups.setdefault((run.model, task, run.learning_rate, run.num_layers, metric), []).append(run)
    return [
        _curve(model, task, rate, num_layers, metric, group)
        for (model, task, rate, num_layers, metric), group in groups.items()
    ]


def _curve(model: str, task: str, rate: float, num_layers: int, metric: str, runs: Sequence[RunResult]) -> Curve:
    by_layers: dict[Layers, list[RunResult]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_layers.setdefault(run.trainable_layers, []).append(run)
    cells = tuple(
        Cell(layers, tuple(by_layers[layers]), np.array([run.metrics[metric] for run in by_layers[layers]], np.float64))
        for layers in sorted(by_layers, key=order)
    )
    return _compared(Curve(model, task, rate, metric, num_layers, cells, {}, {}, ()))


def above(curve: Curve, constant: float) -> Curve:
    """The curve of what its runs score above a constant answer; its relative qualities are shares of that gain."""
    cells = tuple(dataclasses.replace(cell, scores=cell.scores - constant) for cell in curve.cells)
    return _compared(dataclasses.replace(curve, cells=cells, qualities={}, smallest=()))


def _compared(curve: Curve) -> Curve:
    """The curve with its differences, relative qualities and smallest k, where they exist."""
    full, cells = curve.full, curve.cells
    if full is None:
        return curve
    differences = {cell.layers: paired for cell in curve.partial if (paired := difference(cell, full)) is not None}
    if full.mean <= 0:
        return dataclasses.replace(curve, differences=differences)
    means = resampled_means(cells)
    qualities = relative_qualities(cells, means)
    smallest = tuple(smallest_layers(cells, means, qualities, threshold) for threshold in THRESHOLDS)
    return dataclasses.replace(curve, differences=differences, qualities=qualities, smallest=smallest)


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one run of a cell: means over its runs."""

    train_seconds: float
    total_seconds: float
    flops_per_step: float | None


def cost(cell: Cell) -> Cost:
    """Seconds as the runs recorded them, and FLOPs of one training step where all of them recorded it."""
    flops = [run.flops_per_step for run in cell.runs if run.flops_per_step is not None]
    return Cost(
        float(np.mean([run.seconds["train"] for run in cell.runs])),
        float(np.mean([run.seconds["total"] for run in cell.runs])),
        float(np.mean(flops)) if len(flops) == cell.n else None,
    )


def differing_settings(curve: Curve) -> list[str]:
    """Settings in which runs of a curve differ, apart from those that may."""
    first = curve.runs[0]
    return list(dict.fromkeys(text for run in curve.runs for text in first.differences(run)))


def beats_constant_answer(curve: Curve, cell: Cell) -> bool:
    """Whether a cell's mean, with all of its interval, is above the score of the best constant prediction.

    True for a task of which that score is not known.
    """
    constant = CONSTANT_ANSWER.get(curve.task)
    return constant is None or (cell.interval.low if cell.interval else cell.mean) > constant
