"""Runs one command of benchmarks/walk.py in its world: what it says, and that it changes only what it was asked to."""

import collections
import contextlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from walk_world import World


class Fault(Exception):  # noqa: N818  # of the program, found by the walk
    """What must hold does not."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


class Outcome(NamedTuple):
    """Of a command."""

    code: int
    out: str
    changed: set[Path]


class Output(io.StringIO):
    """Standard output; sends this process SIGTERM when a line of this step is written."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self._mark = None if stop is None else f"step {stop}/"

    def write(self, text: str) -> int:
        """As of a file."""
        if self._mark is not None and self._mark in text:
            self._mark = None
            signal.raise_signal(signal.SIGTERM)
        return super().write(text)


class Checked(World):
    """Runs commands in its world."""

    def __init__(self, root: Path, pristine: Path, verbose: bool = False) -> None:
        super().__init__(root, pristine)
        self._verbose = verbose
        self.outcomes = collections.Counter[str]()

    def call(self, *words: str, writes: Sequence[Path] = (), stop: int | None = None) -> Outcome:
        """Run a command that may write into these folders and into the cache."""
        from jaxfreeze import cli

        before, out, err, began = self.snapshot(), Output(stop), io.StringIO(), time.perf_counter()
        self.history.append(" ".join(words) + ("" if stop is None else f"  [SIGTERM at step {stop}]"))
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.main(words)
        except Exception as error:  # whatever it is, it is a fault
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            raise Fault("traceback", f"{type(error).__name__}: {error} ({where})") from error
        self.outcomes[f"{words[0]} {code}"] += 1
        if self._verbose:
            last = (err if code else out).getvalue().strip().splitlines()[-1:]
            print(
                f"[{code}] {time.perf_counter() - began:.1f} s  {self.history[-1]}\n      {''.join(last)}",
                file=sys.stderr,
            )
        self._check_lines(code, err.getvalue(), stop)
        after = self.snapshot()
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        self._check_changes(changed, () if code == 2 else writes)
        return Outcome(code, out.getvalue(), changed)

    def _check_lines(self, code: int, err: str, stop: int | None) -> None:
        if code not in (0, 2, *(() if stop is None else (128 + signal.SIGTERM,))):
            raise Fault("refusal", f"exit code {code}: {err[-300:]}")
        if code and (err.count("\n") != 1 or (code == 2 and not err.startswith("error: "))):
            raise Fault("refusal", f"exit code {code}, expected one line, found {err!r}")

    def _check_changes(self, changed: set[Path], writes: Sequence[Path]) -> None:
        cache = [Path("cache", kind) for kind in ("", "tokens", "trunk", "xla")]  # a person may link them elsewhere
        folders = [path.resolve() for path in (*writes, *cache)]
        for path in sorted(changed):
            real = path.parent.resolve() / path.name
            if self.foreign.get(path) is not None:
                raise Fault("lost", f"{path}, a person's own file, {'changed' if os.path.lexists(path) else 'is gone'}")
            if not any(real.is_relative_to(folder) for folder in folders) and not path.name.startswith("."):
                raise Fault("lost", f"{path} {'changed' if os.path.lexists(path) else 'is gone'}, nobody asked for it")
