"""Where the runs of groups are made: what they share is made once, and some are trained side by side."""

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxfreeze import devices, freezing
from jaxfreeze.config import TrainConfig, as_json
from jaxfreeze.freezing import Layers, order
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.sweep.grid import Group
from jaxfreeze.sweep.progress import SweepProgress
from jaxfreeze.training.experiment import Experiment, TrainState, begin, compile_steps, fill_cache, get_ready
from jaxfreeze.training.hooks import LogHook, NonFiniteLossError
from jaxfreeze.training.loop import fit
from jaxfreeze.training.preparation import alike, prepare
from jaxfreeze.training.scoring import compile_scoring, score_runs
from jaxfreeze.training.stopwatch import PARTS, Stopwatch
from jaxfreeze.training.summary import result_of

MEMORY_SHARE = 0.5  # of the free device memory: what runs side by side may take
BYTES_OF_A_PARAMETER = 16  # of a trained one: itself, its gradient, and Adam's two moments, float32
HEADS = 8  # trained side by side on a CPU: more of them take longer each, since their states leave its caches
RUNS_IN_A_SEARCH: dict[Layers, int] = {0: HEADS, 1: 6}  # side by side, by k: about as many as most of its groups have
RUNS_OF_OTHERS = 3  # the same for every other k
ACTIVATIONS = 40  # values of width D that one trained layer keeps for each token until its gradient is computed


class Outcome(NamedTuple):
    """The outcome of some runs."""

    records: list[dict[str, Any]]
    """A line of results.jsonl each."""
    diverged: list[dict[str, Any]]
    """A line for each run whose loss was not finite."""
    logits: list[dict[str, np.ndarray]]
    """For each record what the run answers for every test split, float32 [N, C]; {} where it is not kept."""


Engine = Callable[[Sequence[Group], SweepProgress], Iterator[Outcome]]
"""Makes the runs of groups, here or elsewhere, and yields their outcomes as they end."""


class Workshop:
    """Makes the runs of groups here, one program after the other. What they have in common is made once.

    Groups that follow each other share rows and tokens, and with the same trainable layers the model, the trunk cache
    and the programs.
    """

    def __init__(self, longest: int | None = None) -> None:
        """longest: epochs of the longest run of a search, all of whose runs with one k are to share one program."""
        self._longest = longest
        self._short = False  # whether the runs are too short for a program to save what it takes to compile
        self._experiment: Experiment | None = None

    def __call__(self, groups: Sequence[Group], progress: SweepProgress) -> Iterator[Outcome]:
        for group in groups:
            shared = Stopwatch()
            for configs in in_parts(group, self._width(group)):
                progress.begin(group, len(configs))
                yield self._make(group, configs, shared, progress)
            if self._longest is None:
                jax.clear_caches()  # on a CPU a program takes hundreds of memory maps, and a process may have 65,530

    def _width(self, group: Group) -> int:
        """How many runs one program has; in a search the same for every group of a k, if such groups are filled up."""
        runs = len(group.runs)
        if self._longest is not None and self._fills_up(group):
            runs = RUNS_IN_A_SEARCH.get(group.trainable_layers, RUNS_OF_OTHERS)
        return side_by_side(group, runs)

    def _fills_up(self, group: Group) -> bool:
        """Whether the last run is repeated where there are fewer than a program has, instead of compiling another."""
        return trains_heads(group) or self._short

    def _make(
        self, group: Group, configs: tuple[TrainConfig, ...], shared: Stopwatch, progress: SweepProgress
    ) -> Outcome:
        """shared: counts what all runs of the group have in common."""
        experiment = self._ready_for(configs, shared, self._width(group) if self._fills_up(group) else 1)
        state = begin(experiment)
        experiment = self._experiment = get_ready(
            experiment, state, shared, lambda ready: compile_scoring(ready, state.trained, group.tests != "untouched")
        )
        watch = Stopwatch()
        share = experiment.runs / len(group.runs)
        common = {part: share * seconds for part, seconds in shared.seconds().items()}
        watch.add(common | {"total": sum(common[part] for part in PARTS)})
        return train_together(experiment, state, watch, progress, group.tests)

    def open(self, config: TrainConfig, watch: Stopwatch) -> Experiment:
        """What runs with these settings are made of, before any of them is made."""
        self._experiment = experiment = self._ready_for([config], watch, 1)
        self._short = len(experiment.plan.shapes) <= 2  # with the one that holds any batch; see most_shapes
        return experiment

    def fill_caches(self, configs: Sequence[TrainConfig], watch: Stopwatch) -> None:
        """Compute the trunk once for runs of several numbers of layers, and keep every cut's states on disk.

        Each is made from those of the cut below it. Where the disk has no room for one, its runs compute it.
        """
        for config in sorted(configs, key=lambda config: order(config.trainable_layers or 0), reverse=True):
            experiment = self._experiment = self._ready_for([config], watch, 1)
            cache = experiment.cache
            if cache.place != "off" and cache.keep and cache.found != {*cache.layouts}:
                fill_cache(experiment, experiment.model.start(config.seed), watch)

    def seconds_of_an_epoch(self, config: TrainConfig) -> float:
        """What an epoch of such a run takes here, from its second dispatch; what is compiled serves the run too."""
        experiment = self._ready_for([config], Stopwatch(), 1)
        state = begin(experiment)
        self._experiment = experiment = get_ready(experiment, state, Stopwatch())
        clock = [(0, time.perf_counter())]

        def note(state: TrainState) -> bool:
            jax.block_until_ready(state.trained)
            clock.append((state.progress.steps, time.perf_counter()))
            return len(clock) == 3

        fit(experiment, state, [note])
        (before, since), (steps, now) = clock[-2:]
        return (now - since) / (steps - before) * experiment.plan.steps_per_epoch

    def _ready_for(self, configs: Sequence[TrainConfig], watch: Stopwatch, width: int) -> Experiment:
        before, self._experiment = self._experiment, None
        if before is not None and _same_rows_and_model(before.config, configs[0]):
            with watch.part("load"):
                return alike(before, configs, width)
        del before  # before others are loaded
        first = prepare(configs[:1], watch, self._longest)
        return first if len(configs) == width == 1 else alike(first, configs, width)


