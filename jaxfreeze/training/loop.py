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
from jaxfreeze.training import signals
from jaxfreeze.training.checkpoint import CheckpointWriter
from jaxfreeze.training.experiment import Experiment, TrainState
from jaxfreeze.training.hooks import EvaluationHook, Hook, LogHook
from jaxfreeze.training.log import RunLog
from jaxfreeze.training.predictions import Answers, keep_answers
from jaxfreeze.training.saving import SavingHook, resume
from jaxfreeze.training.step import Metrics
from jaxfreeze.training.stopwatch import Stopwatch
from jaxfreeze.training.summary import conclude, introduce, result_of


def fit(experiment: Experiment, state: TrainState, hooks: Sequence[Hook]) -> TrainState:
    """Every step that is left. After each dispatch the hooks are given the state, in their order."""
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
        for hook in hooks:
            hook(state)
    return state


def finetune(config: TrainConfig) -> dict[str, Any]:
    """Run `python run.py` with this config -> the content of metrics.json. Says so, and does nothing, if it is done.

    An unfinished run goes on from its last good checkpoint. Raises InputError for what a person can mend, and Stopped
    after a signal or once nobody reads standard output; the run is saved if it had begun.
    """
    devices.platform()  # there before anything else asks for it
    with processes.exit_if_others_are_lost():
        console.console.quiet = not processes.is_first()
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
    return folder.read(folder.metrics), origin is not None and experiments.untouched(origin, config)


def _say_finished(folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
    console.say(f"{folder.path}: this run is finished; --overwrite runs it again")
    return result


def _finetune(
    config: TrainConfig, folder: RunFolder, received: signals.Signals, finished: dict[str, Any] | None
) -> dict[str, Any]:
    """finished: the result of this run, if it is there already and files that it was made of were touched since."""
    watch = Stopwatch()
    experiment = experiments.prepare([config], watch)
    with processes.shared_errors():
        if not config.overwrite:
            folder.check_origin(experiment.origin)
        folder.create(config, experiment.origin)
    if finished is not None:
        return _say_finished(folder, finished)
    introduce(experiment)

    writer = CheckpointWriter(folder.checkpoints, config.keep_last)
    state, best_score = resume(experiment, experiments.begin(experiment), writer, watch)
    if state.progress.steps:
        console.say(f"going on after step {state.progress.steps:,} of {experiment.total_steps:,}")
    experiment = experiments.get_ready(experiment, state, watch)

    with writer, RunLog(folder, experiment.total_steps, state.progress.steps) as log:
        saving = SavingHook(experiment, writer, received, watch, best_score)
        # The order counts: a checkpoint holds what was logged, and how the evaluation went.
        hooks: list[Hook] = [
            LogHook(experiment, state, log),
            EvaluationHook(experiment, watch, log, saving.evaluated),
            saving,
        ]
        with received.saving(), watch.part("train"):
            state = fit(experiment, state, hooks)
        with watch.part("load"):
            after = freezing.digests(experiment.model.frozen)
            params = experiment.model.params(state.trained)
            audit = freezing.audit(experiment.model.labels, params, experiment.frozen_digests, after)
            write_json(folder.freeze, audit)
            freezing.check_unmoved(experiment.frozen_digests, after)
            saving.finish(state)
        with watch.part("eval"):
            answers = Answers()
            metrics = experiments.evaluate(experiment, state.trained, answers.validation)
            test_metrics = experiments.score_tests(experiment, state.trained, metrics, answers.tests)
            calibration = keep_answers(folder, experiments.settled_task(experiment, metrics), answers)
        log.evaluation(experiment.total_steps, metrics)

    result = result_of(experiment, state.progress, watch, metrics, test_metrics) | calibration
    write_json(folder.metrics, result)
    writer.keep({experiment.total_steps, writer.best})
    conclude(experiment, result, folder)
    return result
