"""Finished runs on one pretrained model: the trunk is computed once, up to the lowest cut, and each top from there."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.data.packing import fill
from jaxfreeze.data.request_batches import request_batches, request_shapes
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import Task
from jaxfreeze.data.token_store import TokenStore
from jaxfreeze.errors import InputError
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.model.classifier import Column
from jaxfreeze.objectives import Prediction

EXAMPLES_PER_ROW = 4  # of some 30 tokens in a row of 128 slots: how a batch in examples becomes one in rows


Logits = dict[str, np.ndarray]
"""Of each run by its name: float32 [E, C]."""


def shared_step(
    columns: tuple[Column, ...], params: tuple[freezing.Params, ...], tokens: Tokens, batch: Batch
) -> tuple[jax.Array, ...]:
    """Logits of one packed batch for every run, no dropout: float32 [R, G, C] each.

    params: whole trees; below the lowest cut they are alike, and those of the first are used. tokens: gathered, [R, W].
    """
    lowest = min(column.cut for column in columns)
    models = [column.bind(leaves) for column, leaves in zip(columns, params, strict=True)]
    state = models[0].trunk(tokens, batch, lowest)
    return tuple(model.top(state, batch, lowest) for model in models)


compiled_shared_step = devices.jit(shared_step, static_argnames="columns")


class SharedTrunk:
    """One or more finished runs, ready for texts."""

    def __init__(self, paths: Sequence[Path], best: bool = False, calibrated: bool = False) -> None:
        """best: of each run the step that --keep_best kept. calibrated: probabilities at each run's temperature.

        Raises InputError for runs that do not share a base, and calibrated for those without a temperature.
        """
        runs = [FinishedRun(path, best) for path in paths]
        for run in runs if calibrated else ():
            run.calibrate()
        first = runs[0]
        for run in runs[1:]:
            _check_same_base(first, run)
            _share(first, run)
        self.runs = dict(zip(_names(runs), runs, strict=True))
        self.mesh = first.mesh
        self.encoder = first.encoder
        self.columns = tuple(run.model.column for run in runs)
        self.params = tuple(run.params for run in runs)
        self.most_rows = max(self.mesh.size, devices.pass_batch_size() // EXAMPLES_PER_ROW)

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of each run by the run's name, which is the task's, or the folder's where two have one task."""
        return {name: run.task for name, run in self.runs.items()}

    def predictions(self, logits: Logits) -> dict[str, list[Prediction]]:
        """Of each run by its name, one for each example."""
        return {name: run.predictions(logits[name]) for name, run in self.runs.items()}

    def logits(self, split: Split) -> Logits:
        """Logits of every run for every example of a split, a chunk at a time."""
        found = {name: [np.empty((0, task.objective.num_outputs), np.float32)] for name, task in self.tasks.items()}
        for logits in self.stream(split.chunks()):
            for name, some in logits.items():
                found[name].append(some)
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def stream(self, splits: Iterable[Split]) -> Iterator[Logits]:
        """The logits for each split, in order; while they are computed the next one is read and tokenised."""
        waiting: collections.deque[_Pending] = collections.deque()
        for split in splits:
            waiting.append(self._begin(split))
            if len(waiting) > 1:
                yield self._finish(waiting.popleft())
        for pending in waiting:
            yield self._finish(pending)

    def compile(self) -> None:
        """Compile every shape that a text or several can have, so that none of them waits for that later."""
        store = self.encoder.encode(Split("test", (("a",),), None))
        for shape in request_shapes(self.encoder.max_length, self.most_rows, self.mesh.size):
            jax.block_until_ready(self._dispatch(store, fill(store, [[0]], shape)))

    def _begin(self, split: Split) -> "_Pending":
        store = self.encoder.encode(split)
        batches = request_batches(store, self.most_rows, self.mesh.size)
        parts = [(batch.example, self._dispatch(store, batch)) for batch in batches]
        return _Pending(store.num_examples, parts)

    def _dispatch(self, store: TokenStore, batch: Batch) -> tuple[jax.Array, ...]:
        tokens = Tokens(*(c[batch.index].astype(np.int32) for c in (store.token_id, store.token_type, store.position)))
        on_device = devices.put((tokens, batch), devices.by_row(self.mesh))
        return compiled_shared_step(self.columns, self.params, *on_device)

    def _finish(self, pending: "_Pending") -> Logits:
        widths = [task.objective.num_outputs for task in self.tasks.values()]
        found = [np.empty((pending.num_examples, width), np.float32) for width in widths]
        for example, outputs in pending.parts:
            real = example >= 0
            for result, logits in zip(found, outputs, strict=True):
                result[example[real]] = devices.fetch(logits)[real]
        return dict(zip(self.runs, found, strict=True))


class _Pending(NamedTuple):
    """A split whose logits are being computed: for each batch its example numbers [R, S] and outputs."""

    num_examples: int
    parts: list[tuple[np.ndarray, tuple[jax.Array, ...]]]


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    tasks = [run.config.task for run in runs]
    names = [task if tasks.count(task) == 1 else run.folder.path.name for task, run in zip(tasks, runs, strict=True)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"--run: two runs are called '{twice}'; give each once, or rename a folder")
    return names


def _check_same_base(first: FinishedRun, run: FinishedRun) -> None:
    """Raise InputError unless both runs read texts alike and have the same weights below the lower of their cuts."""
    here, there = (f"--run {one.folder.path}" for one in (run, first))
    for name in ("max_length", "dtype"):
        values = [getattr(one.config, name) for one in (run, first)]
        if values[0] != values[1]:
            raise InputError(f"{here}: --{name} is {values[0]}, that of {there} {values[1]}; one trunk needs one")
    nothing = Split("none", (), None)
    same_texts = len({one.encoder.digest(nothing) for one in (run, first)}) == 1
    same_weights = all(run.digests[path] == first.digests[path] for path in _shared(first, run))
    if run.model.encoder != first.model.encoder or not same_texts or not same_weights:
        raise InputError(f"{here}: was trained on another pretrained model than {there}; predict with each by itself")


def _shared(first: FinishedRun, run: FinishedRun) -> set[str]:
    """Paths of the leaves that both runs left as they were in the pretrained model."""
    return {path for path in run.model.frozen.keys() & first.model.frozen.keys() if not path.startswith("head.")}


def _share(first: FinishedRun, run: FinishedRun) -> None:
    """Let go of what the run has from the pretrained model in favour of the first one's: it is in memory once."""
    shared = {path: first.params[path] for path in _shared(first, run)}
    run.model.frozen.update(shared)
    run.params.update(shared)
