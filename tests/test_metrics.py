"""Metrics against values worked out by hand and scikit-learn's; what is undefined is a number, with no warning."""

import math

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as sklearn_metrics

from jaxfreeze import metrics
from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Classification, MultiLabel, Objective, Regression

# 8 examples: 3 true positives, 1 false positive, 1 false negative, 3 true negatives.
MIXED = ([1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0, 0])
ABC = Classification(("a", "b", "c"))
YES_NO = Classification(("no", "yes"))
TAGS = MultiLabel(("a", "b", "c"))


def names_of(objective: Objective) -> list[str]:
    """Every name that --metric may have, with the first class in place of NAME."""
    names = [name.replace("NAME", objective.labels[0]) for name in objective.fitting_metrics if objective.labels]
    names = names or list(objective.fitting_metrics)
    return [name for name in names if name != "f1" or len(objective.labels) == 2]


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
        ("balanced_accuracy", [0, 0, 1, 2], [0, 0, 0, 1], (2 / 3 + 0) / 2),  # a class that no row has is left out
        ("macro_f1", [0, 0, 1], [0, 0, 0], (4 / 5 + 0) / 2),
        ("micro_f1", [0, 2, 1, 2], [0, 1, 2, 2], 2 / 4),
        ("weighted_f1", [0, 0, 1], [0, 0, 0], 4 / 5),
        ("cohen_kappa", *MIXED, (6 / 8 - 1 / 2) / (1 - 1 / 2)),
        # Nothing to correlate with.
        ("f1", [0, 0, 0, 0], [1, 1, 0, 0], 0.0),
        ("f1", [0, 0], [0, 0], 0.0),
        ("matthews_correlation", [1, 1, 1, 1], [1, 1, 0, 0], 0.0),
        ("matthews_correlation", [1, 0, 1, 0], [1, 1, 1, 1], 0.0),
        ("matthews_correlation", [1, 1], [1, 1], 0.0),
        ("cohen_kappa", [1, 1], [1, 1], 0.0),
        ("cohen_kappa", [0, 0], [1, 1], 0.0),
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
        ("kendall", [1, 2, 3, 4], [0, 2, 1, 5], (5 - 1) / 6),  # of 6 pairs one is in the other order
        ("kendall", [2, 2], [1, 2], 0.0),
        ("mae", [1, 2, 3], [1, 4, 0], 5 / 3),
        ("mse", [1, 2, 3], [1, 4, 0], 13 / 3),
        ("rmse", [1, 2, 3], [1, 4, 0], math.sqrt(13 / 3)),
        ("r2", [1, 2, 3], [1, 2, 6], 1 - 9 / 14),
        ("r2", [1, 2], [3, 3], 0.0),
        ("r2", [1], [3], 0.0),
        ("explained_variance", [2, 3, 4], [1, 2, 3], 1.0),
        ("explained_variance", [1], [3], 0.0),
    ],
)
def test_score_metric(name, predicted, label, expected):
    result = metrics.compute([name], np.array(predicted, np.float64), np.array(label, np.float32))
    assert result == {name: pytest.approx(expected, abs=1e-7)}


def test_metrics_come_in_the_order_asked_and_as_plain_floats():
    result = metrics.compute(["f1", "accuracy"], *map(np.array, MIXED))
    assert list(result) == ["f1", "accuracy"]
    assert {type(value) for value in result.values()} == {float}


