"""Batches of texts that come as they come: a fixed ladder of shapes, so that a program compiles a handful of times."""

from collections.abc import Iterator

import numpy as np

from jaxfreeze.data.batch import Batch, Shape
from jaxfreeze.data.packing import fill, full_rows
from jaxfreeze.data.token_store import TokenStore

SMALL = (32, 64)  # widths of a single row that holds all there is
WIDTHS = (128, 256, 512, 1024)
SLOTS_PER_SEGMENT = 8  # a row has room for one example in so many slots


def request_batches(store: TokenStore, most_rows: int, row_multiple: int = 1) -> Iterator[Batch]:
    """Every example of the store once, packed, up to `most_rows` rows in a batch.

    Rows are as wide as the first of the widths that holds the longest example, and their number is a power of two, or
    that rounded up to a multiple of `row_multiple`, the number of devices.
    """
    width = _width(store.lengths)
    segments = width // SLOTS_PER_SEGMENT
    rows = [
        row[begin : begin + segments]
        for row in full_rows(store.lengths.tolist(), width)
        for begin in range(0, len(row), segments)
    ]
    for begin in range(0, len(rows), most_rows):
        some = rows[begin : begin + most_rows]
        yield fill(store, some, Shape(_count(len(some), row_multiple), width, segments))


def request_shapes(max_length: int, most_rows: int, row_multiple: int = 1) -> list[Shape]:
    """Every shape that request_batches makes of examples of at most `max_length` tokens, smallest first."""
    small = [(width, 1) for width in SMALL]
    wide = [
        (width, rows)
        for width in sorted({_row_width(length) for length in range(1, max_length + 1)})
        for rows in range(1, most_rows + 1)
    ]
    shapes = [Shape(_count(rows, row_multiple), width, width // SLOTS_PER_SEGMENT) for width, rows in small + wide]
    return list(dict.fromkeys(shapes))


def _count(rows: int, row_multiple: int) -> int:
    """The number of rows of the batch that holds so many."""
    power = 1 << (rows - 1).bit_length()
    return -(-power // row_multiple) * row_multiple


def _width(lengths: np.ndarray) -> int:
    """Width of the rows for examples of these lengths in tokens [E]."""
    all_, longest = int(lengths.sum()), int(lengths.max())
    few = next((width for width in SMALL if all_ <= width and len(lengths) <= width // SLOTS_PER_SEGMENT), None)
    if few is not None:
        return few
    return _row_width(longest)


def _row_width(longest: int) -> int:
    return next((width for width in WIDTHS if longest <= width), -(-longest // WIDTHS[-1]) * WIDTHS[-1])
