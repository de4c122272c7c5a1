"""What must hold after every command of benchmarks/walk.py.

lost     no file changes that a command was not asked to write, and none that is a person's, wherever it lies
stale    what a command that exits with 0 calls a result is one of today's rows, weights, tokenizer and flags
wrong    `evaluate` and `predict` give what the run gave before
refusal  a refusal is one line, exit code 2, and leaves everything as it was
needless what did not change is not refused
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from walk_check import Fault
from walk_runs import COMMON, Flags, Identity, Runs, differences
from walk_world import digest

REPORT = ("report.html", "report.md", "report.json", "figures")


class Walked(Runs):
    """All commands."""

    def __init__(self, root: Path, pristine: Path, verbose: bool = False) -> None:
        super().__init__(root, pristine, verbose)
        self.reported: set[Path] = set()
        """Files that a report may write again."""
        self.lines: dict[tuple[Path, str, str], Identity] = {}

    def move(self, folder: Path, target: Path, copied: bool) -> None:
        """A report stays one wherever its folder lies."""
        there = target.exists()
        super().move(folder, target, copied)
        if target.exists() and not there:
            self.reported |= {target / p.relative_to(folder) for p in self.reported if p.is_relative_to(folder)}

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


def _of_report(path: Path, output: Path) -> bool:
    return path.relative_to(output).parts[0] in REPORT
