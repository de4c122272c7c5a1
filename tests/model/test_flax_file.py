"""`flax_model.msgpack`: the tensors of Flax models under PyTorch's names, one array at a time; all else refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import serialization

from jaxfreeze.errors import InputError
from jaxfreeze.model import flax_file, weights
from jaxfreeze.model.files import Place, read_tensor, tensors, weights_files
from jaxfreeze.model.hub import read_config
from tests import reference
from tests.families import FAMILIES
from tests.test_fuzz import damaged


def nested(state: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's tensors as a Flax model of transformers holds them."""
    top: dict[str, Any] = {}
    for name, value in state.items():
        leaf = value.numpy()
        *modules, last = name.split(".")
        if last == "weight":
            norm, embedding = "LayerNorm" in modules, "embeddings" in modules
            last = "scale" if norm else "embedding" if embedding else "kernel"
            leaf = leaf.T if last == "kernel" else leaf
        inner = top
        for module in modules:
            inner = inner.setdefault(module, {})
        inner[last] = leaf
    return top


def write(folder: Path, model: Any, content: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder)
    (folder / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(content))
    return folder


def load(folder: Path) -> weights.Pretrained:
    return weights.load(folder, read_config(folder), reference.output_names(3), seed=0)


@pytest.mark.parametrize("family", sorted({"bert", "roberta"} & {*FAMILIES}))
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_flax_model_is_the_same_model(family, dtype, tmp_path: Path):
    torch = reference.pytorch()
    model = reference.hugging_face_model(family).to(getattr(torch, dtype))
    expected = load(reference.save(model, tmp_path / "safe"))
    state = {name: value.float() for name, value in model.state_dict().items()}
    content = {name: value.numpy().astype(np.dtype(serialization._dtype_from_name(dtype.encode())))
               for name, value in state.items()}  # fmt: skip
    folder = write(tmp_path / "flax", model, nested({name: _Numpy(value) for name, value in content.items()}))
    found = load(folder)
    assert found[1:] == expected[1:]
    for path, leaf in expected.params.items():
        np.testing.assert_array_equal(found.params[path], leaf, err_msg=path)
    names = [weights.hugging_face_name(path, family)[0] for path in expected.params]
    theirs = weights.read_as_filed(tmp_path / "safe", family, names)
    for name, leaf in weights.read_as_filed(folder, family, names).items():
        assert (leaf.dtype, leaf.shape, leaf.tobytes()) == (
            theirs[name].dtype,
            theirs[name].shape,
            theirs[name].tobytes(),
        )
    assert [file.name for file in weights_files(folder)] == ["flax_model.msgpack"]


class _Numpy:
    """An array that `nested` takes for a tensor."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def numpy(self) -> np.ndarray:
        return self.value


SIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def file_of(folder: Path, content: Any) -> Path:
    file = folder / "flax_model.msgpack"
    file.write_bytes(content if isinstance(content, bytes) else serialization.msgpack_serialize(content))
    return file


def read(file: Path) -> dict[str, np.ndarray]:
    return {name: read_tensor(Place(file, name)) for name in flax_file.tensor_names(file)}


def test_only_kernels_are_transposed_and_long_maps_are_read(tmp_path: Path):
    many = {f"layer_{number}": {"kernel": SIX, "bias": SIX[0], "scale": SIX, "embedding": SIX} for number in range(300)}
    many["layer_8"]["model"] = SIX
    many["n" * 40] = {"kernel": np.zeros((70_000, 1), np.float32), "bias": np.zeros((), np.float32)}
    file = file_of(tmp_path, many)
    found = {name: read_tensor(place) for name, place in tensors(tmp_path)}
    assert len(found) == 603
    np.testing.assert_array_equal(found["layer_299.weight"], SIX)  # the last of three of that name: an embedding
    assert found[f"{'n' * 40}.weight"].shape == (1, 70_000)
    assert found[f"{'n' * 40}.bias"].shape == ()
    np.testing.assert_array_equal(read(file)["layer_7/kernel"], SIX.T)
    np.testing.assert_array_equal(read(file)["layer_7/scale"], SIX)
    np.testing.assert_array_equal(read(file)["layer_8/model"], SIX)


def test_flax_is_read_only_where_nothing_else_is(tmp_path: Path):
    model = reference.hugging_face_model("bert")
    reference.save(model, write(tmp_path, model, {"wrong": SIX}))
    assert {place.file.name for _, place in tensors(tmp_path)} == {"model.safetensors"}


PACKED = serialization.msgpack_serialize({"a": SIX})
NOT_WHOLE = "not a whole file of a Flax model ({}); fetch it again"


OTHERS = [
    (b"", NOT_WHOLE.format("cannot mmap an empty file")),
    (b"\x93\1\2\3", NOT_WHOLE.format("it does not begin with a map")),
    (PACKED[:-1], NOT_WHOLE.format("it ends early")),
    (PACKED[:1], NOT_WHOLE.format("mmap index out of range")),
    (PACKED + b"\0", NOT_WHOLE.format("there is something behind its last array")),
    ({"a": [SIX]}, NOT_WHOLE.format("expected an array or a map at byte 3")),
    ({"a": 1}, NOT_WHOLE.format("expected an array or a map at byte 3")),
    (b"\x81\1" + PACKED[3:], NOT_WHOLE.format("expected the name of an array at byte 1")),
    ({"a/b": SIX}, NOT_WHOLE.format("expected the name of an array at byte 1")),
    ({"": SIX}, NOT_WHOLE.format("expected the name of an array at byte 1")),
    ({"\x1b[2J": SIX}, NOT_WHOLE.format("expected the name of an array at byte 1")),
    ({"a" * 1001: SIX}, NOT_WHOLE.format("expected the name of an array at byte 1")),
    (b"\x81\xa1a" * 100_000, NOT_WHOLE.format("expected the name of an array at byte 49")),
    (b"\x82" + PACKED[1:] * 2, NOT_WHOLE.format("a is there twice, or there are more than 20,000 arrays")),
    (b"\xdf\xff\xff\xff\xff" + PACKED[1:], NOT_WHOLE.format("mmap index out of range")),
    (b"\x81\xa1a\xd4\2\0", "a does not read"),
    (b"\x81\xa1a\xd4\5\0", "a is no array; expected what Flax models of transformers are saved as"),
    ({"a": np.float32(1)}, "a is no array; expected what Flax models of transformers are saved as"),
    ({"a": SIX.astype(np.int32)}, "a has type I32; expected one of BF16, F16, F32, F64"),
    ({"a": SIX.astype(np.complex64)}, "a has type complex64; expected one of BF16, F16, F32, F64"),
]  # fmt: skip


@pytest.mark.parametrize("content, message", OTHERS, ids=range(len(OTHERS)))
def test_other_files_are_refused(content, message, tmp_path: Path):
    file = file_of(tmp_path, content)
    with pytest.raises(InputError, match=f"^{re.escape(f'{file}: {message}')}") as caught:
        read(file)
    assert str(caught.value).isprintable()


def test_damaged_files(tmp_path: Path):
    random, refused = np.random.default_rng(0), 0
    sound = serialization.msgpack_serialize(
        {"a": {"kernel": SIX, "bias": SIX[0]}, "b": {"scale": SIX.astype(np.float16)}}
    )
    for _ in range(3000):
        file = file_of(tmp_path, damaged(sound, random))
        try:
            assert all(leaf.nbytes < 200 for leaf in read(file).values())
        except InputError:
            refused += 1
        file.unlink()
    assert 300 < refused < 3000
