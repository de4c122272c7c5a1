"""Runs a sweep: groups of runs over one trunk, side by side where that is faster; a line in results.jsonl for each."""

import datetime
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jaxfreeze import console, devices, freezing, processes
from jaxfreeze.config import TrainConfig, as_json
from jaxfreeze.errors import InputError
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.run_folder import NOT_COMPARED, check_writable
from jaxfreeze.sweep import results
from jaxfreeze.sweep.grid import Grid, Group, check_depths
from jaxfreeze.training.run import Run

IDENTITY = ("model", "task", "train_file", "trainable_layers", "seed", "learning_rate")
MEMORY_SHARE = 0.5  # of the free device memory: what runs side by side may take
BYTES_OF_A_PARAMETER = 16  # of a trained one: itself, its gradient, and Adam's two moments, float32
BLOCK = 1 << 16  # bytes of results read at a time, from their end
ACTIVATIONS = 40  # values of width D that one trained layer keeps for each token until its gradient is computed


class DivergedError(Exception):
    """The loss of some runs of a sweep was not finite; the others are finished."""


class Part(NamedTuple):
    """The share of a sweep that one of several machines makes: part `number`, from 1, of `whole`."""

    number: int
    whole: int

    def of(self, groups: Sequence[Group]) -> list[Group]:
        """Neighbouring groups, so that most of them share a trunk; as many runs in each part as can be."""
        if not groups:
            return []
        runs = np.array([len(group.runs) for group in groups])
        part = (runs.cumsum() - runs / 2) * self.whole // runs.sum()  # by the middle of each group
        return [group for group, number in zip(groups, part, strict=True) if number == self.number - 1]


