"""From finished runs to what they say about k: means, intervals, differences, relative quality, the smallest k.

Pure functions over NumPy. Every interval is for 95% and is None where there is a single run: one run has no spread.

Resampling: plain resampling of a few seeds gives intervals that are far too narrow (of three seeds it cannot leave the
range of the three, which covers the mean in 75% of all cases, not 95%; Hesterberg, "What Teachers Should Know About the
Bootstrap", 2015, section 4). So the means are resampled by the multiplier bootstrap (Wu 1986): each seed's residual is
given a random normal weight, the same one at every k where the seed was run, so runs are paired by seed; and the result
is divided by a random chi as in Student's t, so that the interval of a mean is exactly Student's.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxfreeze.freezing import ALL, Layers, order
from jaxfreeze.sweep.results import FinishedRun

TAILS = (0.025, 0.975)
"""Of every interval: 95%."""
THRESHOLDS = (0.90, 0.95, 0.99)
RESAMPLES = 20_000
MISMATCHED = "_mismatched"

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


class Interval(NamedTuple):
    """From low to high."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value is inside."""
        return self.low <= value <= self.high


def kept_by_authors(scores: np.ndarray) -> np.ndarray:
    """The authors' filter over the runs of one cell [n] -> bool [n]: drops zeros and what is at most 0.9 x the best.

    A zero needs no rule of its own: it is never above 0.9 x a best that is 0 or more.
    """
    return scores > 0.9 * scores.max()


def t_interval(values: np.ndarray) -> Interval | None:
    """Student's interval of the mean of values [n]; None for fewer than two."""
    return interval_of(float(values.mean()), float(values.std(ddof=1)), len(values)) if len(values) > 1 else None


def interval_of(mean: float, sd: float | None, n: int) -> Interval | None:
    """Student's interval from a mean, a sample standard deviation and a number of runs; None for fewer than two."""
    if sd is None or n < 2:
        return None
    reach = float(stats.t.ppf(TAILS[1], n - 1)) * sd / n**0.5
    return Interval(mean - reach, mean + reach)


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one (model, task, learning rate) and k, by seed."""

    layers: Layers
    runs: tuple[FinishedRun, ...]
    scores: np.ndarray
    """float64 [n], fractions."""

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.scores)

    @property
    def seeds(self) -> tuple[int, ...]:
        """In the order of `scores`."""
        return tuple(run.seed for run in self.runs)

    @property
    def mean(self) -> float:
        """Over all runs."""
        return float(self.scores.mean())

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None for one run."""
        return float(self.scores.std(ddof=1)) if self.n > 1 else None

    @property
    def interval(self) -> Interval | None:
        """Student's interval of the mean."""
        return t_interval(self.scores)

    @property
    def kept(self) -> np.ndarray:
        """bool [n]: what the authors' filter keeps."""
        return kept_by_authors(self.scores)

    @property
    def collapsed(self) -> tuple[tuple[int, float], ...]:
        """(seed, score) of the runs that the authors' filter drops."""
        return tuple((s, float(x)) for s, x, kept in zip(self.seeds, self.scores, self.kept, strict=True) if not kept)

    @property
    def filtered_mean(self) -> float | None:
        """Mean under the authors' filter; None where it keeps no run."""
        return float(self.scores[self.kept].mean()) if self.kept.any() else None


class Difference(NamedTuple):
    """A cell against the full model, over the seeds that both have."""

    pairs: int
    mean: float
    interval: Interval | None


class Quality(NamedTuple):
    """Mean of a cell as a share of the full model's mean."""

    value: float
    interval: Interval | None


