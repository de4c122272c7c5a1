"""Which parameters train: policy -> labels -> split and combine, the optimizer's partition, and the proof afterwards.

A parameter tree is a flat dictionary from path ("layers.3.attention.query.kernel") to array. Its first part places the
parameter in the column: "embeddings", "layers.<i>" or "head".
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import optax

from jaxfreeze.arrays import Array
from jaxfreeze.errors import InputError
from jaxfreeze.program import program

TRAINED, FROZEN = "trained", "frozen"
ALL: Literal["all"] = "all"
"""The value of `trainable_layers` that trains every layer and the embeddings (the paper's N = 0)."""
Layers = int | Literal["all"]
"""k: how many of the last layers train."""
Labels = dict[str, str]
LabelTuple = tuple[tuple[str, str], ...]
"""Labels as a value that can be hashed: (path, label), sorted."""
Params = dict[str, Array]
T = TypeVar("T")


class FrozenParametersMovedError(Exception):
    """A frozen parameter has other bits after the run than before it: a defect of the program, never of the input."""


def block_of(path: str, num_layers: int) -> int:
    """The block of the column that holds a parameter: 0 embeddings, i + 1 layer i, L + 1 head."""
    part, *rest = path.split(".")
    return {"embeddings": 0, "head": num_layers + 1}[part] if part != "layers" else int(rest[0]) + 1


def order(layers: Layers) -> float:
    """What values of k are sorted by; the full model comes last."""
    return float("inf") if layers == ALL else layers


def label_layers(paths: Iterable[str], trainable_layers: Layers, num_layers: int) -> Labels:
    """Label every path for `--trainable_layers`: the last k layers and the head train; `all`: the embeddings too."""
    if trainable_layers == ALL:
        return dict.fromkeys(paths, TRAINED)
    if not 0 <= trainable_layers <= num_layers:
        raise InputError(
            f"--trainable_layers {trainable_layers}: expected 0 to {num_layers}, the layers of the model, or all"
        )
    lowest = num_layers - trainable_layers + 1
    return {path: TRAINED if block_of(path, num_layers) >= lowest else FROZEN for path in paths}


def label_patterns(paths: Iterable[str], patterns: Sequence[str]) -> Labels:
    """Label every path for `--trainable`: what a regular expression matches as a whole trains, the rest is frozen."""
    paths = list(paths)
    labels = dict.fromkeys(paths, FROZEN)
    for pattern in patterns:
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of "[[" and the like
                matched = [path for path in paths if re.fullmatch(pattern, path)]
        except re.error as error:
            raise InputError(f"--trainable '{pattern}': not a regular expression ({error})") from error
        if not matched:
            raise InputError(
                f"--trainable '{pattern}': matches no parameter; a pattern must match a whole path such as "
                f"'{paths[0]}' or '{paths[-1]}' (`{program()} inspect` lists them all)"
            )
        labels |= dict.fromkeys(matched, TRAINED)
    if TRAINED not in labels.values():
        raise InputError("--trainable: expected at least one regular expression, found none: nothing would train")
    return labels


def cut_of(labels: Mapping[str, str], num_layers: int) -> int:
    """The number of blocks below the lowest trained parameter: the trunk is blocks 0..cut-1."""
    return min(block_of(path, num_layers) for path, label in labels.items() if label == TRAINED)


def describe_cut(cut: int, num_layers: int) -> str:
    """Where the cut is."""
    if cut == 0:
        return "below the embeddings: nothing is frozen as a whole"
    if cut == num_layers + 1:
        return f"above layer {num_layers - 1}: only the head is above it"
    return f"below layer {cut - 1}: frozen below it are the embeddings" + (
        f" and {cut - 1} layer{'s' * (cut > 2)}" if cut > 1 else ""
    )


def split(params: Mapping[str, T], labels: Mapping[str, str]) -> tuple[dict[str, T], dict[str, T]]:
    """Part a tree into (trained, frozen). Every path must have exactly one label, and every label a path."""
    check_coverage(params, labels)
    trained = {path: leaf for path, leaf in params.items() if labels[path] == TRAINED}
    frozen = {path: leaf for path, leaf in params.items() if labels[path] == FROZEN}
    return trained, frozen


def check_coverage(params: Iterable[str], labels: Mapping[str, str]) -> None:
    """Raise ValueError unless paths and labels cover each other exactly."""
    paths = set(params)
    unlabelled, unknown = sorted(paths - set(labels)), sorted(set(labels) - paths)
    strange = sorted(set(labels.values()) - {TRAINED, FROZEN})
    if unlabelled or unknown or strange:
        raise ValueError(
            f"labels do not cover the tree: without label {unlabelled}, no such path {unknown}, label {strange}"
        )


def combine(trained: Mapping[str, T], frozen: Mapping[str, T]) -> dict[str, T]:
    """The whole tree again."""
    return {**frozen, **trained}


def partition(trained_group: optax.GradientTransformation, labels: Labels) -> optax.GradientTransformation:
    """The policy as an optimizer over the whole tree: `trained_group` for the trained leaves, zero for the frozen."""
    return optax.multi_transform({TRAINED: trained_group, FROZEN: optax.set_to_zero()}, labels)


def digests(params: Mapping[str, Array]) -> dict[str, str]:
    """SHA-256 (hex) of each leaf: its type, its shape and its bytes as they lie on the device."""
    result = {}
    for path, leaf in sorted(params.items()):
        host = np.asarray(leaf)
        sha = hashlib.sha256(f"{host.dtype.name} {host.shape} ".encode())
        sha.update(np.ascontiguousarray(host).view(np.uint8).data if host.size else b"")
        result[path] = sha.hexdigest()
    return result


def digest_of(leaf_digests: Mapping[str, str]) -> str:
    """One SHA-256 (hex) over many leaves' digests."""
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(leaf_digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_unmoved(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raise FrozenParametersMovedError, naming the leaves, unless both sets of digests are equal."""
    moved = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    if moved:
        raise FrozenParametersMovedError(f"{len(moved)} frozen parameters changed during the run: {', '.join(moved)}")


def audit(labels: Labels, params: Params, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    """The content of freeze.json: every parameter with its label, and the digests of the frozen ones."""
    parameters = [
        {"path": path, "shape": list(leaf.shape), "dtype": str(leaf.dtype), "label": labels[path]}
        | ({"digest_before": before[path], "digest_after": after[path]} if labels[path] == FROZEN else {})
        for path, leaf in sorted(params.items())
    ]
    frozen = sum(leaf.size for path, leaf in params.items() if labels[path] == FROZEN)
    summary = {"frozen": frozen, "digest_before": digest_of(before), "digest_after": digest_of(after)}
    return summary | {"unchanged": before == after, "parameters": parameters}
