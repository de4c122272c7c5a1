"""The tensors of `flax_model.msgpack`, as Flax models of transformers were saved: nested maps from name to array.

The file is mapped into memory, its maps are walked, and one array at a time is read. Format: msgpack's spec.md, and
flax/serialization.py for arrays, which are extensions of type 1.
"""

import functools
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import serialization

from jaxfreeze.errors import InputError, shorten

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}  # Flax's name -> PyTorch's; a bias is a bias
HEADS = {  # first byte -> (kind, bytes of the size that follows, bytes between it and the content)
    0xDE: ("map", 2, 0),
    0xDF: ("map", 4, 0),
    0xD9: ("text", 1, 0),
    0xDA: ("text", 2, 0),
    0xDB: ("text", 4, 0),
    0xC7: ("array", 1, 1),
    0xC8: ("array", 2, 1),
    0xC9: ("array", 4, 1),
}
DEEPEST = 16  # maps within maps
MOST_ARRAYS = 20_000
MOST_TEXT = 1000


class Extent(NamedTuple):
    """Where an array lies in the file, in bytes."""

    start: int
    stop: int


def pytorch_name(name: str) -> str:
    """bert/pooler/dense/kernel -> bert.pooler.dense.weight."""
    *modules, leaf = name.split("/")
    return ".".join([*modules, LEAVES.get(leaf, leaf)])


def tensor_names(file: Path) -> list[str]:
    """The names in a file, `/` between their parts. Raises InputError for any other file."""
    return list(_listed(file))


def read_tensor(file: Path, name: str) -> np.ndarray:
    """One tensor in its type, as PyTorch lays it out: a kernel is transposed."""
    extent = _listed(file)[name]
    with file.open("rb") as content:
        content.seek(extent.start)
        packed = content.read(extent.stop - extent.start)
    try:
        leaf = serialization.msgpack_restore(packed)
    except (ValueError, TypeError, OverflowError) as error:  # msgpack's own errors are ValueErrors
        raise InputError(f"{file}: {name} does not read ({shorten(str(error))}); fetch the file again") from error
    if not isinstance(leaf, np.ndarray):
        raise InputError(f"{file}: {name} is no array; expected what Flax models of transformers are saved as")
    return np.ascontiguousarray(leaf.T) if name.endswith("/kernel") else leaf


def _listed(file: Path) -> dict[str, Extent]:
    about = file.stat()
    return _read(file, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(file: Path, size: int, modified: int) -> dict[str, Extent]:
    """Every array of the file, which has this size and modification time."""
    found: dict[str, Extent] = {}
    try:
        with file.open("rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as data:
            kind, count, at = _head(data, 0)
            if kind != "map":
                raise ValueError("it does not begin with a map")
            end = at
            for name, extent in _walk(data, at, count, ()):
                if name in found or len(found) == MOST_ARRAYS:
                    raise ValueError(f"{shorten(name)} is there twice, or there are more than {MOST_ARRAYS:,} arrays")
                found[name], end = extent, extent.stop
            if end != size:
                raise ValueError("there is something behind its last array")
    except (ValueError, IndexError, OSError) as error:
        raise InputError(f"{file}: not a whole file of a Flax model ({error}); fetch it again") from error
    return found


def _walk(data: mmap.mmap, at: int, count: int, modules: tuple[str, ...]) -> Iterator[tuple[str, Extent]]:
    """(name, extent) of every array in a map of so many entries, which begin at `at`."""
    for _ in range(count):
        kind, length, start = _head(data, at)
        if kind != "text" or length > MOST_TEXT or len(modules) == DEEPEST:
            raise ValueError(f"expected the name of an array at byte {at:,}")
        name = data[start : start + length].decode()
        if not name.isprintable() or not name or "/" in name:
            raise ValueError(f"expected the name of an array at byte {at:,}")
        at = start + length
        kind, length, start = _head(data, at)
        if kind == "map":
            for found, extent in _walk(data, start, length, (*modules, name)):
                yield found, extent
                start = extent.stop
            at = start
        elif kind == "array":
            if start + length > len(data):
                raise ValueError("it ends early")
            yield "/".join((*modules, name)), Extent(at, start + length)
            at = start + length
        else:
            raise ValueError(f"expected an array or a map at byte {at:,}")


def _head(data: mmap.mmap, at: int) -> tuple[str, int, int]:
    """What begins at a byte: its kind, its size (of a map in entries, else in bytes), where its content begins."""
    byte = data[at]
    if byte >> 4 == 0x8:
        return "map", byte & 0xF, at + 1
    if byte >> 5 == 0b101:
        return "text", byte & 0x1F, at + 1
    if 0xD4 <= byte <= 0xD8:
        return "array", 1 << (byte - 0xD4), at + 2
    kind, width, between = HEADS.get(byte, ("other", 0, 0))
    return kind, int.from_bytes(data[at + 1 : at + 1 + width], "big"), at + 1 + width + between
