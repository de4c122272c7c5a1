"""Finished runs at work: the same score again, and predictions for a file."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from jaxfreeze.data.readers import read_file, read_glue_tsv
from jaxfreeze.data.tasks import OWN_FILES, Task
from jaxfreeze.errors import InputError
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.training import console, evaluation, setup
from jaxfreeze.training.run_folder import write_text


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
