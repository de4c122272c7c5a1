"""Rows of JSON files: one object per line, or one array of objects, which is read item by item."""

import codecs
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxfreeze.data.tables import (
    MAX_LINE_BYTES,
    BadRowError,
    ColumnsError,
    Layouts,
    Place,
    Record,
    decoded,
    layout_of,
    not_utf8,
    pieces,
    universal,
)
from jaxfreeze.errors import InputError, shorten

BLOCK = 1 << 16  # bytes, or characters, of an array that are read at once
GAP = re.compile(r"[ \t\r\n]*([,\]]?)[ \t\r\n]*")  # between two items


class Object(dict[str, Any]):
    """An object of a JSON text that remembers which of its names appear twice."""

    twice: tuple[str, ...] = ()


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text, for json's `object_pairs_hook`. Raises ValueError for a name that appears twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a name appears twice in one object")
    return row


def _row(pairs: list[tuple[str, Any]]) -> Object:
    row = Object(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        row.twice = tuple(name for name in row if names.count(name) > 1)
    return row


DECODER = json.JSONDecoder(object_pairs_hook=_row)


def json_records(path: Path, layouts: Layouts) -> Iterator[Record]:
    """The wanted columns of a file of objects, one a line or all in one array."""
    raw, head = pieces(path), []
    for piece in raw:
        head.append(piece)
        if _content(piece):
            break
    read_rows = _array_rows if head and _content(head[-1]).startswith(b"[") else _line_rows
    columns = None
    for place, row in read_rows(path, itertools.chain(head, raw)):
        if isinstance(row, BadRowError):
            yield Record(place, row)
        elif not isinstance(row, Object):
            wanted = 'expected an object {"column": value}' + (" per line" if place.unit == "line" else "")
            yield Record(place, BadRowError(f"{wanted}, found {type(row).__name__} {shorten(repr(row))}"))
        else:
            try:
                if columns is None or row.twice or not row.keys() >= set(columns):
                    columns = layout_of([*row, *row.twice], layouts if columns is None else [columns])
                yield Record(place, {column: row[column] for column in columns})
            except ColumnsError as reason:
                raise InputError(f"{place}: {reason}") from None
            except InputError as reason:
                yield Record(place, BadRowError(str(reason)))


def _content(piece: bytes) -> bytes:
    return piece.removeprefix(codecs.BOM_UTF8).strip()


def _line_rows(path: Path, raw: Iterable[bytes]) -> Iterator[tuple[Place, Any]]:
    """The value of each line that is not blank, or why there is none."""
    for number, line in enumerate(decoded(path, universal(raw)), 1):
        if line.strip():
            try:
                row = DECODER.decode(line)
            except (ValueError, RecursionError) as reason:
                row = BadRowError(f"broken JSON ({reason}); expected one object per line")
            yield Place(path, "line", number), row


def _array_rows(path: Path, raw: Iterable[bytes]) -> Iterator[tuple[Place, Any]]:
    """The items of an array."""
    text = _ArrayText(path, raw)
    for number in itertools.count(1):
        place = Place(path, "item", number)
        mark = text.mark()
        if mark == "]":
            if text.more_than_blanks():
                raise InputError(f"{path}: broken JSON: expected nothing after the array, found more")
            return
        if mark != ("," if number > 1 else ""):
            raise InputError(f"{place}: broken JSON: expected a comma between two objects of the array")
        try:
            row = text.item()
        except (ValueError, RecursionError) as reason:
            found = reason.msg if isinstance(reason, json.JSONDecodeError) else str(reason)
            raise InputError(f"{place}: broken JSON ({found}); expected an array of objects") from None
        yield place, row


class _ArrayText:
    """The text of an array, of which no more than one item and one block is held."""

    def __init__(self, path: Path, raw: Iterable[bytes]) -> None:
        self._parts = _text(path, raw)
        self._text, self._at = "", 0
        self._more()
        self._at = self._text.index("[") + 1

    def _more(self) -> bool:
        """Read as much again as is left, at least a block; False where nothing more is there."""
        left, found = len(self._text) - self._at, []
        missing = max(BLOCK, left)
        while missing > 0 and (part := next(self._parts, "")):
            found.append(part)
            missing -= len(part)
        if found:
            self._text, self._at = "".join([self._text[self._at :], *found]), 0
        return bool(found)

    def mark(self) -> str:
        """What stands before the next item: a comma, a closing bracket, or nothing."""
        while True:
            gap = GAP.match(self._text, self._at)
            assert gap is not None  # it matches nothing too
            if gap.end() < len(self._text) or not self._more():
                self._at = gap.end()
                return gap[1]

    def item(self) -> Any:
        """The next item. Raises ValueError or RecursionError for broken JSON."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if len(self._text) - self._at > MAX_LINE_BYTES or not self._more():
                    raise
                continue
            if end < len(self._text) or not self._more():
                self._at = end
                return value

    def more_than_blanks(self) -> bool:
        """Whether anything but blanks is left."""
        return bool(self._text[self._at :].strip()) or any(part.strip() for part in self._parts)


def _text(path: Path, raw: Iterable[bytes]) -> Iterator[str]:
    """Blocks of a UTF-8 file, none of them empty, without a byte-order mark."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    for number, piece in enumerate(itertools.chain(raw, [b""]), 1):
        for begin in range(0, len(piece) or 1, BLOCK):
            try:
                text = decoder.decode(piece[begin : begin + BLOCK], final=not piece)
            except UnicodeDecodeError as reason:
                raise not_utf8(Place(path, "line", number), reason) from None
            if text:
                yield text
