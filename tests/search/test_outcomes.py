"""The best constant answer of every kind of label, and runs as they are scored."""

import itertools

import numpy as np
import pytest

from jaxfreeze.metrics import is_better
from jaxfreeze.objectives import Classification, MultiLabel, Objective, Regression, Tokens
from jaxfreeze.search import outcomes
from jaxfreeze.search.outcomes import Outcomes
from jaxfreeze.sweep.curves import CONSTANT_ANSWER
from tests.search.made import candidate, reported
from tests.search.test_weighted import with_metric
from tests.test_metrics import examples, names_of

GLUE = {  # rows of each class in the dev sets
    "cola": ("matthews_correlation", (322, 721)),
    "sst2": ("accuracy", (428, 444)),
    "mrpc": ("f1", (129, 279)),
    "qqp": ("f1", (25545, 14885)),
    "mnli": ("accuracy", (3479, 3123, 3213)),
    "mnli_mismatched": ("accuracy", (3463, 3129, 3240)),
    "qnli": ("accuracy", (2702, 2761)),
    "rte": ("accuracy", (146, 131)),
}


@pytest.mark.parametrize("task", GLUE)
def test_the_constant_answers_of_glue(task: str) -> None:
    metric, rows = GLUE[task]
    objective = Classification(tuple(map(str, range(len(rows)))), (metric,))
    label = np.repeat(np.arange(len(rows), dtype=np.int32), rows)
    assert outcomes.best_constant(reported(label, objective)).score == pytest.approx(CONSTANT_ANSWER[task], abs=1e-12)


def test_a_constant_number() -> None:
    label = np.array([0, 0, 1, 5], np.float32)
    found = {
        metric: outcomes.best_constant(reported(label, Regression((metric,)))).score
        for metric in ("spearman", "pearson", "kendall", "r2", "mae", "mse")
    }
    assert found == {"spearman": 0, "pearson": 0, "kendall": 0, "r2": 0, "mae": -1.5, "mse": pytest.approx(-4.25)}


def test_the_log_loss_of_a_constant_answer_is_the_entropy_of_the_classes() -> None:
    label = np.repeat(np.arange(3, dtype=np.int32), (1, 3, 4))
    objective = Classification(("a", "b", "c"), ("log_loss",))
    shares = np.array([1, 3, 4]) / 8
    found = outcomes.best_constant(reported(label, objective)).score
    assert found == pytest.approx((shares * np.log(shares)).sum(), abs=1e-6)


@pytest.mark.parametrize("metric", ["micro_f1", "macro_f1", "weighted_f1", "hamming_loss", "accuracy", "f1:b"])
@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.98])
def test_no_set_of_classes_is_a_better_constant_answer(metric: str, threshold: float) -> None:
    label = (np.random.default_rng(3).random((50, 3)) < (0.7, 0.2, 0.55)).astype(np.uint8)
    objective = MultiLabel(("a", "b", "c"), (metric,), threshold=threshold)
    found = outcomes.best_constant(reported(label, objective)).score
    for some in itertools.product((-20.0, 20.0), repeat=3):
        other = objective.score(np.tile(np.array(some, np.float32), (50, 1)), label)[metric]
        assert not is_better(metric, other, outcomes.sign_of(metric) * found)


def test_no_word_is_an_entity_in_a_constant_answer() -> None:
    label = np.array([0, 1, 1, 1], np.int32)
    tags, parts = Tokens(("O", "B-X")), Tokens(("NOUN", "VERB"))
    assert outcomes.best_constant(reported(label, tags)).score == 0.0
    assert outcomes.best_constant(reported(label, parts)).score == 0.75


@pytest.mark.parametrize("objective", [Classification(("a", "b")), MultiLabel(("a", "b", "c")), Regression()])
def test_every_metric_has_a_constant_answer_that_is_one(objective: Objective) -> None:
    _, label = examples(objective)
    for name in names_of(objective):
        found = outcomes.best_constant(reported(label, with_metric(objective, name)))
        assert np.isfinite(found.score)
        assert len(np.unique(found.run.logits, axis=0)) == 1


def test_a_diverged_run_knows_nothing() -> None:
    label = np.array([0, 0, 1], np.int32)
    rows = reported(label, Classification(("a", "b"), ("accuracy",)))
    broken = np.array([[0, 1], [np.nan, 0], [0, 1]], np.float32)
    (run,) = outcomes.runs_of(Outcomes(candidate(1), (1,), (1.0,), (broken,)), rows)
    assert outcomes.score(run, label, rows.counts) == pytest.approx(2 / 3)


def test_each_run_has_the_threshold_that_it_chose() -> None:
    label = np.array([[1, 0], [1, 0]], np.uint8)
    rows = reported(label, MultiLabel(("a", "b"), ("accuracy",), threshold=0.5))
    logits = np.array([[3, 1], [3, 1]], np.float32)
    chosen = ({"threshold": 0.9}, {"threshold": 0.5})
    runs = outcomes.runs_of(Outcomes(candidate(1), (1, 2), (1.0, 1.0), (logits, logits), chosen), rows)
    assert [outcomes.score(run, label, rows.counts) for run in runs] == [1.0, 0.0]
