"""A column is its values: equal ones share a graph and a compiled program; and what a family is asked for."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params
from safetensors.numpy import load_file, save_file

from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.model import classifier, weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.families import FAMILIES
from jaxfreeze.model.hub import read_config
from tests import families, reference


def test_the_tests_know_every_family() -> None:
    assert FAMILIES.keys() == families.FAMILIES.keys()
    for model_type, family in FAMILIES.items():
        assert family.model_type == model_type
        assert family.architecture in families.FAMILIES[model_type].classes
        assert family.output == families.FAMILIES[model_type].output


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_columns_are_built_and_traced_once(family: str, tmp_path: Path) -> None:
    """Also when the first to need the graph is a function that is traced, and the column was read a second time."""
    columns = [Column(read_config(reference.write_folder(tmp_path, family)), 3) for _ in range(2)]
    assert columns[0] == columns[1]
    assert columns[0] is not columns[1]
    assert hash(columns[0]) == hash(columns[1])
    assert columns[0].num_layers == reference.config_values(family, 3, 0.0)["num_hidden_layers"]
    traced = []

    def logits(column: Column, params: dict, tokens: Tokens, batch: Batch) -> jax.Array:
        traced.append(column)
        return column.bind(params)(tokens, batch)

    store = reference.random_store(family)
    batch = reference.packed(store)
    tokens = reference.tokens_of(store).of(batch)
    params = weights.load(tmp_path, columns[0].encoder, reference.output_names(3), seed=0).params
    classifier._structure.cache_clear()
    compiled = jax.jit(logits, static_argnums=0)
    results = [compiled(column, params, tokens, batch) for column in columns]
    assert len(traced) == 1
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(logits(columns[1], params, tokens, batch), results[0], atol=1e-5, rtol=0)
    dataclasses.replace(columns[0], cut=2).shapes()
    assert classifier._structure.cache_info().misses == 1
    changes = ({"num_outputs": 2}, {"cut": 1}, {"dtype": "bfloat16"}, {"platform": "tpu"})
    assert len({*columns, *(dataclasses.replace(columns[0], **change) for change in changes)}) == 5


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_are_alike_are_traced_once(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six the last one is read at the first tokens alone; ModernBERT's first one has no LayerNorm, one is global."""
    size = 44 + 2 * list(FAMILIES).index(family)  # that no other test has traced
    config = read_config(reference.write_folder(tmp_path, family, num_hidden_layers=6, intermediate_size=size))
    column, batch = Column(config, 3), reference.packed(reference.random_store(family))
    tokens = reference.tokens_of(reference.random_store(family)).of(batch)
    merged: list[object] = []
    honest = nnx.merge
    monkeypatch.setattr(nnx, "merge", lambda graph, *state: merged.append(graph) or honest(graph, *state))

    def loss(params: dict[str, jax.Array], scale: float) -> jax.Array:
        return scale * column.bind(params)(tokens, batch).sum()

    for scale in (1.0, 2.0):  # two programs
        jax.eval_shape(jax.grad(functools.partial(loss, scale=scale)), column.shapes())
    whole = 2
    assert len(merged) == whole + (4 if family == "modernbert" else 2)


def products(jaxpr: Any) -> Iterator[int]:
    """The number of axes of what each product of a program multiplies, inner programs included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.invars[0].aval.ndim
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_layers_flatten_their_input_on_a_cpu_alone(family: str, tmp_path: Path) -> None:
    config = read_config(reference.write_folder(tmp_path, family))
    params = weights.load(tmp_path, config, reference.output_names(3), seed=0).params
    store = reference.random_store(family)
    batch = reference.packed(store)
    tokens = reference.tokens_of(store).of(batch)
    classifiers = {on: Column(config, 3, platform=on).bind(params) for on in ("cpu", "tpu", "gpu")}
    axes = {on: list(products(jax.make_jaxpr(of)(tokens, batch).jaxpr)) for on, of in classifiers.items()}
    kernels = sum(path.endswith(".kernel") for path in params)
    assert axes["cpu"].count(2) >= kernels  # one that two inputs go through counts twice
    assert axes["tpu"].count(2) == axes["gpu"].count(2) == 0
    assert len(axes["tpu"]) == len(axes["gpu"]) == len(axes["cpu"])
    if family == "bert":
        logits = [jax.jit(classifiers[on])(tokens, batch) for on in ("tpu", "cpu")]
        np.testing.assert_allclose(*logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_name_every_parameter_and_cannot_be_spoilt(family: str, tmp_path: Path) -> None:
    column = Column(read_config(reference.write_folder(tmp_path, family)), 3, "bfloat16")
    shapes = column.shapes()
    assert shapes == Column(column.encoder, 3).shapes()  # parameters are described in float32 for every type
    assert {leaf.dtype for leaf in shapes.values()} == {np.dtype(np.float32)}
    assert {path.split(".")[0] for path in shapes} == {"embeddings", "layers", "head"}
    shapes.clear()
    assert column.shapes()


@pytest.mark.parametrize("other", ["xlm-roberta", "camembert"])
def test_one_architecture_under_two_names(other: str, tmp_path: Path) -> None:
    """RoBERTa's file with another model_type gives the same logits."""
    folder = reference.write_folder(tmp_path / "roberta", "roberta")
    theirs = reference.write_folder(tmp_path / "other", "roberta")
    file = theirs / "config.json"
    file.write_text(file.read_text().replace('"roberta"', f'"{other}"'))
    tensors = load_file(theirs / "model.safetensors")  # as a bare encoder's file names them, without its prefix
    bare = {name.removeprefix("roberta."): tensor for name, tensor in tensors.items()}
    save_file(bare, theirs / "model.safetensors", metadata={"format": "pt"})
    store = reference.random_store("roberta")
    batch = reference.packed(store)
    tokens = reference.tokens_of(store).of(batch)
    logits = []
    for place in (folder, theirs):
        config = read_config(place)
        logits.append(
            Column(config, 3).bind(weights.load(place, config, reference.output_names(3), seed=0).params)(tokens, batch)
        )
    assert config.model_type == other
    assert config.first_position == 2
    np.testing.assert_array_equal(*logits)
