"""One pass over a split without training: logits in the order of the store, and the task's metrics."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Batch
from jaxfreeze.data.batches import evaluation_batches, first_token_batches
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


def predict(column: Column, params: freezing.Params, dataset: Dataset, mesh: Mesh) -> np.ndarray:
    """Logits of every example, or of every word that was read, example after example: float32 [N, C]."""
    return _predict(lambda batch: compiled_predict_step(column, params, dataset.data, batch), dataset, mesh)


def predict_heads(
    column: Column, trained: freezing.Params, frozen: freezing.Params, dataset: Dataset, mesh: Mesh
) -> np.ndarray:
    """The same of S runs that trained their heads alone, whose leaves are [S, ...]: float32 [S, N, C]."""
    return _predict(lambda batch: compiled_predict_heads(column, trained, frozen, dataset.data, batch), dataset, mesh)


def _predict(function: Callable[[Batch], jax.Array], dataset: Dataset, mesh: Mesh) -> np.ndarray:
    """function: the logits of a batch on the devices, [..., R, G, C] -> [..., N, C] of all batches."""
    store = dataset.store
    batches = (
        first_token_batches(store, mesh.size)
        if dataset.first_tokens
        else evaluation_batches(store, devices.pass_batch_size(), mesh.size)
    )
    finished: list[tuple[Batch, jax.Array]] = []
    for batch in batches:
        device_batch = devices.put(dataset.complete(batch, mesh), devices.by_row(mesh))
        finished.append((batch, function(device_batch)))
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
