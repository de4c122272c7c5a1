"""What other seeds and other rows could have given: draws of every candidate's score, and what follows from them.

Rows: examples are resampled with replacement, the same ones for every run and for the constant answer, and the metric
is computed anew (Efron 1979). Seeds: the multiplier bootstrap of jaxfreeze/sweep/statistics.py, paired by seed, with
Student's tails. The deviations are added up, since seeds are drawn independently of rows.

A candidate that was run once has no spread of its own. It gets the spread that the others have on average, with their
degrees of freedom: a made-up certainty would be worse, and no interval at all would leave the cheapest candidates out.
Its deviation is drawn independently of those of the others, which makes differences to it less certain.

Of the three parts of the variance (seeds, rows, and seeds by rows, as in a two-way analysis of variance) the resampled
rows hold the last two, and the spread over seeds the first and the last. What both hold would count twice, so
`IN_BOTH` of it is taken out of the spread over seeds.

All scores are in the sign where larger is better.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.errors import InputError
from jaxfreeze.search.outcomes import Reported, Run, score, sign_of
from jaxfreeze.search.weighted import weighted_metrics
from jaxfreeze.sweep.statistics import TAILS, resampled_deviations, seed_influence

DRAWS = 20_000
"""Of seeds; each is put together with one of the resamples of rows."""
ROW_RESAMPLES = 2_000
SLOW_RESAMPLES = 200
"""Resamples of rows for a metric that is computed one resample at a time."""
IN_BOTH = 0.5
"""The share of what a seed does to single rows that is taken out of the spread over seeds.

In simulations (4 points, 3 to 5 seeds, 300 rows, 600 searches each) simultaneous intervals then hold the truth in 95 to
99% where the standard deviation over seeds is up to 9 points, and in 93 or 94% where it is 14, or where the errors of
two seeds have next to nothing in common. With nothing taken out it is up to 99.7%, and with all of it down to 88%,
since the spread of three seeds may be small by chance.
"""
CHUNK = 4_000_000
"""Weights of examples that are in memory at a time."""
SHARE = (0.0, 1.0)
RANGES = {  # of the metrics that are not shares
    **dict.fromkeys(("matthews_correlation", "cohen_kappa", "spearman", "pearson", "kendall"), (-1.0, 1.0)),
    **dict.fromkeys(("mae", "mse", "rmse", "log_loss"), (0.0, np.inf)),
    **dict.fromkeys(("r2", "explained_variance"), (-np.inf, 1.0)),
}


class Draws(NamedTuple):
    """Scores that other seeds and rows could have given, B draws of P points and of the constant answer."""

    scores: tuple[np.ndarray, ...]
    """As observed, of each point by seed."""
    score: np.ndarray
    """float64 [P], their means."""
    drawn: np.ndarray
    """float64 [B, P]."""
    apart: np.ndarray
    """The same with a spread over seeds that is drawn for each point separately, for intervals that hold together."""
    constant: float
    drawn_constant: np.ndarray
    """float64 [B]."""
    influence: np.ndarray
    """float64 [seeds + single runs, P]: what each seed adds to the deviation of each point, rows apart."""
    rows: np.ndarray
    """float64 [ROW_RESAMPLES, P + 1]: deviations over resampled rows alone; the constant answer's last."""

    def take(self, points: Sequence[int]) -> "Draws":
        """Those of some points, in this order."""
        return self._replace(
            scores=tuple(self.scores[place] for place in points),
            score=self.score[points],
            drawn=self.drawn[:, points],
            apart=self.apart[:, points],
            influence=self.influence[:, points],
            rows=self.rows[:, [*points, -1]],
        )

    def errors(self, one: int, other: int | None) -> tuple[float, float]:
        """Standard errors of the difference of two points (None: the constant answer) from seeds and from rows."""
        seeds = self.influence[:, one] - (0.0 if other is None else self.influence[:, other])
        rows = self.rows[:, one] - self.rows[:, -1 if other is None else other]
        return float(np.sqrt(np.square(seeds).sum())), float(rows.std())


