"""The progress of a sweep: a moving line on a terminal, a plain line for each finished run elsewhere."""

import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jaxfreeze import console, freezing
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.sweep.grid import Group


class SweepProgress:
    """The progress of one sweep, as a context manager."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """groups: those whose runs are to be made."""
        self.runs, self.done, self._start = sum(len(group.runs) for group in groups), 0, time.perf_counter()
        self._now, self._together, self._steps = "", 1, 1
        layers = {model: read_config(model_folder(model)).num_hidden_layers for model in {g.model for g in groups}}
        self._work = sum(
            len(group.runs) * estimated_work(group.trainable_layers, layers[group.model]) for group in groups
        )
        self._work_done = 0.0
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}"))
        self._bar = Progress(*columns, console=console.console, disable=not console.console.is_terminal)
        self._task = self._bar.add_task("sweep", total=self.runs, now="")

    def __enter__(self) -> "SweepProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, group: Group, together: int) -> None:
        """The next runs are of this group, so many together."""
        self._together = together
        self._now = f"{group.task} on {Path(group.model).name}, k = {group.trainable_layers}"
        self._bar.update(self._task, now=self._now)

    def steps_of(self, total_steps: int) -> None:
        """The runs have this many steps."""
        self._steps = total_steps

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """After `step` optimizer steps."""
        part = self._together * step / self._steps
        self._bar.update(self._task, completed=self.done + part, now=f"{self._now}  loss {figures['loss']:.4f}")

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Runs of a sweep are evaluated at their end alone."""

    def finished(self, record: Mapping[str, Any]) -> None:
        """A run is finished and its result recorded."""
        metric = record["primary_metric"]
        self.done += 1
        self._bar.update(self._task, completed=self.done)
        self._work_done += estimated_work(record["trainable_layers"], record["num_layers"])
        left = (time.perf_counter() - self._start) * (self._work / self._work_done - 1)
        console.say(
            f"{self.done}/{self.runs}  {record['task']} on {Path(record['model']).name}, "
            f"k = {record['trainable_layers']}, seed {record['seed']}, learning rate {record['learning_rate']:g}: "
            f"{metric} {record['metrics'][metric]:.4f}  "
            f"(about {datetime.timedelta(seconds=round(max(0.0, left)))} left)"
        )


def estimated_work(trainable_layers: freezing.Layers, num_layers: int) -> float:
    """The time of a run in units of that of a trained layer, roughly; for the time that is left."""
    return 0.5 + (num_layers + 1 if trainable_layers == freezing.ALL else trainable_layers)
