"""Hugging Face weights <-> parameter tree: the family's table of names, used in both directions, strict in both."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxfreeze.errors import InputError
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families import family_of
from jaxfreeze.model.family import Family
from jaxfreeze.model.hub import read_json

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}  # a kernel is transposed
FLOATS = {"F32", "F16", "BF16", "F64"}


class Pretrained(NamedTuple):
    """Parameters as loaded, and which of them no file held."""

    params: dict[str, np.ndarray]  # float32, path -> leaf
    fresh: tuple[str, ...]  # paths that were drawn at random: some or all of the head


def hugging_face_name(path: str, model_type: str) -> tuple[str, bool]:
    """Parameter path -> (name in the file of a classifier, whether the array lies transposed there)."""
    module, leaf = path.rsplit(".", 1)
    for theirs, ours in family_of(model_type).names:
        match = re.fullmatch(re.escape(ours).replace(r"\*", r"(\d+)"), module)
        if match:
            return f"{theirs.replace('*', ''.join(match.groups()))}.{LEAVES[leaf]}", leaf == "kernel"
    raise KeyError(path)


def load(folder: Path, config: EncoderConfig, num_outputs: int, seed: int) -> Pretrained:
    """Read every parameter of a classifier from a folder's safetensors, one file or sharded.

    The file may hold the bare encoder (no prefix), a pre-training model, or a classifier. Only head parameters may be
    missing, or shaped for another number of classes: those are drawn from N(0, 0.02), biases 0, as Hugging Face does.
    Raises InputError that lists every missing, surplus or misshapen name.
    """
    family, shapes = family_of(config.model_type), Column(config, num_outputs).shapes()
    names = {path: hugging_face_name(path, config.model_type) for path in shapes}
    found = _places(folder, family)
    _check_names(folder, config, {path: name for path, (name, _) in names.items()}, found)
    present, output = dict(found), f"{family.output}."
    params: dict[str, np.ndarray] = {}
    misshapen: list[str] = []
    for path, (name, transposed) in names.items():
        if name not in present:
            continue
        leaf = _finite_float32(*present[name])
        wanted = shapes[path].shape[::-1] if transposed else shapes[path].shape
        if leaf.shape == wanted:
            params[path] = np.ascontiguousarray(leaf.T) if transposed else leaf
        elif not path.startswith(output) or leaf.shape[1:] != wanted[1:]:  # one for other classes is drawn afresh
            misshapen.append(f"{name} is {list(leaf.shape)}, expected {list(wanted)}")
    if misshapen:
        raise InputError(f"{folder}: shapes do not agree with config.json: {'; '.join(misshapen)}")
    if any(path.startswith(output) and path not in params for path in shapes):
        params = {path: leaf for path, leaf in params.items() if not path.startswith(output)}
    fresh = tuple(path for path in shapes if path not in params)
    params |= draw({path: shapes[path].shape for path in fresh}, seed)
    return Pretrained({path: params[path] for path in shapes}, fresh)


def read_as_filed(folder: Path, model_type: str, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the named tensors that a folder holds, each in the type and with the bits of its file.

    names: as a classifier's file has them, in the argument and in the result; the folder may have other names for them.
    """
    present = dict(_places(folder, family_of(model_type)))
    return {name: _read(*present[name]) for name in names if name in present}


def read_file(file: Path) -> dict[str, np.ndarray]:
    """Every tensor of one safetensors file, in its type. Raises InputError if the file is not whole."""
    return {name: _read(file, name) for name in _tensor_names(file)}


def _check_names(
    folder: Path, config: EncoderConfig, names: dict[str, str], found: list[tuple[str, tuple[Path, str]]]
) -> None:
    """Fail on surplus names, two names of one parameter among them, and on missing ones outside the head."""
    skipped, present = family_of(config.model_type).skipped, dict(found)
    surplus = [
        place[1]
        for name, place in found
        if present[name] != place or (name not in names.values() and not skipped.fullmatch(name))
    ]
    missing = [name for path, name in names.items() if name not in present and not path.startswith("head.")]
    lists = [f"{title}: {', '.join(sorted(n))}" for title, n in (("missing", missing), ("surplus", surplus)) if n]
    if lists:
        raise InputError(
            f"{folder}: these are not the weights of a {config.model_type} encoder or classifier with "
            f"{config.num_hidden_layers} layers, as its config.json says; {'; '.join(lists)}"
        )


def _canonical(name: str, family: Family) -> str:
    """A name as a classifier's file would have it: today's names, and the encoder's prefix."""
    for pattern, today in family.old_names:
        name = pattern.sub(today, name)
    parts = {theirs.split(".")[1] for theirs, _ in family.names if theirs.startswith(f"{family.base}.")}
    return f"{family.base}.{name}" if name.split(".")[0] in parts else name


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Fresh head parameters, float32: N(0, 0.02), biases 0."""
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {
        path: np.zeros(shape, np.float32)
        if path.endswith(".bias")
        else np.asarray(0.02 * jax.random.normal(key, shape, jnp.float32))
        for key, (path, shape) in zip(keys, sorted(shapes.items()), strict=True)
    }


def _places(folder: Path, family: Family) -> list[tuple[str, tuple[Path, str]]]:
    """(name as in a classifier's file, (file, name there)) of every tensor of a folder."""
    return [(_canonical(name, family), (file, name)) for name, file in _index(folder)]


def _index(folder: Path) -> Iterator[tuple[str, Path]]:
    """(tensor name, file) for every tensor of a folder, checked against the files themselves."""
    single, sharded = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        yield from ((name, single) for name in _tensor_names(single))
        return
    if not sharded.is_file():
        pickle = next(iter(sorted(folder.glob("*.bin"))), None)
        convert = (
            f"; {pickle.name} is a pickle, which can run code and is not read: convert it once with "
            "`AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)` where PyTorch is installed"
            if pickle
            else ""
        )
        raise InputError(f"{folder}: no model.safetensors and no model.safetensors.index.json{convert}")
    weight_map = read_json(sharded).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{sharded}: expected an object 'weight_map' from tensor name to file name")
    for file_name in sorted({str(name) for name in weight_map.values()}):
        file = folder / file_name
        if Path(file_name).name != file_name or not file.is_file():
            raise InputError(f"{sharded}: names the file '{file_name}', which is not in the folder")
        held = set(_tensor_names(file))
        absent = sorted(name for name, where in weight_map.items() if where == file_name and name not in held)
        if absent:
            raise InputError(f"{file}: holds no {', '.join(absent)}, which {sharded.name} promises")
        yield from ((name, file) for name in held if weight_map.get(name, file_name) == file_name)


def _tensor_names(file: Path) -> list[str]:
    try:
        with safe_open(file, "np") as tensors:
            return list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a whole safetensors file ({error}); fetch it again") from error


def _finite_float32(file: Path, name: str) -> np.ndarray:
    """One tensor as float32; finite values only."""
    leaf = _read(file, name).astype(np.float32)
    if not np.isfinite(leaf).all():
        raise InputError(f"{file}: {name} holds NaN or infinite values; fetch or make the file again")
    return leaf


def _read(file: Path, name: str) -> np.ndarray:
    """One tensor in its own type, a float."""
    with safe_open(file, "np") as tensors:
        dtype = tensors.get_slice(name).get_dtype()
        if dtype not in FLOATS:
            raise InputError(f"{file}: {name} has type {dtype}; expected one of {', '.join(sorted(FLOATS))}")
        return tensors.get_tensor(name)
