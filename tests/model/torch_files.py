"""Files of PyTorch made by hand, byte by byte, and a watch over what happens while they are read."""

import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.model import torch_file


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def name(module: str, function: str) -> bytes:
    return f"c{module}\n{function}\n".encode()


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


EMPTY = name("collections", "OrderedDict") + b")R"


def storage(kind: str = "FloatStorage", key: str = "0", numel: int = 6, word: str = "storage") -> bytes:
    return b"(" + text(word) + name("torch", kind) + text(key) + text("cpu") + number(numel) + b"tQ"


def tensor(
    offset: int = 0,
    size: tuple[int, ...] = (2, 3),
    stride: tuple[int, ...] = (3, 1),
    held: bytes = b"",
    more: bytes = b"",
) -> bytes:
    arguments = (held or storage()) + number(offset) + numbers(size) + numbers(stride) + b"\x89" + EMPTY + more
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def state_dict(**items: bytes) -> bytes:
    return b"\x80\x02" + EMPTY + b"(" + b"".join(text(key) + value for key, value in items.items()) + b"u."


SIX = np.arange(6, dtype=np.float32)
MEMBERS = {"byteorder": b"little", "version": b"3\n", "data/0": SIX.tobytes()}


def archive(file: Path, stream: bytes, **members: bytes | None) -> Path:
    """A zip file as torch.save writes it, with this pickle."""
    content = {"data.pkl": stream, **MEMBERS, **{key.replace("__", "/"): value for key, value in members.items()}}
    with zipfile.ZipFile(file, "w") as out:
        for key, value in content.items():
            if value is not None:
                out.writestr(f"pytorch_model/{key}", value)
    return file


PLAIN = (
    "not read, it is no plain state dict ({}); expected what `torch.save(model.state_dict(), FILE)` writes, "
    "or model.safetensors"
)


def read(file: Path) -> dict[str, np.ndarray]:
    return {name: torch_file.read_tensor(file, name) for name in torch_file.tensor_names(file)}


def error_of(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert message.isprintable()
    assert len(message) < 700
    return message.removeprefix(f"{file}: ")


# No call: every event of the interpreter while a file is read, and traps where the calls would arrive.

EVENTS: list[str] = []
WATCHED: list[bool] = []
WARM: dict[str, np.ndarray] = {}
HARMLESS = {"open", "sys._getframe"}


def _audit(event: str, _: tuple) -> None:
    if WATCHED:
        EVENTS.append(event)


sys.addaudithook(_audit)


def quietly(call: Callable[[], Any]) -> Any:
    """The call's result; meanwhile nothing is run, imported, unpickled or connected to."""
    if not WARM:
        with tempfile.TemporaryDirectory() as folder:  # what Python's library imports when it is first used
            WARM.update(read(archive(Path(folder) / "x.bin", state_dict(a=tensor()))))
    EVENTS.clear()
    WATCHED.append(True)
    try:
        return call()
    finally:
        WATCHED.clear()
        assert {*EVENTS} <= HARMLESS, {*EVENTS}
