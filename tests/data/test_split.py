"""Splits: a digest that tells every text and word apart, and parts of one with the labels that are theirs."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from jaxfreeze.data.split import Split

TAGGED = Split(
    "train", ((("EU", "rejects", "German", "call"), ("Peter",), ("a", "b")),), np.array([1, 0, 2, 0, 3, 4, 5], np.int32)
)
CLASSES = Split("train", (("one", "two", "three"), ("x", "y", "z")), np.array([[1, 0], [0, 1], [1, 1]], np.uint8))


def test_examples_take_their_words_labels_with_them() -> None:
    part = TAGGED.take(np.array([2, 0]))
    assert part.texts == ((("a", "b"), ("EU", "rejects", "German", "call")),)
    assert part.labels.tolist() == [4, 5, 1, 0, 2, 0]
    assert part.labels.dtype == np.int32
    assert part.counts.tolist() == [2, 4]
    assert TAGGED.take(np.arange(3)).digest == TAGGED.digest
    nothing = TAGGED.take(np.array([], int))
    assert nothing.texts == ((),)
    assert len(nothing.labels) == 0


def test_examples_take_their_own_label_with_them() -> None:
    part = CLASSES.take(np.array([2, 0]))
    assert part.texts == (("three", "one"), ("z", "x"))
    assert part.labels.tolist() == [[1, 1], [1, 0]]
    assert CLASSES.counts.tolist() == [1, 1, 1]
    assert replace(CLASSES, labels=None).take(np.array([1])).labels is None


@pytest.mark.parametrize("labels", [None, np.zeros(3, np.int32)])
def test_every_parting_into_words_has_a_digest_of_its_own(labels) -> None:
    columns = [
        (("a", "b", "c"),),
        (("ab", "c"),),
        (("a", "bc"),),
        (("abc",),),
        (("a", "b"), ("c",)),
        (("a",), ("b", "c")),
        (("a",), ("b",), ("c",)),
        ("a b c",),
        ("a", "b", "c"),
        ("abc",),
    ]
    digests = [Split("train", (column,), labels).digest for column in columns]
    for (one, first), (other, second) in itertools.combinations(zip(columns, digests, strict=True), 2):
        assert first != second, (one, other)


def test_texts_and_words() -> None:
    assert Split("test", (("EU  rejects\tit", "x"),), None).as_words().texts == ((("EU", "rejects", "it"), ("x",)),)
    assert CLASSES.as_words().texts == ((("one", "x"), ("two", "y"), ("three", "z")),)
    assert TAGGED.as_texts().texts == (("EU rejects German call", "Peter", "a b"),)
    assert TAGGED.as_words().texts == TAGGED.texts
    assert CLASSES.as_texts().texts == CLASSES.texts
    assert [split.in_words for split in (TAGGED, CLASSES, Split("none", (), None))] == [True, False, False]
