"""The kinds of table that a user may bring, by their endings."""

from collections.abc import Callable, Iterator
from pathlib import Path

from jaxfreeze.data.conll import conll_records
from jaxfreeze.data.json_rows import json_records
from jaxfreeze.data.parquet_rows import parquet_records
from jaxfreeze.data.tables import Layouts, Record, records, sheet_rows


def _sheet(separator: str) -> Callable[[Path, Layouts, bool], Iterator[Record]]:
    return lambda path, layouts, numbered: records(path, sheet_rows(path, separator, numbered), layouts)


FILE_KINDS: dict[str, Callable[[Path, Layouts, bool], Iterator[Record]]] = {
    ".csv": _sheet(","),
    ".tsv": _sheet("\t"),
    ".jsonl": lambda path, layouts, _: json_records(path, layouts),
    ".json": lambda path, layouts, _: json_records(path, layouts),
    ".parquet": lambda path, layouts, _: parquet_records(path, layouts),
    ".conll": lambda path, layouts, _: conll_records(path, layouts),
}
"""How each is read: its path, the wanted columns, and whether whoever reads on counts the rows (see `sheet_rows`)."""
