"""The statistics of a sweep: means over seeds, intervals, differences, relative quality, the smallest k.

Pure functions over NumPy. Every interval covers 95% and is None for a single run, which has no spread.

Why not plain resampling: with a few seeds its intervals are far too narrow. Resampled means of three seeds never leave
the range of the three, which covers the true mean in 75% of all cases, not 95% (Hesterberg, "What Teachers Should Know
About the Bootstrap", 2015, section 4). The means are therefore resampled by the multiplier bootstrap (Wu 1986): each
seed's residual is multiplied by a random normal weight, the same one at every k where that seed was run, so that runs
stay paired by seed. The result is divided by a random chi, as in Student's t, so that the interval of a single mean is
exactly Student's.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxfreeze.freezing import ALL, Layers, order
from jaxfreeze.sweep.results import RunResult

TAILS = (0.025, 0.975)
"""Quantiles at the ends of every interval."""
RESAMPLES = 20_000


class Interval(NamedTuple):
    """A 95% interval."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the value lies in the interval."""
        return self.low <= value <= self.high


def kept_by_authors(scores: np.ndarray) -> np.ndarray:
    """The authors' filter over the scores of one cell [n] -> bool [n]: drops 0, and at most 0.9 x the best.

    A score of 0 needs no rule of its own: it is never above 0.9 x a best score that is 0 or more.
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
    runs: tuple[RunResult, ...]
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
    """The smallest of the k tried whose mean retains a share of the full model's."""

    threshold: float
    layers: Layers
    """By the means; all: no smaller k retains the share."""
    share: float | None
    """The fraction of resamples that give this k; None where some k is `unknown`."""
    interval: tuple[Layers, Layers] | None
    """The range of k in 95% of the resamples; None where `share` is."""
    undecided: tuple[Layers, ...]
    """The k with the threshold inside the interval of their relative quality."""
    unknown: tuple[Layers, ...]
    """The k without an interval of the relative quality."""
    reliable_from: Layers
    """The smallest k from which on every interval lies above the threshold; all: there is none."""

    @property
    def decided(self) -> bool:
        """Whether the intervals confirm that `layers` retains the share; for `all`, that no smaller k does."""
        unconfirmed = self.undecided + self.unknown
        return not unconfirmed if self.layers == ALL else self.layers not in unconfirmed

    @property
    def undecided_below(self) -> list[Layers]:
        """The k below `layers` of which the intervals do not exclude that they retain the share too."""
        return sorted((k for k in self.undecided + self.unknown if order(k) < order(self.layers)), key=order)


def difference(cell: Cell, full: Cell) -> Difference | None:
    """The mean of cell - full over the seeds in both; None if there are none."""
    of_full = dict(zip(full.seeds, full.scores, strict=True))
    pairs = np.array([x - of_full[seed] for seed, x in zip(cell.seeds, cell.scores, strict=True) if seed in of_full])
    return Difference(len(pairs), float(pairs.mean()), t_interval(pairs)) if len(pairs) else None


def resampled_means(cells: Sequence[Cell], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means that other seeds could have given [resamples, cells]; NaN for a cell with a single run.

    By the multiplier bootstrap that the module's docstring describes.
    """
    spread = seed_influence([cell.seeds for cell in cells], [cell.scores for cell in cells])
    means = np.array([cell.mean for cell in cells])
    return means + resampled_deviations(spread, [cell.n - 1 for cell in cells], resamples, seed)


def seed_influence(seeds: Sequence[Sequence[int]], scores: Sequence[np.ndarray]) -> np.ndarray:
    """What each seed adds to the deviation of each cell's mean: float64 [seeds, cells]; NaN for a single run.

    seeds: of each cell; scores: by these seeds. The squares of a column add up to the squared standard error of its
    mean, those of the difference of two columns to that of a difference paired by seed.
    """
    every = sorted({seed for some in seeds for seed in some})
    result = np.zeros((len(every), len(seeds)))
    for column, (some, values) in enumerate(zip(seeds, scores, strict=True)):
        n = len(values)
        influence = (values - values.mean()) / np.sqrt(n * (n - 1)) if n > 1 else np.nan
        result[np.searchsorted(every, some), column] = influence
    return result


def resampled_deviations(
    influence: np.ndarray, freedom: Sequence[int], resamples: int, seed: int, apart: bool = False
) -> np.ndarray:
    """Deviations of means that other seeds could have given: [resamples, cells] from [seeds, cells].

    freedom: degrees of freedom of each cell's spread; a cell with none has NaN. apart: the spread of each cell is drawn
    separately, which intervals that hold together need; differences of cells need one draw for all.
    """
    random = np.random.default_rng(seed)
    weights = random.standard_normal((resamples, len(influence)))
    tails = random.random((len(freedom) if apart else 1, resamples))

    @functools.cache  # one draw for all cells, whose seeds are as many, needs these many quantiles once
    def chi(row: int, df: int) -> np.ndarray | float:
        return np.sqrt(stats.chi2.ppf(tails[row], df) / df) if df else np.nan

    spreads = [chi(place if apart else 0, df) for place, df in enumerate(freedom)]
    return np.stack([weights @ influence[:, place] / spread for place, spread in enumerate(spreads)], axis=1)


def relative_qualities(cells: Sequence[Cell], means: np.ndarray) -> dict[Layers, Quality]:
    """Relative quality of every cell below the full model, which comes last and has a mean above 0.

    means: the resampled ones [resamples, cells]. There is no interval where the cell or the full model has a single
    run, nor where the full model's mean is 0 or less in over 2.5% of the resamples: the ratio is then unbounded.
    """
    *partial, full = cells
    result = {}
    for column, cell in enumerate(partial):
        above = means[:, -1] > 0  # at 0 and below, the ratio counts as infinite
        ratios = np.where(above, means[:, column] / np.where(above, means[:, -1], 1.0), np.inf)
        low, high = np.quantile(ratios, TAILS, method="inverted_cdf")
        interval = Interval(float(low), float(high)) if np.isfinite(high) else None  # NaN: a single run
        result[cell.layers] = Quality(cell.mean / full.mean, interval)
    return result


def smallest_layers(
    cells: Sequence[Cell], means: np.ndarray, qualities: dict[Layers, Quality], threshold: float
) -> Smallest:
    """The smallest k that retains `threshold` of the full model's mean, and how far the seeds confirm it.

    means: the resampled ones [resamples, cells]; the last cell is the full model's.
    """
    found = next((k for k, quality in qualities.items() if quality.value >= threshold), ALL)
    unknown = tuple(k for k, quality in qualities.items() if quality.interval is None)
    undecided = tuple(k for k, quality in qualities.items() if quality.interval and quality.interval.holds(threshold))
    reliable_from: Layers = ALL
    for k, quality in reversed(qualities.items()):
        if quality.interval is None or quality.interval.low <= threshold:
            break
        reliable_from = k
    if unknown:
        return Smallest(threshold, found, None, None, undecided, unknown, reliable_from)
    ladder: list[Layers] = [cell.layers for cell in cells]
    keeps = np.ones(means.shape, bool)  # the full model retains all of itself
    keeps[:, :-1] = means[:, :-1] >= threshold * means[:, -1:]
    first = keeps.argmax(axis=1)
    low, high = np.quantile(first, TAILS, method="inverted_cdf")
    share = float((first == ladder.index(found)).mean())
    return Smallest(threshold, found, share, (ladder[int(low)], ladder[int(high)]), undecided, unknown, reliable_from)
