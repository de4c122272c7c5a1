"""Entities in a sequence of tags: conlleval's and seqeval's definition (Ramshaw & Marcus 1995; Tjong Kim Sang 2000).

A tag is O, outside, or a letter and a type: B-PER begins an entity, I-PER continues one, E-PER ends one, and S-PER is
a whole one; L and U are other names of E and S. Sequences that no annotator would write count too: I-PER after O,
or after another type, begins an entity.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

METRICS = ("entity_f1", "entity_precision", "entity_recall")
OUTSIDE = "O"
TAG = re.compile(r"O|[BIESLU](-.+)?")
GOES_ON = ("I", "E", "L")  # tags that may belong to the entity before them
OPEN = ("B", "I")  # tags whose entity may go on


class Entity(NamedTuple):
    """Words of one sequence that belong together."""

    type: str
    start: int
    """Number of its first word."""
    end: int
    """Number of the word after its last."""


def is_scheme(labels: Iterable[str]) -> bool:
    """Whether labels are tags of entities, not, say, parts of speech."""
    names = set(labels)
    return bool(names - {OUTSIDE}) and all(TAG.fullmatch(name) for name in names)


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sequence, in order."""
    found: list[Entity] = []
    before, type_before = OUTSIDE, ""
    for number, tag in enumerate(tags):
        letter, _, type_ = tag.partition("-")
        if letter == OUTSIDE:
            before, type_before = OUTSIDE, ""
            continue
        if letter in GOES_ON and before in OPEN and type_ == type_before:
            found[-1] = found[-1]._replace(end=number + 1)
        else:
            found.append(Entity(type_, number, number + 1))
        before, type_before = letter, type_
    return found


def matches(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> np.ndarray:
    """How many entities of each sequence are right, predicted and true: int64 [E, 3].

    One is right if its type and both its ends are.
    """
    found = np.zeros((len(true), 3), np.int64)
    for row, sequences in zip(found, zip(predicted, true, strict=True), strict=True):
        ours, theirs = (set(entities_of(tags)) for tags in sequences)
        row[:] = len(ours & theirs), len(ours), len(theirs)
    return found


def scores(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 of the entities in all sequences."""
    right, ours, theirs = matches(predicted, true).sum(axis=0).tolist()
    values = (2 * right / max(ours + theirs, 1), right / max(ours, 1), right / max(theirs, 1))
    return dict(zip(METRICS, values, strict=True))
