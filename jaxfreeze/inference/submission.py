"""The files that GLUE's leaderboard takes, from finished runs."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxfreeze import console
from jaxfreeze.atomic import check_new, new_folder
from jaxfreeze.data.readers import read_split
from jaxfreeze.data.tasks import TASKS, Task
from jaxfreeze.errors import InputError
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.program import program

ZIP = "submission.zip"


class SubmissionFile(NamedTuple):
    """One of the eleven files."""

    name: str
    task: str  # whose run answers
    split: str
    rows: int  # of GLUE's test set


FILES = (
    SubmissionFile("AX", "mnli", "ax", 1104),
    SubmissionFile("CoLA", "cola", "test", 1063),
    SubmissionFile("MNLI-m", "mnli", "test_matched", 9796),
    SubmissionFile("MNLI-mm", "mnli", "test_mismatched", 9847),
    SubmissionFile("MRPC", "mrpc", "test", 1725),
    SubmissionFile("QNLI", "qnli", "test", 5463),
    SubmissionFile("QQP", "qqp", "test", 390965),
    SubmissionFile("RTE", "rte", "test", 3000),
    SubmissionFile("SST-2", "sst2", "test", 1821),
    SubmissionFile("STS-B", "stsb", "test", 1379),
    SubmissionFile("WNLI", "wnli", "test", 146),
)
"""gluebenchmark.com, "FAQ" 1 and the sample submission; rows by the test files."""


def glue_submission(paths: Sequence[Path], output: Path, data_dir: Path | None, best: bool = False) -> Path:
    """Predict GLUE's test sets with one run per task, write NAME.tsv of each and submission.zip -> the zip's path.

    data_dir: GLUE's folder; without it each run's own. What no run or no test file is there for is left out and named.
    Raises InputError for a run of another task, for two of one, for a file with other rows than GLUE's, and if there
    is nothing to write.
    """
    check_new(output, "--glue_submission")
    trunks = _by_task(paths, best)
    files, missing = {}, []
    for file in FILES:
        if file.task not in trunks:
            missing.append(f"{file.name}: no run; give one by --run; train: `{program()} --task {file.task}`")
            continue
        trunk = trunks[file.task]
        own = next(iter(trunk.runs.values())).config.data_dir
        folder = data_dir or (Path(own) if own else None)
        try:
            split = read_split(TASKS[file.task], file.split, folder)
        except InputError as error:
            missing.append(f"{file.name}: {error}")
            continue
        if len(split.texts[0]) != file.rows:
            raise InputError(
                f"--data_dir {folder}: {file.name} has {len(split.texts[0]):,} rows; GLUE's test set has {file.rows:,}"
            )
        console.say(f"{file.name}: {file.rows:,} rows")
        files[file.name] = as_tsv(TASKS[file.task], next(iter(trunk.logits(split).values())))
    for line in missing:
        console.say(f"missing: {line}")
    if not files:
        raise InputError("--glue_submission: nothing to write; " + "; ".join(missing))
    return _write(output, files)


def _by_task(paths: Sequence[Path], best: bool) -> dict[str, SharedTrunk]:
    trunks: dict[str, SharedTrunk] = {}
    for path in paths:
        trunk = SharedTrunk([path], best)
        (task,) = trunk.tasks
        if task in trunks or task not in {file.task for file in FILES}:
            what = "a second run of" if task in trunks else "of no task of GLUE's:"
            raise InputError(f"--run {path}: {what} {task}; --glue_submission takes one run per task")
        trunks[task] = trunk
    return trunks


def as_tsv(task: Task, logits: np.ndarray) -> str:
    """`index<TAB>prediction` lines for logits [E, C]."""
    lines = [("index", "prediction"), *enumerate(task.objective.glue_answers(logits))]
    return "".join(f"{index}\t{value}\n" for index, value in lines)


def _write(output: Path, files: dict[str, str]) -> Path:
    with new_folder(output, "--glue_submission") as folder:
        for name, text in files.items():
            (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
        with zipfile.ZipFile(folder / ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in files:
                archive.write(folder / f"{name}.tsv", f"{name}.tsv")
    whole = "complete" if len(files) == len(FILES) else f"{len(files)} of the {len(FILES)} files; the server wants all"
    console.say(f"{output / ZIP}: {whole}")
    return output / ZIP
