"""What a `pytorch_model.bin` may hold instead of weights: refused by name in one line, and nothing of it is run."""

import builtins
import collections
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.model import torch_file, torch_pickle
from tests.model.torch_files import (
    EMPTY,
    PLAIN,
    SIX,
    archive,
    error_of,
    name,
    number,
    quietly,
    read,
    state_dict,
    storage,
    tensor,
    text,
)  # fmt: skip
from tests.test_fuzz import damaged


@pytest.fixture(autouse=True)
def nothing_is_called(monkeypatch, tmp_path: Path) -> Iterator[None]:
    """No event in a test but the opening of files, and none of the functions that pickles like to name."""

    def trap(*_: object, **__: object) -> None:
        raise AssertionError("called")

    with pytest.MonkeyPatch.context() as patch:
        for module, function in (
            (os, "system"),
            (os, "popen"),
            (subprocess, "Popen"),
            (pickle, "loads"),
            (pickle, "load"),
        ):
            patch.setattr(module, function, trap)
        yield


def test_the_watch_sees_a_pickle_that_runs(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        quietly(lambda: pickle._loads(name("builtins", "eval") + b"(" + text("1") + b"tR."))  # type: ignore[attr-defined]


class Reduced:
    """An object whose pickle is a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def dumped(function: Any, *arguments: Any, protocol: int = 2) -> bytes:
    return pickle.dumps(Reduced(function, *arguments), protocol)


def attribute(value: bytes) -> bytes:
    """What BUILD sets."""
    return state_dict()[:-1] + b"}" + value + b"sb."


HOSTILE = {
    "os.system": (name("os", "system") + b"(" + text("touch owned") + b"tR.", "it names os.system"),
    "os.system, text": (b"cos\nsystem\n(S'touch owned'\ntR.", "it names os.system"),
    "posix.system, protocol 4": (dumped(os.system, "touch owned", protocol=4), "it names posix.system"),
    "eval": (dumped(builtins.eval, "1"), "it names __builtin__.eval"),
    "exec, in a state dict": (
        state_dict(a=name("builtins", "exec") + b"(" + text("1") + b"tR"),
        "it names builtins.exec",
    ),
    "getattr chain": (
        dumped(getattr, Reduced(getattr, Reduced(__import__, "os"), "path"), "x"),
        "it names __builtin__.getattr",
    ),
    "subprocess": (name("subprocess", "Popen") + b"(" + text("touch owned") + b"tR.", "it names subprocess.Popen"),
    "torch's own way in": (name("torch.storage", "_load_from_bytes") + b".", "it names torch.storage._load_from_bytes"),
    "a dotted name": (name("collections", "OrderedDict.fromkeys") + b".", "it names collections.OrderedDict.fromkeys"),
    "a name of no text": (b"\x80\x04K\x01K\x02\x93.", "it names something that is no text"),
    "a storage called": (b"\x80\x02" + name("torch", "FloatStorage") + b")R.", "a call of torch.FloatStorage"),
    "arguments of OrderedDict": (name("collections", "OrderedDict") + b"}\x85R.", "a call of collections.OrderedDict"),
    "a tensor called": (state_dict(a=tensor() + b")R"), "a call of something that is no function"),
    "a parameter of no tensor": (
        name("torch._utils", "_rebuild_parameter") + EMPTY + b"\x88" + EMPTY + b"\x87R.",
        "a call of torch._utils._rebuild_parameter",
    ),
    "a tensor of a text": (state_dict(a=tensor(held=text("x"))), "a call of torch._utils._rebuild_tensor_v2"),
    "a conjugate": (state_dict(a=tensor(more=b"}" + text("conj") + b"\x88s")), "a tensor of another kind"),
    "strides missing": (state_dict(a=tensor(0, (2, 3), (3,))), "a tensor of another kind"),
    "many axes": (state_dict(a=tensor(0, (1,) * 9, (1,) * 9)), "a tensor of another kind"),
    "BUILD, __dict__": (attribute(text("__dict__") + EMPTY), "a state other than _metadata"),
    "BUILD, __setstate__": (attribute(text("__setstate__") + EMPTY), "a state other than _metadata"),
    "BUILD of a tensor": (state_dict(a=tensor() + b"}b"), "a state other than _metadata"),
    "BUILD of a function": (name("torch._utils", "_rebuild_tensor_v2") + b"}b.", "a state other than _metadata"),
    "BUILD of slots": (state_dict()[:-1] + b"}}\x86b.", "a state other than _metadata"),
    "EXT1": (b"\x80\x02\x82\x01.", "the opcode EXT1"),
    "EXT4": (b"\x80\x02\x84\x01\0\0\0.", "the opcode EXT4"),
    "INST": (b"(S'x'\nios\nsystem\n.", "the opcode STRING"),
    "INST alone": (b"(ios\nsystem\n.", "the opcode INST"),
    "OBJ": (b"(" + name("collections", "OrderedDict") + b"o.", "the opcode OBJ"),
    "NEWOBJ": (name("collections", "OrderedDict") + b")\x81.", "the opcode NEWOBJ"),
    "NEWOBJ_EX": (name("collections", "OrderedDict") + b")}\x92.", "the opcode NEWOBJ_EX"),
    "a list": (b"].", "the opcode EMPTY_LIST"),
    "an unknown opcode": (b"\xff", "the opcode unknown"),
    "PERSID": (b"Pstorage\n.", "the opcode PERSID"),
    "a persistent id of another kind": (state_dict(a=storage(word="module")), "a persistent id that is no storage"),
    "a persistent id that is a text": (text("storage") + b"Q.", "a persistent id that is no storage"),
    "a storage of a function": (
        b"(" + text("storage") + name("collections", "OrderedDict") + text("0") + text("cpu") + number(6) + b"tQ.",
        "a persistent id that is no storage",
    ),
    "deep tuples": (b")" + b"\x85" * 100_000 + b".", "tuples within tuples"),
    "deep marks": (b"(" * 2_000_000, "more than 1,000,000 opcodes"),
    "many in the memo": (b"N" + b"\x94" * 2_000_000, "more than 1,000,000 opcodes"),
    "doubled by the memo": (b")" + b"q\0h\0\x86" * 64 + b".", "tuples within tuples"),
    "a memo of nothing": (b"h\1.", "nothing was kept under 1"),
    "a dict in itself": (b"}q\0" + text("a") + b"h\0s.", "'a' is no tensor"),
    "a huge integer": (b"\x8a\xff" + b"\x7f" * 255 + b".", "an integer of 255 bytes"),
    "a huger integer": (b"\x8b\xff\xff\xff\x7f.", "the opcode LONG4"),
    "a long text": (b"X\xff\xff\xff\xff.", "a string of 4,294,967,295 bytes"),
    "a long name": (b"c" + b"a" * 100_000 + b"\nb\n.", "a string of 100,000 bytes"),
    "a name without end": (b"cos", "it ends early"),
    "escape codes": (text("\x1b[2J") + b".", "the string '\\x1b[2J'"),
    "no UTF-8": (b"X\1\0\0\0\xff.", "a string that is not UTF-8"),
    "no end": (b"\x80\x02N", "it ends early"),
    "two ends": (b"}..", "it continues after its end"),
    "a second value": (b"}}.", "it continues after its end"),
    "nothing": (b".", "too few values on the stack"),
    "below the mark": (b")(\x85.", "too few values on the stack"),
    "no mark": (b"t.", "no mark on the stack"),
    "protocol 0": (b"\x80\0}.", "pickle protocol 0"),
    "protocol 9": (b"\x80\x09}.", "pickle protocol 9"),
    "no dict": (b"N.", "it holds no dict"),
    "no tensor": (state_dict(epoch=number(3)), "'epoch' is no tensor"),
    "a number as a name": (b"}K\1Ns.", "a name that is no text"),
    "half an item": (b"}(" + text("a") + b"u.", "items of something that is no dict"),
    "items of a tensor": (tensor() + text("a") + b"Ns.", "items of something that is no dict"),
    "a name twice": (b"}(" + text("a") + tensor() + text("a") + tensor() + b"u.", "two tensors are called 'a'"),
    "past the end": (state_dict(a=tensor(1)), "'a' reaches past the end of its storage"),
    "strides past the end": (state_dict(a=tensor(0, (2, 3), (4, 1))), "'a' reaches past the end of its storage"),
    "nothing, past the end": (state_dict(a=tensor(7, (0,), (1,))), "'a' reaches past the end of its storage"),
    "negative strides": (
        state_dict(a=tensor(5, (6,), (-1,))),
        "'a' has more elements than its storage, or a negative size, stride or offset",
    ),
    "negative sizes": (
        state_dict(a=tensor(0, (-2, -3), (3, 1))),
        "'a' has more elements than its storage, or a negative size, stride or offset",
    ),
    "a negative offset": (
        state_dict(a=tensor(-1, (2,), (1,))),
        "'a' has more elements than its storage, or a negative size, stride or offset",
    ),
    "one element a million times": (
        state_dict(a=tensor(0, (1000, 1000), (0, 0))),
        "'a' has more elements than its storage, or a negative size, stride or offset",
    ),
    "a storage that is not there": (
        state_dict(a=tensor(held=storage(key="../version"))),
        "'a' has a storage of 6 elements, which is not in the file",
    ),
    "a longer storage": (
        state_dict(a=tensor(held=storage(numel=7))),
        "'a' has a storage of 7 elements, which is not in the file",
    ),
    "a storage of wider elements": (
        state_dict(a=tensor(held=storage("DoubleStorage"))),
        "'a' has a storage of 6 elements, which is not in the file",
    ),
    "a storage of a type that no model has": (
        state_dict(a=tensor(held=storage("ComplexFloatStorage"))),
        "it names torch.ComplexFloatStorage",
    ),
    "a storage often": (
        state_dict(**{f"a{copy}": tensor() for copy in range(3000)}),
        "its tensors have 72,000 bytes, the file ",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_streams_are_refused_and_nothing_is_called(case, tmp_path: Path, monkeypatch):
    stream, reason = HOSTILE[case]
    monkeypatch.chdir(tmp_path)
    if case == "a storage often":
        monkeypatch.setattr(torch_file, "MOST_SHARED", 0.01)
    file = archive(tmp_path / "pytorch_model.bin", stream)
    message = quietly(lambda: error_of(file))
    beginning, ending = PLAIN.split("{}")
    assert message.startswith(beginning + reason)
    assert message.endswith(ending)
    assert message == PLAIN.format(reason) or reason.endswith("the file ")
    assert [file.name for file in tmp_path.iterdir()] == ["pytorch_model.bin"]


@pytest.mark.parametrize("number_of_tensors", [1, 3000])
def test_the_bounds_leave_room(number_of_tensors, tmp_path: Path):
    """One storage as two tensors and more, as tied weights have; thousands of tensors."""
    names = [f"layer.{number}.weight" for number in range(number_of_tensors)]
    items = {f"{name}{copy}": tensor() for name in names for copy in range(2)}
    found = read(archive(tmp_path / "x.bin", state_dict(**items), data__0=SIX.tobytes()))
    assert len(found) == 2 * number_of_tensors


def test_a_stream_that_only_names_what_is_allowed_makes_no_object_of_it() -> None:
    kinds = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
    functions = {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}
    assert functions | {f"torch.{kind}Storage" for kind in kinds} == torch_pickle.GLOBALS
    assert {type(torch_pickle._ACTIONS[name]).__name__ for name in torch_pickle._ACTIONS} == {"function"}
    assert not {"pickle", "importlib", "builtins", "getattr", "setattr", "__import__"} & {*vars(torch_pickle)}


# Damage.

OPCODES = [
    *(bytes([code]) for code in torch_pickle.OPCODE_NAMES), name("os", "system"), name("builtins", "eval"), EMPTY,
    tensor(), storage(), b")R", b"}b", b"h\0", b"q\0", text("_metadata"), text("__dict__"), b"\x94", b"(", b"t", b"u",
]  # fmt: skip


def mutated(stream: bytes, random: np.random.Generator) -> bytes:
    """One to three opcodes put in, and perhaps other damage."""
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(len(stream) + 1))
        stream = stream[:place] + OPCODES[int(random.integers(len(OPCODES)))] + stream[place:]
    return damaged(stream, random) if random.integers(2) else stream


def one_byte(stream: bytes, random: np.random.Generator) -> bytes:
    place = int(random.integers(len(stream)))
    return stream[:place] + bytes([random.integers(256)]) + stream[place + 1 :]


def survive(folder: Path, times: int, seed: int) -> dict[str, int]:
    """Each outcome and how often; reading, to the last tensor, gives arrays or an InputError and runs nothing."""
    random, file = np.random.default_rng(seed), folder / "fuzz.bin"
    version = text("version") + number(1) + b"s"
    sound = state_dict(a=tensor(), b=tensor(1, (2, 2), (1, 2)))[:-1] + b"}" + text("_metadata") + EMPTY + text("")
    sound += b"}q\1" + version + b"ssb."
    assert {*read(archive(file, sound))} == {"a", "b"}
    whole, outcomes = file.read_bytes(), collections.Counter[str]()
    for _ in range(times):
        file.unlink()
        kind = int(random.integers(4))
        if kind == 0:
            file.write_bytes(damaged(whole, random))
        else:
            archive(file, (one_byte, mutated, damaged)[kind - 1](sound, random))
        try:
            found = quietly(lambda: read(file))
        except InputError:
            outcomes["refused"] += 1
        else:
            assert all(leaf.nbytes <= len(whole) for leaf in found.values())
            outcomes["read"] += 1
    return outcomes


def test_damaged_files(tmp_path: Path):
    outcomes = survive(tmp_path, 300, seed=0)
    assert min(outcomes["read"], outcomes["refused"]) > 2  # few changes leave a state dict
