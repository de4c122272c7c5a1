"""Labels of words: the loss is PyTorch's over first pieces, scores are those of entities, cells are lists."""

import dataclasses

import numpy as np
import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.objectives import OBJECTIVES, MissingLabelError, Tokens
from tests.reference import pytorch

TAGS = Tokens(("B-PER", "I-PER", "O"))
WORDS = Tokens(("NOUN", "VERB"))


def logits_of(ids: list[int], classes: int = 3) -> np.ndarray:
    """Logits whose largest is that of each id."""
    return 4 * np.eye(classes, dtype=np.float32)[ids]


@pytest.mark.parametrize(
    ("weights", "smoothing"), [((), 0.0), ((0.5, 2.0, 1.5), 0.0), ((), 0.2), ((0.5, 2.0, 1.5), 0.1)]
)
def test_the_loss_is_pytorchs(weights: tuple[float, ...], smoothing: float) -> None:
    torch, random = pytorch(), np.random.default_rng(0)
    logits, label = random.normal(size=(4, 9, 3)).astype(np.float32), random.integers(-1, 3, (4, 9))
    ours = dataclasses.replace(TAGS, class_weights=weights, smoothing=smoothing)
    weight = np.asarray(ours.weight(label))
    loss = np.where(weight > 0, ours.loss(logits, label), 0).sum() / weight.sum()
    theirs = torch.nn.CrossEntropyLoss(
        torch.tensor(weights) if weights else None, ignore_index=-100, label_smoothing=smoothing
    )
    expected = theirs(torch.tensor(logits).reshape(-1, 3), torch.tensor(np.where(label < 0, -100, label)).reshape(-1))
    assert loss == pytest.approx(expected.item(), abs=1e-6)


def test_entities_decide() -> None:
    assert TAGS.metrics == ("entity_f1", "entity_precision", "entity_recall", "accuracy")
    assert TAGS.primary_metric == "entity_f1"
    label, predicted = np.array([0, 1, 2, 0, 2]), logits_of([0, 1, 2, 0, 1])
    found = TAGS.score(predicted, label, np.array([3, 2]))
    assert found == {
        "entity_f1": pytest.approx(0.5), "entity_precision": 0.5, "entity_recall": 0.5, "accuracy": pytest.approx(0.8)
    }  # fmt: skip


def test_entities_end_with_their_sentence() -> None:
    label = np.array([0, 1, 1])
    whole = TAGS.score(logits_of([0, 1, 1]), label, np.array([1, 2]))
    assert whole["entity_f1"] == 1.0
    moved = TAGS.score(logits_of([0, 1, 1]), np.array([0, 0, 1]), np.array([1, 2]))
    assert moved["entity_f1"] == 1.0  # I at the beginning of a sentence begins an entity
    assert TAGS.score(logits_of([0, 1, 1]), np.array([0, 0, 1]), np.array([3]))["entity_f1"] == 0.0


def test_other_words_are_counted_one_by_one() -> None:
    assert WORDS.metrics == ("accuracy",)
    assert WORDS.score(logits_of([0, 1, 1], 2), np.array([0, 0, 1]), np.array([1, 2])) == {
        "accuracy": pytest.approx(2 / 3)
    }


def test_logits_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        TAGS.score(np.full((1, 3), np.nan, np.float32), np.array([0]), np.array([1]))


def test_nothing_was_read() -> None:
    nothing = np.zeros((0, 3), np.float32)
    assert TAGS.score(nothing, np.zeros(0, int), np.array([0, 0]))["accuracy"] == 0.0
    assert [one.prediction for one in TAGS.predictions(nothing, np.array([0, 0]))] == [[], []]
    assert TAGS.predictions(nothing, np.zeros(0, int)) == []


def test_predictions() -> None:
    logits = logits_of([0, 1, 2, 2])
    first, second, third = TAGS.predictions(logits, np.array([2, 0, 2]))
    assert [first.prediction, second.prediction, third.prediction] == [["B-PER", "I-PER"], [], ["O", "O"]]
    np.testing.assert_array_equal(first.logits, logits[:2])
    np.testing.assert_array_equal(third.logits, logits[2:])
    assert second.logits.shape == (0, 3)


def test_hugging_face_has_no_problem_type_for_it() -> None:
    assert TAGS.hugging_face_config() == {
        "id2label": {"0": "B-PER", "1": "I-PER", "2": "O"}, "label2id": {"B-PER": 0, "I-PER": 1, "O": 2}
    }  # fmt: skip


def test_cells_are_lists() -> None:
    reader = OBJECTIVES["tokens"].of(()).reader("tags")
    for cell in (["O", "I-PER"], ("B-PER",), [" O "]):
        reader.read(cell)
    labels, objective = reader.finish()
    assert objective == TAGS
    assert labels.tolist() == [2, 1, 0, 2]
    assert labels.dtype == np.int32


def test_a_row_is_taken_whole_or_not() -> None:
    """What is left out with --on_bad_row skip leaves neither labels nor classes behind."""
    reader = Tokens().reader("tags")
    reader.read(["O", "B-PER"])
    for cell in (["I-PER", None], ["I-PER", "NA"], ["I-PER", ""], ["I-PER", float("nan")]):
        with pytest.raises(MissingLabelError):
            reader.read(cell)
    labels, objective = reader.finish()
    assert objective.labels == ("B-PER", "O")
    assert labels.tolist() == [1, 0]


def test_declared_classes_are_the_classes() -> None:
    reader = Tokens().reader("tags", ("O", "B-PER", "B-LOC"))
    reader.read(["B-PER", "O"])
    labels, objective = reader.finish()
    assert objective.labels == ("O", "B-PER", "B-LOC")
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("O B-PER", "expected a list with a label for each word in column 'tags', found 'O B-PER'"),
        (None, "expected a list with a label for each word in column 'tags', found 'None'"),
        (["O", "B-LOC"], "label 'B-LOC' is not one of B-PER, I-PER, O"),
        (["O", ["B-PER"]], "expected a label (text or a whole number), found a list"),
        (["O", 0.5], "label '0.5' is neither a whole number nor a name"),
    ],
)
def test_wrong_cells(cell: object, line: str) -> None:
    with pytest.raises(InputError) as caught:
        TAGS.reader("tags").read(cell)
    assert line in str(caught.value)


def test_one_class_is_none() -> None:
    reader = Tokens().reader("tags")
    reader.read(["O", "O"])
    with pytest.raises(InputError, match="expected two classes or more in column 'tags', found only 'O'"):
        reader.finish()


def test_the_same_label_by_another_id() -> None:
    assert TAGS.renumber(np.array([0, 2, 1]), ["O", "I-PER", "B-PER"]).tolist() == [2, 0, 1]
    with pytest.raises(InputError, match="expected the labels"):
        TAGS.renumber(np.array([0]), ["O", "I-LOC", "B-PER"])
