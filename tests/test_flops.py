"""The saving is in the compiled program: benchmarks/flops.py's figures keep to their bounds, and would show a leak."""

import dataclasses
import functools
import runpy
from pathlib import Path
from typing import Any

import jax
import optax
import pytest

from jaxfreeze import devices
from jaxfreeze.data.batch import Shape
from jaxfreeze.data.dispatch import Dispatch, unstack
from jaxfreeze.freezing import Params
from jaxfreeze.model.dropout import dropout_seeds
from jaxfreeze.training import cost
from jaxfreeze.training.optimizer import apply_gradients
from jaxfreeze.training.step import Data, Program, loss_and_gradients

FLOPS = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "flops.py"))
SHAPE = Shape(rows=4, width=64, segments=2)
WIDTH = 256


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """The step at two depths, without the trunk cache."""
    return FLOPS["measure"](WIDTH, SHAPE, (3, "all"), False)


def test_the_step_costs_what_its_depth_says(records: list[dict[str, Any]]) -> None:
    assert [record["trainable_layers"] for record in records] == [3, "all"]
    assert all(
        set(record) == {"trainable_layers", "cached", "flops", "temp_bytes", "optimizer_bytes"} for record in records
    )
    third, full = records
    assert third["flops"] <= 0.48 * full["flops"]
    assert third["temp_bytes"] <= 0.25 * full["temp_bytes"]
    assert third["optimizer_bytes"] == pytest.approx(2 * trained_bytes(3), abs=64)  # two moments, and a few counters


def test_from_the_cache_the_trunk_costs_nothing(records: list[dict[str, Any]]) -> None:
    full = records[-1]["flops"]
    cached = {record["trainable_layers"]: record for record in FLOPS["measure"](WIDTH, SHAPE, (0, 1, 3), True)}
    assert all(record["cached"] for record in cached.values())
    assert cached[0]["flops"] <= 0.001 * full
    assert cached[1]["flops"] <= 0.03 * full
    assert cached[3]["flops"] <= 0.21 * full


def trained_bytes(depth: int) -> int:
    """Bytes of the trained leaves at a depth, by hand: layers, pooler and classifier of width 256."""
    width, wide = 256, 1024
    layer = 4 * (width * width + width) + 2 * width * wide + wide + width + 4 * width
    return 4 * (depth * layer + width * width + width + 2 * width + 2)


def leaky_train_steps(
    program: Program,
    trained: Params,
    optimizer_state: optax.OptState,
    frozen: Params,
    data: Data,
    dispatch: Dispatch,
    seed: jax.Array,
    step: jax.Array,
) -> tuple[Params, optax.OptState]:
    """`train_steps` with the classic leak: clip by the norm of all gradients, then drop the frozen leaves' updates."""
    seeds = dropout_seeds(jax.random.fold_in(jax.random.key(seed), step), program.column.num_layers)
    batch = unstack(dispatch, 0, program.shapes[0])
    _, gradients = loss_and_gradients(program, frozen | trained, {}, data, batch, seeds)
    norm = optax.tree.norm(gradients)
    clipped = {path: gradients[path] / norm for path in trained}
    return apply_gradients(program.optimizer, program.labels, clipped, optimizer_state, trained, frozen)


def test_the_figures_would_show_gradients_of_the_frozen_tree(records: list[dict[str, Any]]) -> None:
    objective = FLOPS["TWO_CLASSES"]
    column, labels = FLOPS["column_and_labels"](FLOPS["bert"](FLOPS["LAYERS"], WIDTH), objective, 3)
    program = Program(column, objective, tuple(sorted(labels.items())), cost.SETTINGS, (SHAPE,))
    inputs = cost.abstract_inputs(column, objective, labels, SHAPE)
    lowered = jax.jit(functools.partial(leaky_train_steps, program)).lower(*inputs)
    leaky = lowered.compile(devices.compiler_options()).cost_analysis()
    assert leaky["flops"] > 1.8 * records[0]["flops"]


def test_products_in_bfloat16_cost_what_those_in_float32_cost() -> None:
    """XLA counts them where oneDNN does them, too."""
    devices.configure("bfloat16")
    objective = FLOPS["TWO_CLASSES"]
    column, labels = FLOPS["column_and_labels"](FLOPS["bert"](2, 64), objective, 1)
    on_cpu = dataclasses.replace(column, dtype="bfloat16", activations="float32")
    fast = dataclasses.replace(on_cpu, onednn=True)
    assert len({cost.step_cost(one, objective, labels, SHAPE).flops for one in (on_cpu, fast)}) == 1
