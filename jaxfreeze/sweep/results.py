"""Results of finished runs, read from the results.jsonl of sweeps and from the folders of single runs."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxfreeze.config import as_json, from_yaml
from jaxfreeze.data.tasks import name_of
from jaxfreeze.errors import InputError, shorten
from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.identity import Origin
from jaxfreeze.run_folder import NOT_COMPARED, RunFolder

RESULTS_FILE = "results.jsonl"
RESULTS_FILES = "results*.jsonl"  # those of `sweep --part` too

MAY_DIFFER = (*NOT_COMPARED, "task", "model", "trainable_layers", "trainable", "seed", "learning_rate", "eval_every")
"""Settings in which runs of one curve may differ: the axes of a sweep, and what does not change a score."""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The result of a finished run: one line of results.jsonl."""

    model: str
    task: str
    trainable_layers: Layers
    seed: int
    learning_rate: float
    num_layers: int
    metrics: dict[str, float]
    """Scores as fractions."""
    primary_metric: str
    seconds: dict[str, float]
    parameters: dict[str, int]
    """Numbers of parameters: total, trainable, frozen."""
    flops_per_step: float | None
    side_by_side: int
    """Runs that one program trained together, this one among them; its seconds are its share."""
    config: dict[str, Any]
    """The resolved TrainConfig."""
    versions: dict[str, str]
    devices: str
    date: str
    """ISO date and time, or nothing."""
    place: str
    """File and line that it was read from."""
    origin: Origin | None
    """What it was made of; None if an earlier jaxfreeze made it."""
    validation_loss: float | None = None
    """Mean loss on the validation rows; None if an earlier jaxfreeze made it."""
    threshold: float | None = None
    """Probability above which a class is predicted, for labels that have one."""
    tests: str | None = None
    """What became of the test rows: scored, kept (their logits too) or untouched; None of an earlier jaxfreeze."""
    outcome: str | None = None
    """Digest of its logits for the test rows, if they are kept (outcome_file.py)."""

    @property
    def key(self) -> tuple[str, str, Layers, int, float, int | None]:
        """Distinguishes the runs of a sweep and of a search."""
        epochs = self.config.get("epochs")
        return self.model, self.task, self.trainable_layers, self.seed, self.learning_rate, epochs

    @property
    def task_name(self) -> str:
        """The task as `tasks.name_of` has it."""
        return name_of(self.task, self.config)

    def differences(self, other: "RunResult") -> list[str]:
        """The settings, rows and weights in which two runs of one curve differ and should not."""
        settings = [
            f"{name} {self.config[name]} and {other.config[name]}"
            for name in self.config
            if name not in MAY_DIFFER and name in other.config and self.config[name] != other.config[name]
        ]
        origins = self.origin and other.origin and self.origin.differences(other.origin)
        return [*settings, origins] if origins else settings


class Results(NamedTuple):
    """All results in some folders."""

    runs: list[RunResult]
    notes: list[str]
    """What was left out, and why; a sentence each."""
    diverged: list[dict[str, Any]]
    """The lines of runs whose loss was not finite: trainable_layers, seed, learning_rate, seconds, config."""


def read(folders: Sequence[Path]) -> Results:
    """Every finished run in sweep folders and run folders, each once, in the order in which it was found.

    Raises InputError for a folder without results, for a line that is not a result, for two different results of the
    same run, and if there is no run at all.
    """
    found = Results([], [], [])
    for folder in folders:
        _read_folder(folder, found)
    by_key: dict[tuple[Any, ...], RunResult] = {}
    for run in found.runs:
        first = by_key.setdefault((run.task_name, *run.key), run)
        if first.metrics != run.metrics:
            raise InputError(_two_results(first, run))
    if len(by_key) < len(found.runs):
        found.notes.append(
            f"{counted_runs(len(found.runs) - len(by_key))} listed twice, with the same scores: kept once."
        )
    if not by_key and not found.diverged:
        raise InputError(f"{', '.join(map(str, folders))}: no finished run to report on. {' '.join(found.notes)}")
    return Results(list(by_key.values()), found.notes, found.diverged)


def _two_results(first: RunResult, second: RunResult) -> str:
    others = first.differences(second)
    mend = f"they differ in {', '.join(others)}: report on them one by one" if others else "remove one of the two"
    return (
        f"{second.place}: another result of the run in {first.place} ({first.task} on {first.model}, "
        f"trainable_layers {first.trainable_layers}, seed {first.seed}, learning rate {first.learning_rate:g}): "
        f"{second.primary_metric} {second.metrics[second.primary_metric]} against "
        f"{first.metrics.get(second.primary_metric)}; expected each run once; {mend}"
    )


def _read_folder(folder: Path, found: Results) -> None:
    files = RunFolder(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; expected one of a sweep, with {RESULTS_FILE}, or of a finished run"
        )
    if files_of_sweep := sorted(folder.glob(RESULTS_FILES)):
        for file in files_of_sweep:
            _read_lines(file, found)
    elif files.metrics.is_file() and files.config.is_file():
        record = files.read(files.metrics)
        origin = files.origin()
        if not isinstance(record, dict):
            raise InputError(f"{files.metrics}: expected a JSON object, found {shorten(repr(record))}")
        config = as_json(from_yaml(files.config))
        own = {"config": config, "origin": origin and origin.as_json()}
        _add({"learning_rate": config["learning_rate"], **record, **own}, str(files.metrics), found)
    elif files.config.is_file():
        raise InputError(f"{folder}: this run is not finished, it has no metrics.json; finish it or leave it out")
    else:
        raise InputError(
            f"{folder}: no results in it; expected {RESULTS_FILE} of a sweep, or metrics.json and config.yaml of a run"
        )


