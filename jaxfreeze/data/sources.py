"""Where the rows of a run come from: GLUE or the demo, own files, or a data set of the hub; one class each."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxfreeze import console
from jaxfreeze.config import STANDARD_INPUT, TrainConfig
from jaxfreeze.data.columns import Columns
from jaxfreeze.data.formats import files_of, kind_of
from jaxfreeze.data.hub_rows import class_names, hub_records, load_splits, split_of
from jaxfreeze.data.readers import read_file, read_glue_tsv, read_records, read_split, splits_for_evaluation
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import HUB, OWN_FILES, TASKS, Task, get_task, own_task
from jaxfreeze.objectives.kinds import asked_kind


class Source(Protocol):
    """The rows that the settings of a run name. Its methods raise InputError for what is wrong in them."""

    def task(self) -> Task:
        """The task, as far as it is known before the training rows are read."""

    def train(self, task: Task) -> tuple[Split, Task]:
        """The training rows, and the task with its classes and columns known."""

    def validations(self, task: Task) -> list[Split]:
        """The validation rows that there are; none: they are to be held out of the training rows."""

    def tests(self, task: Task) -> list[Split]:
        """The rows that are scored once, at the end."""

    def files(self) -> list[Path]:
        """The files that they are read from; none for the demo, the hub and standard input."""


def source_of(config: TrainConfig) -> Source:
    """Where the rows of these settings are."""
    if config.task == OWN_FILES:
        return OwnFiles(config)
    return HubRows(config) if config.task == HUB else GlueRows(config)


@dataclasses.dataclass(frozen=True)
class GlueRows:
    """GLUE in the classic layout or from the hub, and the demo."""

    config: TrainConfig

    @property
    def _data_dir(self) -> Path | None:
        return None if self.config.data_dir is None else Path(self.config.data_dir)

    def task(self) -> Task:
        return get_task(self.config.task)

    def train(self, task: Task) -> tuple[Split, Task]:
        return self._read(task, "train"), task

    def validations(self, task: Task) -> list[Split]:
        return [] if self.config.validation_share else self._dev_rows(task)

    def tests(self, task: Task) -> list[Split]:
        """GLUE's dev rows, where the validation rows are held out: its own test rows have no labels."""
        found = self._dev_rows(task) if self.config.validation_share else []
        return [dataclasses.replace(split, name=split.name.replace("validation", "test")) for split in found]

    def _dev_rows(self, task: Task) -> list[Split]:
        names, missing = splits_for_evaluation(task, self._data_dir)
        for name in missing:
            console.say(f"--data_dir {self._data_dir}: no file for {name}; scored without it")
        return [self._read(task, name) for name in names]

    def _read(self, task: Task, name: str) -> Split:
        split = read_split(task, name, self._data_dir)
        if split.skipped:
            console.say(f"{task.name} {name}: {split.skipped} rows left out, damaged in the published file")
        return split

    def files(self) -> list[Path]:
        data_dir = self._data_dir
        if data_dir is None or self.config.task not in TASKS or not TASKS[self.config.task].tsv_files:
            return []
        task = TASKS[self.config.task]
        names = ["train", *splits_for_evaluation(task, data_dir)[0]]
        return [place for name in names for place in task.tsv_places(name, data_dir)]


@dataclasses.dataclass(frozen=True)
class OwnFiles:
    """A user's own files."""

    config: TrainConfig

    def task(self) -> Task:
        return own_task(self.config, self.config.label_names, asked_kind(self.config))

    def train(self, task: Task) -> tuple[Split, Task]:
        return self._read(task, "train", str(self.config.train_file))

    def validations(self, task: Task) -> list[Split]:
        file = self.config.validation_file
        return [] if file is None else [self._read(task, "validation", file)[0]]

    def tests(self, task: Task) -> list[Split]:
        file = self.config.test_file
        return [] if file is None else [self._read(task, "test", file)[0]]

    def _read(self, task: Task, name: str, file: str) -> tuple[Split, Task]:
        return say_skipped(file, *read_file(Path(file), task, name, self.config.on_bad_row))

    def files(self) -> list[Path]:
        given = (self.config.train_file, self.config.validation_file, self.config.test_file)
        return [file for path in given if path not in (None, STANDARD_INPUT) for file in files_of(Path(path))]


@dataclasses.dataclass(frozen=True)
class HubRows:
    """Any data set of the hub, or a local folder that `datasets` loads."""

    config: TrainConfig

    @functools.cached_property
    def _splits(self) -> Mapping[str, Any]:
        return load_splits(str(self.config.dataset), self.config.dataset_config)

    def task(self) -> Task:
        return own_task(self.config, self.config.label_names, asked_kind(self.config))

    def train(self, task: Task) -> tuple[Split, Task]:
        return self._read(task, "train", "train_split", self.config.train_split)

    def validations(self, task: Task) -> list[Split]:
        name = self.config.validation_split
        if name is None and self.config.validation_share is None:
            name = self.default_validation()
        return [] if name is None else [self._read(task, "validation", "validation_split", name)[0]]

    def default_validation(self) -> str | None:
        """The split with validation rows where none is named."""
        return "validation" if "validation" in self._splits else None

    def tests(self, task: Task) -> list[Split]:
        name = self.config.test_split
        return [] if name is None else [self._read(task, "test", "test_split", name)[0]]

    def _read(self, task: Task, name: str, flag: str, wanted: str) -> tuple[Split, Task]:
        config = self.config
        rows = split_of(str(config.dataset), self._splits, wanted, flag)
        path, columns = Path(f"{config.dataset}, split {wanted}"), Columns(task.text_columns, task.label_column)
        records = hub_records(path, rows, columns)
        read = read_records(
            path, records, columns, lambda label: class_names(rows, label), task, name, config.on_bad_row
        )
        return say_skipped(str(path), *read)

    def files(self) -> list[Path]:
        return []


def say_skipped(place: str, split: Split, task: Task) -> tuple[Split, Task]:
    """The same; says how many rows were left out."""
    if split.skipped:
        rows = f"{split.skipped:,} row{'s' if split.skipped > 1 else ''}"
        console.say(f"{place}: {rows} left out, first at {split.first_skipped}")
    return split, task


def from_standard_input(config: TrainConfig) -> bool:
    """Whether rows of these settings come from standard input, which can be read once."""
    return STANDARD_INPUT in (config.train_file, config.validation_file, config.test_file)


def read_labelled(path: Path, task: Task, config: TrainConfig) -> Split:
    """Labelled rows of a file for a run whose task is known: a .tsv of GLUE's for a task of GLUE's, else own tables.

    Raises InputError for what is not well formed, and for a class that is not the task's.
    """
    if task.tsv_columns and kind_of(path) == ".tsv":
        return read_glue_tsv(path, task, "validation")
    return say_skipped(str(path), *read_file(path, task, "validation", config.on_bad_row))[0]
