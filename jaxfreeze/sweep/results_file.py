"""The results file of a sweep that is being made: which runs it holds, and appending the result of another one."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

from jaxfreeze import console
from jaxfreeze.atomic import WRITING, check_writable, locked, write_errors
from jaxfreeze.config import TrainConfig, as_json
from jaxfreeze.errors import InputError
from jaxfreeze.identity import Origin
from jaxfreeze.run_folder import NOT_COMPARED
from jaxfreeze.sweep import outcome_file, results
from jaxfreeze.sweep.results import RunResult
from jaxfreeze.training import preparation
from jaxfreeze.training.stopwatch import Stopwatch

ROWS = ("model", "task", "train_file", "dataset")
"""Settings by which two runs have other rows."""
IDENTITY = (*ROWS, "trainable_layers", "seed", "learning_rate")
"""Settings that distinguish the runs of a sweep."""
OF_SEARCH = (*IDENTITY, "epochs")
"""Settings that distinguish the runs of a search."""
SEARCH_FILE = "search.json"
"""What a search keeps beside the results of its runs."""
LOCKS = f".{results.RESULTS_FILES}.lock"
DEFAULTS = as_json(TrainConfig("rte"))
BEGIN = b'{"task": "'
"""How every line begins: as summary.result_of begins a record."""
BLOCK = 1 << 16  # bytes of results read at a time, from their end


class ResultsFile:
    """The results of one sweep: which are there already, and appending a line atomically.

    A part of a sweep writes a file of its own, and reads those of the others.
    """

    def __init__(self, folder: Path, name: str = results.RESULTS_FILE, axes: tuple[str, ...] = IDENTITY) -> None:
        """Raises InputError for a folder that cannot be written to, or that holds anything but a sweep.

        axes: settings that distinguish the runs.
        """
        self.folder, self.path, self._axes = folder, folder / name, axes
        self.notes: list[str] = []
        self.done: dict[tuple[Any, ...], RunResult] = {}
        self.diverged: dict[tuple[Any, ...], dict[str, Any]] = {}
        """The lines of runs that have no score."""
        self._origins: dict[tuple[Any, ...], Origin] = {}
        """By task and model; one for all lines."""
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--output_dir {folder}: expected a folder, found a file; give another name")
        files = list(folder.glob(results.RESULTS_FILES)) if folder.is_dir() else []
        others = [file for file in folder.iterdir() if not _may_precede(file)] if folder.is_dir() else []
        if others and not files:
            raise InputError(f"--output_dir {folder}: the folder is not empty and holds no sweep; give another name")
        check_writable(folder, "--output_dir")
        for file in files:
            _check_end(file)

    def read(self) -> None:
        """Find the results that are there. Raises InputError for lines that are none."""
        if any(b"\n" in file.read_bytes() for file in self.folder.glob(results.RESULTS_FILES)):
            found = results.read([self.folder])
            self.notes = found.notes
            self.done = {self._identity(run.config): run for run in found.runs}
            self.diverged = {self._identity(line["config"]): line for line in found.diverged}
            self._origins = {_made_of(run.config): run.origin for run in found.runs if run.origin}

    def locked(self) -> AbstractContextManager[None]:
        """Hold the file for this process. Raises InputError if another one makes the same sweep, or part of one."""
        busy = "another process is at work on it; wait for it, or give another --output_dir"
        return locked(self.path.with_name(f".{self.path.name}.lock"), str(self.path), busy)

    def has(self, config: TrainConfig) -> bool:
        """Whether the result of this run is there. Raises InputError if it is there with other settings."""
        asked = as_json(config)
        identity = self._identity(asked)
        if identity not in self.done and identity not in self.diverged:
            return False
        found = self.done[identity].config if identity in self.done else self.diverged[identity]["config"]
        before = DEFAULTS | found  # a setting that is new was the default
        differing = [
            f"{name} was {before.get(name)}, is {value}"
            for name, value in asked.items()
            if name not in NOT_COMPARED and before.get(name) != value
        ]
        if differing:
            raise InputError(f"{self.path}: holds other runs ({'; '.join(differing)}); give another --output_dir")
        return True

    def _identity(self, config: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(config.get(name) for name in self._axes)

    def check_origins(self, configs: Iterable[TrainConfig], elsewhere: bool = False) -> None:
        """Raise InputError if a result that is there was made of other rows, classes, tokenizer or weights than now.

        elsewhere: runs are made on other machines; what this one cannot read is not compared, which is said.
        """
        by_key: dict[tuple[Any, ...], TrainConfig] = {_made_of(as_json(config)): config for config in configs}
        for key, config in by_key.items():
            runs = [(run.origin, run.place) for run in self.done.values() if _made_of(run.config) == key and run.origin]
            try:
                touched = [(origin, place) for origin, place in runs if not preparation.untouched(origin, config)]
                if not touched:
                    continue
                now = preparation.prepare([config], Stopwatch()).origin
            except InputError as error:
                if not elsewhere:
                    raise
                console.say(f"{self.path}: results of {config.task} are not compared with what is read now ({error})")
                continue
            for origin, place in touched:
                self._check(origin, now, place)

    def _check(self, then: Origin, now: Origin, place: str) -> None:
        if differences := then.differences(now):
            raise InputError(
                f"{place}: a result from {differences}; all results of a sweep need the same: restore them, or give "
                "another --output_dir"
            )

    def append(self, *records: Mapping[str, Any]) -> None:
        """Add lines and wait until they are on disk; an incomplete last line, of a killed process, is removed first.

        Raises InputError if one was made of something else than the results that are there.
        """
        for record in records:
            origin = Origin.from_json(record["origin"])
            self._check(self._origins.setdefault(_made_of(record["config"]), origin), origin, str(self.path))
        with write_errors(str(self.path), "; the lines before stay"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                file.truncate(_end_of_lines(file))  # what is cut off was checked to be ours
                file.write("".join(json.dumps(record) + "\n" for record in records).encode())
                file.flush()
                os.fsync(file.fileno())


def _may_precede(path: Path) -> bool:
    """Whether a path may be in a folder before the first line is: a lock, a search's own file, a first outcome."""
    own = path.name in (SEARCH_FILE, f".{SEARCH_FILE}{WRITING}")
    return own or fnmatch(path.name, LOCKS) or outcome_file.is_ours(path)


def _end_of_lines(file: BinaryIO) -> int:
    """Where the last complete line of a file ends; read from the end, since a long sweep asks for it often."""
    place = file.seek(0, os.SEEK_END)
    while place:
        begin = max(0, place - BLOCK)
        file.seek(begin)
        found = file.read(place - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        place = begin
    return 0


def _check_end(file: Path) -> None:
    """Raise InputError unless what follows the last line break, which `append` removes, can be a result cut off."""
    with file.open("rb") as opened:
        opened.seek(_end_of_lines(opened))
        end = opened.read(len(BEGIN))
    if not BEGIN.startswith(end):
        raise InputError(f"{file}: ends in something else than a result; give another --output_dir")


def _made_of(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(config.get(name) for name in ROWS)
