"""Which runs a sweep has: models x tasks x trainable_layers x learning rates x seeds, from a YAML file and flags."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxfreeze.config import FOLDER_FLAGS, TrainConfig, check_settings, read_yaml
from jaxfreeze.data.tasks import OWN_FILES, TASKS
from jaxfreeze.errors import InputError, one_of
from jaxfreeze.freezing import Layers, order

LISTS = ("models", "tasks", "trainable_layers", "learning_rates", "seeds")
"""The axes of a sweep; `learning_rates` may also be a mapping from task to one or several."""
LINE_SEARCH = "line_search"
"""A section that holds other values for some of the axes: the grid of `sweep --line_search`."""
PER_RUN = ("model", "task", "learning_rate", "seed", "trainable", "eval_every", *FOLDER_FLAGS)
"""Settings of one run that a sweep does not take: an axis stands for each of the first four."""
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
    values = {} if file is None else dict(read_yaml(file))
    place = "sweep" if file is None else str(file)
    section = values.pop(LINE_SEARCH, None)
    if line_search:
        if not isinstance(section, dict):
            raise InputError(f"--line_search: {place} has no section {LINE_SEARCH}; expected one with learning_rates")
        surplus = [name for name in section if name not in LISTS]
        if surplus:
            raise InputError(f"{place}: {LINE_SEARCH}: no setting '{surplus[0]}'; expected {one_of(LISTS, surplus[0])}")
        values |= section
    values |= flags
    return make_grid(values, place, frozenset(flags))


def make_grid(values: Mapping[str, Any], place: str, flags: frozenset[str] = frozenset()) -> Grid:
    """A grid from settings by name; those in `flags` came from the command line."""

    def where(name: str) -> str:
        return f"--{name}" if name in flags else f"{place}: {name}"

    names = [field.name for field in dataclasses.fields(TrainConfig) if field.name not in PER_RUN]
    for name in values:
        if name in PER_RUN[:4]:
            raise InputError(f"{where(name)}: one for each run of a sweep; expected the list {name}s")
        if name not in LISTS and name not in names:
            raise InputError(f"{where(name)}: no such setting of a sweep; expected {one_of([*LISTS, *names], name)}")
    if "tasks" not in values:
        raise InputError(f"{where('tasks')}: missing; expected a list such as [rte, mrpc]")
    lists = DEFAULTS | {name: values[name] for name in LISTS if name in values}
    tasks = _list(lists["tasks"], where("tasks"), _task)
    settings = {
        name: value
        for key in values
        if key not in LISTS
        for name, value in check_settings({key: values[key]}, "sweep" if key in flags else place).items()
    }
    grid = Grid(
        _list(lists["models"], where("models"), _text),
        tasks,
        _list(lists["trainable_layers"], where("trainable_layers"), _layers),
        _rates(lists["learning_rates"], tasks, where("learning_rates")),
        _list(lists["seeds"], where("seeds"), _seed),
        settings,
    )
    next(grid.groups())  # raises for a setting that no run could have
    return grid


def check_depths(grid: Grid, num_layers: Mapping[str, int]) -> None:
    """Raise InputError for a number of layers that one of the models does not have."""
    for model, layers in num_layers.items():
        too_many = [k for k in grid.trainable_layers if k != "all" and k > layers]
        if too_many:
            raise InputError(
                f"trainable_layers: {too_many[0]} is more than the {layers} layers of the model {model}; "
                f"expected 0 to {layers}, or all"
            )


def _list(value: Any, where: str, check: Any) -> tuple[Any, ...]:
    """The values of an axis, each checked, none twice."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"{where}: expected a list, such as [{value}], found {value!r}")
    if not value:
        raise InputError(f"{where}: the list is empty; expected at least one value")
    checked = tuple(check(item, where) for item in value)
    twice = [item for number, item in enumerate(checked) if item in checked[:number]]
    if twice:
        raise InputError(f"{where}: {twice[0]} stands there twice; expected each value once")
    return checked


def _rates(value: Any, tasks: Sequence[str], where: str) -> dict[str, tuple[float, ...]]:
    """Learning rates by task, from one list for all or from a mapping."""
    if not isinstance(value, Mapping):
        rates = _list(value, where, _rate)
        return dict.fromkeys(tasks, rates)
    missing = [task for task in tasks if task not in value]
    if missing:
        raise InputError(f"{where}: none for the task {missing[0]}; expected one for each of {', '.join(tasks)}")
    return {
        task: _list(value[task] if isinstance(value[task], list) else [value[task]], f"{where}: {task}", _rate)
        for task in tasks
    }


def _task(item: Any, where: str) -> str:
    if item not in (*TASKS, OWN_FILES):
        raise InputError(f"{where}: '{item}' is not a task; expected {one_of([*TASKS, OWN_FILES], str(item))}")
    return str(item)


def _text(item: Any, where: str) -> str:
    if not isinstance(item, str) or not item:
        raise InputError(f"{where}: expected a hub name or a folder, found {item!r}")
    return item


def _layers(item: Any, where: str) -> Layers:
    if item == "all":
        return "all"
    if not isinstance(item, int) or isinstance(item, bool) or item < 0:
        raise InputError(f"{where}: expected numbers of layers, or all, found {item!r}")
    return item


def _rate(item: Any, where: str) -> float:
    if isinstance(item, str):  # YAML reads 5e-5 as text
        try:
            item = float(item)
        except ValueError:
            raise InputError(f"{where}: expected learning rates such as 5.0e-5, found {item!r}") from None
    if not isinstance(item, (int, float)) or isinstance(item, bool) or not 1e-12 <= item <= 1e6:
        raise InputError(f"{where}: expected learning rates such as 5.0e-5, found {item!r}")
    return float(item)


def _seed(item: Any, where: str) -> int:
    if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < 2**32:
        raise InputError(f"{where}: expected whole numbers from 0 to {2**32 - 1}, found {item!r}")
    return item
