"""Makes the runs of a sweep: in groups that share a trunk, side by side where that is faster."""

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxfreeze import console, devices, freezing, processes
from jaxfreeze.config import TrainConfig, as_json
from jaxfreeze.data.sources import from_standard_input
from jaxfreeze.errors import InputError
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.sweep.grid import Grid, Group, check_depths
from jaxfreeze.sweep.progress import SweepProgress
from jaxfreeze.sweep.results import RESULTS_FILE
from jaxfreeze.sweep.results_file import ResultsFile
from jaxfreeze.training.experiment import (
    Experiment,
    alike,
    begin,
    compile_steps,
    evaluate,
    get_ready,
    prepare,
    score_tests,
)
from jaxfreeze.training.hooks import LogHook
from jaxfreeze.training.loop import fit
from jaxfreeze.training.stopwatch import Stopwatch
from jaxfreeze.training.summary import result_of

MEMORY_SHARE = 0.5  # of the free device memory: what runs side by side may take
BYTES_OF_A_PARAMETER = 16  # of a trained one: itself, its gradient, and Adam's two moments, float32
ACTIVATIONS = 40  # values of width D that one trained layer keeps for each token until its gradient is computed


class DivergedError(Exception):
    """The loss of some runs of a sweep was not finite; the others are finished."""


class Part(NamedTuple):
    """The share of a sweep that one of several machines makes: part `number`, from 1, of `whole`."""

    number: int
    whole: int

    @property
    def file_name(self) -> str:
        """The results file of this part."""
        return f"results.{self.number}-of-{self.whole}.jsonl"

    def of(self, groups: Sequence[Group]) -> list[Group]:
        """The groups of this part: neighbours, most of which share a trunk; parts have about as many runs each."""
        if not groups:
            return []
        runs = np.array([len(group.runs) for group in groups])
        part = (runs.cumsum() - runs / 2) * self.whole // runs.sum()  # by the middle of each group
        return [group for group, number in zip(groups, part, strict=True) if number == self.number - 1]


def sweep(
    grid: Grid, folder: Path, dry_run: bool = False, part: Part | None = None, engine: "Engine | None" = None
) -> None:
    """Make every run of the grid, or of a part of it, that is not in the folder's results yet.

    Raises InputError for a grid that no model fits or a folder that is in use, and DivergedError once all others are
    done.
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
    """Make the runs of these groups that are not in the folder's results yet. Raises InputError."""
    if any(from_standard_input(run) for group in groups for run in group.runs):
        raise InputError("standard input can be read once, but every group of runs reads the rows; give a file")
    file = ResultsFile(folder, RESULTS_FILE if part is None else part.file_name)
    if dry_run:
        from jaxfreeze.sweep.plan import describe_plan

        describe_plan(_missing(groups, file, engine))
        return
    diverged: list[str] = []
    with file.locked():
        missing = _missing(groups, file, engine)
        with SweepProgress(missing) as progress:
            for outcome in (engine or make_groups)(missing, progress):
                for record in outcome.records:
                    file.append(record)
                    progress.finished(record)
                diverged += outcome.diverged
    if diverged:
        raise DivergedError(f"the loss was not finite, try a lower learning rate: {'; '.join(diverged)}")


def _missing(groups: Sequence[Group], file: ResultsFile, engine: "Engine | None") -> list[Group]:
    """What is left of the groups without the runs whose results are there; says how many there are of each."""
    file.read()
    for note in file.notes:
        console.say(note)
    finished = [run for group in groups for run in group.runs if file.has(run)]
    file.check_origins(finished, elsewhere=engine not in (None, make_groups))
    missing = [group._replace(runs=tuple(run for run in group.runs if not file.has(run))) for group in groups]
    total = sum(len(group.runs) for group in groups)
    console.say(f"{file.folder}: {total} runs, {len(finished)} of them finished, {total - len(finished)} to do")
    return [group for group in missing if group.runs]


class Outcome(NamedTuple):
    """The outcome of some runs."""

    records: list[dict[str, Any]]
    """A line of results.jsonl each."""
    diverged: list[str]
    """The runs whose loss was not finite, described."""


Engine = Callable[[Sequence[Group], SweepProgress], Iterator[Outcome]]
"""Makes the runs of groups, here or elsewhere, and yields their outcomes as they end."""


def make_groups(groups: Sequence[Group], progress: SweepProgress) -> Iterator[Outcome]:
    """Make the runs of these groups here, one program after the other."""
    for group in groups:
        experiment = None
        for configs in in_parts(group):
            progress.begin(group, len(configs))
            watch = Stopwatch()
            experiment = prepare(configs, watch) if experiment is None else alike(experiment, configs)
            experiment, outcome = train_together(experiment, watch, progress)
            yield outcome
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
    if devices.platform() == "cpu":
        return 1
    config = group.runs[0]
    encoder = read_config(model_folder(config.model))
    width, layers = encoder.hidden_size, encoder.num_hidden_layers
    trained = layers if group.trainable_layers == "all" else group.trainable_layers
    parameters = trained * 12 * width**2 + (encoder.vocab_size * width if group.trainable_layers == "all" else 0)
    activations = config.batch_size * config.max_length * width * 4 * ACTIVATIONS * max(1, trained)
    room = MEMORY_SHARE * devices.free_bytes(devices.data_mesh())
    return max(1, min(len(group.runs), int(room // (BYTES_OF_A_PARAMETER * parameters + activations))))


def train_together(experiment: Experiment, watch: Stopwatch, progress: SweepProgress) -> tuple[Experiment, Outcome]:
    """Train runs side by side, or a single one -> the experiment with its cache filled, and what became of the runs."""
    progress.steps_of(experiment.total_steps)
    state = begin(experiment)
    experiment = get_ready(experiment, state, watch)
    cost = compile_steps(experiment, state).cost_analysis() or {}
    flops = cost.get("flops", 0.0) / len(experiment.configs)
    log = LogHook(experiment, state, progress)
    with watch.part("train"):
        state = fit(experiment, state, [log])
    with watch.part("load"):
        freezing.check_unmoved(experiment.frozen_digests, freezing.digests(experiment.model.frozen))
    scored = {}
    with watch.part("eval"):
        for number in range(len(experiment.configs)):
            if number not in log.diverged:
                trained = state.trained
                leaves = {p: leaf[number] for p, leaf in trained.items()} if experiment.side_by_side else trained
                metrics = evaluate(experiment, leaves)
                scored[number] = metrics, score_tests(experiment, leaves, metrics)
    records = [
        {
            **result_of(experiment, state.progress, watch, metrics, test_metrics, number),
            "learning_rate": experiment.configs[number].learning_rate,
            "config": as_json(experiment.configs[number]),
            "origin": experiment.origin.as_json(),
            "flops_per_step": flops or None,
            "side_by_side": len(experiment.configs),
            "frozen_digest": freezing.digest_of(experiment.frozen_digests),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        for number, (metrics, test_metrics) in scored.items()
    ]
    diverged = [
        f"{c.task} {c.model} k={c.trainable_layers} seed {c.seed} learning rate {c.learning_rate:g}"
        for number, c in enumerate(experiment.configs)
        if number in log.diverged
    ]
    return experiment, Outcome(records, diverged)
