"""Batches of texts that come as they come: a fixed ladder of shapes, so that a program compiles a handful of times."""

from collections.abc import Iterator

import numpy as np

from jaxfreeze.data.batches import Batch, Shape, fill, full_rows
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
        count = 1 << (len(some) - 1).bit_length()
        yield fill(store, some, Shape(-(-count // row_multiple) * row_multiple, width, segments))


def _width(lengths: np.ndarray) -> int:
    """Width of the rows for examples of these lengths in tokens [E]."""
    all_, longest = int(lengths.sum()), int(lengths.max())
    few = next((width for width in SMALL if all_ <= width and len(lengths) <= width // SLOTS_PER_SEGMENT), None)
    if few is not None:
        return few
    return next((width for width in WIDTHS if longest <= width), -(-longest // WIDTHS[-1]) * WIDTHS[-1])
