"""Draws over seeds and rows: their spread against closed forms, and how often intervals hold the truth."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import norm

from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Regression
from jaxfreeze.search import uncertainty
from jaxfreeze.search.outcomes import Run, best_constant
from jaxfreeze.search.uncertainty import Draws
from tests.search.made import YES_NO, labels, logits_of, reported

LABEL = labels(300)


def drawn(right: Sequence[np.ndarray], label: np.ndarray = LABEL) -> Draws:
    """Draws for points whose runs are right in these rows: bool [E, n] each."""
    rows = reported(label)
    runs = [[Run(YES_NO, logits_of(np.where(run, label, 1 - label))) for run in some.T] for some in right]
    seeds = [range(1, some.shape[1] + 1) for some in right]
    return uncertainty.draw(seeds, runs, best_constant(rows).run, rows)


def first_rows(*shares: float) -> np.ndarray:
    """Runs that are right in the first rows: bool [300, n]."""
    return np.arange(300)[:, None] < 300 * np.array(shares)


def test_rows_alone_spread_an_accuracy_as_a_binomial() -> None:
    draws = drawn([first_rows(0.8, 0.8, 0.8)])
    error = np.sqrt(0.8 * 0.2 / 300)
    assert draws.errors(0, None)[0] == pytest.approx(0.0, abs=1e-12)
    assert draws.rows[:, 0].std() == pytest.approx(error, rel=0.06)
    ((low, high),) = uncertainty.simultaneous(draws, "accuracy", 300)
    assert (low, high) == pytest.approx((0.8 - 1.96 * error, 0.8 + 1.96 * error), abs=0.004)


def test_seeds_alone_spread_a_mean_as_student_says() -> None:
    influence = uncertainty.seed_influence([(1, 2, 3)], [np.array([0.70, 0.72, 0.74])])
    found = uncertainty.resampled_deviations(influence, [2], 20_000, seed=0)
    assert np.quantile(found, 0.975) == pytest.approx(4.303 * 0.02 / np.sqrt(3), rel=0.06)


def test_spreads_that_are_small_by_chance_come_together_or_apart() -> None:
    """Two points with other seeds: 1 in 400 draws is far out at both if apart, more if one chi divides both."""
    influence = uncertainty.seed_influence([(1, 2, 3), (4, 5, 6)], [np.array([0.70, 0.72, 0.74])] * 2)
    far = []
    for apart in (True, False):
        found = np.abs(uncertainty.resampled_deviations(influence, [2, 2], 20_000, seed=0, apart=apart))
        far.append((found > np.quantile(found, 0.95, axis=0)).all(axis=1).mean())
    assert far[0] == pytest.approx(0.0025, abs=0.0015)
    assert far[1] > 0.008


def test_what_a_seed_does_to_single_rows_is_not_counted_twice() -> None:
    """Seeds that are right in rows of their own: the spread over seeds is that of rows, 0.7 x 0.3 / 300 of one run."""
    right = np.random.default_rng(0).random((300, 40)) < 0.7
    draws = drawn([right])
    seeds, rows = np.square(draws.influence).sum(), draws.rows[:, 0].var()
    assert rows == pytest.approx(0.7 * 0.3 / 300 / 40, rel=0.15)
    assert 40 * seeds == pytest.approx(draws.scores[0].var(ddof=1) - 0.5 * 0.7 * 0.3 / 300, rel=0.05)
    assert draws.drawn.var() == pytest.approx(seeds * 39 / 37 + rows, rel=0.03)  # Student's variance, and that of rows


def test_equal_predictions_do_not_differ_whatever_the_rows() -> None:
    draws = drawn([first_rows(0.8, 0.7, 0.75), first_rows(0.8, 0.7, 0.75)])
    assert draws.errors(0, 1) == (0.0, 0.0)
    assert uncertainty.shares(draws, 1, 0.95).p_keeps[0] == pytest.approx(1.0, abs=0.01)
    assert uncertainty.distances(draws, 1, 0.0) == (pytest.approx([1, 1]), pytest.approx([0, 0]))


def test_one_run_has_the_spread_of_the_others() -> None:
    draws = drawn([first_rows(0.6), first_rows(0.8, 0.7, 0.75)])
    of_one, of_three = (np.square(draws.influence[:, place]).sum() for place in (0, 1))
    assert of_one == pytest.approx(3 * of_three)
    assert draws.influence[:, 0] @ draws.influence[:, 1] == 0.0
    with pytest.raises(InputError, match="one run of each candidate says nothing of how seeds differ"):
        drawn([first_rows(0.6), first_rows(0.8)])


def test_a_perfect_score_on_few_rows_is_not_certain() -> None:
    draws = drawn([np.ones((20, 3), bool)], labels(20))
    assert uncertainty.simultaneous(draws, "accuracy", 20).tolist() == [[pytest.approx(1 - 3 / 20), 1.0]]


def test_a_reference_below_the_constant_answer_leaves_nothing_to_keep() -> None:
    draws = drawn([first_rows(0.30, 0.31, 0.32), first_rows(0.30, 0.31, 0.32)[::-1]])
    found = uncertainty.shares(draws, 0, 0.95)
    assert found.quality.tolist() == [0.0, 0.0]
    assert (found.low.tolist(), found.high.tolist()) == ([-np.inf] * 2, [np.inf] * 2)
    assert found.p_keeps.max() < 0.1


def test_the_constant_answer_is_scored_on_the_same_rows() -> None:
    """The answer of most rows, and right in eight more: better on every resample that holds one of them."""
    label = labels(300, ones=0.8)
    right = ((label == 1) | (np.arange(300) > 291))[:, None].repeat(3, axis=1)
    draws = drawn([right], label)
    assert draws.errors(0, None)[1] == pytest.approx(np.sqrt(8) / 300, rel=0.1)
    assert uncertainty.shares(draws, 0, 0.95).p_keeps[0] > 0.995


def test_an_error_is_uncertain_towards_the_worse() -> None:
    """A single row has all of the error: a resample may hold it several times."""
    label = np.zeros(300, np.float32)
    logits = np.where(np.arange(300) == 7, 90.0, 0.0).astype(np.float32)[:, None]
    objective = Regression(("mae",))
    found = uncertainty.row_deviations([Run(objective, logits)], reported(label, objective))
    assert (found.min() < -0.8, found.max()) == (True, pytest.approx(0.3, abs=0.03))


def test_quality_is_what_is_above_the_constant_answer() -> None:
    draws = drawn([first_rows(0.7, 0.7, 0.7), first_rows(0.9, 0.9, 0.9)])
    found = uncertainty.shares(draws, 1, 0.45)
    assert draws.constant == 0.5
    assert found.quality == pytest.approx([0.5, 1.0])
    assert found.low[0] < 0.5 < found.high[0]
    assert (found.low[1], found.high[1], found.p_keeps[1]) == (1.0, 1.0, 1.0)
    assert uncertainty.distances(draws, 1, 0.01).regret[0] == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize(
    ("seeds", "spread"), [((3, 3, 3, 3), 0.1), ((3, 3, 3, 3), 0.3), ((5, 5, 4, 3), 0.2)], ids=["rows", "seeds", "both"]
)
def test_intervals_hold_the_truth_together(
    seeds: tuple[int, ...], spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """95% of the time, by design: here from 93 to 99%. A run is right in a row if ability, luck and ease add up to more
    than 0: of the row for all, of the row for this point, of the seed, and of the seed in this row."""
    monkeypatch.setattr(uncertainty, "DRAWS", 1_000)
    monkeypatch.setattr(uncertainty, "ROW_RESAMPLES", 200)
    random = np.random.default_rng(0)
    ability = np.array([0.1, 0.7, 1.2, 1.5])
    truth = norm.cdf(ability / np.sqrt(1 + 0.25 + spread**2 + 0.25))
    held = []
    for _ in range(100):
        ease = random.normal(0, 1, (300, 1))
        right = [
            own + ease + random.normal(0, 0.5, (300, 1)) + random.normal(0, spread, n) + random.normal(0, 0.5, (300, n))
            > 0
            for own, n in zip(ability, seeds, strict=True)
        ]
        low, high = uncertainty.simultaneous(drawn(right), "accuracy", 300).T
        held.append(((low <= truth) & (truth <= high)).all())
    assert 0.93 <= np.mean(held) <= 0.99
