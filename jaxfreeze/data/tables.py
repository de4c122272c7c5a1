"""Rows of text tables: lines, unquoted TSV, and CSV and TSV as pandas and Excel write them; what a row has to be."""

import contextlib
import csv
import gzip
import itertools
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxfreeze.errors import InputError, did_you_mean, listed, shorten

MAX_LINE_BYTES = 10_000_000
MOST_NAMES = 20  # of columns in an error
STANDARD_INPUT = Path("-")
GZIP = ".gz"

Choice = Callable[[Sequence[str]], Sequence[str]]  # from the names that a table has to the columns that are wanted
Layouts = Sequence[Sequence[str]] | Choice  # the columns that are wanted, and others that do instead; or how to choose
Row = tuple[int, list[str]]  # line, every field


class BadRowError(InputError):
    """A row that cannot be used, though the others of its file can. The message does not say where it is."""


class RaggedRowError(BadRowError):
    """A row with another number of fields than the header."""


class ColumnsError(InputError):
    """A table in which it is not clear what the columns are. The message does not say where."""


class Place(NamedTuple):
    """Where a row stands."""

    path: Path
    unit: str
    """'line', or what else is counted: 'row', 'item'."""
    number: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.path}:{self.number}" if self.unit == "line" else f"{self.path}: {self.unit} {self.number}"

    def within(self, path: Path) -> str:
        """Where, for a sentence that has named this path: 'line 3', with the file if it is another one."""
        return f"{self.unit} {self.number}" if self.path == path else str(self)


class Record(NamedTuple):
    """The wanted cells of one row."""

    place: Place
    cells: dict[str, Any] | BadRowError
    """By column, or why there are none."""

    def sound(self) -> dict[str, Any]:
        """The cells. Raises BadRowError if there are none."""
        if isinstance(self.cells, BadRowError):
            raise self.cells
        return self.cells


def check_file(path: Path) -> None:
    """Raise InputError unless the path is standard input or a file that can be read."""
    if path == STANDARD_INPUT:
        return
    if not path.is_file():
        found = "found a folder; give the file itself" if path.is_dir() else "found nothing there; check the path"
        raise InputError(f"{path}: expected a file, {found}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: the file cannot be read; check its permissions")


def pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked if it is a .gz, each piece up to the next \\n or just over 10 MB long."""
    try:
        with _opened(path) as file:
            while piece := file.readline(MAX_LINE_BYTES + 1):
                yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error) as reason:
        raise InputError(f"{path}: broken .gz ({reason}); compress it again, or give the uncompressed file") from None


def _opened(path: Path) -> Any:
    if path == STANDARD_INPUT:
        return contextlib.nullcontext(sys.stdin.buffer)
    return gzip.open(path) if path.suffix.lower() == GZIP else path.open("rb")


def universal(raw: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their endings, from pieces: \\n, \\r\\n and \\r end a line, nothing else does."""
    rest = b""
    for piece in raw:
        if not rest and piece.endswith(b"\n") and b"\r" not in piece:  # most lines
            yield piece
            continue
        *whole, rest = (rest + piece).splitlines(keepends=True)
        yield from whole
        if rest.endswith(b"\n") or len(rest) > MAX_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def decoded(path: Path, raw: Iterable[bytes]) -> Iterator[str]:
    """The lines of a UTF-8 file with their endings, without a byte-order mark.

    str.splitlines would cut at \\x85 and \\u2028 inside a sentence.
    """
    for number, line in enumerate(raw, 1):
        if len(line) > MAX_LINE_BYTES:
            raise InputError(f"{path}:{number}: the line is over 10 MB; expected one example per line")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as reason:
            raise not_utf8(Place(path, "line", number), reason) from None
        if "\0" in text:
            raise InputError(f"{path}:{number}: expected UTF-8 text, found a NUL byte; save the file as UTF-8")
        yield text


def not_utf8(place: Place, reason: UnicodeDecodeError) -> InputError:
    """The error of a file in another encoding."""
    found = f"byte 0x{reason.object[reason.start]:02x}"
    return InputError(f"{place}: expected UTF-8, found {found}; save the file as UTF-8")


def tsv_rows(path: Path) -> Iterator[Row]:
    """Rows of a tab-separated file in which a quote is a character like any other; blank lines at the end are none."""
    blank = 0
    for number, line in enumerate(decoded(path, pieces(path)), 1):
        text = line.removesuffix("\n").removesuffix("\r")
        if not text:
            blank += 1
            continue
        for missing in range(number - blank, number):
            yield missing, [""]
        blank = 0
        yield number, text.split("\t")


