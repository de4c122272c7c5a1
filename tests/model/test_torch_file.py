"""`pytorch_model.bin`: what PyTorch saves is read to the bit; archives that it does not write are refused."""

import collections
import contextlib
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.model import torch_file, weights
from jaxfreeze.model.files import Place, read_tensor, tensors, weights_files
from jaxfreeze.model.hub import read_config
from tests import reference
from tests.model.torch_files import PLAIN, SIX, archive, error_of, quietly, read, state_dict, tensor

torch = reference.pytorch()
MODEL = reference.hugging_face_model("bert", 2)
STATE = MODEL.state_dict()


def write(folder: Path, state: Any = STATE, **how: Any) -> Path:
    folder.mkdir(exist_ok=True)
    MODEL.config.save_pretrained(folder)
    torch.save(state, folder / "pytorch_model.bin", **how)
    return folder


def bits(value: Any) -> bytes:
    return value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_model_is_read_to_the_bit(dtype, protocol, tmp_path: Path):
    state = collections.OrderedDict((name, value.to(dtype)) for name, value in STATE.items())
    state._metadata = STATE._metadata
    folder = write(tmp_path, state, pickle_protocol=protocol)
    found = quietly(lambda: read(folder / "pytorch_model.bin"))
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].shape == tuple(value.shape)
        assert str(found[name].dtype) == str(dtype).removeprefix("torch.")
        assert found[name].tobytes() == bits(value), name
    names = {weights.hugging_face_name(path, "bert")[0] for path in load(folder).params}
    assert {name: leaf.tobytes() for name, leaf in weights.read_as_filed(folder, "bert", names).items()} == {
        name: bits(state[name]) for name in names
    }


def load(folder: Path) -> weights.Pretrained:
    return weights.load(folder, read_config(folder), reference.output_names(2), seed=0)


def same(first: weights.Pretrained, second: weights.Pretrained) -> bool:
    pairs = [(first.params[path], second.params[path]) for path in second.params]
    return first[1:] == second[1:] and all((one == other).all() for one, other in pairs)


def test_parameters_are_those_of_safetensors(tmp_path: Path):
    expected = load(reference.save(MODEL, tmp_path / "safe"))
    assert same(load(write(tmp_path / "bin")), expected)
    parameters = {name: torch.nn.Parameter(value) for name, value in STATE.items()}
    assert same(load(write(tmp_path / "parameters", parameters)), expected)
    buffers = {"bert.embeddings.position_ids": torch.arange(40)[None], **STATE}
    assert same(load(write(tmp_path / "buffers", buffers)), expected)


BASE = torch.arange(60.0).reshape(6, 10)
VIEWS = {
    "transposed": BASE.T,
    "strided": BASE[1::2, ::3],
    "row": BASE[4],
    "column": BASE[:, 7],
    "part": BASE[2:4, 3:5],
    "scalar": BASE[3, 3],
    "permuted": BASE.reshape(3, 4, 5).permute(2, 0, 1),
    "one": BASE[:1, 9:],
    "empty": BASE[6:],
    "no_columns": torch.zeros(3, 0),
    "expanded": torch.ones(5, 1).as_strided((1, 2), (1, 0)),
    "overlapping": BASE.as_strided((5, 5), (1, 1)),
    "parameter": torch.nn.Parameter(BASE.T, requires_grad=False),
}


def test_views_and_shared_storages(tmp_path: Path):
    torch.save(VIEWS, tmp_path / "views.bin")
    with zipfile.ZipFile(tmp_path / "views.bin") as saved:
        assert len([name for name in saved.namelist() if "/data/" in name]) == 3
    for name, leaf in quietly(lambda: read(tmp_path / "views.bin")).items():
        assert leaf.shape == tuple(VIEWS[name].shape)
        assert leaf.flags.c_contiguous
        assert leaf.tobytes() == bits(VIEWS[name]), name


