"""A metric of weighted examples is the metric of the rows that the weights repeat."""

import numpy as np
import pytest

from jaxfreeze.objectives import Classification, MultiLabel, Objective, Regression, Tokens
from jaxfreeze.search import uncertainty
from jaxfreeze.search.outcomes import Run
from jaxfreeze.search.weighted import weighted_metric
from tests.test_metrics import examples, names_of

OBJECTIVES = (
    Classification(("no", "yes")),
    Classification(("a", "b", "c")),
    MultiLabel(("a", "b", "c")),
    Regression(),
    Tokens(("O", "B-X", "I-X", "B-Y")),
)
SLOW = {"roc_auc", "average_precision", "lrap", "kendall"}
"""Metrics that are computed on one resample at a time."""


def metrics_of(objective: Objective) -> list[str]:
    return list(dict.fromkeys([*names_of(objective), *objective.metrics]))


def resamples(rows: int, first: np.ndarray) -> np.ndarray:
    """Ten of them: all rows once, one row alone, those that `first` marks, and random ones."""
    drawn = np.random.default_rng(1).integers(rows, size=(10, rows))
    drawn[0], drawn[1] = np.arange(rows), 3
    drawn[2] = np.resize(np.flatnonzero(first), rows)
    return drawn


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["two", "three", "tags", "numbers", "words"])
def test_weights_are_repeated_rows(objective: Objective) -> None:
    logits, label = examples(objective)
    if isinstance(objective, Regression):
        logits[10:20] = logits[10]  # equal predictions share a rank
    counts = np.array([2, 0, 3, 1] * 10) if objective.by_token else np.ones(len(label), np.int64)
    of_one_class = label[np.cumsum(counts) - 1] == label[0] if label.ndim == 1 else label[:, 0] == 0
    drawn = resamples(len(counts), of_one_class)
    if objective.by_token:
        drawn[1] = 2  # the fourth example is one word long, the second has none
    weights, slow = uncertainty.weights_of(drawn), set()
    for name in metrics_of(objective):
        measured = objective.measured_by(name)
        value = weighted_metric(Run(measured, logits), label, counts)
        if value is None:
            slow.add(name)
            continue
        found = value(weights)
        for some, one in zip(drawn, found, strict=True):
            places = uncertainty.places_of(some, counts)
            expected = measured.score(logits[places], label[places], counts[some])[name]
            assert one == pytest.approx(expected, abs=1e-9), name
    assert slow == SLOW & set(metrics_of(objective))


def test_weights_count_what_was_drawn() -> None:
    drawn = np.array([[0, 0, 2], [1, 2, 2]])
    assert uncertainty.weights_of(drawn).tolist() == [[2, 0], [0, 1], [1, 2]]
    assert uncertainty.places_of(np.array([2, 0, 2]), np.array([2, 1, 3])).tolist() == [3, 4, 5, 0, 1, 3, 4, 5]


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"], ids=["sums", "one by one"])
def test_runs_with_the_same_answers_move_alike(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is scored on the same resamples; the slow way and the fast one move a score about as far."""
    monkeypatch.setattr(uncertainty, "SLOW_RESAMPLES", 40)
    objective = Classification(("no", "yes"), (metric,))
    logits, label = examples(objective)
    from tests.search.made import reported

    found = uncertainty.row_deviations([Run(objective, logits)] * 2, reported(label, objective))
    assert np.array_equal(found[:, 0], found[:, 1])
    assert np.abs(found.mean(axis=0)).max() < 1e-12
    share = objective.score(logits, label)[metric]
    assert found[:, 0].std() == pytest.approx(np.sqrt(share * (1 - share) / len(label)), rel=0.3)
