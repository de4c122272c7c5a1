"""Texts in, predictions out: how both look in Python."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from jaxfreeze.data.split import Split
from jaxfreeze.data.tables import checked_text
from jaxfreeze.data.tasks import Task
from jaxfreeze.errors import InputError

Texts = Sequence[str] | Sequence[tuple[str, str]]
"""One text an example, or a pair of them."""


class Prediction(NamedTuple):
    """What a run says of one example."""

    prediction: str | float
    """The class of the largest logit, or the number that a regression predicts."""
    probabilities: dict[str, float]
    """Softmax of the logits by class, in id order; empty for a regression."""
    logits: np.ndarray
    """float32 [C], in id order; [1] for a regression."""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON has it; no probabilities for a regression."""
        fields = {"prediction": self.prediction, "probabilities": self.probabilities, "logits": self.logits.tolist()}
        return {name: value for name, value in fields.items() if value != {}}


def predictions(task: Task, logits: np.ndarray) -> list[Prediction]:
    """Of logits [E, C], one for each example."""
    if task.regression:
        return [Prediction(float(row[0]), {}, row) for row in logits]
    shares = softmax(logits.astype(np.float64), axis=-1).tolist()
    classes = logits.argmax(axis=-1).tolist()
    return [
        Prediction(task.labels[best], dict(zip(task.labels, share, strict=True)), row)
        for best, share, row in zip(classes, shares, logits, strict=True)
    ]


def split_of(rows: Sequence[tuple[str, ...]]) -> Split:
    """Examples as `checked_rows` gives them, as a split without labels."""
    return Split("test", tuple(zip(*rows, strict=True)), None)


def checked_rows(texts: Any) -> list[tuple[str, ...]]:
    """Each example as a tuple of its one or two texts; all alike. Raises InputError that names the example."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InputError(f"expected a list of texts or of pairs of texts, found a {type(texts).__name__}")
    rows: list[tuple[str, ...]] = []
    for number, example in enumerate(texts):
        row = (example,) if isinstance(example, str) else example
        if not isinstance(row, (tuple, list)) or not 1 <= len(row) <= 2:
            found = f"{len(row)} texts" if isinstance(row, (tuple, list)) else f"a {type(example).__name__}"
            raise InputError(f"example {number}: expected a text or a pair of texts, found {found}")
        if rows and len(row) != len(rows[0]):
            raise InputError(f"example {number}: expected {len(rows[0])} texts as in the first one, found {len(row)}")
        try:
            rows.append(tuple(checked_text(text, str(place), False) for place, text in enumerate(row, 1)))
        except InputError as reason:
            raise InputError(f"example {number}: {reason}") from None
    return rows
