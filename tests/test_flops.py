"""The saving is in the compiled program: benchmarks/flops.py's figures keep to their bounds, and would show a leak."""

import runpy
from pathlib import Path

import pytest

from jaxfreeze.data.batch import Shape
from jaxfreeze.data.dispatch import unstack
from jaxfreeze.training import optimizer, step

FLOPS = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "flops.py"))
SHAPE = Shape(rows=4, width=64, segments=2)


def measure(*depths: int | str, cached: bool = False) -> list[dict]:
    return FLOPS["measure"](256, SHAPE, depths, cached)


def test_the_step_costs_what_its_depth_says() -> None:
    records = measure(*FLOPS["DEPTHS"])
    assert [record["trainable_layers"] for record in records] == [0, 1, 3, 6, 12, "all"]
    assert all(
        set(record) == {"trainable_layers", "cached", "flops", "temp_bytes", "optimizer_bytes"} for record in records
    )
    for figure in ("flops", "temp_bytes", "optimizer_bytes"):
        values = [record[figure] for record in records]
        assert values == sorted(values), figure
    third, full = records[2], records[-1]
    assert third["flops"] <= 0.48 * full["flops"]
    assert third["temp_bytes"] <= 0.25 * full["temp_bytes"]
    trained = sum(record_bytes(3))
    assert third["optimizer_bytes"] == pytest.approx(2 * trained, abs=64)  # two moments, and a few counters


def test_from_the_cache_the_trunk_costs_nothing() -> None:
    full = measure("all")[0]["flops"]
    records = {record["trainable_layers"]: record for record in measure(0, 1, 3, 12, cached=True)}
    assert all(record["cached"] for record in records.values())
    assert records[0]["flops"] <= 0.001 * full
    assert records[1]["flops"] <= 0.03 * full
    assert records[3]["flops"] <= 0.21 * full
    assert records[12]["flops"] <= 1.0 * full


def record_bytes(depth: int) -> list[int]:
    """Bytes of the trained leaves at a depth, by hand: layers, pooler and classifier of width 256."""
    width, wide = 256, 1024
    layer = 4 * (width * width + width) + 2 * width * wide + wide + width + 4 * width
    return [4 * depth * layer, 4 * (width * width + width), 4 * (2 * width + 2)]


def test_the_figures_would_show_gradients_of_the_frozen_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic leak: clip by the norm of all gradients, then zero the frozen updates."""
    honest = measure(3)[0]["flops"]

    def leaky(program, optimizer_, trained, state, frozen, data, group, seed, number):
        import jax
        import optax

        batch = unstack(group, 0, program.shapes[0])

        def loss_of(params):
            model = program.column.bind(params)
            logits = model(data.tokens.of(batch), batch, step.dropout_seeds(jax.random.key(seed), program.num_layers))
            return program.objective.loss(logits, data.label[batch.example]).sum()

        gradients = jax.grad(loss_of)({**frozen, **trained})
        clipped = jax.tree.map(lambda g: g / optax.tree.norm(gradients), gradients)
        return optimizer.apply_gradients(optimizer_, {p: clipped[p] for p in trained}, state, trained, frozen)

    import jax

    from jaxfreeze.training import cost

    monkeypatch.setattr(cost, "compiled_train_steps", jax.jit(leaky, static_argnums=(0, 1)))
    assert measure(3)[0]["flops"] > 1.8 * honest
