"""Metrics against values worked out by hand; constant predictions score 0 without a warning."""

import math

import numpy as np
import pytest

from jaxfreeze import metrics

# 8 examples: 3 true positives, 1 false positive, 1 false negative, 3 true negatives.
MIXED = ([1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    "name, predicted, label, expected",
    [
        ("accuracy", *MIXED, 6 / 8),
        ("f1", *MIXED, 2 * 3 / (2 * 3 + 1 + 1)),
        ("matthews_correlation", *MIXED, (3 * 3 - 1 * 1) / math.sqrt(4 * 4 * 4 * 4)),
        ("accuracy", [0, 2, 1, 2], [0, 1, 2, 2], 2 / 4),
        ("f1", [1, 1, 1, 1], [1, 1, 0, 0], 2 * 2 / (2 * 2 + 2)),
        ("f1", [0, 0, 1, 0], [1, 0, 0, 0], 0.0),
        ("matthews_correlation", [0, 1, 0], [1, 0, 1], -1.0),
        # Nothing to correlate with.
        ("f1", [0, 0, 0, 0], [1, 1, 0, 0], 0.0),
        ("f1", [0, 0], [0, 0], 0.0),
        ("matthews_correlation", [1, 1, 1, 1], [1, 1, 0, 0], 0.0),
        ("matthews_correlation", [1, 0, 1, 0], [1, 1, 1, 1], 0.0),
        ("matthews_correlation", [1, 1], [1, 1], 0.0),
    ],
)
def test_class_metric(name, predicted, label, expected):
    result = metrics.compute([name], np.array(predicted), np.array(label, np.int32))
    assert result == {name: pytest.approx(expected, abs=1e-15)}


@pytest.mark.parametrize(
    "name, predicted, label, expected",
    [
        # Deviations (-1.5, -0.5, 0.5, 1.5) and (-2, 0, -1, 3): covariance 7, squares 5 and 14.
        ("pearson", [1, 2, 3, 4], [0, 2, 1, 5], 7 / math.sqrt(5 * 14)),
        # Ranks (1, 2, 3, 4) and (1, 3, 2, 4): 1 - 6 * 2 / (4 * 15).
        ("spearman", [1, 2, 3, 400], [0, 2, 1, 5], 0.8),
        # A tie shares its ranks, (1, 2.5, 2.5, 4) and (1, 2, 3, 4): covariance 4.5, squares 4.5 and 5.
        ("spearman", [1, 2, 2, 4], [1, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5)),
        ("pearson", [1, 2, 3], [3, 2, 1], -1.0),
        ("pearson", [2, 2, 2], [1, 2, 3], 0.0),
        ("spearman", [2, 2, 2], [1, 2, 3], 0.0),
        ("pearson", [1, 2, 3], [4, 4, 4], 0.0),
        ("spearman", [1, 2, 3], [4, 4, 4], 0.0),
        ("pearson", [1], [1], 0.0),
        ("spearman", [1], [1], 0.0),
    ],
)
def test_score_metric(name, predicted, label, expected):
    result = metrics.compute([name], np.array(predicted, np.float64), np.array(label, np.float32))
    assert result == {name: pytest.approx(expected, abs=1e-12)}


def test_metrics_come_in_the_order_asked_and_as_plain_floats():
    result = metrics.compute(["f1", "accuracy"], *map(np.array, MIXED))
    assert list(result) == ["f1", "accuracy"]
    assert {type(value) for value in result.values()} == {float}
