"""What a cell of a label column says: the name of a class, or a number. No error here says where the cell is.

A cell means the same in every format: what pandas takes it for.
"""

import contextlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from jaxfreeze.errors import InputError, listed, same_word

MAX_CLASSES = 1000
MOST_NAMES = 20  # of classes in an error
WHOLE = re.compile(r"[+-]?[0-9]+")
FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MEND = "fill it in or leave the row out"
EXACT = 2**53  # up to here a float holds every whole number
BOOLEANS = ("True", "TRUE", "true", "False", "FALSE", "false")  # pandas.read_csv
# fmt: off
MISSING = frozenset((  # pandas.read_csv, `na_values`
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
))
# fmt: on


class MissingLabelError(InputError):
    """A cell without a label."""


class ClassIds:
    """Class ids of label cells: of the known classes, or of new ones in the order in which they are met."""

    def __init__(self, known: Sequence[str]) -> None:
        """known: class names in id order; none: every name that is met is a new class."""
        self.names = list(known)
        self._growing = not known
        self._ids = {name: number for number, name in enumerate(known)}
        meanings = [_meaning(name) for name in known]
        for name, count in Counter(meanings).items():
            if count == 1:  # 1.0 is the class '01', unless there is '1' too
                self._ids.setdefault(name, meanings.index(name))

    def __call__(self, cell: object) -> int:
        """The id of the class that a cell names. Raises MissingLabelError, or InputError for any other cell."""
        for name in (cell, cell.strip()) if isinstance(cell, str) else ():
            if name in self._ids:
                return self._ids[name]
        name = class_name(cell, self._growing)
        if name not in self._ids:
            self._add(name, cell)
        return self._ids[name]

    def _add(self, name: str, cell: object) -> None:
        spelled = cell.strip() if isinstance(cell, str) else name
        if not self._growing:
            expected = f"one of {listed(self.names, MOST_NAMES)}{same_word(self.names, spelled)}"
            raise InputError(f"label '{spelled[:60]}' is not {expected}")
        if len(self._ids) == MAX_CLASSES:
            raise InputError(
                f"more than {MAX_CLASSES} different labels; "
                "is this an id column, or are they scores (then use --regression)?"
            )
        self._ids[name] = len(self.names)
        self.names.append(spelled if WHOLE.fullmatch(spelled) else name)  # '007' is the number 7, and keeps its name

    def in_order(self) -> tuple[str, ...]:
        """The classes, sorted by value if all are whole numbers, else by spelling."""
        if all(re.fullmatch(r"[+-]?[0-9]{1,18}", name) for name in self.names):
            return tuple(sorted(self.names, key=lambda name: (int(name), name)))
        return tuple(sorted(self.names))


def class_name(cell: object, may_be_named: bool = False) -> str:
    """The class that a cell names: text, a whole number however it is spelled (1.0, '1.0', '01'), or true/false.

    may_be_named: a person may give the classes' names, so the error of a missing label says how.
    """
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int):
        return str(cell)
    text = cell.strip() if isinstance(cell, str) else ""
    if is_missing(cell):
        raise MissingLabelError(_without_label(text, may_be_named))
    if not isinstance(cell, (str, float, Decimal)):
        raise InputError(f"expected a label (text or a whole number), found a {type(cell).__name__}; {MEND}")
    if WHOLE.fullmatch(text):
        return f"{'-' if text.startswith('-') and text.strip('-0') else ''}{text.lstrip('+-').lstrip('0') or '0'}"
    if text and not FLOAT.fullmatch(text):
        return text.lower() if text in BOOLEANS else text
    number = float(cell)
    if not (number.is_integer() and abs(number) <= EXACT):
        shown = str(cell).strip()[:60]
        raise InputError(f"label '{shown}' is neither a whole number nor a name; for scores use --regression")
    return str(int(number))


def is_missing(cell: object) -> bool:
    """Whether a cell holds nothing, or what pandas reads as that: NaN, 'NA', 'null', 'None' and the like."""
    if isinstance(cell, str):
        return cell.strip() in MISSING
    return cell is None or (isinstance(cell, (float, Decimal, np.floating)) and math.isnan(cell))


def _without_label(text: str, may_be_named: bool) -> str:
    if not text:
        return f"expected a label (text or a whole number), found none; {MEND}"
    named = ", or name all classes in --label_names if this is one" if may_be_named else ""
    return f"expected a label, found '{text}', which stands for a missing one; {MEND}{named}"


def _meaning(name: str) -> str:
    try:
        return class_name(name)
    except InputError:
        return name


def read_score(cell: object, bounds: tuple[float, float] | None = None) -> float:
    """A number within the bounds that float32 can hold, from a number or its decimal spelling.

    Raises MissingLabelError, or InputError for any other cell.
    """
    if is_missing(cell):
        found = f"'{str(cell).strip()}'" if cell is not None and str(cell).strip() else "none"
        raise MissingLabelError(f"expected a finite number as label, found {found}")
    score = math.nan
    numeric = isinstance(cell, (str, int, float, Decimal, np.integer, np.floating)) and not isinstance(cell, bool)
    if numeric and "_" not in str(cell):
        with contextlib.suppress(ValueError, OverflowError):
            score = float(str(cell))
    if not abs(score) <= float(np.finfo(np.float32).max):
        raise InputError(f"expected a finite number as label, found '{str(cell)[:60]}'")
    if bounds is not None and not bounds[0] <= score <= bounds[1]:
        raise InputError(f"expected a score from {bounds[0]:g} to {bounds[1]:g}, found {cell}")
    return score
