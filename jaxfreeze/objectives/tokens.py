"""One class of several for each word."""

import dataclasses
import itertools
from array import array
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from jaxfreeze.errors import InputError
from jaxfreeze.metrics import compute
from jaxfreeze.objectives.class_weights import weights_of
from jaxfreeze.objectives.entities import METRICS, is_scheme, scores
from jaxfreeze.objectives.label_cells import ClassIds, class_name
from jaxfreeze.objectives.losses import class_weight, cross_entropy
from jaxfreeze.objectives.objective import LabelReader, Objective, Prediction


@dataclasses.dataclass(frozen=True)
class Tokens(Objective):
    """One class of several for each word. int32 ids; softmax cross-entropy at the first token of a word."""

    kind: ClassVar[str] = "tokens"
    problem_type: ClassVar[str] = ""  # Hugging Face has none
    label_dtype: ClassVar[type[np.generic]] = np.int32
    by_token: ClassVar[bool] = True
    pipeline: ClassVar[str] = "token-classification"
    pipeline_settings: ClassVar[str] = 'aggregation_strategy="first"'
    fitting_metrics: ClassVar[tuple[str, ...]] = (
        *("accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "weighted_f1", "f1:NAME", "precision:NAME"),
        *("recall:NAME", "matthews_correlation", "cohen_kappa", "log_loss"),
    )

    labels: tuple[str, ...] = ()
    """Class names in id order; () until a training file has been read for them."""
    metrics: tuple[str, ...] = ()
    """Default: of entities, if the classes are their tags, and accuracy. All others are about words one by one."""
    class_weights: tuple[float, ...] = ()
    """What each class counts in the loss; (): 1 each."""
    smoothing: float = 0.0
    """Share of a label that is spread over all classes in the loss."""

    def __post_init__(self) -> None:
        if self.labels and not self.metrics:
            of_entities = METRICS if is_scheme(self.labels) else ()
            object.__setattr__(self, "metrics", (*of_entities, "accuracy"))

    @classmethod
    def of(cls, labels: Sequence[str]) -> "Tokens":
        return cls(tuple(labels))

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.labels

    def loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        return cross_entropy(logits, label, self.class_weights, self.smoothing)

    def weight(self, label: jax.Array) -> jax.Array:
        """0 for a label of -1: a token that is the first one of no word."""
        return class_weight(label, self.class_weights)

    def trained_with(self, class_weights: Sequence[str], smoothing: float, label: np.ndarray) -> "Tokens":
        counts = np.bincount(label, minlength=len(self.labels))
        balanced = len(label) / (len(self.labels) * np.maximum(counts, 1))  # as scikit-learn's
        weights = weights_of(class_weights, self, counts, balanced)
        return dataclasses.replace(self, class_weights=weights, smoothing=smoothing)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        from scipy.special import softmax  # here, because training does without

        return softmax(logits.astype(np.float64), axis=-1)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=-1)

    def score(self, logits: np.ndarray, label: np.ndarray, counts: np.ndarray | None = None) -> dict[str, float]:
        """The metrics of the N words of E sequences that were read; those beyond max_length are left out."""
        if not np.isfinite(logits).all():
            raise ValueError("cannot score: some logits are not finite")
        predicted = self.decide(logits)
        by_word = [name for name in self.metrics if name not in METRICS]
        values = dict.fromkeys(by_word, 0.0)
        if len(label):
            values = compute(by_word, predicted, label, self.probabilities(logits), self.labels)
        if len(by_word) < len(self.metrics):
            values |= scores(self._tags(predicted, counts), self._tags(label, counts))
        return {name: values[name] for name in self.metrics}

    def _tags(self, ids: np.ndarray, counts: np.ndarray | None) -> list[list[str]]:
        """Class ids [N] -> the names of each sequence's."""
        names = [self.labels[number] for number in ids.tolist()]
        ends = np.cumsum(np.ones(len(ids), np.int64) if counts is None else counts).tolist()
        return [names[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]

    def predictions(self, logits: np.ndarray, counts: np.ndarray | None = None) -> list[Prediction]:
        """For each example the class of every word that was read, and their logits [n, C]; no probabilities."""
        tags = self._tags(self.decide(logits), counts)
        stops = itertools.accumulate(map(len, tags))
        return [Prediction(some, {}, logits[stop - len(some) : stop]) for some, stop in zip(tags, stops, strict=True)]

    def reader(self, column: str, declared: Sequence[str] = ()) -> LabelReader:
        classes = self.labels or (tuple(declared) if len(declared) > 1 else ())
        return _TagReader(dataclasses.replace(self, labels=classes), column)

    def renumber(self, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
        if sorted(names) != sorted(self.labels):
            raise InputError(f"expected the labels {list(self.labels)}, found {list(names)}")
        return np.array([self.labels.index(name) for name in names], self.label_dtype)[values]

    def describe(self) -> str:
        return f"{len(self.labels)} classes of words, named in config.json"

    def hugging_face_config(self) -> dict[str, Any]:
        return {name: value for name, value in super().hugging_face_config().items() if name != "problem_type"}


class _TagReader:
    """Class ids of lists of labels: of an objective's classes, or of new ones, sorted in the end."""

    def __init__(self, objective: Tokens, column: str) -> None:
        self.objective, self.column = objective, column
        self.class_ids = ClassIds(objective.labels)
        self.labels = array("i")

    def read(self, cell: object) -> None:
        if not isinstance(cell, list | tuple):
            raise InputError(f"expected a list with a label for each word in column '{self.column}', found '{cell}'")
        for label in cell:
            if label not in self.class_ids.names:  # a missing one; before any of the row's is a new class
                class_name(label, may_be_named=not self.objective.labels)
        self.labels.extend([self.class_ids(label) for label in cell])

    def finish(self) -> tuple[np.ndarray, Objective]:
        labels = np.array(self.labels, self.objective.label_dtype)
        if self.objective.labels:
            return labels, self.objective
        found = self.class_ids.in_order()
        if len(found) == 1:
            raise InputError(f"expected two classes or more in column '{self.column}', found only '{found[0]}'")
        objective = dataclasses.replace(self.objective, labels=found)
        return objective.renumber(labels, self.class_ids.names), objective
