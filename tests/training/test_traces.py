"""What a process has traced and compiled for one run is found again by the next one of the same shapes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxfreeze import devices, finetune
from jaxfreeze.data import batches
from jaxfreeze.data.batch import Batch, Shape
from jaxfreeze.training import evaluation, loop
from tests import effort
from tests.effort import compiled_until
from tests.folders import make_folder, tiny_rte

EVENTS = {  # JAX's own names of what costs time: tracing, lowering, compiling
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    effort.COMPILED,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "bert", "bert")


@pytest.fixture
def traced() -> list[str]:
    """The events of this test so far."""
    seen: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **more: seen.append(event) if event in EVENTS else None
    )
    return seen


@pytest.mark.parametrize("more", [{}, {"trainable_layers": 0, "cache": "host"}, {"trainable_layers": "all"}], ids=str)
def test_a_second_run_traces_nothing(more: dict, model: Path, tmp_path: Path, traced: list[str]) -> None:
    settings = {"trainable_layers": 1, "max_steps": 6, "max_length": 32, "data_dir": tiny_rte(tmp_path / "glue")} | more
    settings["batch_size"] = 7  # no other test's, which would have traced the first run's program before
    finetune("rte", model=model, output_dir=tmp_path / "first", seed=1, **settings)
    assert traced  # the listener hears
    traced.clear()
    finetune("rte", model=model, output_dir=tmp_path / "second", seed=2, learning_rate=1e-3, **settings)
    assert traced == []
    finetune("rte", model=model, output_dir=tmp_path / "third", weight_decay=0.5, **settings)
    assert traced  # other settings of the optimizer are another program


def test_scoring_compiles_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was compiled with the training steps, so the seconds of `eval` are its own."""
    counts = compiled_until(monkeypatch, loop, "_score")
    monkeypatch.setattr(devices, "pass_batch_size", lambda: 2)
    shapes: set[Shape] = set()
    honest = batches.evaluation_batches

    def noted(*inputs: Any) -> Iterator[Batch]:
        for batch in honest(*inputs):
            shapes.add(batch.shape)
            yield batch

    monkeypatch.setattr(evaluation, "evaluation_batches", noted)
    settings = {"trainable_layers": 2, "max_steps": 2, "max_length": 32, "data_dir": tiny_rte(tmp_path / "glue")}
    finetune("rte", model=model, output_dir=tmp_path / "run", **settings)
    before, after = counts
    assert before == after > 0
    assert len(shapes) == 2
