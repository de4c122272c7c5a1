"""The kinds of table that a user may bring, by their endings, and the files that a path or a pattern stands for."""

import glob
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxfreeze.data.conll import conll_records
from jaxfreeze.data.json_rows import json_records
from jaxfreeze.data.parquet_rows import PARQUET, parquet_records
from jaxfreeze.data.tables import (
    GZIP,
    STANDARD_INPUT,
    Layouts,
    Record,
    check_file,
    headless_rows,
    records,
    sheet_rows,
)
from jaxfreeze.errors import InputError, one_of_names

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def _sheet(separator: str) -> Callable[[Path, Layouts, bool], Iterator[Record]]:
    return lambda path, layouts, numbered: records(path, sheet_rows(path, separator, numbered), layouts)


FILE_KINDS: dict[str, Callable[[Path, Layouts, bool], Iterator[Record]]] = {
    **{kind: _sheet(separator) for kind, separator in SEPARATORS.items()},
    ".jsonl": lambda path, layouts, _: json_records(path, layouts),
    ".json": lambda path, layouts, _: json_records(path, layouts),
    PARQUET: lambda path, layouts, _: parquet_records(path, layouts),
    ".conll": lambda path, layouts, _: conll_records(path, layouts),
}
"""How each is read: its path, the wanted columns, and whether the caller counts the rows (see `sheet_rows`)."""


def files_of(path: Path) -> list[Path]:
    """The files that a path stands for: itself, or those that a pattern such as parts/*.csv matches, sorted by name."""
    if path == STANDARD_INPUT or path.exists() or not glob.has_magic(str(path)):
        return [path]
    return sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file())  # noqa: PTH207


def readable_files_of(path: Path) -> list[Path]:
    """`files_of`; raises InputError for a file that cannot be read, and for a pattern that matches none."""
    found = files_of(path)
    if not found:
        raise InputError(f"{path}: expected files that match the pattern, found none; check the folder and the ending")
    for file in found:
        check_file(file)
    return found


def kind_of(path: Path) -> str:
    """The ending that says how a file is read, in small letters, .gz left out; standard input is .jsonl."""
    if path == STANDARD_INPUT:
        return ".jsonl"
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending == GZIP else ending


def table_records(path: Path, layouts: Layouts, headless: bool = False) -> Iterator[Record]:
    """The wanted columns of a table of any kind; headless: they are called by their numbers, from 1.

    Raises InputError for a file of no known kind.
    """
    kind = kind_of(path)
    if kind not in FILE_KINDS or (kind == PARQUET and path.suffix.lower() == GZIP):
        found = path.suffix.lower() if kind in ("", PARQUET) else kind
        raise InputError(f"{path}: the ending '{found}' is not {one_of_names(FILE_KINDS, kind)}")
    if not headless:
        return FILE_KINDS[kind](path, layouts, False)
    if kind not in SEPARATORS:
        raise InputError(f"{path}: --no_header is for {' and '.join(SEPARATORS)}; the columns of a {kind} have names")
    return records(path, headless_rows(path, SEPARATORS[kind]), layouts)
