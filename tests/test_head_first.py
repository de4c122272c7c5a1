"""benchmarks/head_first.py: what it concludes by hand, and how its learning rates fall."""

import argparse
import runpy
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxfreeze import freezing
from jaxfreeze.training import optimizer

FILE = str(Path(__file__).parents[1] / "benchmarks" / "head_first.py")
BY_WAY = {  # by rate: scores on the selection rows by seed, and those on the reported rows
    "plain": {"2e-4": ([0.5, 0.6], [0.9, 0.9]), "5e-4": ([0.6, 0.7], [0.7, 0.8]), "1e-3": ([0.0, 0.9], [0.1, 0.2])},
    "head_first": {"2e-4": ([0.7, 0.7], [0.72, 0.84]), "5e-4": ([0.6, 0.7], [1, 1]), "1e-3": ([0, 0], [1, 1])},
    "decay": {"2e-4": ([0.1, 0.1], [1, 1]), "5e-4": ([0.1, 0.1], [1, 1]), "1e-3": ([0.2, 0.2], [0.5, 0.7])},
}


@pytest.fixture
def benchmark() -> dict[str, Any]:
    return runpy.run_path(FILE)


def test_a_rate_is_chosen_on_the_selection_rows(benchmark: dict[str, Any]) -> None:
    records = [
        {"way": way, "rate": rate, "seed": seed, "selection": selection[seed], "reported": reported[seed],
         "head_rate": "5e-3" if way == "head_first" else None}
        for way, rates in BY_WAY.items() for rate, (selection, reported) in rates.items() for seed in (0, 1)
    ]  # fmt: skip
    found = benchmark["conclude"](records, 1, [0, 1])
    assert {way: line["learning_rate"] for way, line in found.items()} == {
        "plain": "5e-4", "head_first": "2e-4", "decay": "1e-3"
    }  # fmt: skip
    assert found["plain"]["scores"] == [0.7, 0.8]
    assert "difference" not in found["plain"]
    assert found["head_first"]["head_rate"] == "5e-3"
    np.testing.assert_allclose(
        [found["head_first"][name] for name in ("mean", "difference", "standard_error")], [0.78, 0.03, 0.01]
    )
    np.testing.assert_allclose([found["decay"]["difference"], found["decay"]["standard_error"]], [-0.15, 0.05])


def test_rates_fall_from_layer_to_layer(benchmark: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW's first update is the learning rate, whatever the gradient, where there is no weight decay."""
    monkeypatch.setattr(optimizer, "make_optimizer", optimizer.make_optimizer)  # put back after the test
    benchmark["let_rates_fall"](0.5, 3)
    paths = ["embeddings.word.bias", "layers.0.a.bias", "layers.1.a.bias", "layers.2.a.bias", "head.a.bias"]
    labels = freezing.label_layers(paths, 2, 3)
    params = {path: jnp.ones(2) for path in paths}
    trained, frozen = freezing.split(params, labels)
    config, schedule = optimizer.OptimizerConfig(0.01, 1e9), optimizer.Schedule(jnp.float32(0.1), 0, 10)
    fixed = tuple(labels.items())
    state = optimizer.initial_optimizer_state(config, fixed, schedule, trained, frozen)
    gradients = {path: jnp.array([3.0, -0.2]) for path in trained}
    after, _ = optimizer.apply_gradients(config, fixed, gradients, state, trained, frozen)
    steps = {path: np.abs(after[path] - 1) for path in after}
    assert steps.keys() == {"layers.1.a.bias", "layers.2.a.bias", "head.a.bias"}
    for path, rate in (("head.a.bias", 0.1), ("layers.2.a.bias", 0.05), ("layers.1.a.bias", 0.025)):
        np.testing.assert_allclose(steps[path], rate, rtol=1e-5)


@pytest.mark.parametrize(
    ("changed", "ways"),
    [
        ({"epochs": 4}, ["plain", "head_first", "decay"]),
        ({"model": Path("other")}, ["plain", "head_first", "decay"]),
        ({"decay": 0.8}, ["decay"]),
        ({"head_rates": ["1e-2"]}, ["head_first"]),
        ({"seeds": [1, 2, 3]}, ["head_first"]),
    ],
)
def test_a_run_with_other_settings_is_another_run(
    changed: dict[str, Any], ways: list[str], benchmark: dict[str, Any]
) -> None:
    options = {"epochs": 3, "model": Path("model"), "decay": 0.5, "head_rates": ["1e-3"], "seeds": [1, 2]}
    before, after = argparse.Namespace(**options), argparse.Namespace(**(options | changed))
    settings = benchmark["settings_of"]
    assert [way for way in benchmark["WAYS"] if settings(before, way) != settings(after, way)] == ways
