"""Rows of text tables: lines, TSV, CSV, JSON lines and Parquet, each cell with the place that an error names."""

import contextlib
import csv
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxfreeze.errors import InputError, one_of_names, shorten

MAX_LINE_BYTES = 10_000_000
STANDARD_INPUT = Path("-")

Layouts = Sequence[Sequence[str]]  # the columns that are wanted, and others that do instead
Row = tuple[int, list[str]]  # line, every field
Record = tuple[str, dict[str, Any]] | None  # place as an error names it, cells by column; None: left out


def check_file(path: Path) -> None:
    """Raise InputError unless the path is that of a file that can be read, or that of standard input."""
    if path == STANDARD_INPUT:
        return
    if not path.is_file():
        found = "found a folder; give the file itself" if path.is_dir() else "found nothing there; check the path"
        raise InputError(f"{path}: expected a file, {found}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: the file cannot be read; check its permissions")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their endings, without a byte-order mark and without blank lines at the end.

    Only \\n ends a line: str.splitlines would cut at \\x85 and \\u2028 inside a sentence.
    """
    blank: list[str] = []
    with contextlib.nullcontext(sys.stdin.buffer) if path == STANDARD_INPUT else path.open("rb") as file:
        for number in itertools.count(1):
            raw = file.readline(MAX_LINE_BYTES + 1)
            if not raw:
                return
            if len(raw) > MAX_LINE_BYTES:
                raise InputError(f"{path}:{number}: the line is over 10 MB; expected one example a line")
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as reason:
                found = f"byte 0x{reason.object[reason.start]:02x}"
                raise InputError(f"{path}:{number}: expected UTF-8, found {found}; save the file as UTF-8") from None
            if "\0" in line:
                raise InputError(f"{path}:{number}: expected UTF-8 text, found a NUL byte; save the file as UTF-8")
            if line in ("\n", "\r\n"):
                blank.append(line)
            else:
                yield from [*blank, line]
                blank.clear()


def tsv_rows(path: Path) -> Iterator[Row]:
    """Rows of a tab-separated file in which a quote is a character like any other."""
    for number, line in enumerate(_lines(path), 1):
        yield number, line.removesuffix("\n").removesuffix("\r").split("\t")


def _csv_rows(path: Path) -> Iterator[Row]:
    """Rows of a comma-separated file, quoted as in RFC 4180, each with its first line."""
    csv.field_size_limit(MAX_LINE_BYTES)  # the module's own limit of 131,072 is short for a document
    reader = csv.reader(_lines(path), strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as reason:
        mend = 'a field with a comma or a line break stands in "...", and a quote inside it is written ""'
        raise InputError(f"{path}:{line}: broken CSV ({reason}); {mend}") from None


def _positions(header: Sequence[str], layouts: Layouts, place: str) -> dict[str, int]:
    """Where in `header` the wanted columns stand."""
    if not any(header):
        raise InputError(f"{place}: expected the names of the columns, found a blank line")
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise InputError(f"{place}: two columns are called '{shorten(twice)}'; column names have to differ")
    columns = next((columns for columns in layouts if set(columns) <= set(header)), layouts[0])
    for column in columns:
        if column not in header:
            there = one_of_names([shorten(name) for name in header[:50]], column)
            raise InputError(f"{place}: no column '{column}'; it has to be {there}")
    return {column: header.index(column) for column in columns}


def records(path: Path, rows: Iterator[Row], layouts: Layouts, damaged: bool = False) -> Iterator[Record]:
    """The wanted columns of rows that begin with a header; `damaged`: rows of another width are left out."""
    line, header = next(rows, (1, None))
    if header is None:
        raise no_rows(path)
    positions = _positions(header, layouts, f"{path}:{line}")
    for line, fields in rows:
        if len(fields) == len(header):
            yield f"{path}:{line}", {column: fields[position] for column, position in positions.items()}
        elif damaged:
            yield None
        else:
            raise InputError(
                f"{path}:{line}: expected {len(header)} fields as in the header, found {len(fields)}; "
                "look for a separator too many or too few, or a line break inside a text"
            )


def no_rows(path: Path) -> InputError:
    """The error of a file without examples."""
    return InputError(f"{path}: expected at least one example, found an empty file or nothing but a header")


def checked_text(cell: object, column: str, may_be_empty: bool) -> str:
    """A cell that is a text which can be tokenised and written. Raises InputError that does not say where it is."""
    if not isinstance(cell, str):
        found = "none" if cell is None else f"{type(cell).__name__} {shorten(repr(cell))}"
        raise InputError(f"expected text in column '{column}', found {found}")
    if not (may_be_empty or cell.strip()):
        raise InputError(f"the text in column '{column}' is empty; fill it in or leave the row out")
    if "\0" in cell:
        raise InputError(f"the text in column '{column}' has a NUL character; remove it")
    try:
        cell.encode()
    except UnicodeEncodeError:
        raise InputError(f"the text in column '{column}' has half a surrogate pair, which is no character") from None
    return cell


def _json_records(path: Path, layouts: Layouts) -> Iterator[Record]:
    columns = None
    for number, line in enumerate(_lines(path), 1):
        place = f"{path}:{number}"
        try:
            row = json.loads(line, object_pairs_hook=json_object)
        except (ValueError, RecursionError) as reason:
            raise InputError(f"{place}: broken JSON ({reason}); expected one object a line") from None
        if not isinstance(row, dict):
            raise InputError(f'{place}: expected an object {{"column": value}} a line, found a {type(row).__name__}')
        if columns is None or not row.keys() >= set(columns):
            columns = list(_positions(list(row), layouts if columns is None else [columns], place))
        yield place, {column: row[column] for column in columns}


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text, for json's `object_pairs_hook`. Raises ValueError for a name that stands twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return row


def _parquet_records(path: Path, layouts: Layouts) -> Iterator[Record]:
    import pyarrow.parquet  # here, because it takes a while and the other kinds do without

    row = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = list(_positions(file.schema_arrow.names, layouts, str(path)))
            for batch in file.iter_batches(columns=columns):
                for cells in zip(*(batch.column(name) for name in columns), strict=True):
                    row += 1
                    yield f"{path}: row {row}", dict(zip(columns, (cell.as_py() for cell in cells), strict=True))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as reason:
        raise InputError(
            f"{path}: broken Parquet file near row {row} ({shorten(str(reason))}); write it anew"
        ) from None


FILE_KINDS: dict[str, Callable[[Path, Layouts], Iterator[Record]]] = {
    ".csv": lambda path, layouts: records(path, _csv_rows(path), layouts),
    ".tsv": lambda path, layouts: records(path, tsv_rows(path), layouts),
    ".jsonl": _json_records,
    ".json": _json_records,
    ".parquet": _parquet_records,
}
