"""Saving and resuming: the hook that writes checkpoints and stops on a signal, and the way back from one."""

import shlex
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxfreeze import console, devices, freezing, processes
from jaxfreeze.errors import InputError
from jaxfreeze.identity import Origin
from jaxfreeze.program import program
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training import checkpoint
from jaxfreeze.training.best import Best
from jaxfreeze.training.checkpoint import CheckpointWriter
from jaxfreeze.training.experiment import Experiment, Progress, TrainState
from jaxfreeze.training.preparation import versions
from jaxfreeze.training.signals import Signals
from jaxfreeze.training.step import Metrics
from jaxfreeze.training.stopwatch import Stopwatch

SAVE_SECONDS = 300.0  # between two checkpoints, unless --checkpoint_every says how many steps


class SavingHook:
    """Writes a checkpoint when one is due or an evaluation is the best so far; saves and stops when a signal came.

    Ends the run, with nothing saved, once `--patience` evaluations in a row brought no better score.
    """

    def __init__(
        self,
        experiment: Experiment,
        writer: CheckpointWriter,
        signals: Signals,
        watch: Stopwatch,
        best: Best,
    ) -> None:
        """best: of the evaluations so far."""
        self._experiment, self._writer, self._signals, self._watch = experiment, writer, signals, watch
        self.best = best
        """The best evaluation; of a run whose last step counts, none."""
        self._saved = time.perf_counter()

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics after a step, whose state comes next."""
        if self._experiment.config.best_counts:
            metric = self._experiment.task.objective.primary_metric
            self.best = self.best.after(step, metrics[metric], metric)

    def __call__(self, state: TrainState) -> bool:
        config, steps, total = self._experiment.config, state.progress.steps, self._experiment.total_steps
        waited = config.patience is not None and self.best.without_better >= config.patience
        if waited or steps == total:
            return waited  # `finish` saves the last one
        late, stop = self._agreed(steps)
        due = steps % config.checkpoint_every == 0 if config.checkpoint_every else late
        is_best = self.best.step == steps
        if not (due or stop or is_best):
            return False
        frozen = freezing.digests(self._experiment.model.frozen)
        freezing.check_unmoved(self._experiment.frozen_digests, frozen)  # else going on would hide it
        begun = self._save(state, is_best)
        if is_best and not processes.all_true(begun and self._writer.wait()):
            raise InputError(
                f"{self._writer.folder}: step {steps}, the best so far, could not be saved; make room and run the same "
                "command again"
            )
        if stop:
            whole = processes.all_true(begun and self._writer.wait())
            command = f"{program()} --config {shlex.quote(str(RunFolder(config.run_folder).config))}"
            where = f"saved after step {steps} of {total}" if whole else "NOT saved"
            every = ", in every process" if jax.process_count() > 1 else ""
            raise self._signals.stopped(stop, f"stopped, {where}; to continue{every}: {command}")
        return False

    def _agreed(self, steps: int) -> tuple[bool, int | None]:
        """Whether the first process's clock says that a checkpoint is due, and the signal that any process received.

        Several processes look at it after a log line, when all of them wait for the devices anyway.
        """
        late = time.perf_counter() - self._saved >= SAVE_SECONDS
        if jax.process_count() == 1:
            return late, self._signals.received
        if steps % self._experiment.config.log_every:
            return False, None
        clocks, signals = zip(*processes.all_gather((late, self._signals.received)), strict=True)
        return clocks[0], next(filter(None, signals), None)

    def _save(self, state: TrainState, best: bool = False, finished: bool = False) -> bool:
        """Begin to write a checkpoint -> whether that began well. Raises InputError if the run's folder is gone."""
        with processes.shared_errors():
            folder = RunFolder(self._writer.folder.parent)
            if processes.is_first() and not folder.identity.is_file():
                raise InputError(
                    f"--output_dir {folder.path}: was moved or deleted while the run trained; stopped after step "
                    f"{state.progress.steps}; to continue what was saved, give --config its config.yaml"
                )
        about = {
            "origin": self._experiment.origin.as_json(),
            "progress": list(state.progress),
            **_unlogged_as_json(state, self._experiment.config.log_every),
            "seconds": self._watch.seconds(),
            **self.best.as_json(),
            "versions": versions(),
            "devices": self._experiment.describe_devices(),
        }
        leaves = {} if finished else by_path(state.optimizer_state)
        self._saved = time.perf_counter()
        return self._writer.save(state.progress.steps, state.trained, leaves, about, best)

    def finish(self, state: TrainState) -> None:
        """Save the last step, without the optimizer's state, and wait. Raises InputError if it cannot be written."""
        if not processes.all_true(self._save(state, finished=True) and self._writer.wait()):
            raise InputError(
                f"{self._writer.folder}: the last step could not be saved; make room and run the same command again"
            )

    def read_best(self, last: TrainState) -> freezing.Params:
        """The trained leaves of the step that counts, which is the last one, or the best one in its checkpoint.

        The first process reads the checkpoint. Raises InputError if it is damaged or gone.
        """
        step = self.best.step
        if step is None or step == last.progress.steps:
            return last.trained
        found = None
        with processes.shared_errors():
            if processes.is_first():
                found = checkpoint.read(self._writer.folder, step, self._experiment.model.pretrained).trained
        return _to_all(found, last.trained)


