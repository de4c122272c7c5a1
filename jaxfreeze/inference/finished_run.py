"""A finished run, loaded from its folder: config, task, pretrained weights and trained parameters."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze import console, devices, freezing
from jaxfreeze.config import OWN_TASKS, TrainConfig, from_yaml
from jaxfreeze.data.sources import from_standard_input
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import Task, get_task, measured, own_task
from jaxfreeze.errors import InputError
from jaxfreeze.identity import Origin, inputs_of
from jaxfreeze.model.hub import model_folder
from jaxfreeze.objectives.answers import has_probabilities
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training import checkpoint, evaluation, platform_choices
from jaxfreeze.training.dataset import Dataset, make_dataset, read_scored, rows_files_of
from jaxfreeze.training.preparation import identity_of
from jaxfreeze.training.pretrained import load_model, model_files_of, text_encoder


class FinishedRun:
    """A finished run, loaded from its folder; its pretrained weights are checked to be those it was trained on."""

    def __init__(self, path: Path, best: bool = False) -> None:
        """best: of a run of an earlier jaxfreeze, whose last step is its result, the step that --keep_best kept.

        Raises InputError for any other folder.
        """
        if not path.is_dir():
            raise InputError(f"--run {path}: there is no such folder")
        self.folder = RunFolder(path)
        if not self.folder.config.is_file():
            raise InputError(f"--run {path}: holds no run; expected the --output_dir of a finished one")
        if not self.folder.metrics.is_file():
            raise InputError(f"--run {path}: holds an unfinished run; the command that began it continues it")
        if not self.folder.checkpoints.is_dir():
            raise InputError(f"--run {path}: its folder checkpoints is gone; train again with --overwrite")
        self.metrics: dict[str, Any] = self.folder.read(self.folder.metrics)
        self.config: TrainConfig = from_yaml(self.folder.config)
        devices.configure(self.config.dtype)
        self.mesh = devices.data_mesh()
        self.task = self._task()
        self.origin = self.folder.origin()
        arithmetic = platform_choices.arithmetic(self.config.dtype, self.mesh)
        self.model = load_model(self.config, self.task.objective, self.mesh, arithmetic, self._known_digest())
        self.encoder = text_encoder(self.config, self.model.folder, self.model.encoder, self.task.objective)
        self._check_origin()
        self.digests = self._check_base()
        step = self.metrics.get("best_step", self.metrics["steps"])
        saved = checkpoint.read(self.folder.checkpoints, step, self.model.pretrained)
        self.scores: dict[str, float] = self.metrics["metrics"]
        self.has_recorded_scores = "best_step" in self.metrics or not best
        """Whether the scores in metrics.json are those of this step."""
        if not self.has_recorded_scores:
            saved = self._best(saved.about)
            self.scores = {self.task.objective.primary_metric: saved.about["best_score"]}
        self.step = saved.step
        self.params = self.model.params(devices.replicate(saved.trained, self.mesh))
        self.temperature = 1.0
        """What logits are divided by before they become probabilities; see `calibrate`."""

    def calibrate(self) -> None:
        """Have probabilities at the run's temperature from now on. Raises InputError for a run without one."""
        where = f"--calibrated: --run {self.folder.path}"
        if not has_probabilities(self.task.objective):
            kind = self.task.objective.kind
            raise InputError(f"{where}: is a run of kind {kind}, which has no probabilities; leave --calibrated out")
        if "temperature" not in self.metrics:
            raise InputError(
                f"{where}: expected a temperature in its metrics.json, found none: an earlier jaxfreeze made it; train "
                "it again, or leave --calibrated out"
            )
        self.temperature = float(self.metrics["temperature"])

    def _best(self, about: dict[str, Any]) -> checkpoint.Checkpoint:
        step = about["best_step"]
        if step is None:
            raise InputError(f"--best: {self.folder.path} kept no best checkpoint; train with --keep_best to have one")
        console.say(f"the best of its evaluations was after step {step}")
        return checkpoint.read(self.folder.checkpoints, step, self.model.pretrained)

    def _task(self) -> Task:
        if self.config.task not in OWN_TASKS:
            return measured(get_task(self.config.task), self.config)
        before = "regression" if self.config.regression else "classification"  # of runs that do not say their kind
        task = own_task(self.config, self.metrics["labels"], self.metrics.get("objective", before))
        text, label = (
            tuple(self.metrics.get(name) or getattr(task, name)) for name in ("text_columns", "label_column")
        )
        objective = task.objective.settled(self.metrics)
        task = dataclasses.replace(task, text_columns=text, label_column=label, objective=objective)
        return measured(task, self.config)

    def _known_digest(self) -> str:
        """Of the pretrained weights, if none of the model's files was touched since the run; else nothing."""
        if self.origin is None:
            return ""
        now = inputs_of(model_files_of(model_folder(self.config.model)))
        return self.origin.identity.weights if now.items() <= self.origin.inputs.items() else ""

    def _check_origin(self) -> None:
        """Raise InputError if texts or weights are read otherwise now than when the run was trained."""
        if self.origin is None:
            console.say(f"{self.folder.path}: an earlier jaxfreeze made it; its tokenizer and rows are not compared")
            return
        now = Origin(identity_of(self.task, self.model, self.encoder, []), inputs_of(model_files_of(self.model.folder)))
        if differences := self.origin.differences(now, splits=()):
            raise InputError(
                f"--run {self.folder.path}: was trained on {differences} than --model {self.config.model} has now; "
                "restore the original files"
            )

    def _check_base(self) -> dict[str, str]:
        """The digests of the frozen leaves, proved to be those of the run."""
        expected = self.folder.read(self.folder.freeze)["digest_after"]
        digests = freezing.digests(self.model.frozen)
        found = freezing.digest_of(digests)
        if found != expected:
            raise InputError(
                f"--run {self.folder.path}: was trained on other pretrained weights than those of --model "
                f"{self.config.model} now (digest of the frozen parameters {expected[:12]}, found {found[:12]}); "
                "put the original weights back"
            )
        return digests

    def own_rows(self) -> tuple[list[Split], list[Split]]:
        """The validation and the test rows of the run, read again. Raises InputError if they are missing."""
        if from_standard_input(self.config):
            where = f"--run {self.folder.path}"
            raise InputError(f"{where}: its rows came from standard input and are gone; give labelled rows by --input")
        return read_scored(self.config, self.task)

    def other_rows(self, splits: Sequence[Split]) -> str:
        """In what these splits differ from those that the run was scored on, in words; nothing if in nothing."""
        if self.origin is None:
            return ""
        rows = {split.name: split.digest for split in splits}
        now = dataclasses.replace(self.origin.identity, rows=rows)
        return self.origin.differences(Origin(now, inputs_of(rows_files_of(self.config))), list(rows))

    def logits(self, split: Split) -> tuple[Dataset, np.ndarray]:
        """The tokenised split and its logits: float32 [N, C]."""
        dataset = make_dataset(split, self.encoder, self.mesh)
        return dataset, evaluation.predict(evaluation.one_run(self.model.column, self.params), dataset, self.mesh)
