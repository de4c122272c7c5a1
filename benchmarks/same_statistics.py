"""Whether two sides' runs of fine-tuning come from one distribution: what benchmarks/same_training.py concludes.

A run is a seed's predictions for every dev row after every epoch. Rows are common to both sides; seeds are not paired.
Draws are losses and gradients of one batch at the same weights, under many dropout masks.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pytorch_reference import METRICS, TASKS

SIDES = ("jaxfreeze", "pytorch")
DRAWS = 2000  # permutations, and resamples of the bootstrap


@dataclasses.dataclass(frozen=True)
class Run:
    """What one training left."""

    losses: np.ndarray  # float [epochs], mean training loss
    logits: np.ndarray  # float [epochs, E, C], of the dev rows after each epoch
    label: np.ndarray  # [E]


Runs = Mapping[tuple[str, str], list[Run]]
"""(task, side) -> a run for each seed."""


def answers(task: str, run: Run) -> np.ndarray:
    """What a run predicts after its last epoch: class numbers, or scores; [E]."""
    logits = run.logits[-1]
    return logits.argmax(-1) if TASKS[task].classes else logits[:, 0]


def score(task: str, label: np.ndarray, prediction: np.ndarray) -> float:
    """The task's first metric."""
    return float(METRICS[TASKS[task].metrics[0]](label, prediction))


def dev_losses(task: str, run: Run) -> np.ndarray:
    """Mean loss of the dev rows after each epoch."""
    if not TASKS[task].classes:
        return np.square(run.logits[..., 0] - run.label).mean(-1)
    shifted = run.logits - run.logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -np.take_along_axis(log_probability, run.label[None, :, None], -1).mean((-2, -1))


