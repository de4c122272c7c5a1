"""`sweep --find_layers`: one search for each model and task, each in a folder of its own."""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxfreeze import console
from jaxfreeze.command_config import SearchConfig
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.program import program
from jaxfreeze.search.answer import Answer
from jaxfreeze.search.conduct import find_layers
from jaxfreeze.sweep.grid import make_grid, place_of, read_values
from jaxfreeze.sweep.runner import Part, check_part
from jaxfreeze.sweep.workshop import Engine

CHOSEN = ("trainable_layers", "learning_rates")
"""The axes of a sweep whose values a search chooses."""


def find_layers_of_each(
    searches: Mapping[str, TrainConfig],
    search: SearchConfig,
    folder: Path,
    part: Part | None = None,
    engine: Engine | None = None,
) -> list[Answer]:
    """Make the searches, or those of a part, one after the other; each continues where it was stopped.

    searches: the settings, by the name of a search's folder in `folder`. engine: makes the trials; None: they are made
    here. Raises InputError before the first search for a model that cannot be read, and for a SLURM step without parts.
    """
    check_part(part)
    for model in sorted({config.model for config in searches.values()}):
        read_config(model_folder(model))
    answers = []
    own = slice(None) if part is None else slice(part.number - 1, None, part.whole)
    for name, config in list(searches.items())[own]:
        console.say(f"{folder / name}: {config.task} on {config.model}")
        answers.append(find_layers(config, search, folder / name, engine))
    console.say(f"`{program()} report {folder} --output {folder / 'report'}` shows the answers")
    return answers


def read_searches(
    file: Path | None, flags: Mapping[str, Any], search: SearchConfig
) -> tuple[dict[str, TrainConfig], SearchConfig]:
    """The searches of a sweep's YAML file and flags, by the names of their folders, and `search` with their seeds.

    Raises InputError that names the key that is wrong.
    """
    values = read_values(file, flags)
    for axis in CHOSEN:
        if axis in values:
            where = f"--{axis}" if axis in flags else f"{place_of(file)}: {axis}"
            raise InputError(f"{where}: --find_layers chooses among its own; leave it out")
    grid = make_grid(values, place_of(file), frozenset(flags))
    searches: dict[str, TrainConfig] = {}
    for task, model in itertools.product(grid.tasks, grid.models):
        name = f"{task}-{Path(model).name}"
        if name in searches:
            raise InputError(f"models: {searches[name].model} and {model} would share the folder {name}; rename one")
        searches[name] = TrainConfig(task=task, model=model, **grid.settings)
    return searches, dataclasses.replace(search, seeds=grid.seeds) if "seeds" in values else search
