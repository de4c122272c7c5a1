"""The tasks: the nine of GLUE, the packaged demo, and own files; how they name files and write labels."""

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxfreeze.errors import InputError, one_of
from jaxfreeze.objectives import Objective

MAX_CLASSES = 1000
OWN_FILES = "files"
"""The value of --task that stands for a person's own files; `own_task` makes the task."""


@dataclass(frozen=True)
class Task:
    """What is read, what is predicted, and how it is scored."""

    name: str
    """The value of --task."""
    text_columns: tuple[str, ...]
    """One or two columns of text: the hub's names for GLUE, the file's own names for own files."""
    labels: tuple[str, ...]
    """Class names in id order, as on the hub; () for regression."""
    metrics: tuple[str, ...]
    """Names that jaxfreeze/metrics.py knows."""
    primary_metric: str
    """The one of `metrics` by which runs are compared."""
    hub_config: str = ""
    """Name of the task in the hub's GLUE repository."""
    tsv_files: tuple[tuple[str, str], ...] = ()
    """(split, file under the GLUE root); a split with several places has one pair for each, first found wins."""
    tsv_columns: tuple[str, ...] = ()
    """The TSV's names for `text_columns`, in the same order."""
    tsv_label: str = ""
    """The TSV's name for the label column."""
    tsv_codes: tuple[str, ...] = ()
    """The TSV's spelling of each of `labels`, in id order."""

    @property
    def objective(self) -> "Objective":
        """placeholder."""
        return Objective(self.labels, self.metrics, self.primary_metric)

    @property
    def regression(self) -> bool:
        """Whether the label is a number and not a class."""
        return not self.labels

    @property
    def num_outputs(self) -> int:
        """Width of the head: the number of classes, or 1 for regression."""
        return len(self.labels) or 1

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
                f"--data_dir {data_dir}: the '{split}' split of '{self.name}' is not there; "
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
_TWO_WAY = ("entailment", "not_entailment")
_ACCURACY = ("accuracy",)
_F1 = ("f1", "accuracy")
_MCC = ("matthews_correlation",)
_PAIR = ("sentence1", "sentence2")
_ZERO_ONE = ("0", "1")

# fmt: off
# Class orders are the hub's (nyu-mll/glue); the metrics are those of "GLUE: A Multi-Task Benchmark", section 3.
_TABLE = (
    # name, text columns, labels, metrics, primary metric, hub config, TSV: files, text columns, label, label codes
    Task("cola", ("sentence",), ("unacceptable", "acceptable"), _MCC, "matthews_correlation",
         "cola", _files("CoLA"), ("sentence",), "label", _ZERO_ONE),
    Task("sst2", ("sentence",), ("negative", "positive"), _ACCURACY, "accuracy",
         "sst2", _files("SST-2"), ("sentence",), "label", _ZERO_ONE),
    Task("mrpc", _PAIR, ("not_equivalent", "equivalent"), _F1, "f1",
         "mrpc", _files("MRPC"), ("#1 String", "#2 String"), "Quality", _ZERO_ONE),
    Task("stsb", _PAIR, (), ("spearman", "pearson"), "spearman",
         "stsb", _files("STS-B"), _PAIR, "score"),
    Task("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), _F1, "f1",
         "qqp", _files("QQP"), ("question1", "question2"), "is_duplicate", _ZERO_ONE),
    Task("mnli", ("premise", "hypothesis"), _NLI, _ACCURACY, "accuracy",
         "mnli", _MNLI_FILES, _PAIR, "gold_label", _NLI),
    Task("qnli", ("question", "sentence"), _TWO_WAY, _ACCURACY, "accuracy",
         "qnli", _files("QNLI"), ("question", "sentence"), "label", _TWO_WAY),
    Task("rte", _PAIR, _TWO_WAY, _ACCURACY, "accuracy",
         "rte", _files("RTE"), _PAIR, "label", _TWO_WAY),
    Task("wnli", _PAIR, ("not_entailment", "entailment"), _ACCURACY, "accuracy",
         "wnli", _files("WNLI"), _PAIR, "label", _ZERO_ONE),
    Task("demo", ("premise", "hypothesis"), _NLI, _ACCURACY, "accuracy"),
)
# fmt: on
TASKS: dict[str, Task] = {task.name: task for task in _TABLE}