def draw(seeds: Sequence[Sequence[int]], runs: Sequence[Sequence[Run]], constant: Run, reported: Reported) -> Draws:
    """Draw scores of P points. seeds: of each point; runs: by these seeds.

    Raises InputError if no point has two runs.
    """
    label, counts = reported.label, reported.counts
    scores = tuple(np.array([score(run, label, counts) for run in some]) for some in runs)
    ends = np.cumsum([len(some) for some in runs])
    deviations = row_deviations([*(run for some in runs for run in some), constant], reported)
    *by_run, of_constant = np.split(deviations, ends, axis=1)
    influence = seed_influence(seeds, scores) * [_of_seeds_alone(*pair) for pair in zip(scores, by_run, strict=True)]
    influence, freedom = _with_borrowed(influence, [len(some) for some in runs])
    rows = np.stack([some.mean(axis=1) for some in (*by_run, of_constant)], axis=1)
    observed = np.array([values.mean() for values in scores])
    repeated = np.resize(rows, (DRAWS, rows.shape[1]))  # each draw of seeds with one of the resamples of rows
    by_seeds = [resampled_deviations(influence, freedom, DRAWS, seed=0, apart=apart) for apart in (False, True)]
    drawn, apart = (np.clip(observed + repeated[:, :-1] + some, *range_of(reported.metric)) for some in by_seeds)
    at = score(constant, label, counts)
    return Draws(scores, observed, drawn, apart, at, at + repeated[:, -1], influence, rows)


def range_of(metric: str) -> np.ndarray:
    """The lowest and the highest score that there is, in the sign where larger is better."""
    return np.sort(sign_of(metric) * np.array(RANGES.get(metric, SHARE)))


def _of_seeds_alone(scores: np.ndarray, rows: np.ndarray) -> float:
    """The share of the standard deviation over seeds [n] that is left without what the draws of rows hold of it.

    rows: deviations of these runs over resampled rows [R, n]. The variance in which they are not alike is what a seed
    does to single rows.
    """
    n = len(scores)
    if n < 2 or np.ptp(scores) == 0:
        return 1.0
    by_rows = np.square(rows - rows.mean(axis=1, keepdims=True)).sum(axis=1).mean() / (n - 1)
    return float(np.sqrt(max(0.0, 1 - IN_BOTH * by_rows / scores.var(ddof=1))))