def test_integers_may_be_there_and_are_not_weights(tmp_path: Path):
    kinds = {
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
    whole = {name: torch.tensor([[1, 0], [1, 1]]).to(kind) for name, kind in kinds.items()}
    file = tmp_path / "whole.bin"
    torch.save(whole, file)
    for name, leaf in read(file).items():
        assert leaf.tobytes() == bits(whole[name])
        with pytest.raises(InputError) as caught:
            read_tensor(Place(file, name))
        assert str(caught.value) == f"{file}: {name} has type {name}; expected one of BF16, F16, F32, F64"


def index_of(folder: Path, places: dict[str, str]) -> None:
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


def test_sharded(tmp_path: Path):
    folder, names = write(tmp_path / "model"), list(STATE)
    expected = load(folder)
    (folder / "pytorch_model.bin").unlink()
    places = {name: f"pytorch_model-0000{1 + number % 2}-of-00002.bin" for number, name in enumerate(names)}
    for file in {*places.values()}:
        torch.save({name: STATE[name] for name in names if places[name] == file}, folder / file)
    index_of(folder, places)
    (folder / "training_args.bin").write_bytes(b"not read")
    assert same(load(folder), expected)
    assert [file.name for file in weights_files(folder)] == [
        "pytorch_model.bin.index.json",
        *sorted({*places.values()}),
    ]
    index_of(folder, places | {names[0]: "training_args.safetensors"})
    (folder / "training_args.safetensors").touch()
    with pytest.raises(InputError, match=r"'training_args.safetensors'; expected files that end in \.bin$"):
        load(folder)


def test_safetensors_come_first(tmp_path: Path):
    folder = reference.save(MODEL, write(tmp_path, {"wrong": torch.ones(1)}))
    assert {place.file.name for _, place in tensors(folder)} == {"model.safetensors"}
    assert [file.name for file in weights_files(folder)] == ["model.safetensors"]


def test_forms_before_pytorch_1_6_are_refused(tmp_path: Path):
    folder = write(tmp_path, _use_new_zipfile_serialization=False)
    assert error_of(folder / "pytorch_model.bin") == (
        "expected the zip form that torch.save has since PyTorch 1.6; where PyTorch is installed, convert it once with "
        "`torch.save(torch.load(FILE, map_location='cpu', weights_only=True), FILE)`"
    )


@pytest.mark.parametrize("kept", [0, 3, 2000, -1])
def test_a_file_that_was_cut_off(kept, tmp_path: Path):
    file = write(tmp_path) / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:kept])
    start = "expected the zip form" if kept == 0 else "not a whole file of torch.save ("
    assert error_of(file).startswith(start)


def test_a_changed_file_is_read_again(tmp_path: Path):
    file = archive(tmp_path / "x.bin", state_dict(a=tensor()))
    np.testing.assert_array_equal(read(file)["a"], SIX.reshape(2, 3))
    archive(file, state_dict(b=tensor(0, (3, 2), (1, 3))))
    np.testing.assert_array_equal(read(file)["b"], SIX.reshape(2, 3).T)


# Archives.

SOUND = state_dict(a=tensor())


def zipped(file: Path, *members: tuple[str, bytes], **how: Any) -> Path:
    twice = len({*members}) < len(members)
    warns = pytest.warns(UserWarning, match="Duplicate name") if twice else contextlib.nullcontext()
    with warns, zipfile.ZipFile(file, "w", **how) as out:
        for key, value in members:
            out.writestr(key, value)
    return file


