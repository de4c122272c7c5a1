"""Finished runs as functions from texts to predictions: what `jaxfreeze.load` gives."""

import numpy as np

from jaxfreeze.data.tasks import Task
from jaxfreeze.errors import InputError
from jaxfreeze.inference.predictions import Prediction, Texts, checked_rows, predictions, splits_of
from jaxfreeze.inference.shared_trunk import SharedTrunk


class SharedClassifier:
    """Several runs on one pretrained model, answering together: its frozen layers are computed once for all of them."""

    def __init__(self, trunk: SharedTrunk) -> None:
        self.trunk = trunk

    @property
    def tasks(self) -> dict[str, Task]:
        """The runs' tasks, by name; two runs of one task are called as their folders are."""
        return self.trunk.tasks

    def __call__(self, texts: Texts) -> dict[str, list[Prediction]]:
        """Predictions by the runs' names, in the order of the texts.

        texts: a list of texts, or of pairs of texts; longer ones are cut as in training. Every run answers for all of
        them, also one that was trained on pairs and is given single texts. Raises InputError for anything else.
        """
        found = self.logits(texts)
        return {name: predictions(task, found[name]) for name, task in self.tasks.items()}

    def logits(self, texts: Texts) -> dict[str, np.ndarray]:
        """Logits by the runs' names: float32 [E, C], C = 1 for a regression."""
        found: dict[str, list[np.ndarray]] = {
            name: [np.empty((0, task.num_outputs), np.float32)] for name, task in self.tasks.items()
        }
        for answer in self.trunk.stream(splits_of(texts)):
            for name, logits in answer.logits.items():
                found[name].append(logits)
        return {name: np.concatenate(parts) for name, parts in found.items()}


class Classifier:
    """One run, ready for texts."""

    def __init__(self, trunk: SharedTrunk) -> None:
        self._shared = SharedClassifier(trunk)
        ((self._name, self.task),) = trunk.tasks.items()

    def __call__(self, texts: Texts) -> list[Prediction]:
        """Predictions in the order of the texts.

        texts: a list of texts, or of pairs of texts, as the run was trained on; longer ones are cut as in training.
        Raises InputError for anything else.
        """
        return predictions(self.task, self.logits(texts))

    def logits(self, texts: Texts) -> np.ndarray:
        """Logits: float32 [E, C], C = 1 for a regression."""
        columns = len(self.task.text_columns)
        if len((checked_rows(texts) or [("",) * columns])[0]) != columns:
            expected = "a list of texts" if columns == 1 else "a list of pairs of texts"
            raise InputError(f"the run was trained on {' and '.join(self.task.text_columns)}: expected {expected}")
        return self._shared.logits(texts)[self._name]