def _with_borrowed(influence: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """The influence of seeds and its degrees of freedom, with the average spread for points of a single run.

    sizes: the runs of each point.
    """
    freedom = [n - 1 for n in sizes]
    single = [place for place, df in enumerate(freedom) if not df]
    if not single:
        return influence, freedom
    total = sum(freedom)
    if not total:
        raise InputError("one run of each candidate says nothing of how seeds differ; give --seeds two or more")
    known = np.nan_to_num(influence)
    variance = np.square(known).sum(axis=0) * sizes  # of one run
    own = np.zeros((len(single), len(sizes)))  # a row for a seed that no other point has
    own[range(len(single)), single] = np.sqrt(variance @ freedom / total)
    return np.vstack([known, own]), [df or total for df in freedom]


# Rows


def row_deviations(runs: Sequence[Run], reported: Reported, seed: int = 0) -> np.ndarray:
    """How far the score of each run moves when the examples are drawn anew: float64 [resamples, runs], means 0."""
    label, counts = reported.label, reported.counts
    values, random = weighted_metrics(runs, label, counts), np.random.default_rng(seed)
    resamples, step = (ROW_RESAMPLES, max(1, CHUNK // len(counts))) if values else (SLOW_RESAMPLES, 1)
    found = np.empty((resamples, len(runs)))
    for start in range(0, resamples, step):
        rows = slice(start, min(start + step, resamples))
        drawn = random.integers(len(counts), size=(rows.stop - start, len(counts)))
        found[rows] = values(weights_of(drawn)).T if values else _one_by_one(drawn[0], runs, reported)
    return sign_of(reported.metric) * (found - found.mean(axis=0))


def weights_of(drawn: np.ndarray) -> np.ndarray:
    """How often each of E examples was drawn: int [B, E] -> float64 [E, B]."""
    resamples, examples = drawn.shape
    place = drawn * resamples + np.arange(resamples)[:, None]
    return np.bincount(place.ravel(), minlength=drawn.size).reshape(examples, resamples).astype(np.float64)


def places_of(drawn: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Where the labels of the drawn examples are: int [E] -> int [N of them]."""
    first, sizes = np.cumsum(counts) - counts, counts[drawn]
    return np.repeat(first[drawn] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())


def _one_by_one(drawn: np.ndarray, runs: Sequence[Run], reported: Reported) -> list[float]:
    places, metric = places_of(drawn, reported.counts), reported.metric
    label, counts = reported.label[places], reported.counts[drawn]
    return [run.objective.score(run.logits[places], label, counts)[metric] for run in runs]


# What follows from draws


def simultaneous(draws: Draws, metric: str, examples: int) -> np.ndarray:
    """Intervals of all scores that hold together in 95% of the cases: [P, 2].

    Each is the score and the half-width of its own 95% interval, stretched by one factor for all points: the quantile
    of the largest deviation, in half-widths (the max-|t| method, with a scale that heavy tails leave alone). Nothing
    is narrower than 3 in the number of examples, the rule of three for a score at the end of its range (Hanley and
    Lippman-Hand 1983). Ends stay in the metric's range.
    """
    deviation = np.abs(draws.apart - draws.score)
    half = np.quantile(deviation, 0.95, axis=0)
    stretch = np.quantile((deviation / np.where(half > 0, half, np.inf)).max(axis=1), 0.95)
    ends = range_of(metric)
    least = 3 / examples if np.isfinite(ends).all() else 0.0
    reach = np.maximum(max(stretch, 1.0) * half, least)
    return np.clip(np.stack([draws.score - reach, draws.score + reach], axis=1), *ends)


class Shares(NamedTuple):
    """What each point keeps of the reference's quality, which is what it scores above the constant answer: [P] each."""

    quality: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_keeps: np.ndarray


def shares(draws: Draws, reference: int, share: float, rivals: Sequence[int] = ()) -> Shares:
    """Qualities with their 95% intervals, and the probability of keeping `share` of the best quality.

    In each draw the best one is that of the best rival, or of the reference (`highest`).
    Where the reference is not above the constant answer there is nothing to keep: qualities are 0, and draws in which
    it is not above count as kept by no point. They count at both ends of the intervals, which are infinite if there are
    more of them than an interval leaves out.
    """
    above, whole = draws.drawn - draws.drawn_constant[:, None], draws.drawn[:, reference] - draws.drawn_constant
    some = (whole > 0)[:, None]
    ratio = above / np.where(some, whole[:, None], 1.0)
    low = np.quantile(np.where(some, ratio, -np.inf), TAILS[0], axis=0, method="inverted_cdf")
    high = np.quantile(np.where(some, ratio, np.inf), TAILS[1], axis=0, method="inverted_cdf")
    observed = draws.score[reference] - draws.constant
    quality = (draws.score - draws.constant) / observed if observed > 0 else np.zeros(len(draws.score))
    best = (highest(draws, reference, rivals) - draws.drawn_constant)[:, None]
    kept = (best > 0) & (above >= share * best)
    return Shares(quality, low, high, kept.mean(axis=0))


def highest(draws: Draws, reference: int, rivals: Sequence[int]) -> np.ndarray:
    """The highest score of each draw among the reference and its rivals: float64 [B].

    The point that scored best here need not be the best one: where it is compared with itself alone, nothing is
    uncertain about it, and of five k that are equally good the luckiest would be recommended with probability 1.
    """
    return draws.drawn[:, [reference, *rivals]].max(axis=1)


class Distances(NamedTuple):
    """How far each point is from the best one: [P] each."""

    p_within: np.ndarray
    regret: np.ndarray


def distances(draws: Draws, reference: int, within: float, rivals: Sequence[int] = ()) -> Distances:
    """The probability of being at most `within` below the highest score, and the expected distance below it."""
    behind = highest(draws, reference, rivals)[:, None] - draws.drawn
    return Distances((behind <= within).mean(axis=0), np.maximum(behind, 0).mean(axis=0))