def _read_lines(file: Path, found: Results) -> None:
    try:
        *lines, last = file.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    for number, line in enumerate([*lines, last], 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            if number > len(lines):  # no line break after it: the writing was cut off
                found.notes.append(f"{file}, line {number}: cut off while it was written; left out.")
                continue
            raise InputError(
                f"{file}, line {number}: expected one JSON object, found "
                f"{shorten(repr(line.decode('utf-8', 'replace')))} ({error}); remove the line, and the run is done "
                "again by the same sweep command"
            ) from error
        _add(record, f"{file}, line {number}", found)


def _add(record: Any, place: str, found: Results) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{place}: expected a JSON object with the result of a run, found {shorten(repr(record))}")
    if record.get("trainable_layers") is None and record.get("trainable"):
        found.notes.append(f"{place}: trained by --trainable patterns, so it has no number of layers; left out.")
        return
    diverged = record.get("diverged") is True
    for name, (fits, expected) in _FIELDS.items():
        if diverged and name not in _OF_DIVERGED:
            continue
        if not fits(record.get(name)):
            what = shorten(repr(record[name])) if name in record else "none"
            raise InputError(f"{place}: {name}: expected {expected}, found {what}; remove or correct the line")
    if diverged:
        found.diverged.append(record)
        found.notes.append(f"{place}: its loss was not finite; it has no score.")
        return
    layers, num_layers = record["trainable_layers"], record["num_layers"]
    if layers != ALL and layers > num_layers:
        raise InputError(f"{place}: trainable_layers: expected 0 to {num_layers} or all, found {layers}")
    if record["primary_metric"] not in record["metrics"]:
        names = ", ".join(record["metrics"])
        raise InputError(
            f"{place}: primary_metric: expected one of {names}, found {shorten(repr(record['primary_metric']))}"
        )
    fields: dict[str, Any] = {field.name: record.get(field.name) for field in dataclasses.fields(RunResult)}
    fields["config"] = _with_lists(record["config"])
    fields |= {"date": record.get("date") or "", "side_by_side": record.get("side_by_side") or 1, "place": place}
    try:
        fields["origin"] = None if record.get("origin") is None else Origin.from_json(record["origin"])
    except ValueError as error:
        raise InputError(f"{place}: origin: {error}; remove or correct the line") from None
    found.runs.append(RunResult(**fields))


def _with_lists(config: dict[str, Any]) -> dict[str, Any]:
    """A config in which `label_column`, a text or nothing in results of before, is a list."""
    label = config.get("label_column", [])
    return config if isinstance(label, list) else config | {"label_column": [] if label is None else [label]}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _table(value: Any, fits: Callable[[Any], bool], *needed: str) -> bool:
    return isinstance(value, dict) and all(map(fits, value.values())) and all(name in value for name in needed)


_TEXT = (lambda value: isinstance(value, str) and value.strip() != "", "a text")
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": _TEXT,
    "task": _TEXT,
    "primary_metric": _TEXT,
    "devices": _TEXT,
    "num_layers": (lambda value: _whole(value) and value > 0, "a whole number above 0"),
    "trainable_layers": (lambda value: value == ALL or _whole(value), "a whole number or all"),
    "seed": (_whole, "a whole number"),
    "learning_rate": (lambda value: _number(value) and value > 0, "a number above 0"),
    "metrics": (lambda value: _table(value, _number) and bool(value), "finite scores by name"),
    "seconds": (lambda value: _table(value, _number, "total", "train"), "seconds by part, total and train among them"),
    "parameters": (
        lambda value: _table(value, _whole, "total", "trainable", "frozen"),
        "numbers of parameters: total, trainable, frozen",
    ),
    "flops_per_step": (lambda value: value is None or (_number(value) and value > 0), "a number above 0, or none"),
    "side_by_side": (lambda value: value is None or _whole(value), "a whole number, or none"),
    "date": (lambda value: value is None or isinstance(value, str), "an ISO date, or none"),
    "config": (lambda value: isinstance(value, dict), "the settings of the run by name"),
    "versions": (lambda value: _table(value, lambda text: isinstance(text, str)), "versions by package"),
    "validation_loss": (lambda value: value is None or _number(value), "a number, or none"),
    "threshold": (lambda value: value is None or _number(value), "a number, or none"),
    "tests": (lambda value: value in (None, "scored", "kept", "untouched"), "scored, kept or untouched"),
    "outcome": (lambda value: value is None or isinstance(value, str), "a digest, or none"),
}
_OF_DIVERGED = ("model", "task", "trainable_layers", "seed", "learning_rate", "seconds", "config", "tests")


def counted_runs(count: int) -> str:
    """'1 run', '3 runs'."""
    return f"{count} run{'s' * (count != 1)}"
