"""Run folders of benchmarks/walk.py: what each was made of, and what `train`, `evaluate` and `predict` say of it."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from walk_check import Checked, Fault
from walk_world import digest

COMMON = ("--max_length", "8", "--batch_size", "4", "--text_columns", "text", "--label_column", "label")
FIXED = (*COMMON, "--log_every", "1", "--learning_rate", "1e-3")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
RESULT = "metrics.json"

Identity = dict[str, str]


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


@dataclasses.dataclass
class Run:
    """A run folder as it has to be."""

    flags: Flags
    identity: Identity
    """What it was made of."""
    predictions: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    """By the digest of the input."""


def differences(then: Identity, now: Identity) -> str:
    """Names of what differs."""
    return ", ".join(name for name in now if then.get(name) != now[name])


class Runs(Checked):
    """Commands on single runs."""

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
        """The command that the line about a stopped run names: it means the run where its folder lies now."""
        try:
            settings = yaml.safe_load((run / "config.yaml").read_text())
            names = tuple(settings["label_names"])
            folder = run if (run / "identity.json").is_file() else Path(settings["output_dir"])
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
            may_be = {"--overwrite", "disk"} & {*words}  # a cache on disk that has no room is refused before all else
            if old and known is not None and not differing and self._is_plain(folder) and not may_be:
                raise Fault("needless", f"{folder}: refused, though nothing changed")
        elif old or "continuing after step" in outcome.out:
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


def _state(path: Path) -> tuple[int, bytes] | None:
    return (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else None
