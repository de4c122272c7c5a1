"""The files of a model folder: JSON objects, and the tensors of its weights, in one file or sharded."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxfreeze.errors import InputError, listed
from jaxfreeze.fetched import check_fetched
from jaxfreeze.model import flax_file, torch_file

SAFETENSORS, TORCH, FLAX = "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"
INDEX = ".index.json"
SOURCES = (SAFETENSORS, SAFETENSORS + INDEX, TORCH, TORCH + INDEX, FLAX)
"""What may hold a folder's weights. The first that is there does."""
FLOATS = {"F32", "F16", "BF16", "F64"}
WRAPPERS = re.compile(r"^((module|model|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
"""What DataParallel, a Lightning module and torch.compile put in front of the names of what they hold."""


class Place(NamedTuple):
    """Where a tensor lies. The file's ending tells its format: .safetensors, .bin (PyTorch) or .msgpack (Flax)."""

    file: Path
    name: str  # in the file


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; anything else is an InputError that names the file."""
    check_fetched(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; a Hugging Face model folder holds it")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def source_of(folder: Path) -> Path | None:
    """The one of SOURCES that holds a folder's weights, or None. Raises InputError if it was not fetched."""
    for name in SOURCES:
        check_fetched(folder / name)
        if (folder / name).is_file():
            return folder / name
    return None


def weights_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights, the index of sharded ones among them, as far as they are there."""
    source = source_of(folder)
    if source is None or source.suffix != ".json":
        return [source] if source else []
    return [source, *(folder / name for name in sorted({*_weight_map(source).values()}) if (folder / name).is_file())]


def tensors(folder: Path) -> list[tuple[str, Place]]:
    """(name, place) of every tensor of a folder, checked against the files themselves; names as PyTorch has them.

    A wrapper's prefix is taken off the names. A tensor that `safetensors.torch.save_model` left out because
    it is tied to another has that one's place, as the file's metadata says. Raises InputError for files that are
    incomplete or missing.
    """
    found = list(_filed(folder))
    names, places = {name for name, _ in found}, {place for _, place in found}
    for file in dict.fromkeys(place.file for _, place in found):
        for left_out, kept in _metadata(file).items():
            if left_out not in names and Place(file, kept) in places:
                found.append((left_out, Place(file, kept)))
    return [(WRAPPERS.sub("", name), place) for name, place in found]


def tensor_names(file: Path) -> list[str]:
    """The names in one file of weights. Raises InputError if it is not whole."""
    check_fetched(file)
    if file.suffix == ".bin":
        return torch_file.tensor_names(file)
    if file.suffix == ".msgpack":
        return flax_file.tensor_names(file)
    try:
        with safe_open(file, "np") as content:
            return list(content.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a whole safetensors file ({error}); fetch it again") from error


def read_tensor(place: Place) -> np.ndarray:
    """One tensor in its own type, a float, laid out as PyTorch does."""
    if place.file.suffix == ".bin":
        _check_float(place, torch_file.tensor_type(*place))
        return torch_file.read_tensor(*place)
    if place.file.suffix == ".msgpack":
        leaf = flax_file.read_tensor(*place)
        _check_float(place, torch_file.type_of(leaf.dtype))
        return leaf
    with safe_open(place.file, "np") as content:
        _check_float(place, content.get_slice(place.name).get_dtype())
        return content.get_tensor(place.name)


def read_finite_float32(place: Place) -> np.ndarray:
    """One tensor as float32; finite values only."""
    leaf = read_tensor(place).astype(np.float32)
    if not np.isfinite(leaf).all():
        raise InputError(f"{place.file}: {place.name} holds NaN or infinite values; fetch or make the file again")
    return leaf


def _check_float(place: Place, dtype: str) -> None:
    if dtype not in FLOATS:
        raise InputError(f"{place.file}: {place.name} has type {dtype}; expected one of {', '.join(sorted(FLOATS))}")


def _filed(folder: Path) -> Iterator[tuple[str, Place]]:
    """(name as PyTorch has it, place) of every tensor that is in a file."""
    source = source_of(folder)
    if source is None:
        raise InputError(f"{folder}: no weights; expected one of {', '.join(SOURCES)}")
    if source.suffix == ".json":
        yield from _sharded(folder, source)
        return
    for name in tensor_names(source):
        yield flax_file.pytorch_name(name) if source.suffix == ".msgpack" else name, Place(source, name)


def _sharded(folder: Path, index: Path) -> Iterator[tuple[str, Place]]:
    """(name, place) of every tensor in the files that an index names, which have the same format."""
    weight_map, suffix = _weight_map(index), Path(index.name.removesuffix(INDEX)).suffix
    for file_name in sorted({*weight_map.values()}):
        file = folder / file_name
        if Path(file_name).name != file_name:
            raise InputError(f"{index}: names the file '{file_name}', which is not in the folder")
        check_fetched(file)
        if not file.is_file():
            raise InputError(f"{index}: names the file '{file_name}', which is not in the folder")
        if file.suffix != suffix:
            raise InputError(f"{index}: names the file '{file_name}'; expected files that end in {suffix}")
        held = set(tensor_names(file))
        absent = sorted(name for name, where in weight_map.items() if where == file_name and name not in held)
        if absent:
            raise InputError(f"{file}: holds no {listed(absent)}, which {index.name} promises")
        yield from ((name, Place(file, name)) for name in held if weight_map.get(name, file_name) == file_name)


def _weight_map(index: Path) -> dict[str, str]:
    """Name of a tensor -> name of its file, as an index says."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: expected an object 'weight_map' from tensor name to file name")
    return {name: str(file_name) for name, file_name in weight_map.items()}


def _metadata(file: Path) -> dict[str, str]:
    if file.suffix != ".safetensors":
        return {}
    with safe_open(file, "np") as content:
        return content.metadata() or {}
