"""Several batches for one dispatch: each lies in the corner of a buffer as large as the largest shape."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from jaxfreeze.arrays import Array
from jaxfreeze.data.batch import AXES, Batch, Shape
from jaxfreeze.devices import by_part, replicated

T = TypeVar("T")
Result = TypeVar("Result")


class Dispatch(NamedTuple):
    """Up to K batches of a few shapes, their rows parted among P devices."""

    batches: Batch  # leaves [K, M, P, R / P, ...]; of runs side by side [S, K, M, P, R / P, ...]
    shape_number: Array  # int32 [K], which of the shapes each batch has
    count: Array  # int32, how many batches there are

    def shardings(self, mesh: Mesh) -> Any:
        """How a Dispatch lies on the devices."""
        axis = self.batches.example.ndim - 3  # that of P
        return Dispatch(by_part(mesh, axis), replicated(mesh), replicated(mesh))  # type: ignore[arg-type]


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items; each is made, in a thread, while the one before it is used."""
    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = worker.submit(next, items, None)
            yield item


def stack(batches: Sequence[Batch], shapes: tuple[Shape, ...], size: int, parts: int) -> Dispatch:
    """At most `size` batches, leaves [M, R, ...] or [S, M, R, ...] -> a Dispatch on the host: K = size, P = parts."""
    largest = Shape(*np.max([dataclasses.astuple(shape) for shape in shapes], axis=0).tolist())

    def leaf(name: str) -> np.ndarray | None:
        values = [getattr(batch, name) for batch in batches]
        if values[0] is None:
            return None
        axes = len(AXES[name])
        *runs, count = values[0].shape[:-axes]  # S, if there are several runs, and M
        features = values[0].shape[values[0].ndim - axes + 2 :]
        rows, columns = largest.sizes(name)
        buffer = np.zeros((*runs, size, count, parts, rows // parts, columns, *features), values[0].dtype)
        for number, (batch, value) in enumerate(zip(batches, values, strict=True)):
            rows, columns = batch.shape.sizes(name)
            share = value.reshape(*runs, count, parts, rows // parts, columns, *features)
            place = buffer[:, number] if runs else buffer[number]
            for_features: Any = (slice(None),) * len(features)
            place[(..., slice(rows // parts), slice(columns), *for_features)] = share
        return buffer

    numbers = np.zeros(size, np.int32)
    numbers[: len(batches)] = [shapes.index(batch.shape) for batch in batches]
    return Dispatch(Batch(**{name: leaf(name) for name in AXES}), numbers, np.int32(len(batches)))


def unstack(dispatch: Dispatch, number: Array, shape: Shape) -> Batch:
    """Batch `number` of one run's Dispatch, leaves [M, R, ...], given that it has this shape."""

    def leaf(name: str) -> jax.Array | None:
        stacked = getattr(dispatch.batches, name)  # [K, M, P, R / P, columns, ...]
        if stacked is None:
            return None
        rows, columns = shape.sizes(name)
        share = stacked[number][:, :, : rows // stacked.shape[2], :columns]
        return share.reshape(share.shape[0], rows, *share.shape[3:])

    return Batch(**{name: leaf(name) for name in AXES})


def in_its_shape(
    dispatch: Dispatch, number: Array, shapes: tuple[Shape, ...], function: Callable[[Batch], Result]
) -> Result:
    """function(batch) of batch `number`; it is compiled for every shape, and the one that fits runs."""
    branches = [lambda shape=shape: function(unstack(dispatch, number, shape)) for shape in shapes]
    return jax.lax.switch(dispatch.shape_number[number], branches)
