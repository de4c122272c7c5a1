"""Texts to predict for, as Python values: their form, checked, and as a split."""

from collections.abc import Sequence
from typing import Any

from jaxfreeze.data.split import Split, Text
from jaxfreeze.data.tables import checked_text
from jaxfreeze.data.words import checked_words
from jaxfreeze.errors import InputError

Texts = Sequence[str] | Sequence[tuple[str, str]] | Sequence[Sequence[str]]
"""One text per example, or a pair of them; for runs that label words, a text or a list of its words."""
Row = tuple[Text, ...]
"""The texts of one example."""


def split_of(rows: Sequence[Row]) -> Split:
    """Examples as `checked_rows` gives them, as a split without labels; in words if one of them is."""
    split = Split("test", tuple(zip(*rows, strict=True)), None)
    return split.as_words() if any(isinstance(text, tuple) for row in rows for text in row) else split


def checked_rows(texts: Any, in_words: bool = False) -> list[Row]:
    """Each example as a tuple of its one or two texts; all alike. Raises InputError that names the example.

    in_words: an example is a text or a list of words, and there are no pairs.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        kinds = "lists of words" if in_words else "pairs of texts"
        raise InputError(f"expected a list of texts or of {kinds}, found a {type(texts).__name__}")
    rows: list[Row] = []
    for number, example in enumerate(texts):
        if in_words:
            rows.append((_checked_words(number, example),))
            continue
        row = (example,) if isinstance(example, str) else example
        if not isinstance(row, (tuple, list)) or not 1 <= len(row) <= 2:
            found = f"{len(row)} texts" if isinstance(row, (tuple, list)) else f"a {type(example).__name__}"
            raise InputError(f"example {number}: expected a text or a pair of texts, found {found}")
        if rows and len(row) != len(rows[0]):
            raise InputError(f"example {number}: expected {len(rows[0])} texts as in the first one, found {len(row)}")
        try:
            rows.append(tuple(checked_text(text, str(place), False) for place, text in enumerate(row, 1)))
        except InputError as reason:
            raise InputError(f"example {number}: {reason}") from None
    return rows


def _checked_words(number: int, example: Any) -> Text:
    try:
        return example if isinstance(example, str) and example.strip() else checked_words(example, "1", True)
    except InputError as reason:
        raise InputError(f"example {number}: {reason}") from None
