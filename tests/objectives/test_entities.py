"""Entities as conlleval and seqeval count them. The expected ones are seqeval 1.2.2's, in its default mode."""

import pytest

from jaxfreeze.objectives.entities import Entity, entities_of, is_scheme, scores

SEQUENCES = [  # tags, entities
    ("", []),
    ("O O O", []),
    ("B-PER", [("PER", 0, 1)]),
    ("B-PER I-PER O B-PER", [("PER", 0, 2), ("PER", 3, 4)]),
    ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
    ("I-PER I-PER", [("PER", 0, 2)]),  # I after nothing begins one
    ("O I-PER O", [("PER", 1, 2)]),
    ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),  # another type begins one
    ("I-PER I-LOC I-LOC I-PER", [("PER", 0, 1), ("LOC", 1, 3), ("PER", 3, 4)]),
    ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
    ("B-PER I-PER E-PER", [("PER", 0, 3)]),
    ("B-PER E-PER E-PER", [("PER", 0, 2), ("PER", 2, 3)]),
    ("E-PER", [("PER", 0, 1)]),
    ("E-PER I-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("O E-PER I-PER E-PER", [("PER", 1, 2), ("PER", 2, 4)]),
    ("S-PER", [("PER", 0, 1)]),
    ("S-PER S-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("S-PER I-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("S-PER E-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("B-PER S-PER I-PER", [("PER", 0, 1), ("PER", 1, 2), ("PER", 2, 3)]),
    ("I-PER S-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("B-PER E-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
    ("I-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
    ("B-MISC-X I-MISC-X", [("MISC-X", 0, 2)]),
    ("B-MISC-X I-MISC-Y", [("MISC-X", 0, 1), ("MISC-Y", 1, 2)]),
]


@pytest.mark.parametrize(("tags", "expected"), SEQUENCES, ids=[tags or "none" for tags, _ in SEQUENCES])
def test_entities(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert entities_of(tags.split()) == [Entity(*entity) for entity in expected]


def test_other_names_of_the_last_and_the_only_word() -> None:
    assert entities_of(["B-PER", "I-PER", "L-PER", "U-PER", "I-PER"]) == [("PER", 0, 3), ("PER", 3, 4), ("PER", 4, 5)]
    assert entities_of(["O", "B", "I", "I", "O", "B"]) == [("", 1, 4), ("", 5, 6)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("O", "B-PER", "I-PER"), True),
        (("B-PER", "I-PER"), True),
        (("O", "B", "I"), True),
        (("O",), False),
        (("NOUN", "VERB", "O"), False),
        (("B-PER", "X-PER"), False),
        (("B-", "O"), False),
        (("H", "E", "C"), False),  # of the secondary structure of proteins
    ],
)
def test_what_labels_are_tags_of_entities(labels: tuple[str, ...], expected: bool) -> None:
    assert is_scheme(labels) is expected


def test_an_entity_is_right_in_its_type_and_both_ends_or_not() -> None:
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["B-PER", "B-LOC"]]
    found = scores(predicted, true)
    assert found == {
        "entity_f1": pytest.approx(2 / 7),
        "entity_precision": 1 / 4,
        "entity_recall": pytest.approx(1 / 3),
    }
    assert scores(true, true) == {"entity_f1": 1.0, "entity_precision": 1.0, "entity_recall": 1.0}


def test_the_same_entity_of_another_sentence_is_another() -> None:
    assert scores([["B-PER"], ["O"]], [["O"], ["B-PER"]])["entity_f1"] == 0.0


def test_without_entities_the_scores_are_zero() -> None:
    nothing = {"entity_f1": 0.0, "entity_precision": 0.0, "entity_recall": 0.0}
    assert scores([["O"]], [["O"]]) == nothing
    assert scores([["O"]], [["B-PER"]]) == nothing
    assert scores([["B-PER"]], [["O"]]) == nothing
    assert scores([], []) == nothing
