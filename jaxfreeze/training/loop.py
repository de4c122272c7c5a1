"""One run from its config to metrics.json, read from top to bottom; and the loop over the steps."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze import console, devices, freezing, processes
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.dispatch import prefetch
from jaxfreeze.run_folder import RunFolder, write_json
from jaxfreeze.training import experiment as experiments
from jaxfreeze.training import platform_choices, preparation, signals
from jaxfreeze.training.checkpoint import CheckpointWriter
from jaxfreeze.training.experiment import Experiment, TrainState
from jaxfreeze.training.hooks import EvaluationHook, Hook, LogHook
from jaxfreeze.training.log import RunLog
from jaxfreeze.training.predictions import Answers, keep_answers
from jaxfreeze.training.saving import SavingHook, resume
from jaxfreeze.training.scoring import compile_scoring
from jaxfreeze.training.step import Metrics
from jaxfreeze.training.stopwatch import Stopwatch
from jaxfreeze.training.summary import conclude, introduce, result_of
from jaxfreeze.training.trackers import check_installed, trackers_of


def fit(experiment: Experiment, state: TrainState, hooks: Sequence[Hook]) -> TrainState:
    """Every step that is left, or until a hook ends it. After each dispatch the hooks get the state, in their order."""
    steps = experiments.compile_steps(experiment, state)  # found, if it was compiled before
    frozen, data = experiment.model.frozen, experiment.train_set.data
    for batches, dispatch in prefetch(experiments.dispatches(experiment, state.progress.steps)):
        done = state.progress.steps
        trained, optimizer_state, metrics = steps(
            state.trained, state.optimizer_state, frozen, data, dispatch, experiment.seeds, np.int32(done)
        )
        new = Metrics(*(values[..., : len(batches)] for values in metrics))
        unlogged = (*state.unlogged, new) if done % experiment.config.log_every else (new,)
        progress = state.progress.after(batches, len(experiment.configs))
        state = TrainState(trained, optimizer_state, progress, unlogged)
        ends = [hook(state) for hook in hooks]
        if any(ends):
            break
    return state


def finetune(config: TrainConfig) -> dict[str, Any]:
    """Train with this config -> the content of metrics.json. Says so, and does nothing, if it is done.

    An unfinished run continues from its last good checkpoint. Raises InputError for a user's mistake, and Stopped after
    a signal or once standard output is closed; the run is saved if it had begun.
    """
    devices.platform()  # there before anything else asks for it
    config = platform_choices.with_dtype(config)
    with processes.exit_if_others_are_lost():
        console.console.quiet = not processes.is_first()
        with processes.shared_errors():
            check_installed(config)
        folder = RunFolder(config.run_folder)
        with contextlib.ExitStack() as stack:
            finished, untouched = processes.on_first_process(lambda: _claim(folder, config, stack))
            if finished and untouched:
                return _say_finished(folder, finished)
            received = stack.enter_context(signals.handled())
            if not processes.is_first():  # what it writes counts in the first process alone: here it goes
                folder = RunFolder(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run")
            return _finetune(config, folder, received, finished)


def _claim(folder: RunFolder, config: TrainConfig, stack: contextlib.ExitStack) -> tuple[dict[str, Any] | None, bool]:
    """Hold the folder until the stack ends -> the result of a finished run, and whether it is known to be today's."""
    folder.is_finished(config)  # raises for a folder that is not ours, before anything is written into it
    stack.enter_context(folder.locked())
    if not folder.is_finished(config):
        return None, False
    origin = folder.origin()
    return folder.read(folder.metrics), origin is not None and preparation.untouched(origin, config)


