"""Finished runs as functions from texts to predictions: what `jaxfreeze.load` returns."""

import numpy as np

from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import Task
from jaxfreeze.errors import InputError
from jaxfreeze.inference.ensemble import Ensemble
from jaxfreeze.inference.outputs import AnyPrediction
from jaxfreeze.inference.shared_trunk import Logits, SharedTrunk
from jaxfreeze.inference.texts import Texts, checked_rows, split_of


class SharedClassifier:
    """Several runs on one pretrained model, which computes its frozen layers once for all of them."""

    def __init__(self, trunk: SharedTrunk) -> None:
        self.trunk = trunk

    @property
    def tasks(self) -> dict[str, Task]:
        """The runs' tasks by name: the task's, or the folder's where two runs have the same task."""
        return self.trunk.tasks

    def __call__(self, texts: Texts) -> dict[str, list[AnyPrediction]]:
        """Predictions by the runs' names, in the order of the texts.

        texts: a list of texts, or of pairs of texts; if all runs label words, of texts or of lists of words. Longer
        ones are cut as in training. Every run answers for all of them, also one that was trained on pairs and is given
        single texts; a run that labels words splits them at blanks, and takes a pair for one text. Raises InputError
        for anything else.
        """
        return self.trunk.predictions(self.trunk.outputs(split_of(checked_rows(texts, self.trunk.reads_words))))

    def logits(self, texts: Texts) -> Logits:
        """Logits by the runs' names: float32 [N, C], C as its objective has it."""
        return self.trunk.logits(split_of(checked_rows(texts, self.trunk.reads_words)))


class Classifier:
    """One run, or several as an ensemble, ready to classify texts."""

    def __init__(self, trunk: SharedTrunk | Ensemble) -> None:
        self.trunk = trunk
        ((self._name, self.task),) = trunk.tasks.items()

    def __call__(self, texts: Texts) -> list[AnyPrediction]:
        """Predictions in the order of the texts.

        texts: a list of texts, or of pairs of texts, as the run was trained on; where it labels words, of texts, which
        are split at blanks, or of lists of words. Longer ones are cut as in training. Raises InputError for anything
        else.
        """
        return self.trunk.predictions(self.trunk.outputs(self._split(texts)))[self._name]

    def logits(self, texts: Texts) -> np.ndarray:
        """Logits: float32 [N, C], C as its objective has it."""
        return self.trunk.logits(self._split(texts))[self._name]

    def _split(self, texts: Texts) -> Split:
        rows, columns = checked_rows(texts, self.trunk.reads_words), len(self.task.text_columns)
        if rows and len(rows[0]) != columns:
            expected = "a list of texts" if columns == 1 else "a list of pairs of texts"
            raise InputError(f"the run was trained on {' and '.join(self.task.text_columns)}: expected {expected}")
        return split_of(rows)
