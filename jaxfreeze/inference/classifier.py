"""Finished runs as functions from texts to predictions: what `jaxfreeze.load` returns."""

import numpy as np

from jaxfreeze.data.tasks import Task
from jaxfreeze.errors import InputError
from jaxfreeze.inference.shared_trunk import Logits, SharedTrunk
from jaxfreeze.inference.texts import Texts, checked_rows, split_of
from jaxfreeze.objectives import Prediction


class SharedClassifier:
    """Several runs on one pretrained model, which computes its frozen layers once for all of them."""

    def __init__(self, trunk: SharedTrunk) -> None:
        self.trunk = trunk

    @property
    def tasks(self) -> dict[str, Task]:
        """The runs' tasks by name: the task's, or the folder's where two runs have the same task."""
        return self.trunk.tasks

    def __call__(self, texts: Texts) -> dict[str, list[Prediction]]:
        """Predictions by the runs' names, in the order of the texts.

        texts: a list of texts, or of pairs of texts; longer ones are cut as in training. Every run answers for all of
        them, also one that was trained on pairs and is given single texts. Raises InputError for anything else.
        """
        return self.trunk.predictions(self.logits(texts))

    def logits(self, texts: Texts) -> Logits:
        """Logits by the runs' names: float32 [E, C], C as its objective has it."""
        return self.trunk.logits(split_of(checked_rows(texts)))


class Classifier:
    """One run, ready to classify texts."""

    def __init__(self, trunk: SharedTrunk) -> None:
        self.trunk = trunk
        ((self._name, self.task),) = trunk.tasks.items()

    def __call__(self, texts: Texts) -> list[Prediction]:
        """Predictions in the order of the texts.

        texts: a list of texts, or of pairs of texts, as the run was trained on; longer ones are cut as in training.
        Raises InputError for anything else.
        """
        return self.trunk.runs[self._name].predictions(self.logits(texts))

    def logits(self, texts: Texts) -> np.ndarray:
        """Logits: float32 [E, C], C as its objective has it."""
        rows, columns = checked_rows(texts), len(self.task.text_columns)
        if rows and len(rows[0]) != columns:
            expected = "a list of texts" if columns == 1 else "a list of pairs of texts"
            raise InputError(f"the run was trained on {' and '.join(self.task.text_columns)}: expected {expected}")
        return self.trunk.logits(split_of(rows))[self._name]
