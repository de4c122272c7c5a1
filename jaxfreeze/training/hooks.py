"""Hooks of the loop that watch: the log line, with its check of the loss, and the evaluation now and then."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import jax
import numpy as np

from jaxfreeze.training.experiment import Experiment, TrainState, evaluate
from jaxfreeze.training.stopwatch import Stopwatch

Hook = Callable[[TrainState], bool | None]
"""Is called after every dispatch; true ends the run after this state, once all hooks were given it."""


class NonFiniteLossError(Exception):
    """The loss became NaN or infinite."""


class Reader(Protocol):
    """Who is told how a run goes: its log, or the progress of a sweep."""

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of the steps up to this one: loss, learning_rate, grad_norm, epoch, examples_per_second."""

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics on the validation rows after this step."""


class LogHook:
    """Tells a reader how the run goes, every `--log_every` steps and after the last one.

    Raises NonFiniteLossError if a loss is not finite; of runs side by side, it notes the runs in `diverged` instead.
    """

    def __init__(self, experiment: Experiment, state: TrainState, reader: Reader) -> None:
        self.diverged: set[int] = set()
        self._experiment, self._reader = experiment, reader
        self._examples, self._since = state.progress.examples, time.perf_counter()

    def __call__(self, state: TrainState) -> None:
        steps = state.progress.steps
        if not steps % self._experiment.config.log_every or steps == self._experiment.total_steps:
            self._log(state)

    def finish(self, state: TrainState) -> None:
        """Tell of the steps since the last line, if the run ended before its time."""
        steps = state.progress.steps
        if steps % self._experiment.config.log_every and steps < self._experiment.total_steps:
            self._log(state)

    def _log(self, state: TrainState) -> None:
        experiment, steps = self._experiment, state.progress.steps
        unlogged = jax.device_get(state.unlogged)
        losses, norms = (np.concatenate(column, axis=-1) for column in zip(*unlogged, strict=True))
        self._check(losses, norms, steps)
        now, examples = time.perf_counter(), state.progress.examples
        rate = experiment.config.learning_rate * experiment.schedules[0].share(steps - 1, np)
        figures = {
            "loss": float(losses.mean()),
            "learning_rate": float(rate),
            "grad_norm": float(norms.mean()),
            "epoch": examples / experiment.train_set.store.num_examples,
            "examples_per_second": (examples - self._examples) / (now - self._since),
        }
        self._examples, self._since = examples, now
        self._reader.step(steps, figures)

    def _check(self, losses: np.ndarray, norms: np.ndarray, steps: int) -> None:
        """losses, norms: of the last n steps, float32 [n], or [S, n] side by side."""
        wrong = ~np.isfinite(losses) | ~np.isfinite(norms)
        if self._experiment.side_by_side:
            self.diverged |= set(np.flatnonzero(wrong.any(axis=1)).tolist())
        elif wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise NonFiniteLossError(
                f"step {steps - len(losses) + first + 1} of {self._experiment.total_steps}: loss {losses[first]}, "
                f"gradient norm {norms[first]}; try a lower --learning_rate, or --dtype float32"
            )


class EvaluationHook:
    """Scores the validation rows now and then, but not after the last step, and passes the metrics on."""

    def __init__(
        self,
        experiment: Experiment,
        watch: Stopwatch,
        reader: Reader,
        then: Callable[[int, Mapping[str, float]], None],
    ) -> None:
        """then: is given the step and its metrics."""
        self._experiment, self._watch, self._reader, self._then = experiment, watch, reader, then

    def __call__(self, state: TrainState) -> None:
        period, steps = self._experiment.eval_every, state.progress.steps
        if not period or steps % period or steps == self._experiment.total_steps:
            return
        with self._watch.part("eval"):
            metrics = evaluate(self._experiment, state.trained)
        self._reader.evaluation(steps, metrics)
        self._then(steps, metrics)
