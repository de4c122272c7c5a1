"""Whether the head in a checkpoint predicts a task's classes: they are matched by name, as its config.json has them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxfreeze.errors import listed

MOST = 8  # class names of a list in a line
_PARTS = r"(?:[\s_]+(?:-[\s_]+)?|-[\s_]*)"
BETWEEN_WORDS = re.compile(rf"(?<=[^\W_]){_PARTS}(?=[^\W\d_])|(?<=[^\W\d_]){_PARTS}(?=[^\W_])")


class Match(NamedTuple):
    """What becomes of a head."""

    rows: list[int]
    """For each class of the task, in id order, the head's row; empty: the head is of no use."""
    line: str
    """What a person is told of it; empty where the head is the task's as it is."""


def match(raw: Mapping[str, Any], outputs: Sequence[str], width: int, by_token: bool = False) -> Match:
    """The rows of a head for the task's outputs.

    raw: the content of config.json. outputs: the names of the task's outputs, in id order. width: the rows of the head.
    by_token: whether the task is about tokens. A single output needs no name: there is no order to mistake.
    """
    other = other_task(raw, by_token)
    if other:
        return Match([], f"head drawn at random: the file's is that of {other}")
    if len(outputs) == 1:
        return Match([0], "") if width == 1 else Match([], f"head drawn at random: the file's has {width} outputs")
    names = class_names(raw, width)
    if names is None:
        return Match([], f"head drawn at random: id2label in config.json does not name the {width} rows of the file's")
    theirs, ours = listed(names, MOST), listed(outputs, MOST)
    rows = _order(names, outputs)
    if not rows:
        return Match([], f"head drawn at random: its classes are {theirs}, the task's are {ours}")
    if rows == list(range(width)):
        return Match(rows, "")
    return Match(rows, f"head kept, its rows put into the order of the task's classes: {theirs} -> {ours}")


def other_task(raw: Mapping[str, Any], by_token: bool = False) -> str | None:
    """The class in `architectures` whose head is for something else than classes of texts, or of tokens, if any."""
    for name in architectures(raw):
        task = re.search(r"For[A-Z]\w*$", name)
        of_tokens = name.endswith("TokenClassification")
        if task and (not name.endswith("Classification") or of_tokens != by_token):
            return name
    return None


def architectures(raw: Mapping[str, Any]) -> list[str]:
    """The names of classes in config.json's `architectures`, which may be missing."""
    found = raw.get("architectures") or []
    return [str(name) for name in (found if isinstance(found, list) else [found])]


def class_names(raw: Mapping[str, Any], width: int) -> list[str] | None:
    """The class of each of the head's rows; None if `id2label` is not about that many rows.

    Without `id2label` the names are those that transformers gives the rows.
    """
    id2label = raw.get("id2label")
    if id2label is None:
        return [f"LABEL_{number}" for number in range(width)]
    try:
        names = {int(number): str(name).strip() for number, name in id2label.items()}
    except (AttributeError, TypeError, ValueError):
        return None
    return [names[number] for number in range(width)] if sorted(names) == list(range(width)) else None


def _order(names: Sequence[str], outputs: Sequence[str]) -> list[int]:
    """For each output, the row of that name: exactly, or else as spelled otherwise if no two are then the same."""
    for spelled in (str, _word):
        theirs, ours = [spelled(name) for name in names], [spelled(name) for name in outputs]
        if sorted(theirs) == sorted(ours) and len(set(ours)) == len(ours):
            return [theirs.index(name) for name in ours]
    return []


def _word(name: str) -> str:
    """A class's name without case and without what parts its words; a sign (-1, A-) and what parts numbers count."""
    return BETWEEN_WORDS.sub("", name.strip().casefold())
