"""The tensors of `pytorch_model.bin`, read without PyTorch and without trust in the file.

The file is what `torch.save` writes since PyTorch 1.6: a zip archive of uncompressed members, `NAME/data.pkl` with the
description of a state dict (torch_pickle.py) and `NAME/data/KEY` with the bytes of each storage. Listing checks every
tensor against its storage; reading then takes the bytes of one tensor from the file.
"""

import functools
import io
import math
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from jaxfreeze.errors import InputError, shorten
from jaxfreeze.model.torch_pickle import Refused, Tensor, read_state_dict

DTYPES = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
MOST_BYTES = 2**24  # of a directory, of a pickle: 300 bytes a tensor come to 5 MB for 20,000 tensors
MOST_SHARED = 4  # all tensors over the size of the file; tied embeddings come to less than 2
NOT_PLAIN = 0x2041  # flags of a member: encrypted, strongly encrypted, header masked (APPNOTE.TXT, 4.4.4)
LOCAL_HEADER = struct.Struct("<4s22x2H")  # signature, ..., lengths of name and extra field (APPNOTE.TXT, 4.3.7)
NOT_WHOLE = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, struct.error)
CONVERT = (
    "where PyTorch is installed, convert it once with "
    "`torch.save(torch.load(FILE, map_location='cpu', weights_only=True), FILE)`"
)


class Stored(NamedTuple):
    """A tensor in the file."""

    dtype: str
    start: int  # of its first element, in bytes from the file's beginning
    size: tuple[int, ...]
    stride: tuple[int, ...]  # in elements

    @property
    def span(self) -> int:
        """How many elements lie from its first to its last."""
        steps = ((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        return 1 + sum(steps) if all(self.size) else 0


def tensor_names(file: Path) -> list[str]:
    """The names in a file, each of a tensor that can be read. Raises InputError for any other file, in one line."""
    return list(_listed(file))


def tensor_type(file: Path, name: str) -> str:
    """F32, BF16, I64 ..., as safetensors calls them."""
    return _listed(file)[name].dtype


def type_of(dtype: np.dtype) -> str:
    """F32, BF16, I64 ...; of other types, NumPy's name."""
    return next((name for name, own in DTYPES.items() if own == dtype), str(dtype))


def read_tensor(file: Path, name: str) -> np.ndarray:
    """One tensor, in its type, contiguous."""
    found = _listed(file)[name]
    dtype = DTYPES[found.dtype]
    flat = np.fromfile(file, np.uint8, found.span * dtype.itemsize, offset=found.start)
    if len(flat) < found.span * dtype.itemsize:
        raise InputError(f"{file}: it became shorter while it was read; fetch it again")
    if not len(flat):
        return np.zeros(found.size, dtype)
    strides = [
        dtype.itemsize * stride if size > 1 else 0 for size, stride in zip(found.size, found.stride, strict=True)
    ]
    return np.array(np.lib.stride_tricks.as_strided(flat.view(dtype), found.size, strides), order="C", copy=None)


def _listed(file: Path) -> dict[str, Stored]:
    about = file.stat()
    return _read(file, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(file: Path, size: int, modified: int) -> dict[str, Stored]:
    """Every tensor of the file, which has this size and modification time."""
    try:
        with _Bounded(file) as content:
            if content.read(2) != b"PK":
                raise InputError(f"{file}: expected the zip form that torch.save has since PyTorch 1.6; {CONVERT}")
            with zipfile.ZipFile(content) as archive:
                top, members = _members(archive, content)
                if "byteorder" in members and archive.read(f"{top}/byteorder") != b"little":
                    raise Refused("its byte order is not little")
                tensors = read_state_dict(archive.read(f"{top}/data.pkl"))
        stored = {name: _stored(name, tensor, members) for name, tensor in tensors.items()}
        total = sum(math.prod(found.size) * DTYPES[found.dtype].itemsize for found in stored.values())
        if total > MOST_SHARED * size:
            raise Refused(f"its tensors have {total:,} bytes, the file {size:,}")
    except Refused as refused:
        raise InputError(
            f"{file}: not read, it is no plain state dict ({refused}); "
            "expected what `torch.save(model.state_dict(), FILE)` writes, or model.safetensors"
        ) from refused
    except NOT_WHOLE as error:
        raise InputError(f"{file}: not a whole file of torch.save ({shorten(str(error))}); fetch it again") from error
    return stored


class _Bounded(io.FileIO):
    """A file of which nothing large is read at once: zipfile reads a directory whole, as large as the file says."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = MOST_BYTES
        if size > MOST_BYTES:
            raise zipfile.BadZipFile(f"a directory of {size:,} bytes")
        return super().read(size)


def _members(archive: zipfile.ZipFile, content: io.FileIO) -> tuple[str, dict[str, tuple[int, int]]]:
    """The folder in which all lies, and every member below it -> (where its bytes begin, how many they are)."""
    pickles = [info for info in archive.infolist() if info.filename.partition("/")[2] == "data.pkl"]
    if len(pickles) != 1 or pickles[0].file_size > MOST_BYTES:
        raise Refused(f"{len(pickles)} members NAME/data.pkl, expected one of at most {MOST_BYTES:,} bytes")
    top = pickles[0].filename.partition("/")[0]
    members: dict[str, tuple[int, int]] = {}
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        shown = shorten(repr(info.orig_filename))
        folder, _, name = info.orig_filename.partition("/")
        if folder != top or {"", ".", ".."} & {*name.split("/")}:
            raise Refused(f"the member {shown} is not of the folder {shorten(repr(top))}")
        if name in members:
            raise Refused(f"two members are called {shown}")
        packed = info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size
        if packed or info.flag_bits & NOT_PLAIN:
            raise Refused(f"the member {shown} is compressed or encrypted")
        start = _start(info, content)
        if info.header_offset < end or start + info.file_size > archive.start_dir:
            raise Refused(f"the member {shown} overlaps what follows or precedes it")
        end = start + info.file_size
        members[name] = (start, info.file_size)
    return top, members


def _start(info: zipfile.ZipInfo, content: io.FileIO) -> int:
    """Where a member's bytes begin: behind the header in front of them, which has to name it."""
    content.seek(info.header_offset)
    signature, name_length, extra_length = LOCAL_HEADER.unpack(content.read(LOCAL_HEADER.size))
    encoded = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    if signature != b"PK\3\4" or content.read(name_length) != encoded:
        raise zipfile.BadZipFile("a member is not where the directory says")
    return info.header_offset + LOCAL_HEADER.size + name_length + extra_length


def _stored(name: str, tensor: Tensor, members: dict[str, tuple[int, int]]) -> Stored:
    """Where a tensor's bytes lie. Raises Refused unless all of them lie in its storage, and the storage is whole."""
    storage, itemsize = tensor.storage, DTYPES[tensor.storage.dtype].itemsize
    start, length = members.get(f"data/{storage.key}", (0, -1))
    if storage.numel * itemsize != length:
        raise Refused(f"{name!r} has a storage of {storage.numel} elements, which is not in the file")
    found = Stored(storage.dtype, start + tensor.offset * itemsize, tensor.size, tensor.stride)
    if min(tensor.offset, *tensor.size, *tensor.stride, 0) < 0 or math.prod(tensor.size) > storage.numel:
        raise Refused(f"{name!r} has more elements than its storage, or a negative size, stride or offset")
    if tensor.offset + found.span > storage.numel:
        raise Refused(f"{name!r} reaches past the end of its storage")
    return found