class Smallest(NamedTuple):
    """The smallest of the k tried whose mean keeps a share of the full model's."""

    threshold: float
    layers: Layers
    """By the means; all: no smaller k does."""
    share: float | None
    """Of the resamples, those that give this k; None where some k is `unknown`."""
    interval: tuple[Layers, Layers] | None
    """The k of 95% of the resamples; None as for `share`."""
    undecided: tuple[Layers, ...]
    """The k whose relative quality has the threshold inside its interval."""
    unknown: tuple[Layers, ...]
    """The k whose relative quality has no interval."""
    sure: Layers
    """The smallest k from which on every interval lies above the threshold; all: there is none."""

    @property
    def decided(self) -> bool:
        """Whether the intervals carry that `layers` keeps the share; where it is `all`, that nothing less does."""
        doubtful = self.undecided + self.unknown
        return not doubtful if self.layers == ALL else self.layers not in doubtful

    @property
    def perhaps(self) -> list[Layers]:
        """The k below `layers` that may keep the share as well, by their intervals."""
        return sorted((k for k in self.undecided + self.unknown if order(k) < order(self.layers)), key=order)


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
    def runs(self) -> tuple[FinishedRun, ...]:
        """All runs."""
        return tuple(run for cell in self.cells for run in cell.runs)

    def cell(self, layers: Layers) -> Cell | None:
        """The cell of a k."""
        return next((cell for cell in self.cells if cell.layers == layers), None)


def curves(runs: Iterable[FinishedRun]) -> list[Curve]:
    """All curves, in the order in which their first runs come; MNLI's second dev set is a curve of its own."""
    groups: dict[tuple[str, str, float, int, str], list[FinishedRun]] = {}
    for run in runs:
        for metric in (run.primary_metric, f"{run.primary_metric}{MISMATCHED}"):
            if metric in run.metrics:
                task = run.task_name + (MISMATCHED if metric.endswith(MISMATCHED) else "")
                groups.setdefault((run.model, task, run.learning_rate, run.num_layers, metric), []).append(run)
    return [
        _curve(model, task, rate, num_layers, metric, group)
        for (model, task, rate, num_layers, metric), group in groups.items()
    ]