PICKLE, DATA = ("x/data.pkl", SOUND), ("x/data/0", SIX.tobytes())
ONE = "members NAME/data.pkl, expected one of at most 16,777,216 bytes"
ARCHIVES = {
    "no pickle": ([DATA], f"0 {ONE}"),
    "two pickles": ([PICKLE, DATA, ("y/data.pkl", SOUND)], f"2 {ONE}"),
    "a huge pickle": ([("x/data.pkl", b"(" * 2**25), DATA], f"1 {ONE}"),
    "a storage twice": ([PICKLE, DATA, DATA], "two members are called 'x/data/0'"),
    "another folder": ([PICKLE, DATA, ("y/data/1", b"")], "the member 'y/data/1' is not of the folder 'x'"),
    "an absolute path": ([PICKLE, DATA, ("/etc/passwd", b"")], "the member '/etc/passwd' is not of the folder 'x'"),
    "a path that leaves": ([PICKLE, DATA, ("x/../../y", b"")], "the member 'x/../../y' is not of the folder 'x'"),
    "a folder": ([PICKLE, DATA, ("x/data/", b"")], "the member 'x/data/' is not of the folder 'x'"),
    "big-endian": ([PICKLE, DATA, ("x/byteorder", b"big")], "its byte order is not little"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_that_torch_does_not_write(case, tmp_path: Path):
    members, reason = ARCHIVES[case]
    file = zipped(tmp_path / "x.bin", *members)
    assert quietly(lambda: error_of(file)) == PLAIN.format(reason)


def test_compressed_members(tmp_path: Path):
    file = zipped(tmp_path / "x.bin", PICKLE, ("x/data/0", b"\0" * 24), compression=zipfile.ZIP_DEFLATED)
    assert error_of(file) == PLAIN.format("the member 'x/data.pkl' is compressed or encrypted")


def changed(file: Path, *changes: tuple[int, bytes]) -> Path:
    """Other bytes at places in the file; negative: from the entry of the directory that begins last."""
    content = bytearray(file.read_bytes())
    entry = content.rfind(b"PK\1\2")
    for place, new in changes:
        place = entry - place if place < 0 else place
        content[place : place + len(new)] = new
    file.write_bytes(content)
    return file


NOT_WHOLE = "not a whole file of torch.save ({}); fetch it again"
ELSEWHERE = NOT_WHOLE.format("a member is not where the directory says")


@pytest.mark.parametrize(
    "changes, message",
    [
        ([(-8, b"\1\0")], PLAIN.format("the member 'x/data/0' is compressed or encrypted")),  # the flags
        ([(-10, b"\x08\0")], PLAIN.format("the member 'x/data/0' is compressed or encrypted")),  # the method
        ([(-8, b"\x40\0")], PLAIN.format("the member 'x/data/0' is compressed or encrypted")),
        ([(-20, b"\5\0\0\0")], PLAIN.format("the member 'x/data/0' is compressed or encrypted")),  # its sizes differ
        ([(-20, b"\xff\xff\0\0" * 2)], PLAIN.format("the member 'x/data/0' overlaps what follows or precedes it")),
        ([(-42, b"\0\0\0\0")], ELSEWHERE),
        ([(-42, b"\xff\xff\0\0")], NOT_WHOLE.format("unpack requires a buffer of 30 bytes")),
        ([(60, b"X")], NOT_WHOLE.format("Bad CRC-32 for file 'x/data.pkl'")),
        ([(0, b"XX")], "expected the zip form that torch.save has since PyTorch 1.6; " + torch_file.CONVERT),
        ([(2, b"XX")], ELSEWHERE),
    ],
)  # fmt: skip
def test_directories_that_lie(changes, message, tmp_path: Path):
    file = changed(zipped(tmp_path / "x.bin", PICKLE, DATA), *changes)
    assert quietly(lambda: error_of(file)) == message


def test_members_that_share_bytes(tmp_path: Path):
    """A second member inside the first one: more tensors than the file has bytes for, if there are many of them."""
    member = zipped(tmp_path / "inner", ("x/data/1", b"\0" * 64)).read_bytes()[: 30 + 8 + 64]
    file = zipped(tmp_path / "x.bin", PICKLE, ("x/data/0", member), ("x/data/1", b"\0" * 64))
    changed(file, (-42, struct.pack("<I", file.read_bytes().index(member))))
    assert error_of(file) == PLAIN.format("the member 'x/data/1' overlaps what follows or precedes it")


def test_a_huge_directory_is_not_read(tmp_path: Path):
    file = tmp_path / "x.bin"
    size = torch_file.MOST_BYTES + 1
    with file.open("wb") as out:
        out.write(b"PK")
        out.truncate(size)
        out.seek(size)
        out.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0))
    assert error_of(file) == f"not a whole file of torch.save (a directory of {size:,} bytes); fetch it again"


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch):
    file = archive(tmp_path / "x.bin", SOUND)
    found = torch_file._listed(file)
    file.write_bytes(file.read_bytes()[:100])
    monkeypatch.setattr(torch_file, "_listed", lambda file: found)
    with pytest.raises(InputError, match="became shorter while it was read; fetch it again"):
        torch_file.read_tensor(file, "a")
