"""How the runs of a report were made: settings, versions, data, and deviations from the paper's protocol."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxfreeze.config import FOLDER_FLAGS
from jaxfreeze.data.holdout import SHARE
from jaxfreeze.data.tasks import HUB, OWN_FILES
from jaxfreeze.report.document import Table, Value
from jaxfreeze.report.reference import LEARNING_RATES, authors_epochs, authors_model
from jaxfreeze.search.terms import TASKS, listed
from jaxfreeze.sweep.results import RunResult, counted_runs

PAPER: dict[str, Any] = {
    "weight_decay": 0.0,
    "warmup_ratio": 0.0,
    "batch_size": 16,
    "max_length": 128,
    "max_grad_norm": 1.0,
    "dtype": "float32",
}
"""Settings of all of the authors' runs."""

SHOWN_VALUES = 12


def settings(found: Sequence[RunResult]) -> Table:
    """Every setting with its value, or all of its values if runs differ."""
    names = dict.fromkeys(name for run in found for name in run.config)
    rows = []
    for name in names:
        values = _distinct(run.config.get(name) for run in found)
        if name in FOLDER_FLAGS or values in ([None], [[]]):
            continue
        shown = ", ".join("none" if value is None else _text(value) for value in values[:SHOWN_VALUES])
        more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
        rows.append([Value(name), Value(f"{shown}{more}"), Value("all runs" if len(values) == 1 else "differs")])
    return Table(
        "Settings of the runs. Settings that are not listed were not set.", ["setting", "value", "shared"], rows
    )


def versions(found: Sequence[RunResult]) -> list[tuple[str, str]]:
    """Devices, versions and dates; the number of runs for each device if there are several."""
    devices = _distinct(run.devices for run in found)
    items = [("Devices", "; ".join(_counted(device, [run.devices for run in found], devices) for device in devices))]
    names = dict.fromkeys(name for run in found for name in run.versions)
    each = (f"{name} {', '.join(_distinct(run.versions.get(name, 'none') for run in found))}" for name in names)
    items.append(("Versions", "; ".join(each) or "not recorded"))
    dates = sorted(run.date[:10] for run in found if run.date)
    if dates:
        items.append(("Dates", dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"))
    return items


def sources(found: Sequence[RunResult]) -> list[tuple[str, str]]:
    """Files of the results, and the source of each task's data."""
    files = _distinct(run.place.split(", line ")[0] for run in found)
    counts = [f"{name} ({counted_runs(sum(run.place.split(', line ')[0] == name for run in found))})" for name in files]
    items = [("Results", ", ".join(counts))]
    by_task = {run.task_name: run for run in reversed(found)}
    for task in _distinct(run.task_name for run in found):
        places = _distinct(_source(run) for run in found if run.task_name == task)
        items.append((TASKS.get(by_task[task].task, task), "; ".join(places)))
    return items


def _source(run: RunResult) -> str:
    config = run.config
    if run.task == OWN_FILES:
        return (
            f"own files: {config.get('train_file')} to train, {config.get('validation_file') or _held(config)} to score"
        )
    if run.task == HUB:
        rows = config.get("validation_split") or "its validation split, or rows held out,"
        return f"{config.get('dataset')} of the Hugging Face hub: {config.get('train_split')} to train, {rows} to score"
    if run.task == "demo":
        return "sentences that jaxfreeze generates"
    where = f"the folder {config['data_dir']}" if config.get("data_dir") else "the Hugging Face hub (nyu-mll/glue)"
    scored = _held(config) if config.get("validation_share") else "its dev split"
    return f"GLUE, its train split to train and {scored} to score, from {where}"


def _held(config: Mapping[str, Any]) -> str:
    return (
        f"rows held out of it (share {config.get('validation_share') or SHARE:g}, seed {config.get('split_seed', 0)})"
    )


def deviations(found: Sequence[RunResult]) -> list[tuple[str, str]]:
    """Deviations from the paper's protocol."""
    dropout = _distinct(run.config.get("frozen_dropout") for run in found)
    items = [
        (
            "Dropout in the frozen layers",
            {(True,): "on, as in the paper's runs", (False,): "off; in the paper's runs it was on"}.get(
                tuple(dropout), "on in some runs, off in others; in the paper's runs it was on"
            ),
        ),
        (
            "Gradient norm for clipping",
            "over the trained parameters; in the paper's runs the gradients of the frozen ones counted too",
        ),
        (
            "Full model",
            "biases and LayerNorms train; in the paper's runs of the full model they probably did not",
        ),
    ]
    if any(run.task == "cola" for run in found):
        items.append((
            "CoLA",
            "the plain Matthews correlation; from 6 November 2019 on the authors' score had one right positive and one "
            "right negative appended",
        ))  # fmt: skip
    for name, paper in PAPER.items():
        values = _distinct(run.config.get(name) for run in found)
        if values not in ([paper], [None]):
            items.append((name, f"{_listed(values)}; in the paper's runs {_text(paper)}"))
    return items + _epochs(found) + _rates(found)


def _epochs(found: Sequence[RunResult]) -> list[tuple[str, str]]:
    items = []
    for model in _distinct(run.model for run in found):
        own = [run.config for run in found if run.model == model]
        values = _distinct(config.get("epochs") for config in own)
        steps = _distinct(config.get("max_steps") for config in own)
        family, paper = authors_epochs(model)
        if steps != [None]:
            items.append((f"Length of training, {model}", f"max_steps {_listed(steps)}; in the paper {paper} epochs"))
        elif values != [paper]:
            items.append((f"Epochs, {model}", f"{_listed(values)}; in the paper {paper} for {family}"))
    return items


def _rates(found: Sequence[RunResult]) -> list[tuple[str, str]]:
    items = []
    for model, task in _distinct((run.model, run.task) for run in found):
        own = [run for run in found if (run.model, run.task) == (model, task)]
        name = authors_model(model, own[0].num_layers)
        rates = _distinct(run.learning_rate for run in own)
        paper = LEARNING_RATES.get(name or "", {}).get(task)
        if paper is not None and rates != [paper]:
            items.append((
                f"Learning rate, {model}, {TASKS[task]}",
                f"{_listed(rates)}; the authors chose {paper:g} by a search with the full model",
            ))  # fmt: skip
    return items


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once; numbers sorted, others in the order of their first use."""
    once: list[Any] = []
    for value in values:
        if value not in once:
            once.append(value)
    return sorted(once) if all(isinstance(value, (int, float)) for value in once) else once


def _counted(value: str, all_values: Sequence[str], distinct: Sequence[str]) -> str:
    return value if len(distinct) == 1 else f"{value} ({counted_runs(all_values.count(value))})"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _listed(values: Sequence[Any]) -> str:
    return listed([_text(value) for value in values])
