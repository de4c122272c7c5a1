"""Draws over seeds and rows: their spread against closed forms, and how often intervals hold the truth."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import norm

from jaxfreeze.errors import InputError
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


def test_what_a_seed_does_to_single_rows_is_counted_once() -> None:
    """Seeds that are right in rows of their own: all of the spread over seeds is that of rows."""
    random = np.random.default_rng(0)
    right = random.random((300, 40)) < 0.7
    draws = drawn([right])
    own = np.sqrt(0.7 * 0.3 / 300 / 40)
    assert draws.rows[:, 0].std() == pytest.approx(own, rel=0.15)
    assert draws.drawn.std() < 1.25 * own
    assert np.sqrt(np.square(draws.influence).sum()) < 0.7 * own


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
    draws = drawn([first_rows(0.30, 0.31, 0.32), first_rows(0.25, 0.26, 0.27)])
    found = uncertainty.shares(draws, 0, 0.95)
    assert found.quality.tolist() == [0.0, 0.0]
    assert (found.low.tolist(), found.high.tolist()) == ([-np.inf] * 2, [np.inf] * 2)
    assert found.p_keeps.max() < 0.1


def test_quality_is_what_is_above_the_constant_answer() -> None:
    draws = drawn([first_rows(0.7, 0.7, 0.7), first_rows(0.9, 0.9, 0.9)])
    found = uncertainty.shares(draws, 1, 0.45)
    assert draws.constant == 0.5
    assert found.quality == pytest.approx([0.5, 1.0])
    assert found.low[0] < 0.5 < found.high[0]
    assert (found.low[1], found.high[1], found.p_keeps[1]) == (1.0, 1.0, 1.0)
    assert uncertainty.distances(draws, 1, 0.01).regret[0] == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize(
    ("seeds", "spread"), [((3, 3, 3, 3), 0.1), ((5, 5, 4, 3), 0.3), ((5, 5, 5, 5), 0.2)], ids=["3", "5 to 3", "5"]
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
