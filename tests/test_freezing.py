"""Labels, split and combine, the partition, digests: every leaf exactly one label, every mistake an error."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxfreeze import freezing
from jaxfreeze.errors import InputError
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import read_config
from tests import reference
from tests.families import FAMILIES

L = 4


@pytest.fixture(params=FAMILIES)
def paths(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    folder = reference.write_folder(tmp_path, request.param, num_hidden_layers=L)
    return list(Column(read_config(folder), 2).shapes())


@pytest.mark.parametrize(
    ("trainable_layers", "blocks", "cut"),
    [(0, {5}, 5), (1, {4, 5}, 4), (3, {2, 3, 4, 5}, 2), (4, {1, 2, 3, 4, 5}, 1), ("all", {0, 1, 2, 3, 4, 5}, 0)],
)
def test_layers(paths: list[str], trainable_layers: int | str, blocks: set[int], cut: int) -> None:
    labels = freezing.label_layers(paths, trainable_layers, L)
    assert list(labels) == paths
    assert {freezing.block_of(path, L) for path in paths if labels[path] == freezing.TRAINED} == blocks
    assert {freezing.block_of(path, L) for path in paths if labels[path] == freezing.FROZEN}.isdisjoint(blocks)
    assert freezing.cut_of(labels, L) == cut


@pytest.mark.parametrize("trainable_layers", [-1, L + 1, 100])
def test_layers_out_of_range(paths: list[str], trainable_layers: int) -> None:
    with pytest.raises(InputError, match=f"--trainable_layers {trainable_layers}: expected 0 to {L}"):
        freezing.label_layers(paths, trainable_layers, L)


def test_patterns_match_whole_paths(paths: list[str]) -> None:
    labels = freezing.label_patterns(paths, [r".*\.bias", r"head\..*"])
    trained = {path for path, label in labels.items() if label == freezing.TRAINED}
    assert trained == {path for path in paths if path.endswith(".bias") or path.startswith("head.")}
    assert freezing.cut_of(labels, L) == min(freezing.block_of(path, L) for path in trained)  # 0 for biases in block 0
    assert freezing.cut_of(freezing.label_patterns(paths, [r"layers\.2\..*"]), L) == 3


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["bias"], "matches no parameter"),
        ([r".*\.bias", "layers.9.*"], "matches no parameter"),
        (["("], "not a regular"),
        ([], "nothing"),
    ],
)
def test_wrong_patterns(paths: list[str], patterns: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        freezing.label_patterns(paths, patterns)


def test_split_and_combine(paths: list[str]) -> None:
    params = {path: np.full(1, i) for i, path in enumerate(paths)}
    labels = freezing.label_layers(paths, 2, L)
    trained, frozen = freezing.split(params, labels)
    assert not trained.keys() & frozen.keys()
    assert freezing.combine(trained, frozen) == params


@pytest.mark.parametrize("change", ["missing", "surplus", "strange"])
def test_coverage(paths: list[str], change: str) -> None:
    labels = freezing.label_layers(paths, 2, L)
    if change == "missing":
        del labels[paths[0]]
    elif change == "surplus":
        labels["layers.9.attention"] = freezing.FROZEN
    else:
        labels[paths[0]] = "thawed"
    with pytest.raises(ValueError, match="do not cover"):
        freezing.split(dict.fromkeys(paths, 0), labels)


def test_frozen_leaves_own_no_optimizer_state(paths: list[str]) -> None:
    params = {path: jnp.ones(3) for path in paths}
    labels = freezing.label_layers(paths, 1, L)
    state = freezing.partition(optax.adamw(1.0, weight_decay=0.5), labels).init(params)
    trained = sum(label == freezing.TRAINED for label in labels.values())
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert len(moments) == 2 * trained


def test_partition_gives_frozen_leaves_zero_updates(paths: list[str]) -> None:
    params = {path: jnp.ones(3) for path in paths}
    labels = freezing.label_layers(paths, 1, L)
    optimizer = freezing.partition(optax.adamw(1.0, weight_decay=0.5), labels)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    for path in paths:
        assert (np.asarray(updates[path]) == 0).all() == (labels[path] == freezing.FROZEN), path


BITS = {
    "negative zero": np.float32(-0.0),
    "denormal": np.float32(1e-42),
    "nan payload": np.uint32(0x7FC12345).view(np.float32),
    "one bit": np.nextafter(np.float32(1), np.float32(2)),
}


@pytest.mark.parametrize("name", BITS)
def test_digests_see_every_bit(name: str) -> None:
    plain = {"negative zero": 0.0, "denormal": 0.0, "nan payload": np.nan, "one bit": 1.0}[name]
    before = freezing.digests({"a": np.array([[1, BITS[name]]], np.float32), "b": np.ones(2, np.float32)})
    after = freezing.digests({"a": np.array([[1, plain]], np.float32), "b": np.ones(2, np.float32)})
    assert before["b"] == after["b"]
    with pytest.raises(freezing.FrozenParametersMovedError, match="1 frozen parameters changed during the run: a"):
        freezing.check_unmoved(before, after)


def test_digests_see_shape_and_type() -> None:
    leaves = [
        np.zeros((2, 3), np.float32),
        np.zeros((3, 2), np.float32),
        np.zeros((2, 3), np.int32),
        jnp.zeros((2, 6), jnp.bfloat16),
    ]
    assert len({freezing.digests({"a": leaf})["a"] for leaf in leaves}) == 4