def _curve(model: str, task: str, rate: float, num_layers: int, metric: str, runs: Sequence[FinishedRun]) -> Curve:
    by_layers: dict[Layers, list[FinishedRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_layers.setdefault(run.trainable_layers, []).append(run)
    cells = tuple(
        Cell(layers, tuple(by_layers[layers]), np.array([run.metrics[metric] for run in by_layers[layers]], np.float64))
        for layers in sorted(by_layers, key=order)
    )
    curve = Curve(model, task, rate, metric, num_layers, cells, {}, {}, ())
    full = curve.full
    if full is None:
        return curve
    differences = {cell.layers: paired for cell in curve.partial if (paired := difference(cell, full)) is not None}
    if full.mean <= 0:
        return dataclasses.replace(curve, differences=differences)
    means = resampled_means(cells)
    qualities = relative_qualities(cells, means)
    smallest = tuple(smallest_layers(cells, means, qualities, threshold) for threshold in THRESHOLDS)
    return dataclasses.replace(curve, differences=differences, qualities=qualities, smallest=smallest)


def difference(cell: Cell, full: Cell) -> Difference | None:
    """The mean of cell - full over the seeds in both; None if there are none."""
    of_full = dict(zip(full.seeds, full.scores, strict=True))
    pairs = np.array([x - of_full[seed] for seed, x in zip(cell.seeds, cell.scores, strict=True) if seed in of_full])
    return Difference(len(pairs), float(pairs.mean()), t_interval(pairs)) if len(pairs) else None


def resampled_means(cells: Sequence[Cell], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means that other seeds could have given [resamples, cells]; NaN for a cell with a single run. See the module."""
    seeds = sorted({seed for cell in cells for seed in cell.seeds})
    residual, means = np.zeros((len(seeds), len(cells))), np.array([cell.mean for cell in cells])
    n = np.array([cell.n for cell in cells])
    for column, cell in enumerate(cells):
        residual[np.searchsorted(seeds, cell.seeds), column] = cell.scores - cell.mean
    random = np.random.default_rng(seed)
    weights, tail = random.standard_normal((resamples, len(seeds))), random.random(resamples)
    result = np.full((resamples, len(cells)), np.nan)
    some = n > 1
    chi = {df: np.sqrt(stats.chi2.ppf(tail, df) / df) for df in {int(k) - 1 for k in n[some]}}
    spread = weights @ residual[:, some] / np.sqrt(n[some] * (n[some] - 1))
    result[:, some] = means[some] + spread / np.stack([chi[int(k) - 1] for k in n[some]], axis=1) if some.any() else 0
    return result


def relative_qualities(cells: Sequence[Cell], means: np.ndarray) -> dict[Layers, Quality]:
    """Relative quality of every cell; the last is the full model, with a mean above 0. `means` are the resampled ones.

    There is no interval where a cell or the full model has a single run, nor where the full model's mean is not above 0
    in more than 2.5% of the resamples: the ratio could then be anything.
    """
    *partial, full = cells
    result = {}
    for column, cell in enumerate(partial):
        above = means[:, -1] > 0  # beyond 0 the ratio has passed infinity
        ratios = np.where(above, means[:, column] / np.where(above, means[:, -1], 1.0), np.inf)
        low, high = np.quantile(ratios, TAILS, method="inverted_cdf")
        interval = Interval(float(low), float(high)) if np.isfinite(high) else None  # NaN: a single run
        result[cell.layers] = Quality(cell.mean / full.mean, interval)
    return result


def smallest_layers(
    cells: Sequence[Cell], means: np.ndarray, qualities: dict[Layers, Quality], threshold: float
) -> Smallest:
    """The smallest k that keeps `threshold` of the full model's mean, and how sure that is."""
    found = next((k for k, quality in qualities.items() if quality.value >= threshold), ALL)
    unknown = tuple(k for k, quality in qualities.items() if quality.interval is None)
    undecided = tuple(k for k, quality in qualities.items() if quality.interval and quality.interval.holds(threshold))
    sure: Layers = ALL
    for k, quality in reversed(qualities.items()):
        if quality.interval is None or quality.interval.low <= threshold:
            break
        sure = k
    if unknown:
        return Smallest(threshold, found, None, None, undecided, unknown, sure)
    ladder: list[Layers] = [cell.layers for cell in cells]
    keeps = np.ones(means.shape, bool)  # the full model keeps itself
    keeps[:, :-1] = means[:, :-1] >= threshold * means[:, -1:]
    first = keeps.argmax(axis=1)
    low, high = np.quantile(first, TAILS, method="inverted_cdf")
    share = float((first == ladder.index(found)).mean())
    return Smallest(threshold, found, share, (ladder[int(low)], ladder[int(high)]), undecided, unknown, sure)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a run of a cell takes, in the mean over its runs."""

    train_seconds: float
    total_seconds: float
    flops_per_step: float | None


def cost(cell: Cell) -> Cost:
    """Seconds as the runs recorded them, and FLOPs of one training step where all of them have it."""
    flops = [run.flops_per_step for run in cell.runs if run.flops_per_step is not None]
    return Cost(
        float(np.mean([run.seconds["train"] for run in cell.runs])),
        float(np.mean([run.seconds["total"] for run in cell.runs])),
        float(np.mean(flops)) if len(flops) == cell.n else None,
    )


def unlike(curve: Curve) -> list[str]:
    """Settings in which runs of a curve differ though they should not."""
    first = curve.runs[0]
    return list(dict.fromkeys(text for run in curve.runs for text in first.differences(run)))


def nothing_learned(curve: Curve, cell: Cell) -> str:
    """A warning where a score is not clear of what the same answer for every row would have."""
    least = ONE_ANSWER.get(curve.task)
    if least is None or (cell.interval.low if cell.interval else cell.mean) > least:
        return ""
    return (
        f" But the same answer for every row scores {100 * least:.1f} on GLUE's dev set: that anything was learned "
        f"at k = {cell.layers} is not shown."
    )
