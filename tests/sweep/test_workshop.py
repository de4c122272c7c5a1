"""How many programs the groups of a search take where runs are trained side by side, and when they are compiled."""

import dataclasses
from typing import Any

import pytest

from jaxfreeze.config import TrainConfig
from jaxfreeze.sweep import workshop
from jaxfreeze.sweep.grid import Group
from jaxfreeze.sweep.progress import SweepProgress
from jaxfreeze.sweep.workshop import Outcome, Workshop
from jaxfreeze.training import platform_choices, step
from jaxfreeze.training.experiment import Experiment
from jaxfreeze.training.stopwatch import Stopwatch
from tests.effort import compiled_until
from tests.folders import make_folder, tiny_rte


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    model = make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")
    glue = tiny_rte(tmp_path_factory.mktemp("glue"), 24, 8)
    return TrainConfig("rte", model=str(model), data_dir=str(glue), max_length=32, batch_size=8, trainable_layers=1)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A 1 for every program of training steps that is traced."""
    seen: list[int] = []
    honest = step.train_steps

    def traced(program: step.Program, *inputs: Any, **more: Any) -> Any:
        seen.append(1)
        return honest(program, *inputs, **more)

    monkeypatch.setattr(step, "train_steps", traced)
    monkeypatch.setattr(workshop, "side_by_side", lambda group, runs: runs)  # as on an accelerator with room for all
    monkeypatch.setattr(platform_choices, "most_shapes", lambda *sizes: 1)  # as for short runs on one
    step.forget_programs()
    return seen


def groups_of(config: TrainConfig) -> list[Group]:
    """A race over rates, one more rate, and final trials with more epochs."""

    def group(epochs: int, rates: tuple[float, ...], seeds: tuple[int, ...]) -> Group:
        runs = tuple(
            dataclasses.replace(config, epochs=epochs, learning_rate=rate, seed=seed)
            for rate in rates
            for seed in seeds
        )
        return Group(config.model, config.task, 1, runs, "untouched")

    return [
        group(1, (1e-3, 1e-4), (1, 2)),
        group(1, (1e-2,), (1,)),
        group(3, (1e-3,), (3, 4, 5, 6, 7, 8, 9)),  # more than a program has
    ]


def made(search: Workshop, groups: list[Group]) -> list[dict[str, Any]]:
    return [record for outcome in search(groups, SweepProgress(groups)) for record in outcome.records]


def test_groups_of_a_k_share_a_program(config: TrainConfig, traces: list[int]) -> None:
    search, groups = Workshop(3), groups_of(config)
    search.open(config, Stopwatch())
    records = made(search, groups)
    assert len(traces) == 1
    asked = [(run.learning_rate, run.seed, run.epochs) for group in groups for run in group.runs]
    assert [(line["learning_rate"], line["seed"], line["config"]["epochs"]) for line in records] == asked
    again = made(search, [groups[0]._replace(runs=groups[1].runs + groups[0].runs[:1])])  # beside another run
    for name in ("validation_loss", "metrics", "steps", "examples"):
        assert again[0][name] == records[4][name]
        assert again[1][name] == records[0][name]


@pytest.mark.usefixtures("traces")
def test_long_runs_are_not_filled_up(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it pays to compile for several shapes, it pays to compile for each number of runs."""
    monkeypatch.setattr(platform_choices, "most_shapes", lambda *sizes: 2)
    monkeypatch.setattr(workshop, "get_ready", lambda experiment, *inputs: experiment)
    seen: list[int] = []

    def not_trained(experiment: Experiment, *inputs: Any) -> Outcome:
        seen.append(len(experiment.configs))
        return Outcome([], [], [])

    monkeypatch.setattr(workshop, "train_together", not_trained)
    search = Workshop(3)
    search.open(config, Stopwatch())
    made(search, groups_of(config))
    assert seen == [4, 1, 7]


@pytest.mark.parametrize("layers", [0, 1])
def test_scoring_compiles_nothing(
    layers: int, config: TrainConfig, traces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it needs is compiled with the training steps, so its seconds are its own."""
    counts = compiled_until(monkeypatch, workshop, "score_runs")
    runs = tuple(dataclasses.replace(config, trainable_layers=layers, seed=seed, epochs=1) for seed in (1, 2))
    assert made(Workshop(), [Group(config.model, config.task, layers, runs)])
    before, after = counts
    assert before == after > 0
