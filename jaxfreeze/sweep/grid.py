"""Which runs a sweep has: models x tasks x trainable_layers x learning rates x seeds, from a YAML file and flags."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from jaxfreeze.command_config import AXES, PER_RUN, SweepConfig
from jaxfreeze.config import OWN_TASKS, TrainConfig, check_settings
from jaxfreeze.data.tasks import TASKS
from jaxfreeze.errors import InputError, one_of, one_of_names
from jaxfreeze.freezing import Layers, order
from jaxfreeze.metrics import LOWER_IS_BETTER
from jaxfreeze.settings import convert, expected, settings_of, within
from jaxfreeze.strict_yaml import read_yaml

LINE_SEARCH = "line_search"
"""A section that holds other values for some of the axes: the grid of `sweep --line_search`."""
DEFAULTS: dict[str, list[Any]] = {
    "models": [TrainConfig.model],
    "trainable_layers": ["all"],
    "learning_rates": [TrainConfig.learning_rate],
    "seeds": [TrainConfig.seed],
}


class Group(NamedTuple):
    """Runs that differ in seed and learning rate alone: one cut, one trunk."""

    model: str
    task: str
    trainable_layers: Layers
    runs: tuple[TrainConfig, ...]
    tests: Literal["scored", "kept", "untouched"] = "scored"
    """What becomes of the test rows: they are scored, or scored with their logits kept, or left alone."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A whole sweep."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    trainable_layers: tuple[Layers, ...]
    learning_rates: Mapping[str, tuple[float, ...]]
    """By task."""
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    """Training flags that all runs have in common."""

    def groups(self) -> Iterator[Group]:
        """The runs in the order in which they are best made: the cut moves upwards, so that one trunk serves all."""
        depths = sorted(self.trainable_layers, key=order, reverse=True)
        for model, task, layers in itertools.product(self.models, self.tasks, depths):
            runs = tuple(
                TrainConfig(
                    task=task, model=model, trainable_layers=layers, learning_rate=rate, seed=seed, **self.settings
                )
                for rate in self.learning_rates[task]
                for seed in self.seeds
            )
            yield Group(model, task, layers, runs)


def read_grid(file: Path | None, flags: Mapping[str, Any], line_search: bool = False) -> Grid:
    """A grid from a YAML file and from flags, which win over it. Raises InputError that names the key that is wrong."""
    values = read_values(file, flags, line_search)
    grid = make_grid(values, place_of(file), frozenset(flags))
    if grid.settings.get("metric") in LOWER_IS_BETTER:
        where = "--metric" if "metric" in flags else f"{place_of(file)}: metric"
        raise InputError(f"{where}: lower is better; a sweep compares shares of a score, such as r2")
    return grid


def place_of(file: Path | None) -> str:
    """How errors name the file of a sweep, or the command line."""
    return "sweep" if file is None else str(file)


def read_values(file: Path | None, flags: Mapping[str, Any], line_search: bool = False) -> dict[str, Any]:
    """Axes and settings by name, as the file and the flags have them. Raises InputError."""
    values = {} if file is None else dict(read_yaml(file))
    section = values.pop(LINE_SEARCH, None)
    if line_search:
        if not isinstance(section, dict):
            raise InputError(
                f"--line_search: {place_of(file)} has no section {LINE_SEARCH}; expected one with learning_rates"
            )
        surplus = [name for name in section if name not in AXES]
        if surplus:
            axes = one_of_names(AXES, surplus[0])
            raise InputError(f"{place_of(file)}: {LINE_SEARCH}: no setting '{surplus[0]}'; expected {axes}")
        values |= section
    return {**values, **flags}


def make_grid(values: Mapping[str, Any], place: str, flags: frozenset[str] = frozenset()) -> Grid:
    """A grid from settings by name; those in `flags` came from the command line."""

    def where(name: str) -> str:
        return f"--{name}" if name in flags else f"{place}: {name}"

    for name in values:
        check_name(name, where(name))
    if "tasks" not in values:
        raise InputError(f"{where('tasks')}: missing; expected a list such as [rte, mrpc]")
    lists = DEFAULTS | {name: values[name] for name in AXES if name in values}
    tasks = _tasks(lists["tasks"], where("tasks"))
    settings = {
        name: value
        for key in values
        if key not in AXES
        for name, value in check_settings({key: values[key]}, "sweep" if key in flags else place).items()
    }
    grid = Grid(
        _list("models", lists["models"], where("models")),
        tasks,
        _list("trainable_layers", lists["trainable_layers"], where("trainable_layers")),
        _rates(lists["learning_rates"], tasks, where("learning_rates")),
        _list("seeds", lists["seeds"], where("seeds")),
        settings,
    )
    next(grid.groups())  # raises for a setting that no run could have
    return grid


def check_name(name: str, where: str) -> None:
    """Raise InputError for a setting that a sweep does not take."""
    names = [*AXES, *(name for name in settings_of(TrainConfig) if name not in (*AXES, *PER_RUN))]
    if name in PER_RUN[:4]:
        raise InputError(f"{where}: one for each run of a sweep; expected the list {name}s")
    if name not in names:
        raise InputError(f"{where}: no such setting of a sweep; expected {one_of_names(names, str(name))}")


def check_depths(grid: Grid, num_layers: Mapping[str, int]) -> None:
    """Raise InputError for a number of layers that one of the models does not have."""
    for model, layers in num_layers.items():
        too_many = [k for k in grid.trainable_layers if k != "all" and k > layers]
        if too_many:
            raise InputError(
                f"trainable_layers: {too_many[0]} is more than the {layers} layers of the model {model}; "
                f"expected 0 to {layers}, or all"
            )


def _list(axis: str, value: Any, where: str) -> tuple[Any, ...]:
    """The values of an axis, each as its annotation in SweepConfig has it, none twice."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"{where}: expected a list, such as [{value}], found {value!r}")
    if not value:
        raise InputError(f"{where}: the list is empty; expected at least one value")
    kind = get_args(settings_of(SweepConfig)[axis].kind)[0]
    converted = tuple(_item(kind, item, where) for item in value)
    twice = [item for number, item in enumerate(converted) if item in converted[:number]]
    if twice:
        raise InputError(f"{where}: {twice[0]} appears twice; expected each value once")
    return converted


def _item(kind: Any, item: Any, where: str) -> Any:
    try:
        converted = convert(kind, item)
        if converted == "" or not within(kind, converted):
            raise ValueError(item)
    except ValueError:
        raise InputError(f"{where}: expected {expected(kind, item)}, found {item!r}") from None
    return converted


def _rates(value: Any, tasks: Sequence[str], where: str) -> dict[str, tuple[float, ...]]:
    """Learning rates by task, from one list for all or from a mapping."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(tasks, _list("learning_rates", value, where))
    missing = [task for task in tasks if task not in value]
    if missing:
        raise InputError(f"{where}: none for the task {missing[0]}; expected one for each of {', '.join(tasks)}")
    lists = {task: value[task] if isinstance(value[task], list) else [value[task]] for task in tasks}
    return {task: _list("learning_rates", rates, f"{where}: {task}") for task, rates in lists.items()}


def _tasks(value: Any, where: str) -> tuple[str, ...]:
    tasks = _list("tasks", value, where)
    known = (*TASKS, *OWN_TASKS)
    for task in tasks:
        if task not in known:
            raise InputError(f"{where}: '{task}' is not a task; expected {one_of(known, task)}")
    return tasks
