"""The files of a model folder: JSON objects, and the tensors of its safetensors, one file or sharded."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxfreeze.errors import InputError, listed
from jaxfreeze.fetched import check_fetched

FLOATS = {"F32", "F16", "BF16", "F64"}
WRAPPERS = re.compile(r"^((module|model|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
"""What DataParallel, a Lightning module and torch.compile put in front of the names of what they hold."""


class Place(NamedTuple):
    """Where a tensor lies."""

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


def tensors(folder: Path) -> list[tuple[str, Place]]:
    """(name, place) of every tensor of a folder's safetensors, checked against the files themselves.

    A wrapper's prefix is taken off the names. A tensor that `safetensors.torch.save_model` left out because
    it is tied to another has that one's place, as the file's metadata says. Raises InputError for files that are not
    whole or not there.
    """
    found = list(_filed(folder))
    names, places = {name for name, _ in found}, {place for _, place in found}
    for file in dict.fromkeys(place.file for _, place in found):
        for left_out, kept in _metadata(file).items():
            if left_out not in names and Place(file, kept) in places:
                found.append((left_out, Place(file, kept)))
    return [(WRAPPERS.sub("", name), place) for name, place in found]


def tensor_names(file: Path) -> list[str]:
    """The names in one safetensors file. Raises InputError if it is not whole."""
    check_fetched(file)
    try:
        with safe_open(file, "np") as content:
            return list(content.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a whole safetensors file ({error}); fetch it again") from error


def read_tensor(place: Place) -> np.ndarray:
    """One tensor in its own type, a float."""
    with safe_open(place.file, "np") as content:
        dtype = content.get_slice(place.name).get_dtype()
        if dtype not in FLOATS:
            raise InputError(
                f"{place.file}: {place.name} has type {dtype}; expected one of {', '.join(sorted(FLOATS))}"
            )
        return content.get_tensor(place.name)


def read_finite_float32(place: Place) -> np.ndarray:
    """One tensor as float32; finite values only."""
    leaf = read_tensor(place).astype(np.float32)
    if not np.isfinite(leaf).all():
        raise InputError(f"{place.file}: {place.name} holds NaN or infinite values; fetch or make the file again")
    return leaf


def _filed(folder: Path) -> Iterator[tuple[str, Place]]:
    """(name in its file, place) of every tensor that is in a file."""
    single, sharded = folder / "model.safetensors", folder / "model.safetensors.index.json"
    check_fetched(single)
    check_fetched(sharded)
    if single.is_file():
        yield from ((name, Place(single, name)) for name in tensor_names(single))
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
        if Path(file_name).name != file_name:
            raise InputError(f"{sharded}: names the file '{file_name}', which is not in the folder")
        check_fetched(file)
        if not file.is_file():
            raise InputError(f"{sharded}: names the file '{file_name}', which is not in the folder")
        held = set(tensor_names(file))
        absent = sorted(name for name, where in weight_map.items() if where == file_name and name not in held)
        if absent:
            raise InputError(f"{file}: holds no {listed(absent)}, which {sharded.name} promises")
        yield from ((name, Place(file, name)) for name in held if weight_map.get(name, file_name) == file_name)


def _metadata(file: Path) -> dict[str, str]:
    with safe_open(file, "np") as content:
        return content.metadata() or {}
