"""Several finished runs of one kind of label that answer as one, with the mean of their probabilities."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import Task
from jaxfreeze.errors import InputError, listed
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.outputs import AnyPrediction, Outputs
from jaxfreeze.inference.shared_trunk import Logits, SharedTrunk


class Ensemble:
    """Takes the place of a SharedTrunk of one run.

    Its logits are the logarithms of the mean probabilities, so its predictions are made of them as a run's are of its
    own; of numbers they are the mean.
    """

    def __init__(self, trunk: SharedTrunk) -> None:
        """Raises InputError for runs with another kind of label than the first one, other classes or other inputs."""
        first, *others = trunk.runs.values()
        for run in others:
            _check_alike(first, run)
        self.trunk = trunk
        objective = first.task.objective.in_ensemble([run.task.objective for run in others])
        self.tasks: dict[str, Task] = {first.config.task: dataclasses.replace(first.task, objective=objective)}
        names = first.task.objective.output_names
        self._orders = {  # of each run's outputs, so that they are those of the first one
            name: [run.task.objective.output_names.index(output) for output in names]
            for name, run in trunk.runs.items()
        }

    @property
    def reads_words(self) -> bool:
        """Whether the runs label words."""
        return self.trunk.reads_words

    def logits(self, split: Split) -> Logits:
        """Logits for every example of a split, under the name of the task."""
        return {name: outputs.logits for name, outputs in self.outputs(split).items()}

    def outputs(self, split: Split) -> dict[str, Outputs]:
        """The same with what says which example and which word they are about."""
        return self._mean(self.trunk.outputs(split))

    def stream(self, splits: Iterable[Split]) -> Iterator[dict[str, Outputs]]:
        """The outputs for each split, in order."""
        return map(self._mean, self.trunk.stream(splits))

    def predictions(self, outputs: Mapping[str, Outputs]) -> dict[str, list[AnyPrediction]]:
        """One for each example, under the name of the task."""
        return {name: outputs[name].predictions(task.objective) for name, task in self.tasks.items()}

    def compile(self) -> None:
        """Compile every shape that a text or several can have."""
        self.trunk.compile()

    def about(self) -> list[dict[str, Any]]:
        """What the server says about it; it has no scores."""
        first, *_ = self.trunk.about()
        (name,) = self.tasks
        return [{**first, "name": name, "score": {}, "trainable_layers": None, "ensemble": list(self.trunk.runs)}]

    def _mean(self, outputs: Mapping[str, Outputs]) -> dict[str, Outputs]:
        ((name, task),) = self.tasks.items()
        ordered = [
            outputs[run].logits[:, order] / np.float32(self.trunk.runs[run].temperature)
            for run, order in self._orders.items()
        ]
        one = next(iter(outputs.values()))  # every run reads the same words
        return {name: dataclasses.replace(one, logits=task.objective.average(ordered))}


def open_runs(
    paths: Sequence[Path], best: bool = False, ensemble: bool = False, calibrated: bool = False
) -> SharedTrunk | Ensemble:
    """Finished runs on one pretrained model, ready for texts; ensemble: as one. Raises InputError.

    calibrated: probabilities at the temperature of each run; an ensemble takes the mean of those.
    """
    trunk = SharedTrunk(paths, best, calibrated)
    return Ensemble(trunk) if ensemble else trunk


def _check_alike(first: FinishedRun, run: FinishedRun) -> None:
    here, there = (f"--run {one.folder.path}" for one in (run, first))
    own, others = (one.task.objective for one in (run, first))
    if own.kind != others.kind:
        raise InputError(
            f"--ensemble: {here} has the objective {own.kind}, {there} {others.kind}; expected one for all"
        )
    if sorted(own.output_names) != sorted(others.output_names):
        raise InputError(
            f"--ensemble: {here} has the classes {listed(own.labels, 5)}, {there} {listed(others.labels, 5)}; expected "
            "the same ones in all runs"
        )
    columns, expected = (len(one.task.text_columns) for one in (run, first))
    if columns != expected:
        raise InputError(
            f"--ensemble: {here} reads {columns} text column{'s' if columns > 1 else ''}, {there} {expected}; expected "
            "as many in all runs"
        )