class ResultsFile:
    """The results of one sweep: what is there already, and appending a line that is whole or not there.

    A part of a sweep has a file of its own.
    """

    def __init__(self, folder: Path, part: Part | None = None) -> None:
        name = results.RESULTS_FILE if part is None else f"results.{part.number}-of-{part.whole}.jsonl"
        self.path = folder / name
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--output_dir {folder}: expected a folder, found a file; give another name")
        files = list(folder.glob(results.RESULTS_FILES)) if folder.is_dir() else []
        if folder.is_dir() and any(folder.iterdir()) and not files:
            raise InputError(f"--output_dir {folder}: the folder is not empty and holds no sweep; give another name")
        check_writable(folder)
        self.notes: list[str] = []
        self.done: dict[tuple[Any, ...], dict[str, Any]] = {}
        if any(b"\n" in file.read_bytes() for file in files):
            found = results.read([folder])
            self.notes = found.notes
            self.done = {_identity(run.config): run.config for run in found.runs}

    def has(self, config: TrainConfig) -> bool:
        """Whether this run is there. Raises InputError if it is there with other settings."""
        asked = as_json(config)
        before = self.done.get(_identity(asked))
        if before is None:
            return False
        differing = [
            f"{name} was {before.get(name)}, is {value}"
            for name, value in asked.items()
            if name not in NOT_COMPARED and before.get(name) != value
        ]
        if differing:
            raise InputError(f"{self.path}: holds other runs ({'; '.join(differing)}); give another --output_dir")
        return True

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line and have it on disk; a torn last line, of a process that was killed, is removed first."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                file.truncate(_end_of_lines(file))
                file.write((json.dumps(record) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written to ({error.strerror}); the lines before stay") from error


def _end_of_lines(file: BinaryIO) -> int:
    """Where the last whole line of a file ends; read from the end, since a long sweep asks for it often."""
    place = file.seek(0, os.SEEK_END)
    while place:
        begin = max(0, place - BLOCK)
        file.seek(begin)
        found = file.read(place - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        place = begin
    return 0


def _identity(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells the runs of a sweep apart."""
    return tuple(config.get(name) for name in IDENTITY)


def sweep(
    grid: Grid, folder: Path, dry_run: bool = False, part: Part | None = None, engine: "Engine | None" = None
) -> None:
    """Make every run of the grid, or of a part of it, that is not in the folder's results yet.

    Raises InputError for a grid or a folder that cannot be, DivergedError when all others are done.
    """
    check_depths(grid, {model: read_config(model_folder(model)).num_hidden_layers for model in grid.models})
    if part is None and processes.in_slurm_step():
        raise InputError(
            "every task of this SLURM step would make the whole sweep; give each its own, as in: "
            "--part $((SLURM_PROCID + 1))/$SLURM_NTASKS"
        )
    groups = list(grid.groups())
    run_groups(groups if part is None else part.of(groups), folder, dry_run, part, engine)
    if not dry_run:
        console.say(f"`python run.py report {folder} --output {folder / 'report'}` shows the results")


def run_groups(
    groups: Sequence[Group],
    folder: Path,
    dry_run: bool = False,
    part: Part | None = None,
    engine: "Engine | None" = None,
) -> None:
    """Make the runs of these groups that are not in the folder's results yet."""
    file = ResultsFile(folder, part)
    for note in file.notes:
        console.say(note)
    missing = [group._replace(runs=tuple(run for run in group.runs if not file.has(run))) for group in groups]
    missing = [group for group in missing if group.runs]
    total, count = sum(len(group.runs) for group in groups), sum(len(group.runs) for group in missing)
    console.say(f"{folder}: {total} runs, {total - count} of them finished, {count} to do")
    if dry_run:
        from jaxfreeze.sweep.plan import describe_plan

        describe_plan(missing)
        return
    diverged: list[str] = []
    with SweepProgress(missing) as progress:
        for outcome in (engine or make_groups)(missing, progress):
            for record in outcome.records:
                file.append(record)
                progress.finished(record)
            diverged += outcome.diverged
    if diverged:
        raise DivergedError(f"the loss was not finite, try a lower learning rate: {'; '.join(diverged)}")


class Outcome(NamedTuple):
    """What became of some runs."""

    records: list[dict[str, Any]]
    """A line of results.jsonl each."""
    diverged: list[str]
    """Those whose loss was not finite, in words."""


Engine = Callable[[Sequence[Group], "SweepProgress"], Iterator[Outcome]]
"""Makes the runs of groups, somewhere, and says what became of them."""


def make_groups(groups: Sequence[Group], progress: "SweepProgress") -> Iterator[Outcome]:
    """Make the runs of these groups here, one program after the other."""
    for group in groups:
        run = None
        for configs in in_parts(group):
            progress.begin(group, len(configs))
            alike = run is not None and len(configs) == len(run.configs)
            run = run.like(configs) if run is not None and alike else Run.prepare(configs)
            yield train_together(run, progress)
        jax.clear_caches()  # on a CPU a program takes hundreds of memory maps, and a process may have 65,530


def in_parts(group: Group) -> Iterator[tuple[TrainConfig, ...]]:
    """The runs of a group, as many at a time as are trained side by side."""
    width = side_by_side(group)
    for first in range(0, len(group.runs), width):
        yield group.runs[first : first + width]


def side_by_side(group: Group) -> int:
    """How many runs of a group go into one program: on an accelerator as many as fit its memory.

    One on a CPU: a single run keeps its cores busy already.
    """
    if jax.default_backend() == "cpu":
        return 1
    config = group.runs[0]
    encoder = read_config(model_folder(config.model))
    width, layers = encoder.hidden_size, encoder.num_hidden_layers
    trained = layers if group.trainable_layers == "all" else group.trainable_layers
    parameters = trained * 12 * width**2 + (encoder.vocab_size * width if group.trainable_layers == "all" else 0)
    activations = config.batch_size * config.max_length * width * 4 * ACTIVATIONS * max(1, trained)
    room = MEMORY_SHARE * devices.free_bytes(devices.data_mesh())
    return max(1, min(len(group.runs), int(room // (BYTES_OF_A_PARAMETER * parameters + activations))))


def train_together(run: Run, progress: "SweepProgress") -> Outcome:
    """Train runs side by side, or a single one."""
    configs = run.configs
    progress.steps_of(run)
    before = freezing.digests(run.model.frozen)
    compiled = run.get_ready()
    trained = run.train(compiled, progress)
    freezing.check_unmoved(before, freezing.digests(run.model.frozen))
    cost = compiled.cost_analysis() or {}
    flops = cost.get("flops", 0.0) / len(configs)
    scored = {}
    for number in range(len(configs)):
        if number not in run.diverged:
            leaves = {p: leaf[number] for p, leaf in trained.items()} if run.side_by_side else trained
            scored[number] = run.evaluate(leaves)
    run.watch.begin(None)
    records = [
        {
            **run.result(metrics, number),
            "learning_rate": configs[number].learning_rate,
            "config": as_json(configs[number]),
            "flops_per_step": flops or None,
            "side_by_side": len(configs),
            "frozen_digest": freezing.digest_of(before),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        for number, metrics in scored.items()
    ]
    diverged = [f"{c.task} {c.model} k={c.trainable_layers} seed {c.seed} learning rate {c.learning_rate:g}"
                for number, c in enumerate(configs) if number in run.diverged]  # fmt: skip
    return Outcome(records, diverged)


class SweepProgress:
    """One view for a whole sweep: a moving line on a terminal, a plain line for each finished run elsewhere."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """groups: what is to be made."""
        self.runs, self.done, self._start = sum(len(group.runs) for group in groups), 0, time.perf_counter()
        self._now, self._together, self._steps = "", 1, 1
        layers = {model: read_config(model_folder(model)).num_hidden_layers for model in {g.model for g in groups}}
        self._work = sum(len(group.runs) * work_of(group.trainable_layers, layers[group.model]) for group in groups)
        self._work_done = 0.0
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}"))
        self._bar = Progress(*columns, console=console.console, disable=not console.console.is_terminal)
        self._task = self._bar.add_task("sweep", total=self.runs, now="")

    def __enter__(self) -> "SweepProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, group: Group, together: int) -> None:
        """These runs are next."""
        self._together = together
        self._now = f"{group.task} on {Path(group.model).name}, k = {group.trainable_layers}"
        self._bar.update(self._task, now=self._now)

    def steps_of(self, run: Run) -> None:
        """The runs have this many steps."""
        self._steps = run.total_steps

    def start(self) -> None:
        """The first step begins now."""

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """After `step` optimizer steps."""
        part = self._together * step / self._steps
        self._bar.update(self._task, completed=self.done + part, now=f"{self._now}  loss {figures['loss']:.4f}")

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Not asked for within a sweep."""

    def finished(self, record: Mapping[str, Any]) -> None:
        """One run is in the file."""
        metric = record["primary_metric"]
        self.done += 1
        self._bar.update(self._task, completed=self.done)
        self._work_done += work_of(record["trainable_layers"], record["num_layers"])
        left = (time.perf_counter() - self._start) * (self._work / self._work_done - 1)
        console.say(
            f"{self.done}/{self.runs}  {record['task']} on {Path(record['model']).name}, "
            f"k = {record['trainable_layers']}, seed {record['seed']}, learning rate {record['learning_rate']:g}: "
            f"{metric} {record['metrics'][metric]:.4f}  "
            f"(about {datetime.timedelta(seconds=round(max(0.0, left)))} left)"
        )


def work_of(trainable_layers: freezing.Layers, num_layers: int) -> float:
    """About how long a run takes, in units of a trained layer: to say how much of a sweep is left."""
    return 0.5 + (num_layers + 1 if trainable_layers == freezing.ALL else trainable_layers)
