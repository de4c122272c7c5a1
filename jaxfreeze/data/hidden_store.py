"""The hidden states of a split at the cut: rows of D values on the host, in memory or in a file, gathered by batch."""

import dataclasses
import errno
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxfreeze import cache_folder
from jaxfreeze.cache_folder import cache_root
from jaxfreeze.data.batch import Batch, Shape
from jaxfreeze.errors import InputError
from jaxfreeze.program import program

FILE = "hidden"  # raw values, row after row


@dataclasses.dataclass(frozen=True)
class Layout:
    """A row of D values for each token or, where only the head is above the cut, for each example."""

    digest: str
    rows: int
    width: int
    dtype: np.dtype
    by_example: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return self.rows * self.width * self.dtype.itemsize

    @property
    def folder(self) -> Path:
        """The entry of the cache folder where it is kept, if it is kept."""
        return cache_root() / "trunk" / self.digest

    @property
    def kept(self) -> bool:
        """Whether it is on disk, whole."""
        return cache_folder.is_whole(self.folder) and (self.folder / FILE).stat().st_size == self.size

    @property
    def leaf(self) -> str:
        """The leaf of a Batch, and of the data on the device, that holds these states."""
        return "pooled" if self.by_example else "hidden"

    def places(self, batch: Batch) -> np.ndarray:
        """Which row belongs where in a batch: int [R, W], or [R, G] by example; -1 where there is none."""
        return batch.example if self.by_example else batch.index

    def with_zeros(self, batch: Batch) -> Batch:
        """The batch with zeros for states."""
        states = np.zeros((*self.places(batch).shape, self.width), self.dtype)
        return dataclasses.replace(batch, **{self.leaf: states})

    def largest(self, shapes: Sequence[Shape]) -> int:
        """Bytes of the states of the largest batch of these shapes."""
        return max(math.prod(shape.sizes(self.leaf)) for shape in shapes) * self.width * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class HiddenStore:
    """All rows of a Layout: an array [N, D], or an open file, read piece by piece so that memory stays bounded."""

    layout: Layout
    source: np.ndarray | int

    def attach(self, batch: Batch, parts: np.ndarray) -> Batch:
        """The batch with its hidden states: [R, W, D], or [R, G, D] by example; zeros in empty places.

        parts: bool [P]. The rows of a batch are in P equal parts, of which only these are wanted: zeros in the others.
        """
        batch, places = self.layout.with_zeros(batch), self.layout.places(batch)
        wanted = np.repeat(parts, places.shape[-2] // len(parts))[:, None]
        rows = np.where(wanted, places, -1).ravel()
        out = getattr(batch, self.layout.leaf).reshape(-1, self.layout.width)
        goes_on = np.append((rows[1:] == rows[:-1] + 1) & (rows[:-1] >= 0), False)  # the next one is its neighbour
        starts = np.flatnonzero((rows >= 0) & ~np.append(False, goes_on[:-1]))
        stops = np.flatnonzero((rows >= 0) & ~goes_on) + 1
        for start, stop in zip(starts, stops, strict=True):
            self._read(int(rows[start]), out[start:stop])
        return batch

    def _read(self, start: int, out: np.ndarray) -> None:
        """Copy rows start.. into out [n, D]."""
        if isinstance(self.source, np.ndarray):
            out[:] = self.source[start : start + len(out)]
            return
        view, offset = _bytes_of(out), start * self.layout.width * out.itemsize
        while view:
            count = os.preadv(self.source, [view], offset)
            if count == 0:
                raise InputError(f"{self.layout.folder}: shorter than it was; run `{program()} cache clear`")
            view, offset = view[count:], offset + count


def _bytes_of(rows: np.ndarray) -> memoryview:
    return memoryview(rows.reshape(-1).view(np.uint8).data)


def write(layout: Layout, chunks: Iterable[np.ndarray], note: dict[str, str]) -> None:
    """Keep the rows of all chunks, in order, on disk. The space is taken first. Raises InputError if there is none."""
    cache_folder.remove(layout.folder)  # something is there if it is damaged
    try:
        with cache_folder.new_entry(layout.folder, note) as folder, (folder / FILE).open("wb", 0) as file:
            os.posix_fallocate(file.fileno(), 0, layout.size)
            for rows in chunks:
                view = _bytes_of(rows)
                while view:
                    view = view[file.write(view) :]
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"{layout.folder.parent}: the disk is full, the trunk cache needs {layout.size / 1e9:.2f} GB; make room "
            f"(`{program()} cache clear`), or set JAXFREEZE_CACHE to a folder on another disk, or give --cache off"
        ) from error


def gather(layout: Layout, chunks: Iterable[np.ndarray]) -> HiddenStore:
    """The rows of all chunks, in order, in memory."""
    rows = np.empty((layout.rows, layout.width), layout.dtype)
    done = 0
    for chunk in chunks:
        rows[done : done + len(chunk)] = chunk
        done += len(chunk)
    return HiddenStore(layout, rows)


def open_kept(layout: Layout, in_memory: bool) -> HiddenStore:
    """What is kept on disk, as a file to read from, or read into memory."""
    if not in_memory:
        return HiddenStore(layout, os.open(layout.folder / FILE, os.O_RDONLY))
    rows = np.fromfile(layout.folder / FILE, np.uint8).view(layout.dtype)
    return HiddenStore(layout, rows.reshape(layout.rows, layout.width))
