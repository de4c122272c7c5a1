"""Calibration error and temperature: against numbers counted by hand, and on samples whose answer is known."""

import numpy as np
import pytest
from scipy.special import softmax

from jaxfreeze.objectives import Regression, answers
from jaxfreeze.training.calibration import bins_of, calibration_error, errors, fit_temperature
from tests.failures import made


def drawn(rows: int, count: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn by the probabilities of the logits / scale."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(rows, count)) * 2
    shares = softmax(logits, axis=-1)
    label = (shares.cumsum(axis=-1) > random.random((rows, 1))).argmax(axis=-1)
    return (logits * scale).astype(np.float32), label.astype(np.int32)


@pytest.mark.parametrize("count, scale", [(2, 1.0), (5, 2.5), (20, 0.4), (3, 8.0)])
def test_the_temperature_is_the_factor_that_the_logits_were_scaled_by(count: int, scale: float) -> None:
    logits, label = drawn(20_000, count, scale)
    assert fit_temperature(made.classes(count), logits, label) == pytest.approx(scale, rel=0.03)


def test_the_temperature_of_any_number_of_classes() -> None:
    run = made.sets(3_000)
    logits = (run.logits * 3).astype(np.float32)
    assert fit_temperature(run.rows.objective, logits, run.rows.label) == pytest.approx(3.0, rel=0.05)


def test_the_temperature_has_the_least_log_loss() -> None:
    run = made.one_of(7)
    found = fit_temperature(run.rows.objective, run.logits, run.rows.label)
    loss = [
        answers.losses(run.rows.objective, run.logits, run.rows.label, degree).mean()
        for degree in (found, 0.99 * found, 1.01 * found, 1.0)
    ]
    assert loss[0] == min(loss)


def test_no_temperature_where_nothing_bounds_it() -> None:
    label = np.array([0, 1, 1, 0], np.int32)
    assert fit_temperature(made.classes(2), 3 * np.eye(2, dtype=np.float32)[label], label) == 1.0


def test_probabilities_that_come_true_have_no_calibration_error() -> None:
    logits, label = drawn(100_000, 4, 1.0)
    assert calibration_error(bins_of(*answers.decisions(made.classes(4), logits, label))) < 0.006
    wrong = calibration_error(bins_of(*answers.decisions(made.classes(4), 3 * logits, label)))
    assert wrong > 0.1


def test_the_error_by_hand() -> None:
    probability = np.array([0.9, 0.6, 0.7, 0.8])
    right = np.array([True, True, False, True])
    low, high = bins_of(probability, right, 2)
    assert low == (0.6, 0.7, 2, pytest.approx(0.65), 0.5)
    assert high == (0.8, 0.9, 2, pytest.approx(0.85), 1.0)
    assert calibration_error([low, high]) == pytest.approx((0.15 + 0.15) / 2)
    uneven = bins_of(np.array([0.2, 0.4, 0.4, 0.4, 1.0]), np.array([0, 1, 0, 0, 1], bool), 2)
    assert [one.size for one in uneven] == [1, 4]
    assert calibration_error(uneven) == pytest.approx(0.2 * 0.2 + 0.8 * abs(0.5 - 2.2 / 4))


def test_bins_have_equal_mass_and_equal_probabilities_one_bin() -> None:
    random = np.random.default_rng(0)
    counts = [one.size for one in bins_of(random.random(1000), random.random(1000) < 0.5)]
    assert len(counts) == 15
    assert sum(counts) == 1000
    assert max(counts) - min(counts) <= 1
    same = bins_of(np.full(100, 0.7), np.arange(100) < 70)
    assert [one.size for one in same] == [100]
    assert calibration_error(same) == pytest.approx(0.0)
    mixed = np.repeat([0.5, 0.8, 0.9], [40, 200, 60])
    came = random.random(300) < mixed
    order = random.permutation(300)
    assert bins_of(mixed[order], came[order]) == bins_of(mixed, came)


def test_one_row() -> None:
    assert errors(made.classes(2), np.array([[2.0, 0.0]], np.float32), np.array([0]), 2.0) == {
        "ece_before": pytest.approx(1 - 1 / (1 + np.exp(-2.0))),
        "ece_after": pytest.approx(1 - 1 / (1 + np.exp(-1.0))),
        "rows": 1,
    }


def test_numbers_have_no_probabilities() -> None:
    assert not answers.has_probabilities(Regression())
    found = answers.losses(Regression(), np.array([[1.0], [3.0]], np.float32), np.array([1.5, 1.0], np.float32))
    assert found.tolist() == [0.25, 4.0]
