"""What commands are told beside the settings of one run: a search, the processes of a cluster, a sweep."""

import dataclasses
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from jaxfreeze.config import BEST_FLAGS, FOLDER_FLAGS, MAX_SEED, File, Folder, TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.settings import Takes, check_limits

AXES = ("models", "tasks", "trainable_layers", "learning_rates", "seeds")
"""The axes of a sweep."""
PER_RUN = ("model", "task", "learning_rate", "seed", "trainable", "eval_every", *FOLDER_FLAGS, *BEST_FLAGS)
"""Settings of one run that a sweep does not take; an axis stands for each of the first four."""


BUDGET = "a number above 1, a multiple of the full model's cost, or seconds such as 900s"


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The search for the smallest number of layers that is enough, each with a learning rate of its own."""

    find_layers: Annotated[float, Takes("SHARE", 1e-9, 1 - 1e-9, "a share between 0 and 1, such as 0.9")] | None = None
    """Find the smallest k that keeps this share of the best score found, above a constant answer's."""
    within: Annotated[float, Takes("POINTS", 0, 100)] = 1.0
    """Points below the best score that count as good."""
    confidence: Annotated[float, Takes("SHARE", 1e-9, 1 - 1e-9, "a share between 0 and 1, such as 0.9")] = 0.8
    """Probability, over seeds and test rows, with which the share must be kept."""
    selection_share: Annotated[float, Takes("SHARE", 1e-6, 0.9)] = 0.1
    """Share of the training rows held out for choosing learning rates and epochs; test rows are not used for that."""
    seeds: Annotated[tuple[int, ...], Takes(expected="whole numbers, each once")] = ()
    """Seeds of the final runs of each k (default: 1 to 3; 1 to 5 for k = 0 and 1)."""
    budget: Annotated[int | float | str, Takes("X|Xs", expected=BUDGET)] = 2
    """Limit on training and scoring: a multiple of tuning and running the full model alone, or seconds, as in 900s."""
    protocol: Literal["honest", "paper"] = "honest"
    """paper: one --learning_rate for every k, scored on the rows that chose it."""

    def __post_init__(self) -> None:
        check_limits(self)
        if len(set(self.seeds)) < len(self.seeds) or not all(0 <= seed <= MAX_SEED for seed in self.seeds):
            raise InputError(f"--seeds {' '.join(map(str, self.seeds))}: expected whole numbers, each once")
        if not (self.budget_seconds or (isinstance(self.budget, (int, float)) and 1 < self.budget < math.inf)):
            raise InputError(f"--budget {self.budget}: expected {BUDGET}")
        if self.protocol == "paper" and self.budget_seconds:
            raise InputError(f"--budget {self.budget}: with --protocol paper expected a multiple, such as 2")
        if self.protocol == "honest" and len(self.seeds) == 1:
            raise InputError(f"--seeds {self.seeds[0]}: one seed does not show how seeds differ; give two or more")

    @property
    def budget_seconds(self) -> float | None:
        """The budget, if it is in seconds."""
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s", str(self.budget))
        return float(found[1]) or None if found else None


def check_search(search: SearchConfig, given: Collection[str]) -> None:
    """Raise InputError for a flag, among those given, that a search does not take."""
    _check_share(search, given)
    cluster = [field.name for field in dataclasses.fields(ClusterConfig)]
    per_run = {"trainable_layers", "trainable", "seed", "eval_every", *FOLDER_FLAGS, *BEST_FLAGS} - {"output_dir"}
    if surplus := {*given} & {*per_run, *cluster}:
        raise InputError(f"--{min(surplus)}: not with --find_layers, which tries numbers of layers and --seeds itself")
    if search.protocol == "honest" and "learning_rate" in given:
        raise InputError(
            "--learning_rate: --find_layers chooses it for every k; leave it out, or give --protocol paper"
        )