def _same_rows_and_model(one: TrainConfig, other: TrainConfig) -> bool:
    """Whether two runs differ in nothing but what `alike` lets them differ in."""
    names = ("seed", "learning_rate", "epochs", "trainable_layers", "trainable")
    return dataclasses.replace(one, **{name: getattr(other, name) for name in names}) == other


def in_parts(group: Group, width: int) -> Iterator[tuple[TrainConfig, ...]]:
    """The runs of a group, as many at a time as are trained side by side."""
    for first in range(0, len(group.runs), width):
        yield group.runs[first : first + width]


def trains_heads(group: Group) -> bool:
    """Whether the runs train heads alone, on states that are computed once."""
    config = group.runs[0]
    return group.trainable_layers == 0 and config.cache != "off" and not config.frozen_dropout


def side_by_side(group: Group, runs: int) -> int:
    """How many of so many runs go into one program: on an accelerator as many as fit its memory.

    One on a CPU, where a single run keeps the cores busy already; but for heads alone, whose steps take less time than
    it takes to begin them.
    """
    heads = trains_heads(group)
    if devices.platform() == "cpu" and not heads:
        return 1
    config = group.runs[0]
    encoder = read_config(model_folder(config.model))
    width, layers = encoder.hidden_size, encoder.num_hidden_layers
    trained = layers if group.trainable_layers == "all" else group.trainable_layers
    parameters = trained * 12 * width**2 + (encoder.vocab_size * width if group.trainable_layers == "all" else 0)
    parameters += width**2 * heads
    activations = config.batch_size * (1 if heads else config.max_length) * width * 4 * ACTIVATIONS * max(1, trained)
    room = MEMORY_SHARE * devices.free_bytes(devices.data_mesh())
    most = HEADS if devices.platform() == "cpu" else runs
    return max(1, min(runs, most, int(room // (BYTES_OF_A_PARAMETER * parameters + activations))))


def train_together(
    experiment: Experiment, state: TrainState, watch: Stopwatch, progress: SweepProgress, tests: str = "scored"
) -> Outcome:
    """Train runs side by side, or a single one, from their first state -> what became of them.

    tests: what becomes of the test rows, as `Group` has it.
    """
    progress.steps_of(experiment.total_steps)
    cost = compile_steps(experiment, state).cost_analysis() or {}
    flops = cost.get("flops", 0.0) / len(experiment.configs)
    log = LogHook(experiment, state, progress)
    with watch.part("train"):
        try:
            state = fit(experiment, state, [log])
        except NonFiniteLossError:
            return Outcome([], [_line_of_diverged(experiment, watch, 0, tests)], [])
    with watch.part("load"):
        freezing.check_unmoved(experiment.frozen_digests, freezing.digests(experiment.model.frozen))
    with watch.part("eval"):
        scored = score_runs(experiment, state.trained, tests != "untouched")
    records, logits, diverged = [], [], []
    for number, scores in enumerate(scored):
        config = experiment.configs[number]
        if number in log.diverged or scores is None:
            diverged.append(_line_of_diverged(experiment, watch, number, tests))
            continue
        records.append(
            {
                **result_of(experiment, state.progress, watch, scores.metrics, scores.test_metrics, number),
                "validation_loss": scores.loss,
                "tests": tests,
                "learning_rate": config.learning_rate,
                "config": as_json(config),
                "origin": experiment.origin.as_json(),
                "flops_per_step": flops or None,
                "side_by_side": len(experiment.configs),
                "frozen_digest": freezing.digest_of(experiment.frozen_digests),
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
        )
        logits.append(scores.test_logits if tests == "kept" else {})
    return Outcome(records, diverged, logits)


def _line_of_diverged(experiment: Experiment, watch: Stopwatch, number: int, tests: str) -> dict[str, Any]:
    config = experiment.configs[number]
    names = ("task", "model", "trainable_layers", "seed", "learning_rate")
    return {
        **{name: getattr(config, name) for name in names},
        "diverged": True,
        "tests": tests,
        "seconds": {part: round(value / experiment.runs, 3) for part, value in watch.seconds().items()},
        "config": as_json(config),
        "origin": experiment.origin.as_json(),
    }
