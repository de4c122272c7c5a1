"""Where the trials of a search are made, and what is known of them: results.jsonl and outcomes/ of its folder."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxfreeze.atomic import new_file
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.identity import Origin
from jaxfreeze.objectives import Objective
from jaxfreeze.search.outcomes import Outcomes, Reported, sign_of
from jaxfreeze.search.trial import Candidate, Finding, Trial
from jaxfreeze.sweep import outcome_file
from jaxfreeze.sweep.grid import Group
from jaxfreeze.sweep.results import RESULTS_FILE, RunResult
from jaxfreeze.sweep.results_file import OF_SEARCH, ROWS, SEARCH_FILE, ResultsFile
from jaxfreeze.sweep.runner import run_groups
from jaxfreeze.sweep.workshop import Engine, Workshop
from jaxfreeze.training.dataset import Dataset
from jaxfreeze.training.stopwatch import Stopwatch


class Laboratory:
    """Makes the trials of one search, and knows its rows and what was found so far."""

    def __init__(self, config: TrainConfig, folder: Path, longest: int, engine: Engine | None = None) -> None:
        """config: with its rows in three sets. longest: epochs of the longest trial. engine: None: trials are made
        here.

        Raises InputError for a folder that is not that of a search.
        """
        self._config, self.folder, self._engine = config, folder, engine
        self._workshop = Workshop(longest)
        ResultsFile(folder, axes=OF_SEARCH)  # raises before anything is read or computed

    def open(self, ladder: Sequence[Layers]) -> None:
        """Read the rows. ladder: the numbers of layers of the trials. Raises InputError."""
        watch = Stopwatch()
        self._ladder = ladder
        experiment = self._workshop.open(self._with_layers(ladder[-1]), watch)
        self._check_origin(experiment.origin)
        objective = experiment.task.objective
        self.selection, self.reported = (
            _rows_of(sets[0], objective) for sets in (experiment.validation_sets, experiment.test_sets)
        )
        self._reported_name = experiment.test_sets[0].name
        if not (self.folder / SEARCH_FILE).is_file():
            _note(self.folder, {"seconds": watch.seconds()["total"]})

    def prepare(self) -> None:
        """Compute the trunk for every number of layers, if the trials are made here and it is not on disk yet."""
        if self._engine is None:
            watch = Stopwatch()
            self._workshop.fill_caches([self._with_layers(layers) for layers in self._ladder], watch)
            noted = _noted(self.folder)
            _note(self.folder, noted | {"seconds": noted["seconds"] + watch.seconds()["total"]})

    def _with_layers(self, layers: Layers) -> TrainConfig:
        return dataclasses.replace(self._config, trainable_layers=layers)

    def full_epoch_seconds(self) -> float:
        """Seconds of an epoch of the full model on this machine, measured once in a search."""
        noted = _noted(self.folder)
        if "full_epoch" not in noted:
            noted |= {"full_epoch": self._workshop.seconds_of_an_epoch(self._with_layers(ALL))}
            _note(self.folder, noted)
        return noted["full_epoch"]

    def _check_origin(self, now: Origin) -> None:
        """Raise InputError if a result that is there was made of other rows, classes, tokenizer or weights than now."""
        file = self._read()
        for run in self._runs():
            file.has(self._config_of(_trial_of(run.config, run.tests)))  # raises for other settings
            if run.origin and (differences := run.origin.differences(now)):
                raise InputError(
                    f"{run.place}: a result from {differences}; restore them, or give another --output_dir"
                )

    def make(self, trials: Sequence[Trial]) -> None:
        """Make those trials that were not made yet; each result is on disk when its run ends. Raises InputError."""
        groups = [self._group(list(some)) for _, some in itertools.groupby(trials, _in_common)]
        run_groups(groups, self.folder, engine=self._engine or self._workshop, searching=True)
        made = {finding.trial for finding in self.findings()}
        if others := sorted({trial.seed for trial in trials if trial not in made}):
            raise InputError(
                f"{self.folder / RESULTS_FILE}: seed {others[0]} served another purpose in this search; give other "
                "--seeds, or another --output_dir"
            )

    def _group(self, trials: Sequence[Trial]) -> Group:
        runs = tuple(map(self._config_of, trials))
        tests: Literal["kept", "untouched"] = "kept" if trials[0].final else "untouched"
        return Group(self._config.model, self._config.task, trials[0].candidate.layers, runs, tests)

    def _config_of(self, trial: Trial) -> TrainConfig:
        layers, rate, epochs = trial.candidate
        return dataclasses.replace(
            self._config, trainable_layers=layers, learning_rate=rate, epochs=epochs, seed=trial.seed
        )

    def findings(self) -> list[Finding]:
        """What the schedule may know of all trials so far. Raises InputError for lines that are no results."""
        sign = sign_of(self.selection.metric)
        found = []
        for run in self._runs():
            loss = math.inf if run.validation_loss is None else run.validation_loss
            score = sign * run.metrics[run.primary_metric]
            found.append(Finding(_trial_of(run.config, run.tests), score, loss, _own_seconds(run.seconds)))
        for line in self._read().diverged.values():
            trial = _trial_of(line["config"], line["tests"])
            found.append(Finding(trial, -math.inf, math.inf, _own_seconds(line["seconds"])))
        return found

    def outcomes(self, candidate: Candidate, seeds: Sequence[int]) -> Outcomes:
        """What the final runs of a candidate with these seeds answer for the reported rows. Raises InputError."""
        runs = {_trial_of(run.config, run.tests): run for run in self._runs()}
        by_seed = {seed: runs.get(Trial(candidate, seed, True)) for seed in seeds}
        seconds = {f.trial.seed: f.seconds for f in self.findings() if f.trial.candidate == candidate and f.trial.final}
        rows, width = len(self.reported.label), self.reported.objective.num_outputs
        lost = np.full((rows, width), np.nan, np.float32)
        return Outcomes(
            candidate,
            tuple(seeds),
            tuple(seconds[seed] for seed in seeds),
            tuple(lost if run is None else self._logits(run) for run in by_seed.values()),
            tuple(
                {} if run is None or run.threshold is None else {"threshold": run.threshold} for run in by_seed.values()
            ),
        )

    def _logits(self, run: RunResult) -> np.ndarray:
        return outcome_file.read(self.folder, run.config, run.outcome)[self._reported_name]

    @property
    def seconds(self) -> float:
        """Of the whole search so far, whatever it was stopped by in between. Raises InputError."""
        lines = self._read().diverged.values()
        runs = [run.seconds for run in self._runs()] + [line["seconds"] for line in lines]
        return _noted(self.folder)["seconds"] + sum(seconds["total"] for seconds in runs)

    def _runs(self) -> list[RunResult]:
        """The results of this search: of its rows and its model."""
        own = {name: getattr(self._config, name) for name in ROWS}
        runs = self._read().done.values()
        return [run for run in runs if all(run.config.get(name) == value for name, value in own.items())]

    def _read(self) -> ResultsFile:
        file = ResultsFile(self.folder, axes=OF_SEARCH)
        file.read()
        return file


def _note(folder: Path, noted: Mapping[str, float]) -> None:
    """Keep what belongs to no single run."""
    folder.mkdir(parents=True, exist_ok=True)
    with new_file(folder / SEARCH_FILE, "--output_dir") as file:
        json.dump(noted, file)


def _noted(folder: Path) -> dict[str, float]:
    file = folder / SEARCH_FILE
    try:
        noted = {name: float(value) for name, value in json.loads(file.read_text()).items()}
        return {"seconds": noted["seconds"], **noted}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{file}: expected what a search noted, by name ({error}); remove the file") from error


def _in_common(trial: Trial) -> tuple[Layers, int, bool]:
    """What the trials of a group have in common."""
    return trial.candidate.layers, trial.candidate.epochs, trial.final


def _trial_of(config: Mapping[str, Any], tests: str | None) -> Trial:
    layers, rate, epochs, seed = (config[name] for name in ("trainable_layers", "learning_rate", "epochs", "seed"))
    return Trial(Candidate(layers, rate, epochs), seed, tests == "kept")


def _own_seconds(seconds: Mapping[str, float]) -> float:
    """A run's own cost: training and scoring, without what is read, computed or compiled once for many."""
    return seconds["train"] + seconds.get("eval", 0.0)


def _rows_of(dataset: Dataset, objective: Objective) -> Reported:
    return Reported(objective, dataset.store.flat_label, dataset.store.counts)
