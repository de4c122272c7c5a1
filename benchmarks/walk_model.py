"""What must hold after every command of benchmarks/walk.py.

lost     no file changes that a command was not asked to write, and none that is a person's, wherever it lies
stale    what a command that exits with 0 calls a result is one of today's rows, weights, tokenizer and flags
wrong    `evaluate` and `predict` give what the run gave before
refusal  a refusal is one line, exit code 2, and leaves everything as it was
needless what did not change is not refused
"""

import collections
import contextlib
import dataclasses
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from walk_world import World, digest

COMMON = ("--max_length", "8", "--batch_size", "4", "--text_columns", "text", "--label_column", "label")
FIXED = (*COMMON, "--log_every", "1", "--learning_rate", "1e-3")
REPORT = ("report.html", "report.md", "figures")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
RESULT = "metrics.json"


class Fault(Exception):  # noqa: N818  # of the program, found by the walk
    """What must hold does not."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


class Flags(NamedTuple):
    """Flags that a result depends on."""

    trainable_layers: str
    max_steps: int
    seed: int
    label_names: tuple[str, ...]

    def words(self) -> list[str]:
        """On the command line."""
        names = ["--label_names", *self.label_names] if self.label_names else []
        given = ("trainable_layers", "max_steps", "seed")
        return [*names, *(word for name in given for word in (f"--{name}", str(getattr(self, name))))]


Identity = dict[str, str]


@dataclasses.dataclass
class Run:
    """A run folder as it has to be."""

    flags: Flags
    identity: Identity
    """What it was made of."""
    predictions: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    """By the digest of the input."""


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


def differences(then: Identity, now: Identity) -> str:
    """Names of what differs."""
    return ", ".join(name for name in now if then.get(name) != now[name])


class Walked(World):
    """Runs commands in its world, and checks each."""

    def __init__(self, root: Path, pristine: Path, verbose: bool = False) -> None:
        super().__init__(root, pristine)
        self._verbose = verbose
        self.reported: set[Path] = set()
        """Files that a report may write again."""
        self.lines: dict[tuple[Path, str, str], Identity] = {}
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
        folders = [path.resolve() for path in (*writes, Path("cache"))]
        for path in sorted(changed):
            real = path.parent.resolve() / path.name
            if self.foreign.get(path) is not None:
                raise Fault("lost", f"{path}, a person's own file, {'changed' if os.path.lexists(path) else 'is gone'}")
            if not any(real.is_relative_to(folder) for folder in folders) and not path.name.startswith("."):
                raise Fault("lost", f"{path} {'changed' if os.path.lexists(path) else 'is gone'}, nobody asked for it")

    def identity(self, flags: Flags, train: str = "data/train.csv") -> Identity:
        """What a run with these flags would be made of now."""
        files = {
            "training rows": [train],
            "validation rows": ["data/validation.csv"],
            "weights": ["model/model.safetensors", "model/config.json"],
            "tokenizer": [f"model/{name}" for name in TOKENIZER],
        }
        digests = {what: " ".join(digest(Path(name)) for name in names) for what, names in files.items()}
        return {**digests, "flags": str(flags)}

    def train(self, folder: Path, flags: Flags, more: Sequence[str] = (), stop: int | None = None) -> None:
        """Train into a folder, or have an old result called finished."""
        words = ["--task", "files", "--model", "model", "--train_file", "data/train.csv"]
        words += ["--validation_file", "data/validation.csv", *FIXED, *flags.words()]
        words += ["--output_dir", str(folder), *more]
        train = more[more.index("--train_file") + 1] if "--train_file" in more else "data/train.csv"
        self._trained(folder, flags, words, stop, train)

    def go_on(self, run: Path) -> None:
        """The command that the line about a stopped run names; it may name another folder, after a move."""
        try:
            settings = yaml.safe_load((run / "config.yaml").read_text())
            folder, names = Path(settings["output_dir"]), tuple(settings["label_names"])
        except (OSError, TypeError, KeyError, ValueError, yaml.YAMLError):
            return
        flags = Flags(str(settings["trainable_layers"]), settings["max_steps"], settings["seed"], names)
        self._trained(folder, flags, ["--config", f"{run}/config.yaml"], None, settings["train_file"])

    def _trained(self, folder: Path, flags: Flags, words: list[str], stop: int | None, train: str) -> None:
        before = _state(folder / RESULT)
        known = self.runs.get(self._real(folder))
        outcome = self.call("train", *words, writes=[folder], stop=stop)
        if not Path(train).is_file():
            if outcome.code != 2 and not outcome.out.rstrip().endswith("runs it again"):
                raise Fault("stale", f"{folder}: its training rows are gone")
            return
        now = self.identity(flags, train)
        old = before is not None and _state(folder / RESULT) == before
        differing = "" if known is None else differences(known.identity, now)
        if outcome.code == 2:
            if old and known is not None and not differing and self._is_plain(folder) and "--overwrite" not in words:
                raise Fault("needless", f"{folder}: refused, though nothing changed")
        elif old or "going on after step" in outcome.out:
            if known is None or differing:
                raise Fault("stale", f"{folder}: an old run is taken, though {differing or 'all'} changed")
        else:
            self.runs[self._real(folder)] = Run(flags, now)

    def _real(self, folder: Path) -> Path:
        with contextlib.suppress(ValueError):
            return folder.resolve().relative_to(self.root)
        return folder

    def _is_plain(self, folder: Path) -> bool:
        """Whether it is a folder of ours without a person's files and links."""
        real = self._real(folder)
        return real == folder and not any(path.is_relative_to(real) for path in self.foreign)

    def _changed_since(self, run: Path, *names: str) -> str:
        """Those of these that are others than when the run was made."""
        known = self.runs.get(self._real(run))
        if known is None:
            return "the run, unknown,"
        now = self.identity(known.flags)
        return ", ".join(name for name in names if known.identity[name] != now[name])

    def evaluate(self, run: Path) -> None:
        """A score is the run's own, and of the rows that it was scored on, or the difference is said."""
        outcome = self.call("evaluate", "--run", str(run))
        if outcome.code:
            return
        if changed := self._changed_since(run, "weights", "tokenizer"):
            raise Fault("stale", f"{run}: evaluated, though {changed} changed")
        if self._changed_since(run, "validation rows"):
            if "rows" not in outcome.out:
                raise Fault("stale", f"{run}: evaluated on other rows, and nothing said")
        elif "the same score" not in outcome.out:
            raise Fault("wrong", f"{run}: {outcome.out[-200:]}")

    def predict(self, run: Path, output: Path) -> None:
        """Predictions are the run's, and take no file's place."""
        files = ("predict", "--run", str(run), "--input", "data/test.csv", "--output", str(output))
        outcome = self.call(*files, writes=[] if output.suffix or os.path.lexists(output) else [output])
        if outcome.code:
            return
        if changed := self._changed_since(run, "weights", "tokenizer"):
            raise Fault("stale", f"{run}: predictions, though {changed} changed")
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        self.foreign[output] = digest(output)
        known = self.runs[self._real(run)]
        then = known.predictions.setdefault(digest(Path("data/test.csv")), rows)
        for one, other in zip(then, rows, strict=True):
            same = np.allclose(one["logits"], other["logits"], rtol=1e-4, atol=1e-5)
            if not same or one["prediction"] != other["prediction"]:
                raise Fault("wrong", f"{run}: predicted {other}, before {one}")

    def export(self, run: Path, output: Path, top_only: bool) -> None:
        """An export is of the run's weights, and nobody's afterwards."""
        words = ("export", "--run", str(run), "--output", str(output), *(["--top_only"] if top_only else []))
        outcome = self.call(*words, writes=[output])
        if outcome.code:
            return
        if changed := self._changed_since(run, "weights", "tokenizer"):
            raise Fault("stale", f"{run}: exported, though {changed} changed")
        self.foreign |= {path: digest(path) for path in outcome.changed if path.is_relative_to(output)}

    def sweep(self, folder: Path, layers: Sequence[str], seeds: Sequence[str], max_steps: int) -> None:
        """Lines stay, and those of today's grid are of today's rows."""
        words = ["sweep", "--output_dir", str(folder), "--tasks", "files", "--models", "model"]
        words += ["--train_file", "data/train.csv", "--validation_file", "data/validation.csv"]
        words += ["--max_steps", str(max_steps), *COMMON]
        words += ["--trainable_layers", *layers, "--seeds", *seeds]
        file = folder / "results.jsonl"
        before = file.read_bytes() if file.is_file() else b""
        outcome = self.call(*words, writes=[folder])
        after = file.read_bytes() if file.is_file() else b""
        if not after.startswith(before[: before.rfind(b"\n") + 1]):
            raise Fault("lost", f"{file}: finished lines are gone")
        real = self._real(folder)

        def now(k: str, seed: str) -> Identity:
            return self.identity(Flags(k, max_steps, int(seed), ()))

        for line in after[len(before) :].splitlines():
            config = json.loads(line)["config"]
            key = (str(config["trainable_layers"]), str(config["seed"]))
            self.lines[real, *key] = now(*key)
        if outcome.code:
            return
        for k in layers:
            for seed in seeds:
                if differing := differences(self.lines.get((real, k, seed), {}), now(k, seed)):
                    raise Fault("stale", f"{file}: the line of k = {k}, seed {seed} is called finished: {differing}")

    def report(self, folders: Sequence[Path], output: Path) -> None:
        """A report is written anew, in its own files."""
        earlier = [path for path in self.foreign if path.is_relative_to(output) and self._is_reports(path, output)]
        kept = {path: self.foreign.pop(path) for path in earlier}
        outcome = self.call("report", *map(str, folders), "--output", str(output), writes=[output])
        if outcome.code:
            self.foreign |= kept
            return
        if not (output / "report.md").is_file():
            raise Fault("wrong", f"{output}: no report.md")
        made = {path for path in outcome.changed if os.path.lexists(path)}
        if strange := [path for path in made if path.is_relative_to(output) and not _of_report(path, output)]:
            raise Fault("lost", f"{strange[0]}: changed by a report")
        self.reported |= made
        self.foreign |= {path: digest(path) for path in (made | kept.keys()) if os.path.lexists(path)}

    def _is_reports(self, path: Path, output: Path) -> bool:
        return path in self.reported and _of_report(path, output)

    def cache(self, action: str) -> None:
        """List or clear."""
        outcome = self.call("cache", action)
        if action == "list" and outcome.changed:
            raise Fault("lost", f"{min(outcome.changed)}: changed by a list")


def _state(path: Path) -> tuple[int, bytes] | None:
    return (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else None


def _of_report(path: Path, output: Path) -> bool:
    return path.relative_to(output).parts[0] in REPORT