def by_epoch(task: str, runs: list[Run]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds after each epoch."""
    classes = bool(TASKS[task].classes)

    def scores(run: Run) -> list[float]:
        return [score(task, run.label, x.argmax(-1) if classes else x[:, 0]) for x in run.logits]

    columns = {
        "training_loss": [run.losses for run in runs],
        "dev_loss": [dev_losses(task, run) for run in runs],
        "score": [scores(run) for run in runs],
    }
    return {
        name: {
            "mean": np.mean(values, 0).round(4).tolist(),
            "sd": np.std(values, 0, ddof=len(values) > 1).round(4).tolist(),
        }
        for name, values in columns.items()
    }


def disagreement(task: str, ours: list[Run], theirs: list[Run]) -> dict[str, float]:
    """Share of dev rows on which two seeds differ, a mean over pairs; of scores, the mean distance."""
    first, second = ([answers(task, run) for run in runs] for runs in (ours, theirs))

    def mean(pairs: Any) -> float:
        found = [np.mean(a != b) if TASKS[task].classes else np.abs(a - b).mean() for a, b in pairs]
        return round(float(np.mean(found)), 4) if found else float("nan")

    within = {side: mean(itertools.combinations(some, 2)) for side, some in zip(SIDES, (first, second), strict=True)}
    return {**within, "between": mean(itertools.product(first, second))}


def permutation_p(scores: Mapping[str, tuple[np.ndarray, np.ndarray]], seed: int = 0) -> float:
    """Share of permutations of the sides' names among the seeds of each task with a mean difference as large.

    scores: by task the scores of each side's seeds. The difference is that of means, a mean over the tasks.
    """
    random = np.random.default_rng(seed)
    found = abs(np.mean([a.mean() - b.mean() for a, b in scores.values()]))
    hits = 0
    for _ in range(DRAWS):
        differences = []
        for a, b in scores.values():
            both = random.permutation(np.concatenate([a, b]))
            differences.append(both[: len(a)].mean() - both[len(a) :].mean())
        hits += abs(np.mean(differences)) >= found - 1e-12
    return (hits + 1) / (DRAWS + 1)


def intervals(runs: Runs, tasks: list[str], seed: int = 0) -> dict[str, list[float]]:
    """Of the difference ours - theirs in the mean score over the tasks, by a bootstrap over seeds and rows.

    The rows of a resample are the same for all runs of its task. "interval" is the 95% one. Where "interval_90" lies
    within (-x, x), two one-sided tests at 5% show that the difference is smaller than x (Schuirmann 1987).
    """
    random = np.random.default_rng(seed)
    predictions = {key: [answers(key[0], run) for run in some] for key, some in runs.items()}
    found = np.empty(DRAWS)
    for draw in range(DRAWS):
        differences = []
        for task in tasks:
            label = runs[task, SIDES[0]][0].label
            rows = random.integers(0, len(label), len(label))
            means = []
            for side in SIDES:
                some = predictions[task, side]
                drawn, counts = np.unique(random.integers(0, len(some), len(some)), return_counts=True)
                means.append(np.average([score(task, label[rows], some[i][rows]) for i in drawn], weights=counts))
            differences.append(means[0] - means[1])
        found[draw] = np.mean(differences)
    limits = {"interval": [0.025, 0.975], "interval_90": [0.05, 0.95]}
    return {name: np.quantile(found, some).round(4).tolist() for name, some in limits.items()}


def conclude(runs: Runs) -> list[dict[str, Any]]:
    """An object for each task that both sides have runs of, and one for all of them together."""
    tasks = [task for task, side in runs if side == SIDES[0] and (task, SIDES[1]) in runs]
    lines: list[dict[str, Any]] = []
    scores = {}
    for task in tasks:
        sides = [runs[task, side] for side in SIDES]
        if any(not np.array_equal(run.label, sides[0][0].label) for some in sides for run in some):
            raise ValueError(f"{task}: expected the same dev rows in all runs, found different labels")
        first, second = (np.array([score(task, run.label, answers(task, run)) for run in some]) for some in sides)
        scores[task] = (first, second)
        one: Runs = {(task, side): runs[task, side] for side in SIDES}
        lines.append(
            {
                "task": task,
                "metric": TASKS[task].metrics[0],
                "seeds": {side: len(some) for side, some in zip(SIDES, sides, strict=True)},
                "scores": {side: s.round(4).tolist() for side, s in zip(SIDES, (first, second), strict=True)},
                "difference": round(float(first.mean() - second.mean()), 4),
                **intervals(one, [task]),
                "p": round(float(permutation_p({task: scores[task]})), 4),
                "disagreement": disagreement(task, *sides),
                "by_epoch": {side: by_epoch(task, some) for side, some in zip(SIDES, sides, strict=True)},
            }
        )
    if tasks:
        difference = float(np.mean([a.mean() - b.mean() for a, b in scores.values()]))
        p = round(float(permutation_p(scores)), 4)
        lines.append({"tasks": tasks, "difference": round(difference, 4), **intervals(runs, tasks), "p": p})
    return lines


class Draws:
    """Losses and gradients of one batch at the same weights."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.total: dict[str, np.ndarray] = {}

    def add(self, loss: float, gradients: dict[str, np.ndarray]) -> None:
        """One more; the biases of keys are left out."""
        some = {path: np.asarray(g, np.float64) for path, g in gradients.items() if not path.endswith("key.bias")}
        self.losses.append(loss)
        self.norms.append(float(np.sqrt(sum(np.square(g).sum() for g in some.values()))))
        self.total = {path: self.total.get(path, 0.0) + g for path, g in some.items()}

    @property
    def mean(self) -> dict[str, np.ndarray]:
        """The mean gradient."""
        return {path: total / len(self.norms) for path, total in self.total.items()}

    @property
    def error(self) -> float:
        """The square of the mean gradient's standard error, over all of its elements."""
        square = sum(np.square(g).sum() for g in self.mean.values())
        return float(np.square(self.norms).mean() - square) / (len(self.norms) - 1)


def compare_draws(ours: Draws, theirs: Draws) -> dict[str, Any]:
    """How far both sides' draws are apart, and how far chance alone takes them apart."""
    found: dict[str, Any] = {}
    for name in ("losses", "norms"):
        sides = [np.array(getattr(draws, name)) for draws in (ours, theirs)]
        errors = [values.var(ddof=1) / len(values) for values in sides]
        means = [float(values.mean()) for values in sides]
        found[name] = {
            side: [round(mean, 5), round(float(values.std(ddof=1)), 5)]
            for side, mean, values in zip(SIDES, means, sides, strict=True)
        } | {"standard_errors_apart": round(float((means[0] - means[1]) / math.sqrt(sum(errors))), 2)}
    mine, other = ours.mean, theirs.mean
    distance = math.sqrt(sum(np.square(mine[path] - other[path]).sum() for path in mine))
    expected = math.sqrt(ours.error + theirs.error)
    return {**found, "mean_gradients_apart": round(distance, 5), "by_chance": round(expected, 5)}
