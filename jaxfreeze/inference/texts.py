"""Texts to predict for, as Python values: their form, checked, and as a split."""

from collections.abc import Sequence
from typing import Any

from jaxfreeze.data.split import Split
from jaxfreeze.data.tables import checked_text
from jaxfreeze.errors import InputError

Texts = Sequence[str] | Sequence[tuple[str, str]]
"""One text an example, or a pair of them."""


def split_of(rows: Sequence[tuple[str, ...]]) -> Split:
    """Examples as `checked_rows` gives them, as a split without labels."""
    return Split("test", tuple(zip(*rows, strict=True)), None)


def checked_rows(texts: Any) -> list[tuple[str, ...]]:
    """Each example as a tuple of its one or two texts; all alike. Raises InputError that names the example."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InputError(f"expected a list of texts or of pairs of texts, found a {type(texts).__name__}")
    rows: list[tuple[str, ...]] = []
    for number, example in enumerate(texts):
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
