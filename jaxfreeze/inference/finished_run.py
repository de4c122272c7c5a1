"""A finished run, loaded from its folder: config, task, pretrained weights and trained parameters."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze import console, devices, freezing
from jaxfreeze.config import TrainConfig, from_yaml
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import OWN_FILES, Task, get_task, own_task
from jaxfreeze.errors import InputError
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training import checkpoint, evaluation
from jaxfreeze.training.dataset import Dataset, make_dataset
from jaxfreeze.training.pretrained import load_model, text_encoder


class FinishedRun:
    """A finished run, loaded from its folder; its pretrained weights are checked to be those it was trained on."""

    def __init__(self, path: Path, best: bool = False) -> None:
        """best: not the last step but the one that --keep_best kept. Raises InputError for any other folder."""
        if not path.is_dir():
            raise InputError(f"--run {path}: there is no such folder")
        self.folder = RunFolder(path)
        if not self.folder.config.is_file():
            raise InputError(f"--run {path}: holds no run; expected the --output_dir of a finished one")
        if not self.folder.metrics.is_file():
            raise InputError(f"--run {path}: holds an unfinished run; the command that began it goes on with it")
        if not self.folder.checkpoints.is_dir():
            raise InputError(f"--run {path}: its folder checkpoints is gone; train again with --overwrite")
        self.metrics: dict[str, Any] = self.folder.read(self.folder.metrics)
        self.config: TrainConfig = from_yaml(self.folder.config)
        devices.configure(self.config.dtype)
        self.mesh = devices.data_mesh()
        self.task = self._task()
        self.model = load_model(self.config, self.task.objective, self.mesh)
        self.digests = self._check_base()
        saved = checkpoint.read(self.folder.checkpoints, self.metrics["steps"], self.model.pretrained)
        self.scores: dict[str, float] = self.metrics["metrics"]
        if best:
            saved = self._best(saved.about)
            self.scores = {self.task.objective.primary_metric: saved.about["best_score"]}
        self.step = saved.step
        self.params = self.model.params(devices.replicate(saved.trained, self.mesh))

    def _best(self, about: dict[str, Any]) -> checkpoint.Checkpoint:
        step = about["best_step"]
        if step is None:
            raise InputError(f"--best: {self.folder.path} kept no best checkpoint; train with --keep_best to have one")
        console.say(f"the best of its evaluations was after step {step}")
        return checkpoint.read(self.folder.checkpoints, step, self.model.pretrained)

    def _task(self) -> Task:
        if self.config.task != OWN_FILES:
            return get_task(self.config.task)
        return own_task(self.config, self.metrics["labels"])

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

    def logits(self, split: Split) -> tuple[Dataset, np.ndarray]:
        """The tokenised split and its logits: float32 [E, C]."""
        dataset = make_dataset(split, text_encoder(self.config, self.model), self.mesh)
        return dataset, evaluation.predict(self.model.column, self.params, dataset, self.mesh)