def _quoted_rows(path: Path, separator: str) -> Iterator[Row]:
    """Rows of a file that is quoted as in RFC 4180, each with its first line; a blank line has no fields."""
    csv.field_size_limit(MAX_LINE_BYTES)  # the module's own limit of 131,072 is short for a document
    reader = csv.reader(decoded(path, universal(pieces(path))), delimiter=separator, strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as reason:
        kind, part = ("CSV", "comma") if separator == "," else ("TSV", "tab")
        found = str(reason).replace("\t", "tab")
        mend = f'put a field with a {part} or a line break in "...", and write a quote inside it as ""'
        raise InputError(f"{path}:{line}: broken {kind} ({found}); {mend}") from None


def sheet_rows(path: Path, separator: str, numbered: bool) -> Iterator[Row]:
    """Rows of a CSV or TSV file as pandas and Excel write it, from the header on, without what is empty.

    Left out are blank lines, rows without content, and the unnamed columns to the right of the last name where they
    hold nothing. numbered: the caller counts the rows (predictions are joined to a table by their number); then
    a row without content is left out at the end of the file only.
    """
    header: list[str] = []
    width, empty = 0, None
    for line, fields in _quoted_rows(path, separator):
        if not "".join(fields).strip():
            if numbered and header and not _blank_line(fields, header):
                empty = empty or (line, [""] * width)
            continue
        if empty:
            yield empty
            empty = None
        if not header:
            header = fields
            width = max(number for number, name in enumerate(header, 1) if name.strip())
        if width < len(fields) <= len(header) and not any(fields[width:]):
            fields = fields[:width]
        yield line, fields


def headless_rows(path: Path, separator: str) -> Iterator[Row]:
    """Rows of a file without names of columns, after a row of their numbers, from 1; rows without content are left out.

    Commas part fields that are quoted as in RFC 4180. In a file parted by tabs a quote is a character like any other,
    as in GLUE's.
    """
    rows = tsv_rows(path) if separator == "\t" else _quoted_rows(path, separator)
    rows = (row for row in rows if "".join(row[1]).strip())
    first = list(itertools.islice(rows, 1))
    if not first:
        raise no_rows(path)
    yield 1, [str(number + 1) for number in range(len(first[0][1]))]
    yield from itertools.chain(first, rows)


def _blank_line(fields: Sequence[str], header: Sequence[str]) -> bool:
    return not fields or len(fields) == 1 < len(header)


def layout_of(names: Sequence[str], layouts: Layouts) -> Sequence[str]:
    """The first of `layouts` whose columns are all among `names`, or what they choose. The error names no place."""
    if callable(layouts):
        layouts = [layouts(names)]
    columns = next((columns for columns in layouts if set(columns) <= set(names)), layouts[0])
    for column in columns:
        if column not in names:
            shown = [shorten(name) for name in names if name]
            raise InputError(
                f"no column '{column}'; it has to be one of {listed(shown, MOST_NAMES)}{did_you_mean(shown, column)}"
            )
        if names.count(column) > 1:
            raise InputError(f"two columns are called '{shorten(column)}'; column names have to differ")
    return columns


def records(path: Path, rows: Iterator[Row], layouts: Layouts) -> Iterator[Record]:
    """The wanted columns of rows that begin with a header."""
    line, header = next(rows, (1, None))
    if header is None:
        raise no_rows(path)
    if not any(header):
        raise InputError(f"{path}:{line}: expected the names of the columns, found a blank line")
    try:
        columns = layout_of(header, layouts)
    except InputError as reason:
        raise InputError(f"{path}:{line}: {reason}{_other_separator(header)}") from None
    positions = {column: header.index(column) for column in columns}
    for line, fields in rows:
        place = Place(path, "line", line)
        if len(fields) == len(header):
            yield Record(place, {column: fields[position] for column, position in positions.items()})
        else:
            like = "the first row" if header[0] == "1" else "the header"
            wrong = f"expected {len(header)} fields as in {like}, found {len(fields)}; "
            mend = "look for a separator too many or too few, or a line break inside a text"
            yield Record(place, RaggedRowError(wrong + mend))


def _other_separator(header: Sequence[str]) -> str:
    """The end of an error line about a header in which another character seems to part the names."""
    named = {";": "';'", "\t": "a tab", "|": "'|'", ",": "a comma"}
    found = next((name for name in named if len(header) == 1 and name in header[0]), None)
    if found is None:
        return ""
    return f"; the separator seems to be {named[found]}: write commas in a .csv, tabs in a .tsv"


def no_rows(path: Path) -> InputError:
    """The error of a file without examples."""
    return InputError(f"{path}: expected at least one example, found an empty file or nothing but a header")


def checked_text(cell: object, column: str, may_be_empty: bool) -> str:
    """A cell that is a text which can be tokenised and written. Raises BadRowError."""
    if not isinstance(cell, str):
        found = "none" if cell is None else f"{type(cell).__name__} {shorten(repr(cell))}"
        if isinstance(cell, dict):
            found = f"an object {shorten(repr(cell))}; write one object for each row (pandas: orient='records')"
        raise BadRowError(f"expected text in column '{column}', found {found}")
    if not (may_be_empty or cell.strip()):
        raise BadRowError(f"the text in column '{column}' is empty; fill it in or leave the row out")
    if "\0" in cell:
        raise BadRowError(f"the text in column '{column}' has a NUL character; remove it")
    try:
        cell.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"the text in column '{column}' has half a surrogate pair, which is no character") from None
    return cell
