"""The tasks: the nine of GLUE, the packaged demo, and own rows; where their texts and labels are found."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze.config import OWN_TASKS, TrainConfig
from jaxfreeze.errors import InputError, one_of
from jaxfreeze.objectives import OBJECTIVES, Classification, Objective, Regression

OWN_FILES, HUB = OWN_TASKS
"""The values of --task that stand for a user's own files and for a data set of the hub; `own_task` makes the task."""


@dataclass(frozen=True)
class Task:
    """What is read, and what is predicted from it."""

    name: str
    """The value of --task."""
    text_columns: tuple[str, ...]
    """One or two columns of text: the hub's names for GLUE, the table's own for own rows; () until one was read."""
    objective: Objective
    """The kind of label, with its classes in id order and its metrics."""
    hub_config: str = ""
    """Name of the task in the hub's GLUE repository."""
    tsv_files: tuple[tuple[str, str], ...] = ()
    """(split, file under the GLUE root); a split with several places has one pair for each, first found wins."""
    tsv_columns: tuple[str, ...] = ()
    """The TSV's names for `text_columns`, in the same order."""
    tsv_label: str = ""
    """The TSV's name for `label_column`."""
    label_column: tuple[str, ...] = ("label",)
    """The column of labels, by the hub's name or the own file's; of own rows, also a column for each class."""
    of_kind: "Callable[[str], Task] | None" = None
    """Makes this task of another kind of label, where the cells of own rows are still to say which they have."""
    no_header: bool = False
    """Whether the columns of own tables have no names and are called by their numbers, from 1."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that the task has in the classic layout and on the hub."""
        return tuple(dict.fromkeys(split for split, _ in self.tsv_files))

    def tsv_places(self, split: str, data_dir: Path) -> list[Path]:
        """Where a split may lie: `data_dir` is the GLUE root, or this task's own folder if train.tsv is right in it."""
        if not data_dir.is_dir():
            raise InputError(f"--data_dir {data_dir}: no such folder; expected one in the classic GLUE layout")
        own_folder = (data_dir / "train.tsv").is_file()
        task_folder = self.tsv_files[0][1].split("/")[0]
        places = []
        for name, file in self.tsv_files:
            if name == split:
                folder, base = file.split("/")
                root = data_dir.parent if own_folder else data_dir
                places.append(data_dir / base if own_folder and folder == task_folder else root / folder / base)
        return places

    def tsv_file(self, split: str, data_dir: Path) -> Path:
        """The file of a split; raises InputError when it is in none of its places."""
        places = self.tsv_places(split, data_dir)
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise InputError(
                f"--data_dir {data_dir}: the '{split}' split of '{self.name}' is missing; "
                f"expected the file {' or '.join(map(str, places))} (classic GLUE layout)"
            )
        return path


def _files(folder: str) -> tuple[tuple[str, str], ...]:
    return tuple((s, f"{folder}/{f}.tsv") for s, f in (("train", "train"), ("validation", "dev"), ("test", "test")))


# The diagnostic set lies outside the MNLI folder, and is called by one of three names.
_MNLI_FILES = (
    ("train", "MNLI/train.tsv"),
    ("validation_matched", "MNLI/dev_matched.tsv"),
    ("validation_mismatched", "MNLI/dev_mismatched.tsv"),
    ("test_matched", "MNLI/test_matched.tsv"),
    ("test_mismatched", "MNLI/test_mismatched.tsv"),
    ("ax", "diagnostic/diagnostic.tsv"),
    ("ax", "AX/diagnostic.tsv"),
    ("ax", "AX/test.tsv"),
)
_NLI = ("entailment", "neutral", "contradiction")
_ACCURACY = ("accuracy",)
_F1 = ("f1", "accuracy")
_MCC = ("matthews_correlation",)
_PAIR = ("sentence1", "sentence2")


def _named(*labels: str) -> Classification:
    """Classes that the TSV files name."""
    return Classification(labels, _ACCURACY)


def _numbered(metrics: tuple[str, ...], *labels: str) -> Classification:
    """Two classes that the TSV files number."""
    return Classification(labels, metrics, codes=("0", "1"))


