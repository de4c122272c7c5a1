"""Experiments trained without a run folder: what came out, step by step."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.config import TrainConfig
from jaxfreeze.training.experiment import Experiment, TrainState, begin, evaluate, get_ready
from jaxfreeze.training.hooks import LogHook
from jaxfreeze.training.loop import fit
from jaxfreeze.training.preparation import prepare
from jaxfreeze.training.stopwatch import Stopwatch


class Notes:
    """Notes what every log line reports."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        self.figures.append(dict(figures))

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None: ...


class Trained(NamedTuple):
    experiment: Experiment
    state: TrainState
    leaves: dict[str, np.ndarray]
    figures: list[dict[str, float]]
    diverged: set[int]
    watch: Stopwatch

    @property
    def losses(self) -> list[float]:
        return [line["loss"] for line in self.figures]

    def score(self, number: int = 0) -> dict[str, float]:
        """Of one of the runs."""
        side_by_side = self.experiment.side_by_side
        trained = self.state.trained
        return evaluate(
            self.experiment, {path: leaf[number] for path, leaf in trained.items()} if side_by_side else trained
        )


def train(configs: Sequence[TrainConfig]) -> Trained:
    """Train one run, or several side by side."""
    watch, notes = Stopwatch(), Notes()
    experiment = prepare(configs, watch)
    state = begin(experiment)
    experiment = get_ready(experiment, state, watch)
    log = LogHook(experiment, state, notes)
    with watch.part("train"):
        state = fit(experiment, state, [log])
    leaves = {path: np.asarray(leaf) for path, leaf in state.trained.items()}
    return Trained(experiment, state, leaves, notes.figures, log.diverged, watch)
