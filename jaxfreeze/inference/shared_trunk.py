"""Finished runs on one pretrained model: the trunk is computed once, up to the lowest cut, and each top from there."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.data.packing import fill
from jaxfreeze.data.request_batches import request_batches, request_shapes
from jaxfreeze.data.split import Split, Text
from jaxfreeze.data.tasks import Task
from jaxfreeze.data.token_store import TextEncoder, TokenStore
from jaxfreeze.errors import InputError
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.outputs import AnyPrediction, Outputs, joined, nothing_of
from jaxfreeze.model.classifier import Column

EXAMPLES_PER_ROW = 4  # of some 30 tokens in a row of 128 slots: how a batch in examples becomes one in rows


Logits = dict[str, np.ndarray]
"""Of each run by its name: float32 [N, C]; N = E, or the words that were read where a label belongs to a word."""


def shared_step(
    columns: tuple[Column, ...], params: tuple[freezing.Params, ...], tokens: Tokens, batch: Batch
) -> tuple[jax.Array, ...]:
    """Logits of one packed batch for every run, no dropout: float32 [R, G, C] each, or [R, W, C] by token.

    params: whole trees; below the lowest cut they are alike, and those of the first are used. tokens: gathered, [R, W].
    """
    lowest = min(column.cut for column in columns)
    models = [column.bind(leaves) for column, leaves in zip(columns, params, strict=True)]
    state = models[0].trunk(tokens, batch, lowest)
    return tuple(model.top(state, batch, lowest) for model in models)


compiled_shared_step = devices.Jitted(shared_step, static_argnames="columns")


class SharedTrunk:
    """One or more finished runs, ready for texts."""

    def __init__(self, paths: Sequence[Path], best: bool = False, calibrated: bool = False) -> None:
        """best: as FinishedRun has it. calibrated: probabilities at each run's temperature.

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
        self.groups = _groups(self.runs)
        self.max_length = first.config.max_length
        self.most_rows = max(self.mesh.size, devices.pass_batch_size() // EXAMPLES_PER_ROW)

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of each run by the run's name, which is the task's, or the folder's where two have one task."""
        return {name: run.task for name, run in self.runs.items()}

    @property
    def reads_words(self) -> bool:
        """Whether every run labels words, so that a list of texts is one example in words."""
        return all(task.objective.by_token for task in self.tasks.values())

    def predictions(self, outputs: Mapping[str, Outputs]) -> dict[str, list[AnyPrediction]]:
        """Of each run by its name, one for each example."""
        return {name: outputs[name].predictions(run.task.objective, run.temperature) for name, run in self.runs.items()}

    def logits(self, split: Split) -> Logits:
        """Logits of every run for every example of a split, a chunk at a time."""
        return {name: outputs.logits for name, outputs in self.outputs(split).items()}

    def outputs(self, split: Split) -> dict[str, Outputs]:
        """What every run's head gives for the examples of a split, a chunk at a time."""
        found = {name: [nothing_of(task.objective)] for name, task in self.tasks.items()}
        for outputs in self.stream(split.chunks()):
            for name, some in outputs.items():
                found[name].append(some)
        return {name: joined(parts) for name, parts in found.items()}

    def stream(self, splits: Iterable[Split]) -> Iterator[dict[str, Outputs]]:
        """The outputs for each split, in order; while they are computed the next one is read and tokenised."""
        waiting: collections.deque[list[_Pending]] = collections.deque()
        for split in splits:
            waiting.append(self._begin(split))
            if len(waiting) > 1:
                yield self._finish(waiting.popleft())
        for pending in waiting:
            yield self._finish(pending)

    def about(self) -> list[dict[str, Any]]:
        """What the server says of each run."""
        return [
            {
                "name": name,
                "labels": run.task.objective.about(),
                "text_columns": list(run.task.text_columns),
                "score": run.scores,
                "model": run.config.model,
                "trainable_layers": run.metrics["trainable_layers"],
            }
            for name, run in self.runs.items()
        ]

    def compile(self) -> None:
        """Compile every shape that one text or several can have, so that no request waits for it later."""
        for group in self.groups:
            store = group.encoder.encode(Split("test", (("a",),), None))
            for shape in request_shapes(self.max_length, self.most_rows, self.mesh.size):
                jax.block_until_ready(self._dispatch(group, store, fill(store, [[0]], shape)))

    def _begin(self, split: Split) -> list["_Pending"]:
        pending = []
        for group in self.groups:
            store = group.encoder.encode(split)
            batches = request_batches(store, self.most_rows, self.mesh.size)
            parts = [(store.places(batch), self._dispatch(group, store, batch)) for batch in batches]
            words = split.as_words().texts[0] if group.encoder.words else ()
            pending.append(_Pending(group, store, words, parts))
        return pending

    def _dispatch(self, group: "_Group", store: TokenStore, batch: Batch) -> tuple[jax.Array, ...]:
        tokens = Tokens(*(c[batch.index].astype(np.int32) for c in (store.token_id, store.token_type, store.position)))
        on_device = devices.put((tokens, batch), devices.by_row(self.mesh))
        return compiled_shared_step(group.columns, group.params, *on_device)

    def _finish(self, pending: list["_Pending"]) -> dict[str, Outputs]:
        found: dict[str, Outputs] = {}
        for of in pending:
            read = None if of.store.word is None else of.store.word[of.store.word >= 0]
            for number, (name, column) in enumerate(zip(of.group.names, of.group.columns, strict=True)):
                logits = np.empty((int(of.store.counts.sum()), column.num_outputs), np.float32)
                for place, outputs in of.parts:
                    logits[place[place >= 0]] = devices.fetch(outputs[number])[place >= 0]
                found[name] = Outputs(logits, of.store.counts, of.words, read)
        return {name: found[name] for name in self.runs}


class _Group(NamedTuple):
    """Runs that read texts alike, and so share what is computed of them."""

    names: tuple[str, ...]
    encoder: TextEncoder
    columns: tuple[Column, ...]
    params: tuple[freezing.Params, ...]


class _Pending(NamedTuple):
    """A split whose logits are being computed by a group of runs."""

    group: _Group
    store: TokenStore
    words: tuple[Text, ...]
    parts: list[tuple[np.ndarray, tuple[jax.Array, ...]]]
    """Of each batch: which of the N rows of logits its outputs are, [R, G] or [R, W], and the outputs."""


def _groups(runs: Mapping[str, FinishedRun]) -> list[_Group]:
    """Runs that label examples, and runs that label words: these may make other tokens of the same text."""
    groups = []
    for words in (False, True):
        some = {name: run for name, run in runs.items() if run.encoder.words == words}
        if some:
            columns, params = zip(*((run.model.column, run.params) for run in some.values()), strict=True)
            groups.append(_Group(tuple(some), next(iter(some.values())).encoder, columns, params))
    return groups


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
    same_texts = len({dataclasses.replace(one.encoder, words=False).digest(nothing) for one in (run, first)}) == 1
    same_weights = all(run.digests[path] == first.digests[path] for path in _shared(first, run))
    if run.model.encoder != first.model.encoder or not same_texts or not same_weights:
        raise InputError(f"{here}: was trained on another pretrained model than {there}; predict with each separately")


def _shared(first: FinishedRun, run: FinishedRun) -> set[str]:
    """Paths of the leaves that both runs left as they were in the pretrained model."""
    return {path for path in run.model.frozen.keys() & first.model.frozen.keys() if not path.startswith("head.")}


def _share(first: FinishedRun, run: FinishedRun) -> None:
    """Let go of what the run has from the pretrained model in favour of the first one's: it is in memory once."""
    shared = {path: first.params[path] for path in _shared(first, run)}
    run.model.frozen.update(shared)
    run.params.update(shared)
