"""A metric of weighted examples is the metric of the rows that the weights repeat."""

import dataclasses

import numpy as np
import pytest

from jaxfreeze.objectives import Classification, MultiLabel, Objective, Regression, Tokens
from jaxfreeze.search import uncertainty
from jaxfreeze.search.outcomes import Run
from jaxfreeze.search.weighted import weighted_metrics
from tests.search.made import reported
from tests.test_metrics import examples, names_of

OBJECTIVES = (
    Classification(("no", "yes")),
    Classification(("a", "b", "c")),
    MultiLabel(("a", "b", "c")),
    Regression(),
    Tokens(("O", "B-X", "I-X", "B-Y")),
)
SLOW = {"lrap", "kendall"}
"""Metrics that are computed on one resample at a time."""


def metrics_of(objective: Objective) -> list[str]:
    return list(dict.fromkeys([*names_of(objective), *objective.metrics]))


def with_metric(objective: Objective, name: str) -> Objective:
    return dataclasses.replace(objective, metrics=(name,))  # type: ignore[type-var]


def resamples(rows: int, first: np.ndarray) -> np.ndarray:
    """Six of them: all rows once, one row alone, those that `first` marks, and random ones."""
    drawn = np.random.default_rng(1).integers(rows, size=(6, rows))
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
        measured = with_metric(objective, name)
        values = weighted_metrics([Run(measured, logits), Run(measured, -logits)], label, counts)
        if values is None:
            slow.add(name)
            continue
        for some, found in zip(drawn, values(weights).T, strict=True):
            places = uncertainty.places_of(some, counts)
            for outputs, one in zip((logits, -logits), found, strict=True):
                expected = measured.score(outputs[places], label[places], counts[some])[name]
                assert one == pytest.approx(expected, abs=1e-9), name
    assert slow == SLOW & set(metrics_of(objective))


def test_weights_count_what_was_drawn() -> None:
    drawn = np.array([[0, 0, 2], [1, 2, 2]])
    assert uncertainty.weights_of(drawn).tolist() == [[2, 0], [0, 1], [1, 2]]
    assert uncertainty.places_of(np.array([2, 0, 2]), np.array([2, 1, 3])).tolist() == [3, 4, 5, 0, 1, 3, 4, 5]


def test_the_slow_way_moves_a_score_as_the_fast_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same resamples, which are the same for every run."""
    monkeypatch.setattr(uncertainty, "SLOW_RESAMPLES", 12)
    monkeypatch.setattr(uncertainty, "ROW_RESAMPLES", 12)
    monkeypatch.setattr(uncertainty, "CHUNK", 1)  # a resample at a time
    objective = Tokens(("NOUN", "VERB"), ("accuracy",))
    label = np.arange(60, dtype=np.int32) % 2
    logits = np.random.default_rng(0).normal(0, 1, (60, 2)).astype(np.float32)
    runs, rows = (
        [Run(objective, logits), Run(objective, -logits)] * 2,
        reported(label, objective, np.array([1, 2] * 20)),
    )
    fast = uncertainty.row_deviations(runs, rows)
    monkeypatch.setattr(uncertainty, "weighted_metrics", lambda *_: None)
    slow = uncertainty.row_deviations(runs, rows)
    assert slow == pytest.approx(fast, abs=1e-12)
    assert np.array_equal(slow[:, :2], slow[:, 2:])
    assert slow.std(axis=0).min() > 0.02
