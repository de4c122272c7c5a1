"""What keeps a run: it saves as the run goes, stops it when a signal asks, and finds again where it stopped."""

import shlex
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from jaxfreeze import console, devices, freezing, processes
from jaxfreeze.errors import InputError, Stopped
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training import checkpoint
from jaxfreeze.training.checkpoint import CheckpointWriter
from jaxfreeze.training.log import Journal
from jaxfreeze.training.record import Progress, versions
from jaxfreeze.training.run import Run
from jaxfreeze.training.signals import Signals
from jaxfreeze.training.step import Metrics

SAVE_SECONDS = 300.0  # between two checkpoints, unless --checkpoint_every says how many steps


class Keeper:
    """The checkpoints of one run."""

    def __init__(self, run: Run, folder: RunFolder, signals: Signals, before: dict[str, str]) -> None:
        """before: digests of the frozen parameters."""
        self.run, self.folder, self.signals, self.before = run, folder, signals, before
        self.identity = {"base": freezing.digest_of(before), "data": run.train_set.store.digest}
        self.writer = CheckpointWriter(folder.checkpoints, run.config.keep_last)
        self.log_bytes = 0  # of log.jsonl, as the run is now
        self._best: float | None = None
        self._saved = time.perf_counter()

    def go_on(self) -> bool:
        """Put the run where its last good checkpoint was -> whether there is one.

        The first process reads it. Raises InputError if it was another run's: other pretrained weights, other rows.
        """
        trained, state = self.run.at_start
        template = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}
        found = processes.together(lambda: self._last_good(template) if processes.is_first() else None)
        about = processes.all_gather(None if found is None else found.about)[0]
        if about is None:
            return False
        progress = Progress(*about["progress"])
        wanted = {"trained": trained, "state": template if progress.steps < self.run.total_steps else {}}
        if found is None:  # in another process than the first
            here = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), wanted)
        else:
            here = {"trained": found.trained, "state": found.state}
        leaves = processes.broadcast(here)
        if leaves["state"]:
            state = jax.tree.unflatten(jax.tree.structure(state), [leaves["state"][name] for name in template])
        self.run.go_on(leaves["trained"], state, progress)
        pending: Any = [np.array(about[name], np.float32) for name in Metrics._fields]
        self.run.pending = [Metrics(*pending)]
        self.run.watch.add(about["seconds"])
        self.log_bytes, self._best, self.writer.best = about["log_bytes"], about["best_score"], about["best_step"]
        return True

    def _last_good(self, template: freezing.Params) -> checkpoint.Checkpoint | None:
        run = self.run
        for step in reversed(self.writer.steps):
            try:
                found = checkpoint.read(
                    self.folder.checkpoints, step, run.model.trained, template if step < run.total_steps else None
                )
            except InputError as error:
                console.say(f"{str(error).removesuffix(f'; {checkpoint.MEND}')}; skipped")
                continue
            self._check(found.about)
            self.writer.discard([later for later in self.writer.steps if later > step])
            return found
        return None

    def _check(self, about: Mapping[str, Any]) -> None:
        names = {"base": f"pretrained weights ({self.run.config.model})", "data": "training rows"}
        for name, what in names.items():
            if about[name] != self.identity[name]:
                raise InputError(
                    f"--output_dir {self.folder.path}: this run began with other {what} (digest {about[name][:12]}, "
                    f"found {self.identity[name][:12]}); put those back, or --overwrite starts it again"
                )
        surroundings = {"versions": versions(), "devices": devices.describe(self.run.mesh)}
        if changed := [f"{was} then, {surroundings[name]} now" for name in surroundings
                       if (was := about[name]) != surroundings[name]]:  # fmt: skip
            console.say(f"the last digits may differ from those of a run without a stop: {'; '.join(changed)}")

    def after_dispatch(
        self,
        journal: Journal,
        trained: freezing.Params,
        state: optax.OptState,
        metrics: Mapping[str, float] | None,
    ) -> None:
        """Save if it is time, or this is the best evaluation so far; Stopped, saved, if a signal has come."""
        config, steps = self.run.config, self.run.progress.steps
        better = metrics is not None and self._is_better(metrics)
        late, stop = self._agreed(time.perf_counter() - self._saved >= SAVE_SECONDS, self.signals.received)
        due = steps % config.checkpoint_every == 0 if config.checkpoint_every else late
        if not (due or stop or (better and config.keep_best)):
            return
        freezing.check_unmoved(self.before, freezing.digests(self.run.model.frozen))  # else going on would hide it
        begun = self.save(journal, trained, state, best=better and config.keep_best)
        if stop:
            whole = processes.all_true(begun and self.writer.wait())
            command = shlex.join(["python", "run.py", "--config", str(RunFolder(config.run_folder).config)])
            where = f"saved after step {steps} of {self.run.total_steps}" if whole else "NOT saved"
            every = ", in every process" if jax.process_count() > 1 else ""
            raise Stopped(stop, f"stopped, {where}; to go on{every}: {command}")

    def _agreed(self, late: bool, stop: int | None) -> tuple[bool, int | None]:
        """Whether the first process's clock says that a checkpoint is due, and the signal that any process has got.

        Several processes look at it after a log, when all of them wait for the devices anyway.
        """
        if jax.process_count() > 1 and self.run.progress.steps % self.run.config.log_every:
            return False, None
        clocks, signals = zip(*processes.all_gather((late, stop)), strict=True)
        return clocks[0], next(filter(None, signals), None)

    def _is_better(self, metrics: Mapping[str, float]) -> bool:
        score = metrics[self.run.task.primary_metric]
        if self._best is not None and score <= self._best:
            return False
        self._best = score
        return True

    def save(
        self, journal: Journal, trained: freezing.Params, state: optax.OptState | None, best: bool = False
    ) -> bool:
        """Begin to write a checkpoint of the run as it is now -> whether that began well."""
        run = self.run
        steps = run.progress.steps
        pending = jax.device_get(run.pending)
        about = {
            **self.identity,
            "progress": list(run.progress),
            **{
                name: [float(value) for metrics in pending for value in getattr(metrics, name)]
                for name in Metrics._fields
            },
            "seconds": run.watch.so_far(),
            "log_bytes": journal.size,
            "best_score": self._best,
            "best_step": steps if best else self.writer.best,
            "versions": versions(),
            "devices": devices.describe(run.mesh),
        }
        leaves = {} if state is None else {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}
        self._saved = time.perf_counter()
        return self.writer.save(steps, trained, leaves, about, best)

    def finish(self, journal: Journal, trained: freezing.Params) -> None:
        """Save the last step, without the optimizer's state, and wait. Raises InputError if it cannot be written."""
        if not processes.all_true(self.save(journal, trained, None) and self.writer.wait()):
            raise InputError(
                f"{self.folder.checkpoints}: the last step could not be saved; make room and run the same command again"
            )


def _name(path: Any) -> str:
    """The path of a leaf of the optimizer's state, as text."""
    return jax.tree_util.keystr(path, simple=True, separator=".")
