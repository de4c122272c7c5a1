"""The results file of a sweep that is being made: which runs it holds, and appending the result of another one."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jaxfreeze.atomic import check_writable, write_errors
from jaxfreeze.config import TrainConfig, as_json
from jaxfreeze.errors import InputError
from jaxfreeze.run_folder import NOT_COMPARED
from jaxfreeze.sweep import results

IDENTITY = ("model", "task", "train_file", "trainable_layers", "seed", "learning_rate")
"""Settings that distinguish the runs of a sweep."""
BLOCK = 1 << 16  # bytes of results read at a time, from their end


class ResultsFile:
    """The results of one sweep: which are there already, and appending a line atomically.

    A part of a sweep writes a file of its own, and reads those of the others.
    """

    def __init__(self, folder: Path, name: str = results.RESULTS_FILE) -> None:
        """Raises InputError for a folder that cannot be written to, or that holds anything but a sweep."""
        self.path = folder / name
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--output_dir {folder}: expected a folder, found a file; give another name")
        files = list(folder.glob(results.RESULTS_FILES)) if folder.is_dir() else []
        if folder.is_dir() and any(folder.iterdir()) and not files:
            raise InputError(f"--output_dir {folder}: the folder is not empty and holds no sweep; give another name")
        check_writable(folder, "--output_dir")
        self.notes: list[str] = []
        self.done: dict[tuple[Any, ...], dict[str, Any]] = {}
        if any(b"\n" in file.read_bytes() for file in files):
            found = results.read([folder])
            self.notes = found.notes
            self.done = {_identity(run.config): run.config for run in found.runs}

    def has(self, config: TrainConfig) -> bool:
        """Whether the result of this run is there. Raises InputError if it is there with other settings."""
        asked = as_json(config)
        before = self.done.get(_identity(asked))
        if before is None:
            return False
        differing = [
            f"{name} was {before.get(name)}, is {value}"
            for name, value in asked.items()
            if name not in NOT_COMPARED and before.get(name) != value
        ]
        if differing:
            raise InputError(f"{self.path}: holds other runs ({'; '.join(differing)}); give another --output_dir")
        return True

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line and wait until it is on disk; an incomplete last line, of a killed process, is removed first."""
        with write_errors(str(self.path), "; the lines before stay"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                file.truncate(_end_of_lines(file))
                file.write((json.dumps(record) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())


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


def _identity(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(config.get(name) for name in IDENTITY)