def get_task(name: str) -> Task:
    """The GLUE or demo task called `name`; raises InputError for any other name ('files' is made by `own_task`)."""
    if name not in TASKS:
        raise InputError(f"--task: '{name}' is not a task; expected {one_of([*TASKS, OWN_FILES], name.lower())}")
    return TASKS[name]


def own_task(text_columns: Sequence[str], labels: Sequence[str], regression: bool) -> Task:
    """The task of a person's own files.

    `text_columns` are the file's names, `labels` the class names in id order as `read_file` found them (ignored for
    regression). Binary tasks are scored with F1 too, of the second class as in scikit-learn.
    """
    if regression:
        return Task(OWN_FILES, tuple(text_columns), (), ("spearman", "pearson"), "spearman")
    metrics = ("accuracy", "f1") if len(labels) == 2 else ("accuracy",)
    return Task(OWN_FILES, tuple(text_columns), tuple(labels), metrics, "accuracy")


class ClassIds:
    """Class ids of label cells: of the known classes, or of new ones in the order in which they are met."""

    def __init__(self, known: Sequence[str] | None) -> None:
        self.ids = {name: i for i, name in enumerate(known or ())}
        self._growing = known is None

    def __call__(self, cell: object) -> int:
        """The id of a cell's class; the InputError for a wrong cell does not say where the cell is."""
        name = cell if isinstance(cell, str) and cell in self.ids else _class_name(cell)
        if name in self.ids:
            return self.ids[name]
        if not self._growing:
            raise InputError(f"label '{name[:60]}' is not {one_of(self.ids, name)}")
        if len(self.ids) == MAX_CLASSES:
            raise InputError(
                f"more than {MAX_CLASSES} different labels; "
                "is this an id column, or are they scores (then use --regression)?"
            )
        self.ids[name] = len(self.ids)
        return self.ids[name]

    def in_order(self) -> tuple[str, ...]:
        """The classes, sorted by value if all are whole numbers, else by spelling."""
        if all(re.fullmatch(r"[+-]?[0-9]{1,18}", name) for name in self.ids):
            return tuple(sorted(self.ids, key=lambda name: (int(name), name)))
        return tuple(sorted(self.ids))


def _class_name(cell: object) -> str:
    """The class that a cell names: text, a whole number, or true/false."""
    if isinstance(cell, bool):
        return str(cell).lower()
    name = str(cell).strip() if isinstance(cell, (str, int, float)) else ""
    if isinstance(cell, float) or re.fullmatch(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", name):
        raise InputError(f"label '{name[:60]}' is neither a whole number nor a name; for scores use --regression")
    if not name:
        found = "none" if cell is None or isinstance(cell, str) else f"a {type(cell).__name__}"
        raise InputError(f"expected a label (text or a whole number), found {found}; fill it in or leave the row out")
    return name


def read_score(cell: object) -> float:
    """A number that float32 can hold, from a number or its decimal spelling."""
    score = math.nan
    if isinstance(cell, (str, int, float)) and not isinstance(cell, bool) and "_" not in str(cell):
        with contextlib.suppress(ValueError, OverflowError):
            score = float(cell)
    if not abs(score) <= float(np.finfo(np.float32).max):
        found = "none" if cell is None or cell == "" else f"'{str(cell)[:60]}'"
        raise InputError(f"expected a finite number as label, found {found}")
    return score


def read_stsb_score(cell: object) -> float:
    """A score of STS-B, which runs from 0 to 5."""
    score = read_score(cell)
    if not 0.0 <= score <= 5.0:
        raise InputError(f"expected a score from 0 to 5, found {cell}")
    return score
