"""One pass over a split without training: logits in the order of the store, and the task's metrics."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Batch, Shape
from jaxfreeze.data.batches import evaluation_batches, evaluation_shapes, first_token_batches
from jaxfreeze.data.tasks import Task
from jaxfreeze.model.classifier import Column
from jaxfreeze.training.dataset import Dataset
from jaxfreeze.training.step import compiled_predict_heads, compiled_predict_step


class Scored(NamedTuple):
    """The rows of a split and what a run answers for them: E examples, N labels."""

    dataset: Dataset
    logits: np.ndarray  # float32 [N, C]

    @property
    def label(self) -> np.ndarray:
        """The true labels: [N, *label_shape]."""
        return self.dataset.store.flat_label

    @property
    def counts(self) -> np.ndarray:
        """How many of the N labels belong to each example: int64 [E]."""
        return self.dataset.store.counts

    @property
    def read(self) -> np.ndarray | None:
        """The number in its example of the word that each label is of: int32 [N]; None where it is of an example."""
        word = self.dataset.store.word
        return None if word is None else word[word >= 0]


class Predictor(NamedTuple):
    """What answers the batches of a split."""

    step: devices.Jitted[jax.Array]  # -> [..., R, G, C], or [..., R, W, C] by token
    column: Column
    leaves: tuple[freezing.Params, ...]  # that the step takes

    def inputs(self, dataset: Dataset, batch: Batch, mesh: Mesh) -> tuple[Any, ...]:
        """What the step is given for a batch."""
        on_devices = devices.put(dataset.complete(batch, mesh), devices.by_row(mesh))
        return self.column, *self.leaves, dataset.data, on_devices


def one_run(column: Column, params: freezing.Params) -> Predictor:
    """A whole model."""
    return Predictor(compiled_predict_step, column, (params,))


def heads(column: Column, trained: freezing.Params, frozen: freezing.Params) -> Predictor:
    """S runs that trained their heads alone, whose leaves are [S, ...]; they share what is frozen."""
    return Predictor(compiled_predict_heads, column, (trained, frozen))


def _batches(dataset: Dataset, mesh: Mesh) -> Iterator[Batch]:
    if dataset.first_tokens:
        return first_token_batches(dataset.store, mesh.size)
    return evaluation_batches(dataset.store, devices.pass_batch_size(), mesh.size)


def compile_for(predictor: Predictor, dataset: Dataset, mesh: Mesh) -> None:
    """Compile what `predict` will need, without computing anything."""
    store = dataset.store
    shapes = 1 if dataset.first_tokens else len(evaluation_shapes(store, devices.pass_batch_size(), mesh.size))
    compiled: set[Shape] = set()
    for batch in _batches(dataset, mesh):
        if batch.shape not in compiled:
            predictor.step.compile(*predictor.inputs(dataset, batch, mesh))
            compiled.add(batch.shape)
            if len(compiled) == shapes:  # no further batch is packed
                break


def predict(predictor: Predictor, dataset: Dataset, mesh: Mesh) -> np.ndarray:
    """Logits of every example, or of every word that was read, example after example: float32 [..., N, C].

    The leading axis is that of the S runs of `heads`.
    """
    store = dataset.store
    finished = [(batch, predictor.step(*predictor.inputs(dataset, batch, mesh))) for batch in _batches(dataset, mesh)]
    *runs, _, _, outputs = finished[0][1].shape
    result = np.full((*runs, int(store.counts.sum()), outputs), np.nan, np.float32)
    for batch, logits in finished:
        place = store.places(batch)
        result[..., place[place >= 0], :] = devices.fetch(logits)[..., place >= 0, :]
    return result


def score(task: Task, dataset: Dataset, logits: np.ndarray) -> dict[str, float]:
    """The task's metrics on one split, and what is chosen on validation rows.

    Metrics of MNLI's second split carry its name.
    """
    suffix = "_mismatched" if dataset.name.endswith("_mismatched") else ""
    objective, scored = task.objective, Scored(dataset, logits)
    chosen: dict[str, float] = {}
    if dataset.name.startswith("validation"):
        objective, chosen = objective.chosen_on(logits, scored.label, scored.counts)
    values = objective.score(logits, scored.label, scored.counts) | chosen
    return {f"{name}{suffix}": value for name, value in values.items()}