def examples(objective: Objective, rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something of the labels, and the labels."""
    random = np.random.default_rng(0)
    label = random.integers(0, max(2, objective.num_outputs), (rows, *objective.label_shape))
    logits = random.normal(0, 1, (rows, objective.num_outputs))
    logits += label if objective.label_shape else np.eye(max(3, objective.num_outputs))[label][:, : logits.shape[1]]
    return logits.astype(np.float32), (label % 2 if objective.label_shape else label).astype(objective.label_dtype)


@pytest.mark.parametrize("objective", [YES_NO, ABC, TAGS, Regression()], ids=["two", "three", "tags", "numbers"])
def test_every_metric_that_fits_is_a_finite_number_whatever_the_rows(objective: Objective) -> None:
    logits, label = examples(objective)
    for name in names_of(objective):
        measured = objective.measured_by(name)
        assert measured.primary_metric == name
        assert set(objective.metrics) <= set(measured.metrics)
        for rows in (slice(None), slice(0, 1), slice(0, 2)):
            for labels in (label, np.zeros_like(label), np.ones_like(label)):
                for outputs in (logits, np.zeros_like(logits), -5 + 0 * logits):
                    found = measured.score(outputs[rows], labels[rows])
                    assert next(iter(found)) == name
                    assert all(type(value) is float and math.isfinite(value) for value in found.values()), found


def test_three_classes_are_scikit_learns() -> None:
    logits, label = examples(ABC)
    prediction, probability = logits.argmax(axis=1), ABC.probabilities(logits)
    expected = {
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(label, prediction),
        "macro_f1": sklearn_metrics.f1_score(label, prediction, average="macro"),
        "micro_f1": sklearn_metrics.f1_score(label, prediction, average="micro"),
        "weighted_f1": sklearn_metrics.f1_score(label, prediction, average="weighted"),
        "f1:b": sklearn_metrics.f1_score(label, prediction, average=None)[1],
        "precision:c": sklearn_metrics.precision_score(label, prediction, average=None)[2],
        "recall:a": sklearn_metrics.recall_score(label, prediction, average=None)[0],
        "cohen_kappa": sklearn_metrics.cohen_kappa_score(label, prediction),
        "roc_auc": sklearn_metrics.roc_auc_score(label, probability, multi_class="ovr", average="macro"),
        "average_precision": sklearn_metrics.average_precision_score(label, probability, average="macro"),
        "log_loss": sklearn_metrics.log_loss(label, probability),
    }
    for name, value in expected.items():
        assert ABC.measured_by(name).score(logits, label)[name] == pytest.approx(value, abs=1e-12), name


def test_two_classes_are_scikit_learns() -> None:
    logits, label = examples(YES_NO)
    probability = YES_NO.probabilities(logits)[:, 1]
    expected = {
        "roc_auc": sklearn_metrics.roc_auc_score(label, probability),
        "average_precision": sklearn_metrics.average_precision_score(label, probability),
        "f1:no": sklearn_metrics.f1_score(label, logits.argmax(axis=1), pos_label=0),
        "log_loss": sklearn_metrics.log_loss(label, probability),
    }
    for name, value in expected.items():
        assert YES_NO.measured_by(name).score(logits, label)[name] == pytest.approx(value, abs=1e-12), name


def test_any_number_of_classes_are_scikit_learns() -> None:
    logits, label = examples(TAGS)
    prediction, probability = (logits > 0).astype(int), TAGS.probabilities(logits)
    expected = {
        "weighted_f1": sklearn_metrics.f1_score(label, prediction, average="weighted"),
        "f1:b": sklearn_metrics.f1_score(label, prediction, average=None)[1],
        "lrap": sklearn_metrics.label_ranking_average_precision_score(label, probability),
        "roc_auc": sklearn_metrics.roc_auc_score(label, probability, average="macro"),
        "average_precision": sklearn_metrics.average_precision_score(label, probability, average="macro"),
        "hamming_loss": sklearn_metrics.hamming_loss(label, prediction),
        "accuracy": sklearn_metrics.accuracy_score(label, prediction),
    }
    for name, value in expected.items():
        assert TAGS.measured_by(name).score(logits, label)[name] == pytest.approx(value, abs=1e-12), name


def test_numbers_are_scikit_learns() -> None:
    logits, label = examples(Regression())
    found = logits[:, 0].astype(np.float64)
    expected = {
        "kendall": scipy.stats.kendalltau(found, label).statistic,
        "r2": sklearn_metrics.r2_score(label, found),
        "explained_variance": sklearn_metrics.explained_variance_score(label, found),
        "rmse": sklearn_metrics.root_mean_squared_error(label, found),
    }
    for name, value in expected.items():
        assert Regression().measured_by(name).score(logits, label)[name] == pytest.approx(value, abs=1e-9), name


def test_what_rows_leave_undefined() -> None:
    logits, label = examples(ABC)
    some = label != 2  # no row has the third class
    probability = ABC.probabilities(logits)[some]
    aucs = [sklearn_metrics.roc_auc_score(label[some] == number, probability[:, number]) for number in (0, 1)]
    assert ABC.measured_by("roc_auc").score(logits[some], label[some])["roc_auc"] == pytest.approx(np.mean(aucs))
    assert ABC.measured_by("f1:c").score(logits[some], label[some])["f1:c"] == 0.0
    assert YES_NO.measured_by("roc_auc").score(logits[:, :2], np.zeros_like(label))["roc_auc"] == 0.5
    assert YES_NO.measured_by("average_precision").score(logits[:, :2], 0 * label)["average_precision"] == 0.0


@pytest.mark.parametrize(
    ("objective", "name", "line"),
    [
        (ABC, "f1", "--metric f1: of 3 classes; expected macro_f1, or f1:NAME for one of them"),
        (ABC, "f1:d", "--metric f1:d: no class 'd'; expected one of a, b, c"),
        (YES_NO, "f1:yess", "--metric f1:yess: no class 'yess'; expected one of no, yes; did you mean 'yes'?"),
        (ABC, "mae", "--metric mae: not a metric of classification; expected one of accuracy, balanced_accuracy,"),
        (
            TAGS,
            "marco_f1",
            "precision:NAME, recall:NAME, lrap, roc_auc, average_precision, hamming_loss, accuracy; did",
        ),
        (Regression(), "accuracy", "not a metric of regression; expected one of spearman, pearson, kendall, r2,"),
        (Regression(), "f1:a", "--metric f1:a: not a metric of regression"),
        (ABC, "accuracy:a", "--metric accuracy:a: not a metric of classification"),
        (ABC, "f1:", "--metric f1:: no class ''"),
    ],
)
def test_a_metric_that_does_not_fit(objective: Objective, name: str, line: str) -> None:
    with pytest.raises(InputError) as error:
        objective.measured_by(name)
    assert line in str(error.value)


def test_a_class_of_any_name_has_its_metrics() -> None:
    objective = Classification(("a:b", "c", "NAME"))
    logits, label = examples(objective)
    for name in ("f1:a:b", "recall:NAME"):
        assert objective.measured_by(name).score(logits, label)[name] > 0


def test_better() -> None:
    for name in ("mae", "mse", "rmse", "log_loss", "hamming_loss"):
        assert metrics.is_better(name, 0.1, 0.2)
        assert not metrics.is_better(name, 0.2, 0.1)
    for name in ("accuracy", "f1:mae", "lrap", "r2"):
        assert metrics.is_better(name, 0.2, 0.1)
        assert not metrics.is_better(name, 0.1, 0.2)
    assert not metrics.is_better("mae", 0.1, 0.1)
    assert not metrics.is_better("f1", 0.1, 0.1)
