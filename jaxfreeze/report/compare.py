"""`compare`: finished runs side by side: the settings in which they differ, their scores and their costs."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from jaxfreeze import console
from jaxfreeze.config import FOLDER_FLAGS, TrainConfig, as_json, from_yaml
from jaxfreeze.errors import InputError, shorten
from jaxfreeze.identity import Identity
from jaxfreeze.run_folder import RunFolder

NOTHING = "-"
MOST_OF_A_VALUE = 24  # characters of a cell
COUNTS = ("steps", "examples_per_second")
GAP = 2  # columns between two cells


class Run(NamedTuple):
    """What the folder of a finished run says of it."""

    path: Path
    config: TrainConfig
    metrics: Mapping[str, Any]
    """The content of metrics.json."""
    identity: Identity | None
    """None: an earlier jaxfreeze made the run."""


Cells = Mapping[str, Sequence[str]]
"""One section of the table: the name of each line, and its cell for each run."""


def compare(paths: Sequence[Path]) -> None:
    """Print finished runs side by side. Raises InputError that names a folder without one, and a damaged file."""
    runs = [_read(path) for path in paths]
    sections = {title: cells for title, cells in _sections(runs).items() if cells}
    for number, run in enumerate(runs, 1):
        console.say(f"run {number}: {run.path}")
    for block in _blocks(sections, len(runs)):
        console.say("")
        console.console.print(_table(sections, block), soft_wrap=False)
    console.say("")
    for line in _data_lines(runs):
        console.say(line)


def _read(path: Path) -> Run:
    folder = RunFolder(path)
    if not path.is_dir():
        raise InputError(f"{path}: there is no such folder; expected the --output_dir of a finished run")
    if not folder.config.is_file():
        raise InputError(
            f"{path}: holds no run; expected the --output_dir of a finished run (`report` compares searches and sweeps)"
        )
    if not folder.metrics.is_file():
        raise InputError(f"{path}: holds an unfinished run; repeat the command that began it, and it continues")
    metrics = folder.read(folder.metrics)
    _check(metrics, folder.metrics)
    origin = folder.origin()
    return Run(path, from_yaml(folder.config), metrics, origin and origin.identity)


def _check(metrics: Any, file: Path) -> None:
    """Raise InputError unless the scores, seconds and counts of a metrics.json are numbers by name."""
    known = isinstance(metrics, dict) and "metrics" in metrics
    parts = [metrics.get(name, {}) for name in ("metrics", "test_metrics", "seconds", "parameters")] if known else []
    if known:
        parts.append({name: metrics[name] for name in COUNTS if name in metrics})
    values = [part.values() if isinstance(part, dict) else [part] for part in parts]
    if not known or not all(isinstance(value, (int, float)) for value in itertools.chain(*values)):
        raise InputError(f"{file}: expected the scores of a finished run as numbers by name; copy or make it again")


def _sections(runs: Sequence[Run]) -> dict[str, Cells]:
    """The lines of the table, by their title."""
    results = [run.metrics for run in runs]
    return {
        "settings that differ": _settings(runs),
        "scores, validation": _lines([result["metrics"] for result in results], "{:.4f}".format),
        "scores, test": _lines([result.get("test_metrics", {}) for result in results], "{:.4f}".format),
        "parameters": _lines([result.get("parameters", {}) for result in results], "{:,}".format),
        "seconds": _lines([result.get("seconds", {}) for result in results], "{:,.1f}".format),
        "pace": _lines([_pace(result) for result in results], str),
    }


def _settings(runs: Sequence[Run]) -> Cells:
    """Settings with two values or more; those about the folder of a run change nothing in it and are left out."""
    settings = [as_json(run.config) for run in runs]
    names = [name for name in settings[0] if name not in FOLDER_FLAGS]
    found = {name: [_shown(values[name]) for values in settings] for name in names}
    return {name: cells for name, cells in found.items() if len(set(cells)) > 1}


def _pace(result: Mapping[str, Any]) -> dict[str, str]:
    """What training took part in: steps, examples a second, the device."""
    figures = {name: f"{result[name]:,.0f}" for name in COUNTS if name in result}
    return {**figures, **{name: str(result[name]) for name in ("cache", "devices") if name in result}}


def _lines(values: Sequence[Mapping[str, Any]], shown: Callable[[Any], str]) -> Cells:
    """A line for each name that any run has."""
    names = dict.fromkeys(name for one in values for name in one)
    return {name: [shown(one[name]) if name in one else NOTHING for one in values] for name in names}


def _shown(value: Any) -> str:
    """A setting as a flag takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return NOTHING if value in (None, []) else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _blocks(sections: Mapping[str, Cells], count: int) -> Iterator[range]:
    """Numbers of the runs that fit side by side, from 0."""
    rows = [(name, *cells) for lines in sections.values() for name, cells in lines.items()]
    names = max(len(text) for text in (*sections, *(row[0] for row in rows)))
    widest = max(len(shorten(cell, MOST_OF_A_VALUE)) for row in rows for cell in row[1:])
    fit = max((console.console.width - names) // (max(widest, len(f"run {count}")) + GAP), 1)
    yield from (range(first, min(first + fit, count)) for first in range(0, count, fit))


def _table(sections: Mapping[str, Cells], runs: range) -> Table:
    """One block: all sections, for these runs. Longer values are folded within their column."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    table.add_column("", overflow="fold")
    for number in runs:
        table.add_column(f"run {number + 1}", justify="right", overflow="fold")
    for title, lines in sections.items():
        table.add_row(title, style="bold")
        for name, cells in lines.items():
            table.add_row(f"  {name}", *(cells[number] for number in runs))
    return table


def _data_lines(runs: Sequence[Run]) -> list[str]:
    """In which data each run differs from the first, in a line each; one line if in none."""
    lines, first = [], runs[0].identity
    for number, run in enumerate(runs[1:], 2):
        if first is not None and run.identity is not None and (found := first.differences(run.identity)):
            words = [difference.partition(" (")[0] for difference in found]  # without the classes themselves
            scored = any(word.endswith("rows") and word != "training rows" for word in words)
            apart = ": do not compare their scores" if scored or "classes" in words else ""
            lines.append(f"run {number} had other {', '.join(words)} than run 1{apart}")
    for number, run in enumerate(runs, 1):
        if run.identity is None:
            lines.append(f"run {number}: an earlier jaxfreeze made it; its rows and weights are not compared")
    return lines or ["the same rows, classes, tokenizer and pretrained weights in all runs"]