_STSB = Regression(("spearman", "pearson"), bounds=(0.0, 5.0))
# fmt: off
# Class orders are the hub's (nyu-mll/glue); the metrics are those of "GLUE: A Multi-Task Benchmark", section 3.
_TABLE = (
    # name, text columns, objective, hub config, TSV: files, text columns, label column
    Task("cola", ("sentence",), _numbered(_MCC, "unacceptable", "acceptable"),
         "cola", _files("CoLA"), ("sentence",), "label"),
    Task("sst2", ("sentence",), _numbered(_ACCURACY, "negative", "positive"),
         "sst2", _files("SST-2"), ("sentence",), "label"),
    Task("mrpc", _PAIR, _numbered(_F1, "not_equivalent", "equivalent"),
         "mrpc", _files("MRPC"), ("#1 String", "#2 String"), "Quality"),
    Task("stsb", _PAIR, _STSB,
         "stsb", _files("STS-B"), _PAIR, "score"),
    Task("qqp", ("question1", "question2"), _numbered(_F1, "not_duplicate", "duplicate"),
         "qqp", _files("QQP"), ("question1", "question2"), "is_duplicate"),
    Task("mnli", ("premise", "hypothesis"), _named(*_NLI),
         "mnli", _MNLI_FILES, _PAIR, "gold_label"),
    Task("qnli", ("question", "sentence"), _named("entailment", "not_entailment"),
         "qnli", _files("QNLI"), ("question", "sentence"), "label"),
    Task("rte", _PAIR, _named("entailment", "not_entailment"),
         "rte", _files("RTE"), _PAIR, "label"),
    Task("wnli", _PAIR, _numbered(_ACCURACY, "not_entailment", "entailment"),
         "wnli", _files("WNLI"), _PAIR, "label"),
    Task("demo", ("premise", "hypothesis"), _named(*_NLI)),
)
# fmt: on
TASKS: dict[str, Task] = {task.name: task for task in _TABLE}


def get_task(name: str) -> Task:
    """The GLUE or demo task called `name`; raises InputError for any other name (own rows': see `own_task`)."""
    if name not in TASKS:
        raise InputError(f"--task: '{name}' is not a task; expected {one_of([*TASKS, *OWN_TASKS], name)}")
    return TASKS[name]


def own_task(config: TrainConfig, labels: Sequence[str], kind: str | None) -> Task:
    """The task of a user's own rows.

    labels: class names in id order; none: `read_file` takes them from the training rows. Ignored for numbers.
    kind: of the labels, a name in OBJECTIVES; None: `read_file` takes it from the training rows too.
    """
    objective = OBJECTIVES[kind or Classification.kind].of_own_rows(labels, config)
    of_kind = None if kind else functools.partial(own_task, config, labels)
    task = Task(config.task, config.text_columns, objective, label_column=config.label_column)
    return dataclasses.replace(task, of_kind=of_kind, no_header=config.no_header)


def name_of(task: str, settings: Mapping[str, Any]) -> str:
    """The task; for own rows with the training file or the data set of these settings: two of them are two tasks."""
    of = {OWN_FILES: "train_file", HUB: "dataset"}.get(task)
    return task if of is None else f"{task} ({settings.get(of)})"


def measured(task: Task, config: TrainConfig) -> Task:
    """The task with what the flags say of its metrics. Raises InputError for what does not fit its kind of label."""
    objective = task.objective.measured_by(config.metric)
    if config.threshold != 0.5 and "threshold" not in objective.kept():
        raise InputError(f"--threshold {config.threshold}: only for --objective multi_label, found {objective.kind}")
    return dataclasses.replace(task, objective=objective)


def trained(task: Task, config: TrainConfig, label: np.ndarray) -> Task:
    """The task with what the flags say of its metrics and its loss.

    label: of the training rows, [N, ...] as its objective has them. Raises InputError for what does not fit them.
    """
    task = measured(task, config)
    objective = task.objective.trained_with(config.class_weights, config.label_smoothing, label)
    return dataclasses.replace(task, objective=objective)
