"""What a cell of a label column says: the name of a class, or a number. No error here says where the cell is."""

import contextlib
import math
import re
from collections.abc import Sequence

import numpy as np

from jaxfreeze.errors import InputError, one_of

MAX_CLASSES = 1000


class ClassIds:
    """Class ids of label cells: of the known classes, or of new ones in the order in which they are met."""

    def __init__(self, known: Sequence[str]) -> None:
        """known: class names in id order; none: every name that is met is a new class."""
        self.ids = {name: number for number, name in enumerate(known)}
        self._growing = not known

    def __call__(self, cell: object) -> int:
        """The id of the class that a cell names."""
        name = cell if isinstance(cell, str) and cell in self.ids else class_name(cell)
        if name not in self.ids:
            self._add(name)
        return self.ids[name]

    def _add(self, name: str) -> None:
        if not self._growing:
            raise InputError(f"label '{name[:60]}' is not {one_of(self.ids, name)}")
        if len(self.ids) == MAX_CLASSES:
            raise InputError(
                f"more than {MAX_CLASSES} different labels; "
                "is this an id column, or are they scores (then use --regression)?"
            )
        self.ids[name] = len(self.ids)

    def in_order(self) -> tuple[str, ...]:
        """The classes, sorted by value if all are whole numbers, else by spelling."""
        if all(re.fullmatch(r"[+-]?[0-9]{1,18}", name) for name in self.ids):
            return tuple(sorted(self.ids, key=lambda name: (int(name), name)))
        return tuple(sorted(self.ids))


def class_name(cell: object) -> str:
    """The class that a cell names: text, a whole number, or true/false."""
    if isinstance(cell, bool):
        return str(cell).lower()
    name = str(cell).strip() if isinstance(cell, (str, int, float)) else ""
    if isinstance(cell, float) or re.fullmatch(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", name):
        raise InputError(f"label '{name[:60]}' is neither a whole number nor a name; for scores use --regression")
    if not name:
        found = "none" if cell is None or isinstance(cell, str) else f"a {type(cell).__name__}"
        raise InputError(f"expected a label (text or a whole number), found {found}; fill it in or leave the row out")
    return name


def read_score(cell: object, bounds: tuple[float, float] | None = None) -> float:
    """A number within the bounds that float32 can hold, from a number or its decimal spelling."""
    score = math.nan
    if isinstance(cell, (str, int, float)) and not isinstance(cell, bool) and "_" not in str(cell):
        with contextlib.suppress(ValueError, OverflowError):
            score = float(cell)
    if not abs(score) <= float(np.finfo(np.float32).max):
        found = "none" if cell is None or cell == "" else f"'{str(cell)[:60]}'"
        raise InputError(f"expected a finite number as label, found {found}")
    if bounds is not None and not bounds[0] <= score <= bounds[1]:
        raise InputError(f"expected a score from {bounds[0]:g} to {bounds[1]:g}, found {cell}")
    return score
