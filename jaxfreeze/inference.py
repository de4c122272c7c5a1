"""Finished runs at work: the same score again, and predictions for a file."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze import devices, freezing
from jaxfreeze.config import TrainConfig, from_yaml
from jaxfreeze.data.readers import read_file, read_glue_tsv
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import OWN_FILES, Task, get_task, own_task
from jaxfreeze.errors import InputError
from jaxfreeze.training import checkpoint, console, evaluation, setup
from jaxfreeze.training.run_folder import RunFolder, write_text


class FinishedRun:
    """A run folder opened: its config, its task, its pretrained weights (proved to be the same ones) and its top."""

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
        self.model = setup.load_model(self.config, self.task, self.mesh)
        self._check_base()
        saved = checkpoint.read(self.folder.checkpoints, self.metrics["steps"], self.model.trained)
        if best:
            saved = self._best(saved.about)
        self.params = self.model.params(devices.replicate(saved.trained, self.mesh))

    def _best(self, about: dict[str, Any]) -> checkpoint.Checkpoint:
        step = about["best_step"]
        if step is None:
            raise InputError(f"--best: {self.folder.path} kept no best checkpoint; train with --keep_best to have one")
        console.say(f"the best of its evaluations was after step {step}")
        return checkpoint.read(self.folder.checkpoints, step, self.model.trained)

    def _task(self) -> Task:
        if self.config.task != OWN_FILES:
            return get_task(self.config.task)
        return own_task(self.config.text_columns, self.metrics["labels"], self.config.regression)

    def _check_base(self) -> None:
        expected = self.folder.read(self.folder.freeze)["digest_after"]
        found = freezing.digest_of(freezing.digests(self.model.frozen))
        if found != expected:
            raise InputError(
                f"--run {self.folder.path}: was trained on other pretrained weights than those of --model "
                f"{self.config.model} now (digest of the frozen parameters {expected[:12]}, found {found[:12]}); "
                "put the original weights back"
            )

    def logits(self, split: Split) -> tuple[setup.Dataset, np.ndarray]:
        """The tokenised split and its logits: float32 [E, C]."""
        dataset = setup.dataset(split, setup.text_encoder(self.config, self.model), self.mesh)
        return dataset, evaluation.predict(self.model.program(self.task), self.params, dataset, self.mesh)


def evaluate(path: Path, best: bool = False) -> dict[str, float]:
    """Score a finished run on its validation rows again -> {metric: value}; says whether it is the score of the run."""
    run = FinishedRun(path, best)
    _, _, validations = setup.read_task(run.config)
    metrics: dict[str, float] = {}
    for split in validations:
        metrics |= evaluation.score(run.task, *run.logits(split))
    console.say(f"pretrained weights: the same ones, by digest of {len(run.model.frozen)} frozen arrays")
    console.say(f"{run.config.task} validation: {console.metrics_line(metrics)}")
    recorded = run.metrics["metrics"]
    if best:
        return metrics
    if metrics == recorded:
        console.say("the same score as in metrics.json")
    else:
        console.say(f"metrics.json says: {console.metrics_line(recorded)} (on {run.metrics['devices']})")
    return metrics


def predict(path: Path, input_file: Path, output_file: Path, best: bool = False) -> None:
    """Write a JSON line {"index", "prediction", "logits"} for every row of a file, in its order.

    The file has the layout that the run was trained on: a GLUE TSV, or a file with the run's text columns; labels in it
    are ignored. A prediction is a class name, or a number for a regression.
    """
    if not output_file.absolute().parent.is_dir():
        raise InputError(f"--output {output_file}: its folder does not exist")
    if output_file.is_dir():
        raise InputError(f"--output {output_file}: expected a file, found a folder")
    run = FinishedRun(path, best)
    if run.config.task == OWN_FILES:
        split, _ = read_file(input_file, run.config.text_columns, None, run.task.labels, run.config.regression)
    else:
        split = read_glue_tsv(input_file, run.task, "test")
    if split.skipped:
        raise InputError(
            f"--input {input_file}: {split.skipped} rows have missing or surplus fields; mend or remove them"
        )
    _, logits = run.logits(dataclasses.replace(split, labels=None))
    lines = "".join(_line(run.task, index, row) + "\n" for index, row in enumerate(logits))
    try:
        write_text(output_file, lines)
    except OSError as error:
        raise InputError(f"--output {output_file}: cannot be written ({error.strerror})") from error
    console.say(f"{len(logits):,} predictions in {output_file}")


def _line(task: Task, index: int, logits: np.ndarray) -> str:
    prediction = float(logits[0]) if task.regression else task.labels[int(logits.argmax())]
    return json.dumps({"index": index, "prediction": prediction, "logits": [float(value) for value in logits]})
