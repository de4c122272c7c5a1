"""Makes the runs of a sweep that are not in its results yet, here or by another engine, and keeps their results."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxfreeze import console, processes
from jaxfreeze.data.sources import from_standard_input
from jaxfreeze.errors import InputError
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.program import program
from jaxfreeze.sweep import outcome_file
from jaxfreeze.sweep.grid import Grid, Group, check_depths
from jaxfreeze.sweep.progress import SweepProgress
from jaxfreeze.sweep.results import RESULTS_FILE
from jaxfreeze.sweep.results_file import IDENTITY, OF_SEARCH, ResultsFile
from jaxfreeze.sweep.workshop import Engine, Outcome, Workshop
from jaxfreeze.training.platform_choices import with_dtype


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
    grid: Grid, folder: Path, dry_run: bool = False, part: Part | None = None, engine: Engine | None = None
) -> None:
    """Make every run of the grid, or of a part of it, that is not in the folder's results yet.

    Raises InputError for a grid that no model fits or a folder that is in use, and DivergedError once all others are
    done.
    """
    check_depths(grid, {model: read_config(model_folder(model)).num_hidden_layers for model in grid.models})
    check_part(part)
    groups = list(grid.groups())
    run_groups(groups if part is None else part.of(groups), folder, dry_run, part, engine)
    if not dry_run:
        console.say(f"`{program()} report {folder} --output {folder / 'report'}` shows the results")


def check_part(part: Part | None) -> None:
    """Raise InputError for a whole sweep in a SLURM step, whose tasks would all make it."""
    if part is None and processes.in_slurm_step():
        raise InputError(
            "every task of this SLURM step would make the whole sweep; give each its own, as in: "
            "--part $((SLURM_PROCID + 1))/$SLURM_NTASKS"
        )


def run_groups(
    groups: Sequence[Group],
    folder: Path,
    dry_run: bool = False,
    part: Part | None = None,
    engine: Engine | None = None,
    searching: bool = False,
) -> None:
    """Make the runs of these groups that are not in the folder's results yet. Raises InputError.

    searching: the runs differ in their epochs too, and one whose loss is not finite gets a line as well: it is a result
    like others. Without it, raises DivergedError once all others are done.
    """
    if any(from_standard_input(run) for group in groups for run in group.runs):
        raise InputError("standard input can be read once, but every group of runs reads the rows; give a file")
    elsewhere = engine not in (None, make_groups)
    groups = [group._replace(runs=tuple(with_dtype(run, elsewhere) for run in group.runs)) for group in groups]
    file = ResultsFile(folder, RESULTS_FILE if part is None else part.file_name, OF_SEARCH if searching else IDENTITY)
    if dry_run:
        from jaxfreeze.sweep.plan import describe_plan

        describe_plan(_missing(groups, file, elsewhere))
        return
    diverged: list[dict[str, Any]] = []
    with file.locked():
        missing = _missing(groups, file, elsewhere)
        with SweepProgress(missing) as progress:
            for outcome in (engine or make_groups)(missing, progress):
                for record, logits in zip(outcome.records, outcome.logits, strict=True):
                    if logits:
                        record["outcome"] = outcome_file.write(folder, record["config"], logits)
                if lines := outcome.records + (outcome.diverged if searching else []):
                    file.append(*lines)
                for record in outcome.records:
                    progress.finished(record)
                diverged += outcome.diverged
    if diverged and not searching:
        raise DivergedError(f"the loss was not finite, try a lower learning rate: {_described(diverged)}")


def _missing(groups: Sequence[Group], file: ResultsFile, elsewhere: bool) -> list[Group]:
    """What is left of the groups without the runs whose results are there; says how many there are of each."""
    file.read()
    for note in file.notes:
        console.say(note)
    finished = [run for group in groups for run in group.runs if file.has(run)]
    file.check_origins(finished, elsewhere)
    missing = [group._replace(runs=tuple(run for run in group.runs if not file.has(run))) for group in groups]
    total = sum(len(group.runs) for group in groups)
    console.say(f"{file.folder}: {total} runs, {len(finished)} of them finished, {total - len(finished)} to do")
    return [group for group in missing if group.runs]


def make_groups(groups: Sequence[Group], progress: SweepProgress) -> Iterator[Outcome]:
    """Make the runs of these groups here, one program after the other."""
    yield from Workshop()(groups, progress)


def _described(lines: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{line['task']} {line['model']} k={line['trainable_layers']} seed {line['seed']} learning rate "
        f"{line['learning_rate']:g}"
        for line in lines
    )
