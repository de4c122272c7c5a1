"""Rows of CoNLL files: one word per line, its label in the last column, a blank line after each sentence."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxfreeze.data.columns import Columns
from jaxfreeze.data.tables import BadRowError, Layouts, Place, Record, decoded, pieces, universal
from jaxfreeze.errors import shorten

COLUMNS = ("words", "labels")
"""What the columns are called, as the file has no header: --text_columns and --label_column need not be given."""
DOCUMENT = "-DOCSTART-"  # the first word of a line that separates documents, in the files of CoNLL-2003


def conll_records(path: Path, layouts: Layouts) -> Iterator[Record]:
    """Each sentence as a list of words and, where two columns are wanted, one of labels.

    Fields are separated by tabs or, in a line without any, by
    blanks; the first one is the word, the last one its label. A quote is a character like any other.
    """
    columns = _names(layouts)
    rows: list[list[str]] = []
    begun, width, wrong = 0, 0, None
    for number, line in enumerate(decoded(path, universal(pieces(path))), 1):
        fields = _fields(line)
        if not fields or fields[0] == DOCUMENT:
            if rows or wrong:
                yield _sentence(Place(path, "line", begun), columns, rows, wrong)
            rows, wrong = [], None
            continue
        begun = begun if rows or wrong else number
        wrong = wrong or _mistake(Place(path, "line", number), fields, width, len(columns))
        width = width or (0 if wrong else len(fields))
        rows.append(fields)
    if rows or wrong:
        yield _sentence(Place(path, "line", begun), columns, rows, wrong)


def _names(layouts: Layouts) -> Sequence[str]:
    """What the columns of words and labels are called: as was asked, whatever that is, since the file does not say."""
    if isinstance(layouts, Columns):
        chosen = layouts((*(layouts.text or COLUMNS[:1]), *(layouts.label or COLUMNS[1:])))
        return chosen[:1] + chosen[-1:]
    return layouts(COLUMNS) if callable(layouts) else layouts[0]


def _fields(line: str) -> list[str]:
    """The fields of a line; none of one that is blank."""
    if not line.strip():
        return []
    text = line.rstrip(" \t\r\n")
    return [field.strip(" ") for field in text.split("\t")] if "\t" in text else re.split(" +", text)


def _mistake(place: Place, fields: list[str], width: int, wanted: int) -> Record | None:
    """Why a line, and so its sentence, cannot be used."""
    if not fields[0]:
        reason = "the word is empty; expected the word in the first column"
    elif wanted > 1 and len(fields) == 1:
        reason = f"expected a word and its label, found '{shorten(fields[0])}' alone"
    elif wanted > 1 and not fields[-1]:
        reason = f"the label of '{shorten(fields[0])}' is empty"
    elif width and len(fields) != width:
        reason = f"expected {width} columns as in the lines before, found {len(fields)}"
    else:
        return None
    mend = "columns are separated by tabs or blanks, and a blank line ends a sentence"
    return Record(place, BadRowError(f"{reason}; {mend}"))


def _sentence(place: Place, columns: Sequence[str], rows: list[list[str]], wrong: Record | None) -> Record:
    if wrong is not None:
        return wrong
    cells = [[fields[0] for fields in rows], [fields[-1] for fields in rows]]
    return Record(place, dict(zip(columns, cells, strict=False)))
