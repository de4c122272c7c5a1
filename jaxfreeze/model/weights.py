"""Hugging Face weights <-> parameter tree: the family's table of names, used in both directions, strict in both."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxfreeze.errors import InputError, listed
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families import family_of
from jaxfreeze.model.family import Family
from jaxfreeze.model.files import Place, read_finite_float32, read_json, read_tensor, tensor_names, tensors
from jaxfreeze.model.head_classes import Match, match

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}  # a kernel is transposed

Tensors = dict[str, np.ndarray]
Shapes = Mapping[str, jax.ShapeDtypeStruct]


class Pretrained(NamedTuple):
    """Parameters as loaded, and which of them are not as a file has them."""

    params: Tensors  # float32, path -> leaf
    fresh: tuple[str, ...]  # paths that were drawn at random: some or all of the head
    reordered: tuple[str, ...]  # paths whose outputs lie in another order in the file
    notes: tuple[str, ...]  # lines for a person: what was drawn, reordered or left aside, and why


def hugging_face_name(path: str, model_type: str, by_token: bool = False) -> tuple[str, bool]:
    """Parameter path -> (name in the file of a classifier, whether the array lies transposed there)."""
    module, leaf = path.rsplit(".", 1)
    for theirs, ours in family_of(model_type, by_token).names:
        found = re.fullmatch(re.escape(ours).replace(r"\*", r"(\d+)"), module)
        if found:
            return f"{theirs.replace('*', ''.join(found.groups()))}.{LEAVES[leaf]}", leaf == "kernel"
    raise KeyError(path)


def load(folder: Path, config: EncoderConfig, outputs: Sequence[str], seed: int, by_token: bool = False) -> Pretrained:
    """Read every parameter of a classifier from a folder's weights, in any of the forms that files.SOURCES lists.

    outputs: the names of the head's C outputs, in id order. The file may hold the bare encoder (no prefix), a model for
    another task, whose head is left aside, or a classifier. Head parameters may be missing, and those that give the
    outputs may be for other classes than these, by the names in config.json: those are drawn as `draw` does.
    by_token: whether the classifier is one of tokens. Raises InputError that lists the missing, surplus and misshapen
    names of the encoder.
    """
    family = family_of(config.model_type, by_token)
    shapes = Column(config, len(outputs), by_token=by_token).shapes()
    names = {path: hugging_face_name(path, config.model_type, by_token) for path in shapes}
    found = _places(folder, family)
    others = _check_names(folder, config, family, {path: name for path, (name, _) in names.items()}, found)
    output = [path for path in shapes if path.startswith(f"{family.output}.")]
    params = _read(folder, shapes, names, dict(found), output)
    absent = [path for path in shapes if path not in params]
    head = _match(params, output, read_json(folder / "config.json"), outputs, by_token)
    filed = {path: params.pop(path) for path in output if path in params}
    if head.rows:
        params |= {path: np.ascontiguousarray(leaf[..., head.rows]) for path, leaf in filed.items()}
    fresh = tuple(path for path in shapes if path not in params)
    params |= draw({path: shapes[path].shape for path in fresh}, seed)
    notes = [" ".join(head.line.split())] if head.line else []  # whatever the names of the classes hold
    if others:
        heads = listed(dict.fromkeys(name.split(".")[0] for name in others))
        notes.append(f"not used, heads of other tasks: {heads} (tensors: {len(others):,})")
    if absent:
        notes.append(f"drawn at random, not in the pretrained files: {', '.join(absent)}")
    reordered = tuple(filed) if head.rows != sorted(head.rows) else ()
    return Pretrained({path: params[path] for path in shapes}, fresh, reordered, tuple(notes))


def read_as_filed(folder: Path, model_type: str, names: Collection[str]) -> Tensors:
    """Those of the named tensors that a folder holds, each in the type and with the bits of its file.

    names: as a classifier's file has them, in the argument and in the result; the folder may have other names for them.
    """
    present = dict(_places(folder, family_of(model_type)))
    return {name: read_tensor(present[name]) for name in names if name in present}


def read_file(file: Path) -> Tensors:
    """Every tensor of one file of weights, in its type. Raises InputError if the file is not whole."""
    return {name: read_tensor(Place(file, name)) for name in tensor_names(file)}


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Tensors:
    """Fresh head parameters, float32: N(0, 0.02), biases 0, scales 1, as Hugging Face does."""
    constants = {"bias": 0.0, "scale": 1.0}
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    params: Tensors = {}
    for key, (path, shape) in zip(keys, sorted(shapes.items()), strict=True):
        constant = constants.get(path.rsplit(".", 1)[-1])
        params[path] = (
            np.asarray(0.02 * jax.random.normal(key, shape, jnp.float32))
            if constant is None
            else np.full(shape, constant, np.float32)
        )
    return params


def _places(folder: Path, family: Family) -> list[tuple[str, Place]]:
    """(name as in a classifier's file, place) of every tensor of a folder."""
    found = [(_canonical(name, family), place) for name, place in tensors(folder)]
    places = dict(found)
    tied = [(name, places[other]) for name, other in family.tied if name not in places and other in places]
    return found + tied


def _canonical(name: str, family: Family) -> str:
    """A name as a classifier's file would have it: today's names, and the encoder's prefix."""
    for pattern, today in family.old_names:
        name = pattern.sub(today, name)
    whole = (*(theirs for theirs, _ in family.names), *family.carried)
    parts = {theirs.split(".")[1] for theirs in whole if theirs.startswith(f"{family.base}.")}
    return f"{family.base}.{name}" if name.split(".")[0] in parts else name


def _check_names(
    folder: Path, config: EncoderConfig, family: Family, names: Mapping[str, str], found: list[tuple[str, Place]]
) -> list[str]:
    """The names outside the encoder that the classifier has no use for: heads of other tasks.

    Raises InputError for surplus names in the encoder, two names of one parameter among them, and for missing ones.
    """
    present, wanted = dict(found), set(names.values())
    used = {place for name, place in present.items() if name in wanted}
    surplus: list[str] = []
    others: list[str] = []
    for name, place in found:
        if name.startswith(f"{family.base}.") or name in wanted:
            unwanted = name not in wanted and not family.skipped.fullmatch(name)
            surplus += [place.name] if unwanted or present[name] != place else []
        elif place not in used and not family.skipped.fullmatch(name):
            others.append(place.name)
    missing = [name for path, name in names.items() if name not in present and not path.startswith("head.")]
    if missing or surplus:
        titles = {"missing": missing, "surplus": surplus, "outside the encoder": others if missing else []}
        lists = [f"{title}: {listed(sorted(some))}" for title, some in titles.items() if some]
        raise InputError(
            f"{folder}: these are not the weights of a {config.model_type} encoder with {config.num_hidden_layers} "
            f"layers, as its config.json says; {'; '.join(lists)}"
        )
    return others


def _read(
    folder: Path,
    shapes: Shapes,
    names: Mapping[str, tuple[str, bool]],
    present: Mapping[str, Place],
    output: Collection[str],
) -> Tensors:
    """The parameters that are there, each of its shape, or among `output` for another number of outputs."""
    params: Tensors = {}
    misshapen: list[str] = []
    for path, (name, transposed) in names.items():
        if name not in present:
            continue
        leaf = read_finite_float32(present[name])
        params[path] = np.ascontiguousarray(leaf.T) if transposed else leaf
        found, expected = params[path].shape, shapes[path].shape
        if found != (expected[:-1] + found[-1:] if path in output and found else expected):
            as_filed = [list(shape[::-1] if transposed else shape) for shape in (found, expected)]
            misshapen.append("{} is {} instead of {}".format(name, *as_filed))
    if misshapen:
        raise InputError(f"{folder}: shapes do not agree with config.json: {listed(misshapen)}")
    return params


def _match(
    params: Tensors, output: Collection[str], raw: Mapping[str, Any], outputs: Sequence[str], by_token: bool
) -> Match:
    """What becomes of the file's head."""
    widths = [params[path].shape[-1] for path in output if path in params]
    if not widths:
        return Match([], "")
    if len(widths) < len(output) or len(set(widths)) > 1:
        return Match([], "head drawn at random: the file's is incomplete")
    return match(raw, outputs, widths[0], by_token)
