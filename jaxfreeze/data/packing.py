"""Packing: which examples share a row, and the batch that lays them out (Fleszar and Hindi 2002)."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxfreeze.data.batch import Batch, Shape
from jaxfreeze.data.token_store import TokenStore


def full_rows(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Pack examples of these lengths (0: none), none over `width`, into rows: the places in `lengths` of each row's.

    A row takes the longest example left and, of the others, those that fill it best (the MBS' heuristic of Fleszar
    and Hindi 2002). Which totals can be had is a subset sum problem; bit n of an integer stands for a total of n.
    """
    left = sorted(filter(lengths.__getitem__, range(len(lengths))), key=lengths.__getitem__, reverse=True)
    rows = []
    while left:
        row = [left.pop(0)]
        room = width - lengths[row[0]]
        if left and lengths[left[-1]] <= room:
            full = 1 << room
            totals = 1
            reached = [totals]  # the totals, up to `room`, that the first 0, 1, 2 ... of those left can have
            for place in left:
                totals = (totals | totals << lengths[place]) & (2 * full - 1)
                reached.append(totals)
                if totals >= full:
                    break
            total = totals.bit_length() - 1
            for number in range(len(reached) - 2, -1, -1):
                if not reached[number] >> total & 1:  # no such total without this one
                    row.append(left.pop(number))
                    total -= lengths[row[-1]]
        rows.append(row)
    return rows


def rows_within(lengths: Sequence[int], shape: Shape) -> list[list[int]] | None:
    """Rows, as full_rows gives them, if `shape` holds them."""
    if not lengths:
        return []
    if max(lengths) > shape.width or sum(lengths) > shape.slots:
        return None
    rows = full_rows(lengths, shape.width)
    return rows if len(rows) <= shape.rows and max(map(len, rows)) <= shape.segments else None


def pack(store: TokenStore, examples: np.ndarray, shapes: tuple[Shape, ...]) -> Batch:
    """Pack examples [B] (-1: none) into the first of `shapes` that holds them; a pure function of both.

    Examples [..., B], of several runs or parts of a batch, are packed into the first shape that holds every B of them.
    """
    *leading, size = examples.shape
    numbers = [batch[batch >= 0].tolist() for batch in examples.reshape(-1, size)]
    lengths = [store.lengths[batch].tolist() for batch in numbers]
    for shape in shapes:
        packed = [rows_within(batch, shape) for batch in lengths]
        if None not in packed:
            batches = [
                fill(store, [[batch[place] for place in row] for row in rows], shape)
                for batch, rows in zip(numbers, packed, strict=True)
                if rows is not None
            ]
            return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(*leading, *leaves[0].shape), *batches)
    raise ValueError(f"no shape of {shapes} holds examples of lengths {lengths}")


def lay_first_tokens(store: TokenStore, examples: np.ndarray, row_multiple: int = 1) -> Batch:
    """A batch of the first tokens of examples [..., B] (-1: none), for a model of which only the head is left.

    Each of `row_multiple` devices has one row with its share of the examples, a slot for each: every batch of B
    examples has the shape `first_tokens_shape`.
    """
    shape = first_tokens_shape(examples.shape[-1], row_multiple)
    example = np.full((*examples.shape[:-1], shape.rows * shape.segments), -1, np.int32)
    example[..., : examples.shape[-1]] = examples
    example = example.reshape(*examples.shape[:-1], shape.rows, shape.segments)
    index = np.where(example >= 0, np.asarray(store.start)[example], -1).astype(np.int32)
    place = np.broadcast_to(np.arange(shape.segments, dtype=np.int32), example.shape)
    return Batch(index, np.where(example >= 0, place, -1), place, example)


def first_tokens_shape(batch_size: int, row_multiple: int = 1) -> Shape:
    """The shape of `lay_first_tokens`."""
    each = -(-batch_size // row_multiple)
    return Shape(row_multiple, each, each)


def fill(store: TokenStore, rows: Sequence[Sequence[int]], shape: Shape) -> Batch:
    """Lay the examples of each row into it, in order, without gaps between them."""
    index = np.full((shape.rows, shape.width), -1, np.int32)
    segment = np.full((shape.rows, shape.width), -1, np.int32)
    first = np.zeros((shape.rows, shape.segments), np.int32)
    example = np.full((shape.rows, shape.segments), -1, np.int32)
    starts = np.asarray(store.start)  # a plain array, quicker in small pieces than a memory map
    for row, numbers in enumerate(rows):
        used = 0
        for place, number in enumerate(numbers):
            start, stop = int(starts[number]), int(starts[number + 1])
            slots = slice(used, used + stop - start)
            index[row, slots] = np.arange(start, stop)
            segment[row, slots] = place
            first[row, place] = used
            example[row, place] = number
            used = slots.stop
    return Batch(index, segment, first, example)
