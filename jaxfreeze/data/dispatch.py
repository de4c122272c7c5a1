"""Several batches for one dispatch: each lies in the corner of a buffer as large as the largest shape."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from jaxfreeze.arrays import Array
from jaxfreeze.data.batches import Batch, Shape
from jaxfreeze.devices import by_part, replicated

T = TypeVar("T")


class Group(NamedTuple):
    """Up to K batches of a few shapes, their rows shared out among P devices."""

    batches: Batch  # leaves [K, P, R / P, ...]; before P an axis S for runs side by side, and M for parts of batches
    shape_number: Array  # int32 [K] which of the shapes each batch has
    count: Array  # int32, how many batches are there

    @property
    def leading(self) -> int:
        """Axes before P in a batch: S and M, one of them, or none."""
        return self.batches.example.ndim - 4

    def shardings(self, mesh: Mesh) -> Any:
        """How a Group lies on the devices."""
        return Group(by_part(mesh, 1 + self.leading), replicated(mesh), replicated(mesh))  # type: ignore[arg-type]


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made, in a thread, while the one before it is used."""
    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = worker.submit(next, items, None)
            yield item


def stack(batches: Sequence[Batch], shapes: tuple[Shape, ...], size: int, parts: int) -> Group:
    """At most `size` batches -> a Group with room for `size`, on the host."""
    rows, width, segments = np.max([(shape.rows, shape.width, shape.segments) for shape in shapes], axis=0)
    leading = batches[0].example.shape[:-2]  # S and M, where they are
    every = (slice(None),) * (len(leading) + 1)

    def leaf(values: list[np.ndarray], columns: int) -> np.ndarray:
        features = values[0].shape[len(leading) + 2 :]
        buffer = np.zeros((size, *leading, parts, rows // parts, columns, *features), values[0].dtype)
        for place, value in zip(buffer, values, strict=False):
            share = value.reshape(*leading, parts, -1, *value.shape[len(leading) + 1 :])
            place[(*every, slice(share.shape[len(leading) + 1]), slice(share.shape[len(leading) + 2]))] = share
        return buffer

    columns = _columns(batches[0], width, segments)
    stacked = (leaf(list(values), c) for values, c in zip(zip(*batches, strict=True), columns, strict=True) if c)
    numbers = np.zeros(size, np.int32)
    numbers[: len(batches)] = [shapes.index(shape_of(batch)) for batch in batches]
    return Group(Batch(*stacked), numbers, np.int32(len(batches)))


def unstack(group: Group, number: Array, shape: Shape) -> Batch:
    """Batch `number` of a Group, given that it has this shape."""
    part = group.leading

    def leaf(stacked: jax.Array, columns: int) -> jax.Array:
        batch = stacked[number]
        share = batch[(*(slice(None),) * (part + 1), slice(shape.rows // batch.shape[part]), slice(columns))]
        return share.reshape(*share.shape[:part], shape.rows, *share.shape[part + 2 :])

    columns = _columns(group.batches, shape.width, shape.segments)
    return Batch(*(leaf(stacked, c) for stacked, c in zip(group.batches, columns, strict=True) if c))


def shape_of(batch: Batch) -> Shape:
    """The shape of a batch."""
    *_, rows, width = batch.index.shape
    return Shape(rows, width, batch.first.shape[-1])


def _columns(batch: Batch, width: int, segments: int) -> tuple[int, int, int, int, int]:
    """The places a row of each leaf has, in a shape of W = width and S = segments; 0 where there is no such leaf."""
    if batch.hidden is None:
        return width, width, segments, segments, 0
    axis = batch.first.ndim - 1  # W > S: an example has at least two tokens
    by_example = batch.hidden.shape[axis] == batch.first.shape[axis]
    return width, width, segments, segments, segments if by_example else width