class Begun(NamedTuple):
    """What a run begins from."""

    state: TrainState
    best: Best = Best()
    """Of the evaluations up to this state."""
    finished: bool = False
    """Whether no step is left."""


def resume(experiment: Experiment, start: TrainState, writer: CheckpointWriter, watch: Stopwatch) -> Begun:
    """The state of the last good checkpoint, or `start` if there is none.

    The first process reads it. The stopwatch and the writer continue from the checkpoint's values. Raises InputError if
    it was another run's: other pretrained weights, other rows.
    """
    template = by_path(start.optimizer_state)
    found = None
    with processes.shared_errors():
        if processes.is_first():
            found = _last_good(experiment, writer, template)
    about, finished = processes.all_gather((None, False) if found is None else (found.about, not found.state))[0]
    if about is None:
        return Begun(start)
    wanted = {"trained": start.trained, "state": {} if finished else template}
    leaves = _to_all(None if found is None else {"trained": found.trained, "state": found.state}, wanted)
    optimizer_state = start.optimizer_state
    if leaves["state"]:
        structure = jax.tree.structure(start.optimizer_state)
        optimizer_state = jax.tree.unflatten(structure, [leaves["state"][name] for name in template])
    watch.add(about["seconds"])
    writer.best = about["best_step"]
    unlogged: Any = [np.array(about[name], np.float32) for name in Metrics._fields]
    progress = Progress(*about["progress"])
    state = TrainState(leaves["trained"], optimizer_state, progress, (Metrics(*unlogged),) if len(unlogged[0]) else ())
    return Begun(state, Best.from_json(about), finished)


def _last_good(
    experiment: Experiment, writer: CheckpointWriter, template: freezing.Params
) -> checkpoint.Checkpoint | None:
    for step in reversed(writer.steps):
        try:
            found = checkpoint.read(writer.folder, step, experiment.model.pretrained, template)
        except checkpoint.OtherLeavesError as error:  # the settings are the same, or the folder was refused before
            raise InputError(
                f"{error}; another version of jaxfreeze began this run: finish it with that one, or --overwrite starts "
                "it again"
            ) from error
        except InputError as error:
            console.say(f"{str(error).removesuffix(f'; {checkpoint.MEND}')}; skipped")
            continue
        _check(experiment, found.about)
        writer.discard([later for later in writer.steps if later > step])
        return found
    return None


def _check(experiment: Experiment, about: Mapping[str, Any]) -> None:
    """Raise InputError for a checkpoint of another run; say what may change the last digits."""
    if differences := Origin.from_json(about["origin"]).differences(experiment.origin):
        raise InputError(
            f"--output_dir {experiment.config.run_folder}: this run began with {differences}; restore them, or "
            "--overwrite starts it again"
        )
    surroundings = {"versions": versions(), "devices": experiment.describe_devices()}
    if changed := [f"{about[name]} then, {now} now" for name, now in surroundings.items() if about[name] != now]:
        console.say(f"the last digits may differ from those of a run without a stop: {'; '.join(changed)}")


def by_path(state: optax.OptState) -> dict[str, Any]:
    """The leaves of the optimizer's state by their paths."""
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _to_all(found: Any, wanted: Any) -> Any:
    """The host arrays that the first process found, in every process, where the arrays of the tree `wanted` lie.

    found: None in the other processes.
    """
    here = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), wanted) if found is None else found
    return jax.tree.map(_put_like, processes.broadcast(here), wanted)


def _put_like(leaf: Any, like: jax.Array) -> Any:
    return devices.put(leaf, like.sharding, may_alias=False)


def _unlogged_as_json(state: TrainState, log_every: int) -> dict[str, list[float]]:
    """Losses and norms that the next log line needs too; none where the line was just written."""
    metrics = jax.device_get(state.unlogged if state.progress.steps % log_every else ())
    return {name: [float(value) for some in metrics for value in getattr(some, name)] for name in Metrics._fields}
