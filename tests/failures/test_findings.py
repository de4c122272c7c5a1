"""What a report says, against scikit-learn and against rows whose failures were planted."""

import itertools
import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import classification_report, confusion_matrix

from jaxfreeze.failures import findings, rows
from jaxfreeze.failures.report import find
from tests.failures import made


@pytest.mark.parametrize("count", [2, 5, 77])
def test_classes_are_those_of_scikit_learn(count: int) -> None:
    run = made.one_of(count, rows=600)
    objective = run.rows.objective
    names = [objective.labels[number] for number in run.logits.argmax(axis=-1)]
    true = [objective.labels[number] for number in run.rows.label]
    expected = classification_report(true, names, labels=objective.labels, output_dict=True, zero_division=0.0)
    found = findings.class_scores(run.rows, run.logits)
    for one in found:
        values = {"f1-score": one.f1, "precision": one.precision or 0.0, "recall": one.recall, "support": one.rows}
        assert values == pytest.approx(expected[one.name])
    assert [one.f1 for one in found] == sorted(one.f1 for one in found)
    assert findings.macro_f1(found)["macro_f1"] == pytest.approx(expected["macro avg"]["f1-score"])
    matrix = findings.confusion_matrix(run.rows, run.logits)
    np.testing.assert_array_equal(matrix, confusion_matrix(true, names, labels=objective.labels))


def test_a_class_without_rows_has_no_recall_and_comes_last() -> None:
    label = np.array([0, 0, 1, 1], np.int32)
    logits = np.eye(4, dtype=np.float32)[[0, 3, 1, 1]]
    found = findings.class_scores(made.rows_of(made.classes(4), label), logits)
    assert [one.name for one in found] == ["class_03", "class_00", "class_01", "class_02"]
    assert found[0] == ("class_03", 0.0, 0.0, None, 0, 1)
    assert found[-1] == ("class_02", None, None, None, 0, 0)
    assert findings.macro_f1(found)["macro_f1"] == pytest.approx((0 + 2 / 3 + 1) / 3)


def test_confusions_are_the_cells_beside_the_diagonal() -> None:
    matrix = np.array([[5, 3, 0], [1, 9, 0], [2, 0, 0]])
    assert findings.confusions(matrix, ("a", "b", "c")) == [
        ("a", "b", 3, pytest.approx(3 / 8)),
        ("c", "a", 2, 1.0),
        ("b", "a", 1, pytest.approx(0.1)),
    ]
    run = made.one_of(40)
    found = findings.confusions(findings.confusion_matrix(run.rows, run.logits), run.rows.objective.labels, 10**6)
    assert sum(one.times for one in found) == (run.logits.argmax(axis=-1) != run.rows.label).sum()


def test_the_worst_rows_are_those_with_the_highest_loss() -> None:
    run = made.one_of(6)
    shares = softmax(run.logits.astype(np.float64), axis=-1)
    losses = -np.log(shares[np.arange(len(shares)), run.rows.label])
    found = findings.worst_rows(run.rows, run.logits)
    assert [one.loss for one in found] == pytest.approx(np.sort(losses)[::-1][:50])
    for one in found[:5]:
        number = int(one.place.split()[1])
        assert one.label == run.rows.objective.labels[run.rows.label[number]]
        assert one.prediction == one.top[0][0]
        assert [share for _, share in one.top] == pytest.approx(np.sort(shares[number])[::-1][:3])


def test_a_label_is_doubted_where_every_run_is_sure_of_one_other_class() -> None:
    label = np.zeros(6, np.int32)
    sure, unsure = 9.0, 1.0
    first = np.zeros((6, 3), np.float32)
    second = np.zeros((6, 3), np.float32)
    first[range(6), [0, 1, 1, 1, 2, 1]] = (sure, sure, sure, sure, sure, unsure)
    second[range(6), [0, 1, 2, 0, 2, 1]] = (sure, 5.0, sure, sure, sure, sure)
    of = made.rows_of(made.classes(3), label)
    found = findings.doubtful_labels(of, [first, second])
    assert [(one.place, one.label, one.prediction) for one in found] == [
        ("validation 4", "class_00", "class_02"),  # surer than the other one
        ("validation 1", "class_00", "class_01"),
    ]
    assert found[1].probabilities == pytest.approx([softmax([9, 0, 0])[0], softmax([5, 0, 0])[0]])
    assert {one.place for one in findings.doubtful_labels(of, [first])} == {f"validation {n}" for n in (1, 2, 3, 4)}


def test_groups_by_length_hold_every_row_once() -> None:
    run = made.one_of(5)
    found = findings.length_groups(run.rows, run.logits)
    assert len(found) == 5
    assert sum(one.rows for one in found) == 400
    assert all(one.longest < other.shortest for one, other in itertools.pairwise(found))
    assert max(one.rows for one in found) < 110
    assert sum(one.rows * one.scores["accuracy"] for one in found) / 400 == pytest.approx(run.metrics["accuracy"])
    alike = run.rows.__class__(**{**vars(run.rows), "lengths": np.full(400, 7)})
    assert [(one.shortest, one.longest, one.rows) for one in findings.length_groups(alike, run.logits)] == [(7, 7, 400)]


def test_numbers() -> None:
    run = made.numbers()
    found = find([run])
    assert (found.classes, found.matrix, found.calibration, found.doubtful) == ([], [], None, None)
    errors = np.array([predicted - label for label, predicted, _ in found.points])
    assert found.worst[0].loss == pytest.approx(np.square(errors).max())
    of_groups = sum(one.rows * one.scores["mean_error"] for one in found.lengths) / len(errors)
    assert of_groups == pytest.approx(errors.mean(), abs=1e-6)


def test_any_number_of_classes() -> None:
    run = made.sets()
    found = find([run])
    decided = run.logits > 0
    for one in found.classes:
        number = run.rows.objective.labels.index(one.name)
        both = (decided & (run.rows.label == 1))[:, number].sum()
        assert one.precision == pytest.approx(both / decided[:, number].sum())
        assert one.recall == pytest.approx(both / run.rows.label[:, number].sum())
    assert (found.matrix, found.doubtful) == ([], None)
    assert sum(one.size for one in found.calibration.before) == 900
    empty = [one.label for one in found.worst if not run.rows.label[int(one.place.split()[1])].any()]
    assert set(empty) == {"(none)"}


def test_a_class_for_every_word() -> None:
    found = find([made.tags()])
    assert found.about["rows"] == 3
    assert found.worst[0][:4] == ("validation 1", "in New York .", "in O", "in B-LOC")
    assert found.worst[1].label == found.worst[1].prediction == ""
    assert sum(map(sum, found.matrix)) == sum(one.size for one in found.calibration.before) == 7
    assert found.doubtful is None


def test_texts_are_shortened_and_lose_their_control_characters() -> None:
    assert rows.shown("a\tb\n\x00c\x1b[31m\u200f") == "a b c [31m\u200f"
    long = rows.shown("x" * 10_000)
    assert long.startswith("x" * 400 + " ...")
    assert long.endswith("(10,000 characters)")
    pair = made.rows_of(made.classes(2), np.array([0]), [("one\ntwo", "three")])
    pair = pair.__class__(**{**vars(pair), "columns": ("premise", "hypothesis")})
    assert pair.text(0) == "premise: one two\nhypothesis: three"


def test_findings_are_json() -> None:
    for run in (made.one_of(3), made.numbers(), made.sets(), made.tags()):
        text = json.dumps(findings.as_json(find([run])), allow_nan=False)
        assert json.loads(text)["worst"][0].keys() == set(findings.WorstRow._fields)