def _say_finished(folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
    console.say(f"{folder.path}: this run is finished; --overwrite runs it again")
    return result


def _finetune(
    config: TrainConfig, folder: RunFolder, received: signals.Signals, finished: dict[str, Any] | None
) -> dict[str, Any]:
    """finished: the result of this run, if it is there already and files that it was made of were touched since."""
    watch = Stopwatch()
    experiment = preparation.prepare([config], watch)
    with processes.shared_errors():
        if not config.overwrite:
            folder.check_origin(experiment.origin)
        folder.create(config, experiment.origin)
    if finished is not None:
        return _say_finished(folder, finished)
    introduce(experiment)

    writer = CheckpointWriter(folder.checkpoints, config.keep_last)
    begun = resume(experiment, experiments.begin(experiment), writer, watch)
    if begun.state.progress.steps:
        console.say(f"continuing after step {begun.state.progress.steps:,} of {experiment.total_steps:,}")
    experiment = experiments.get_ready(
        experiment, begun.state, watch, lambda ready: compile_scoring(ready, begun.state.trained, tests=True)
    )

    with processes.shared_errors():
        trackers = trackers_of(config, folder, begun.state.progress.steps)
    with writer, RunLog(folder, experiment.total_steps, begun.state.progress.steps, trackers) as log:
        saving = SavingHook(experiment, writer, received, watch, begun.best)
        state = begun.state
        if not begun.finished:
            with received.saving(), watch.part("train"):
                state = _train(experiment, state, log, saving, watch)
            with watch.part("load"):
                _audit(experiment, state, folder)
                saving.finish(state)
        with watch.part("eval"):
            scores = _score(experiment, state, log, saving, folder)
        metrics, test_metrics = scores.pop("metrics"), scores.pop("test_metrics")
        log.result(state.progress.steps, metrics, test_metrics)

    result = result_of(experiment, state.progress, watch, metrics, test_metrics) | scores
    write_json(folder.metrics, result)
    writer.keep({state.progress.steps, result["best_step"]})
    if result["best_step"] != state.progress.steps:
        writer.drop_state(result["best_step"])
    conclude(experiment, result, folder)
    return result


def _train(experiment: Experiment, state: TrainState, log: RunLog, saving: SavingHook, watch: Stopwatch) -> TrainState:
    logging = LogHook(experiment, state, log)
    # The order counts: a checkpoint holds what was logged, and how the evaluation went.
    hooks: list[Hook] = [logging, EvaluationHook(experiment, watch, log, saving.evaluated), saving]
    state = fit(experiment, state, hooks)
    logging.finish(state)
    return state


def _audit(experiment: Experiment, state: TrainState, folder: RunFolder) -> None:
    """Write freeze.json. Raises FrozenParametersMovedError if a frozen leaf moved."""
    after = freezing.digests(experiment.model.frozen)
    params = experiment.model.params(state.trained)
    write_json(folder.freeze, freezing.audit(experiment.model.labels, params, experiment.frozen_digests, after))
    freezing.check_unmoved(experiment.frozen_digests, after)


def _score(
    experiment: Experiment, state: TrainState, log: RunLog, saving: SavingHook, folder: RunFolder
) -> dict[str, Any]:
    """Score the last step, and the one that counts, whose predictions are kept -> what metrics.json says of both.

    Raises InputError if the best step cannot be read back.
    """
    steps = state.progress.steps
    answers = Answers()
    last_metrics = experiments.evaluate(experiment, state.trained, answers.validation)
    stopped_early = steps < experiment.total_steps
    if not stopped_early:  # else it was evaluated and logged when it was decided
        log.evaluation(steps, last_metrics)
    saving.evaluated(steps, last_metrics)
    trained = saving.read_best(state)
    metrics = last_metrics
    if trained is not state.trained:
        answers = Answers()
        metrics = experiments.evaluate(experiment, trained, answers.validation)
    test_metrics = experiments.score_tests(experiment, trained, metrics, answers.tests)
    chosen = experiment.task.objective.kept()
    return {
        "metrics": metrics,
        "test_metrics": test_metrics,
        **keep_answers(folder, experiments.settled_task(experiment, metrics), answers),
        "best_step": saving.best.step or steps,
        "last_metrics": {name: value for name, value in last_metrics.items() if name not in chosen},
        "stopped_early": stopped_early,
    }