def check_searches(search: SearchConfig, given: Collection[str]) -> None:
    """Raise InputError for a flag, among those given, that a sweep of searches does not take."""
    _check_share(search, given)
    for flag in ("dry_run", "line_search"):
        if flag in given:
            raise InputError(f"--{flag}: not with --find_layers, whose runs follow from what the earlier ones show")


def _check_share(search: SearchConfig, given: Collection[str]) -> None:
    if search.find_layers is None:
        names = {field.name for field in dataclasses.fields(SearchConfig)} & {*given}
        raise InputError(f"--{min(names)}: only with --find_layers")


def folder_of_search(config: TrainConfig) -> Path:
    """Where a search lies."""
    return Path(config.output_dir or f"runs/find_layers-{config.task}-{Path(config.model).name}")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """How the processes of one run find each other; TPU pods and SLURM steps need none of it."""

    coordinator: Annotated[str, Takes("HOST:PORT")] | None = None
    """Address of the first process."""
    num_processes: Annotated[int, Takes(low=1, expected="a whole number of at least 1")] | None = None
    """Number of processes."""
    process_id: Annotated[int, Takes(expected="a whole number, 0 in the first process")] | None = None
    """The number of this process, from 0."""

    def __post_init__(self) -> None:
        values = dataclasses.asdict(self)
        missing = [name for name, value in values.items() if value is None]
        if len(missing) == len(values):
            return
        if missing:
            raise InputError(f"--{missing[0]}: expected one value; several processes take --{', --'.join(values)}")
        if not re.fullmatch(r"[^:\s]+:\d{1,5}", str(self.coordinator)):
            raise InputError(
                f"--coordinator {self.coordinator}: expected HOST:PORT of the first process, such as 10.0.0.2:8476"
            )
        check_limits(self)
        if self.process_id not in range(self.num_processes or 0):
            count = self.num_processes or 0
            raise InputError(
                f"--process_id {self.process_id}: expected 0 to {count - 1}, each in one of the {count} processes"
            )


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """Train every combination of models, tasks, numbers of layers, learning rates and seeds.

    Give the axes and any training flag in the YAML file or on the command line, which wins. The same command continues
    a sweep that was stopped.
    """

    output_dir: Folder
    """Folder for results.jsonl."""
    config: File | None = None
    """YAML file of the axes and of training flags; flags win over it."""
    dry_run: bool = False
    """Print the plan and its cost; train nothing."""
    line_search: bool = False
    """Run the file's section line_search instead."""
    part: Annotated[str, Takes("I/N")] | None = None
    """Make only the I-th of N parts; `report` merges them."""
    engine: Annotated[Literal["local", "ray"], Takes(expected="one of local, ray")] = "local"
    """Where the runs are trained: on this machine, or on free nodes of the Ray cluster at $RAY_ADDRESS."""
    models: tuple[Annotated[str, Takes("MODEL", expected="a hub name or a folder", path=True)], ...] = ()
    """Axis: hub names, local folders, or `demo`."""
    tasks: tuple[Annotated[str, Takes("TASK")], ...] = ()
    """Axis: tasks, as --task of `train` takes them."""
    trainable_layers: tuple[
        Annotated[int | Literal["all"], Takes("K", low=0, expected="numbers of layers, or all")], ...
    ] = ()
    """Axis: how many of the last encoder layers train; all: the embeddings too."""
    learning_rates: tuple[Annotated[float, Takes("RATE", 1e-12, 1e6, "learning rates such as 5.0e-5")], ...] = ()
    """Axis: peak learning rates; a YAML file may also map tasks to theirs."""
    seeds: tuple[Annotated[int, Takes("N", 0, MAX_SEED, f"whole numbers from 0 to {MAX_SEED}")], ...] = ()
    """Axis: seeds."""

    def __post_init__(self) -> None:
        parts = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.part or "1/1")
        if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
            raise InputError(f"--part {self.part}: expected I/N with I from 1 to N, such as 3/16")
