"""One class of several for each example."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import numpy as np

from jaxfreeze.errors import InputError
from jaxfreeze.objectives.class_weights import weights_of
from jaxfreeze.objectives.label_cells import ClassIds
from jaxfreeze.objectives.losses import class_weight, cross_entropy
from jaxfreeze.objectives.objective import LabelReader, Objective, Prediction


@dataclasses.dataclass(frozen=True)
class Classification(Objective):
    """One class of several for each example. int32 ids; softmax cross-entropy."""

    kind: ClassVar[str] = "classification"
    problem_type: ClassVar[str] = "single_label_classification"
    label_dtype: ClassVar[type[np.generic]] = np.int32
    fitting_metrics: ClassVar[tuple[str, ...]] = (
        *("accuracy", "balanced_accuracy", "f1", "macro_f1", "micro_f1", "weighted_f1", "f1:NAME", "precision:NAME"),
        *("recall:NAME", "matthews_correlation", "cohen_kappa", "roc_auc", "average_precision", "log_loss"),
    )

    labels: tuple[str, ...] = ()
    """Class names in id order; () until a training file has been read for them."""
    metrics: tuple[str, ...] = ()
    """Default: accuracy, and with two classes F1, of the second one as in scikit-learn, with more the mean F1."""
    codes: tuple[str, ...] = ()
    """How GLUE's files spell each of `labels`, if otherwise."""
    class_weights: tuple[float, ...] = ()
    """What each class counts in the loss; (): 1 each."""
    smoothing: float = 0.0
    """Share of a label that is spread over all classes in the loss."""

    def __post_init__(self) -> None:
        if self.labels and not self.metrics:
            object.__setattr__(self, "metrics", ("accuracy", "f1" if len(self.labels) == 2 else "macro_f1"))

    @classmethod
    def of(cls, labels: Sequence[str]) -> "Classification":
        return cls(tuple(labels))

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.labels

    @property
    def spellings(self) -> tuple[str, ...]:
        """How files spell the classes, in id order."""
        return self.codes or self.labels

    def loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        return cross_entropy(logits, label, self.class_weights, self.smoothing)

    def weight(self, label: jax.Array) -> jax.Array:
        return class_weight(label, self.class_weights)

    def trained_with(self, class_weights: Sequence[str], smoothing: float, label: np.ndarray) -> "Classification":
        counts = np.bincount(label, minlength=len(self.labels))
        balanced = len(label) / (len(self.labels) * np.maximum(counts, 1))  # as scikit-learn's
        weights = weights_of(class_weights, self, counts, balanced)
        return dataclasses.replace(self, class_weights=weights, smoothing=smoothing)

    def measured_by(self, name: str | None) -> "Classification":
        if name == "f1" and len(self.labels) > 2:
            raise InputError(
                f"--metric f1: of {len(self.labels)} classes; expected macro_f1, or f1:NAME for one of them"
            )
        return super().measured_by(name)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        from scipy.special import softmax  # here, because training does without

        return softmax(logits.astype(np.float64), axis=-1)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=-1)

    def constant_answers(self, label: np.ndarray) -> np.ndarray:
        """Each class, and the logarithm of the classes' frequencies, whose log loss is the lowest."""
        shares = np.bincount(label, minlength=len(self.labels)) / max(len(label), 1)
        frequencies = np.log(np.maximum(shares, np.finfo(np.float32).tiny))
        return np.vstack([np.eye(len(self.labels)), frequencies]).astype(np.float32)

    def predictions(self, logits: np.ndarray, counts: np.ndarray | None = None) -> list[Prediction]:
        shares = self.probabilities(logits).tolist()
        return [
            Prediction(self.labels[best], dict(zip(self.labels, share, strict=True)), row)
            for best, share, row in zip(self.decide(logits).tolist(), shares, logits, strict=True)
        ]

    def glue_answers(self, logits: np.ndarray) -> list[str]:
        return [self.spellings[number] for number in self.decide(logits)]

    def reader(self, column: str, declared: Sequence[str] = ()) -> LabelReader:
        classes = self.labels or (tuple(declared) if len(declared) > 1 else ())
        return _ClassReader(dataclasses.replace(self, labels=classes), column)

    def renumber(self, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
        if sorted(names) != sorted(self.labels):
            raise InputError(f"expected the labels {list(self.labels)}, found {list(names)}")
        return np.array([self.labels.index(name) for name in names], self.label_dtype)[values]

    def describe(self) -> str:
        return f"{len(self.labels)} classes, named in config.json"


class _ClassReader:
    """Class ids: of an objective's classes, or of new ones, sorted in the end."""

    def __init__(self, objective: Classification, column: str) -> None:
        self.objective, self.column = objective, column
        self.class_ids = ClassIds(objective.spellings)
        self.labels: list[int] = []

    def read(self, cell: object) -> None:
        self.labels.append(self.class_ids(cell))

    def finish(self) -> tuple[np.ndarray, Objective]:
        labels = np.array(self.labels, self.objective.label_dtype)
        if self.objective.labels:
            return labels, self.objective
        found = self.class_ids.in_order()
        if len(found) == 1:
            raise InputError(f"expected two classes or more in column '{self.column}', found only '{found[0]}'")
        objective = dataclasses.replace(self.objective, labels=found)
        return objective.renumber(labels, self.class_ids.names), objective
