"""Any number of classes for each example: how cells are read, what is predicted, and which threshold is chosen."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.objectives import MissingLabelError, MultiLabel
from jaxfreeze.objectives.kinds import asked_kind, kind_of

FILES = {"task": "files", "train_file": "a.csv", "validation_file": "b.csv", "text_columns": ("t",)}
TAGS = MultiLabel(("a", "b", "c"))
JOINED = MultiLabel(separator=",")


def read(objective: MultiLabel, cells: list, declared: tuple[str, ...] = ()) -> tuple[list, MultiLabel]:
    """The labels of a column of cells, and the objective afterwards."""
    reader = objective.reader("tags", declared)
    for cell in cells:
        reader.read(cell)
    labels, found = reader.finish()
    assert (labels.dtype, labels.shape) == (np.uint8, (len(cells), *found.label_shape))
    assert isinstance(found, MultiLabel)
    return labels.tolist(), found


def test_names_with_a_separator() -> None:
    labels, found = read(JOINED, ["b, a", "", "c", " a ,", "a,a"])
    assert found.labels == ("a", "b", "c")
    assert labels == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert read(found, ["c", "b"])[0] == [[0, 0, 1], [0, 1, 0]]  # other rows may do without the separator
    assert read(MultiLabel(separator="; "), ["joy; love", "joy"])[1].labels == ("joy", "love")


def test_numbers_are_classes_by_value() -> None:
    labels, found = read(JOINED, ["10,9", "9", "1.0,01"])
    assert found.labels == ("1", "9", "10")
    assert labels == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]


def test_lists() -> None:
    labels, found = read(MultiLabel(), [["y", "x"], [], ["z"]])
    assert (labels, found.labels) == ([[1, 1, 0], [0, 0, 0], [0, 0, 1]], ("x", "y", "z"))
    assert read(MultiLabel(), [[2, 10], [3]])[1].labels == ("2", "3", "10")
    assert read(MultiLabel(), [["y"], ["x"]], declared=("y", "x", "w"))[1].labels == ("y", "x", "w")  # ids of the file
    assert read(TAGS, [["c", "a"]], declared=("c", "b", "a"))[0] == [[1, 0, 1]]


def test_a_column_for_each_class() -> None:
    cells = [(0, "1", 1.0), (True, "false", "0"), ("TRUE", False, " 1 ")]
    assert read(TAGS, cells) == ([[0, 1, 1], [1, 0, 0], [1, 0, 1]], TAGS)


def test_numbers_are_places_in_label_names_if_no_name_is_a_number() -> None:
    config = TrainConfig(**FILES, label_column="l", label_names=("joy", "love", "fear"), label_separator=",")  # type: ignore[arg-type]
    objective = MultiLabel.of_own_rows(config.label_names, config)
    assert objective.by_number
    assert read(objective, ["0,2", "love", "2.0", ""])[0] == [[1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    with pytest.raises(InputError, match=r"^label 3: expected 0 to 2, the places in --label_names, or a name$"):
        read(objective, ["3"])
    with pytest.raises(InputError, match=r"^label '-1' is not one of joy, love, fear$"):
        read(objective, ["-1"])
    numbers = TrainConfig(**FILES, label_column="l", label_names=("2", "1", "0"), label_separator=",")  # type: ignore[arg-type]
    objective = MultiLabel.of_own_rows(numbers.label_names, numbers)
    assert read(objective, ["0,2"])[0] == [[1, 0, 1]]  # by name
    found = read(JOINED, ["joy,love"])[1]
    with pytest.raises(InputError, match=r"^label '1' is not one of joy, love$"):
        read(found, ["1"])  # names that a training file gave have no numbers


REFUSED = [
    (JOINED, ["a;b", "a"], "--label_separator ',': appears in no row of column 'tags'; expected what is between the "),
    (JOINED, ["a,", "a"], "expected two classes or more in column 'tags', found 1"),
    (MultiLabel(), ["a,b"], "expected a list of labels, found 'a,b'; give --label_separator for names in one cell, or"),
    (MultiLabel(), [3], "expected a list of labels, found '3'; give --label_separator"),
    (MultiLabel(), [[["a"]]], "expected a list of labels, found a list in it"),
    (MultiLabel(), [[2.5]], "label '2.5' is neither a whole number nor a name"),
    (TAGS, [["A"]], "label 'A' is not one of a, b, c; did you mean 'a'?"),
    (TAGS, [(0, 2, 0)], "label '2' in column 'b': expected 0 or 1, as of several label columns"),
    (TAGS, [(0, 0, "yes")], "label 'yes' in column 'c': expected 0 or 1"),
]


@pytest.mark.parametrize(("objective", "cells", "line"), REFUSED)
def test_cells_that_are_none(objective: MultiLabel, cells: list, line: str) -> None:
    with pytest.raises(InputError) as error:
        read(objective, cells)
    assert str(error.value).startswith(line)


@pytest.mark.parametrize("cell", [None, float("nan"), (0, "", 1), ["a", None], ["NA"]])
def test_missing_labels_are_no_empty_sets(cell: object) -> None:
    with pytest.raises(MissingLabelError):
        TAGS.reader("tags").read(cell)


def test_predictions_are_the_classes_above_the_threshold() -> None:
    logits = np.array([[0.0, 2.0, -2.0], [-1.0, -3.0, -2.0]], np.float32)
    first, second = TAGS.predictions(logits)
    assert (first.prediction, second.prediction) == (["b"], [])  # 0.5 is not above 0.5
    assert first.probabilities == pytest.approx({"a": 0.5, "b": 1 / (1 + np.exp(-2)), "c": 1 / (1 + np.exp(2))})
    assert second.as_json()["prediction"] == []
    low = TAGS.settled({"threshold": 0.1})
    assert [one.prediction for one in low.predictions(logits)] == [["a", "b", "c"], ["a", "c"]]
    assert TAGS.settled({}) == TAGS
    assert low.hugging_face_config()["threshold"] == 0.1
    assert low.hugging_face_config()["problem_type"] == "multi_label_classification"


def test_scores() -> None:
    logits = np.array([[1, -1, -1], [1, 1, -1], [-1, -1, 1]], np.float32)
    label = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1]], np.uint8)
    found = TAGS.score(logits, label)  # by class: 2 of 2; 1 false, 1 missed; 1 of 1
    assert list(found) == ["micro_f1", "macro_f1", "lrap", "accuracy"]
    assert found["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert found["macro_f1"] == pytest.approx((1 + 0 + 1) / 3)
    assert found["lrap"] == pytest.approx((1 + 1 / 2 + (1 + 2 / 3) / 2) / 3)  # ties count as before
    assert found["accuracy"] == pytest.approx(1 / 3)


def test_the_threshold_is_the_best_one_of_the_rows() -> None:
    random = np.random.default_rng(0)
    label = (random.random((200, 3)) < 0.2).astype(np.uint8)
    logits = (label * 2.0 - 3 + random.normal(0, 1, label.shape)).astype(np.float32)  # all are too low
    objective = MultiLabel(("a", "b", "c"), threshold=None).measured_by("macro_f1")
    chosen, what = objective.chosen_on(logits, label)
    assert what == {"threshold": chosen.threshold}
    scores = {
        number / 50: f1_score(label, chosen.probabilities(logits) > number / 50, average="macro")
        for number in range(1, 50)
    }
    assert chosen.score(logits, label)["macro_f1"] == max(scores.values()) > scores[0.5]
    assert min((t for t in scores if scores[t] == max(scores.values())), key=lambda t: abs(t - 0.5)) == chosen.threshold
    assert chosen.chosen_on(-logits, label) == (chosen, {})  # what is chosen stays
    assert objective.settled(what) == chosen
    with pytest.raises(ValueError, match="still to be chosen"):
        objective.score(logits, label)
    ranked = objective.measured_by("lrap")  # asks no threshold
    assert ranked.chosen_on(logits, label)[1] == {"threshold": 0.5}
    lower = objective.measured_by("hamming_loss").chosen_on(logits, label)[0]
    losses = {t: np.mean((chosen.probabilities(logits) > t) != label) for t in scores}
    assert losses[lower.threshold] == min(losses.values())


def test_other_ids_are_matched_by_name() -> None:
    assert TAGS.renumber(np.array([[1, 0, 0], [1, 1, 0]]), ["c", "b", "a"]).tolist() == [[0, 0, 1], [0, 1, 1]]
    with pytest.raises(InputError, match=r"^expected the labels \['a', 'b', 'c'\], found \['a'\]$"):
        TAGS.renumber(np.array([[1]]), ["a"])


@pytest.mark.parametrize(
    ("texts", "labels", "kind"),
    [
        (["x"], ["a", "b"], "classification"),
        (["x"], [1, "2", None], "classification"),
        (["x"], [1.0, "2.0"], "classification"),
        (["x"], ["0.5", "1", "", None], "regression"),
        (["x"], [0.5, 2, float("nan")], "regression"),
        (["x"], ["0.5", "a"], "classification"),
        (["x"], [True, 0.5], "classification"),
        (["x"], [["a"], None], "multi_label"),
        ([["x", "y"]], [["O", "O"]], "tokens"),
        ([], [], "classification"),
    ],
)
def test_the_kind_that_cells_have(texts: list, labels: list, kind: str) -> None:
    assert kind_of(texts, labels) == kind


def test_the_kind_that_flags_ask_for() -> None:
    def asked(**flags: object) -> str | None:
        return asked_kind(TrainConfig(**FILES | {"label_column": ("l",)} | flags))  # type: ignore[arg-type]

    assert asked() is None
    assert asked(regression=True) == asked(objective="regression", regression=True) == "regression"
    assert asked(label_separator=",") == asked(label_column=("a", "b")) == asked(objective="multi_label")
    assert asked(objective="classification") == "classification"
