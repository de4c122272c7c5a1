"""Rows of Parquet files, in which a class id is replaced by the name that the file declares for it."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxfreeze.data.tables import Layouts, Place, Record, layout_of
from jaxfreeze.errors import InputError, shorten

PARQUET = ".parquet"


def parquet_records(path: Path, layouts: Layouts) -> Iterator[Record]:
    """The wanted columns of a Parquet file."""
    import pyarrow.parquet  # here, because it takes a while and the other kinds do without

    row = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            try:
                columns = list(layout_of(file.schema_arrow.names, layouts))
            except InputError as reason:
                raise InputError(f"{path}: {reason}") from None
            names = [_class_names(file.schema_arrow.metadata, column) for column in columns]
            for batch in file.iter_batches(columns=columns):
                for scalars in zip(*(batch.column(name) for name in columns), strict=True):
                    row += 1
                    place = Place(path, "row", row)
                    cells = [named(place, cell.as_py(), known) for cell, known in zip(scalars, names, strict=True)]
                    yield Record(place, dict(zip(columns, cells, strict=True)))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as reason:
        raise _broken(path, row, reason) from None


def declared_classes(path: Path, column: str) -> tuple[str, ...]:
    """The class names, in id order, that a Parquet file declares for a column; () if it does not."""
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as reason:
        raise _broken(path, 0, reason) from None
    return _class_names(schema.metadata, column)


def _class_names(metadata: Mapping[bytes, bytes] | None, column: str) -> tuple[str, ...]:
    """The names of a column of ClassLabels or lists of them, as `datasets` keeps them in the metadata of the schema."""
    with contextlib.suppress(KeyError, TypeError, ValueError):  # other programs may write there what they like
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]
        if isinstance(feature, list):  # how earlier versions wrote a list
            (feature,) = feature
        feature = feature.get("feature", feature)
        if feature["_type"] == "ClassLabel":
            return tuple(map(str, feature["names"]))
    return ()


def named(place: Place, cell: Any, names: Sequence[str]) -> Any:
    """A cell with the class names in place of their ids, None for none; the cell itself if there are no names.

    Raises InputError for an id that no class has.
    """
    if names and isinstance(cell, list):
        return [named(place, one, names) for one in cell]
    if not names or not isinstance(cell, int):
        return cell
    if cell == -1:  # how `datasets` marks a missing label
        return None
    if not 0 <= cell < len(names):
        raise InputError(f"{place}: class id {cell}: expected 0 to {len(names) - 1}, the ids that the file names")
    return names[cell]


def _broken(path: Path, row: int, reason: Exception) -> InputError:
    return InputError(f"{path}: broken Parquet file near row {row} ({shorten(str(reason))}); write it again")
