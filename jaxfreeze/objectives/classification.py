"""One class of several for each example."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import numpy as np
import optax

from jaxfreeze.errors import InputError
from jaxfreeze.objectives.label_cells import ClassIds
from jaxfreeze.objectives.objective import LabelReader, Objective, Prediction


@dataclasses.dataclass(frozen=True)
class Classification(Objective):
    """One class of several for each example. int32 ids; softmax cross-entropy."""

    kind: ClassVar[str] = "classification"
    problem_type: ClassVar[str] = "single_label_classification"
    label_dtype: ClassVar[type[np.generic]] = np.int32

    labels: tuple[str, ...] = ()
    """Class names in id order; () until a training file has been read for them."""
    metrics: tuple[str, ...] = ()
    """Default: accuracy; with two classes F1 too, of the second one as in scikit-learn."""
    codes: tuple[str, ...] = ()
    """How GLUE's files spell each of `labels`, if otherwise."""

    def __post_init__(self) -> None:
        if self.labels and not self.metrics:
            object.__setattr__(self, "metrics", ("accuracy", "f1") if len(self.labels) == 2 else ("accuracy",))

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
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=-1)

    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        from scipy.special import softmax  # here, because training does without

        shares = softmax(logits.astype(np.float64), axis=-1).tolist()
        return [
            Prediction(self.labels[best], dict(zip(self.labels, share, strict=True)), row)
            for best, share, row in zip(self.decide(logits).tolist(), shares, logits, strict=True)
        ]

    def average(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        if len(logits) == 1:
            return logits[0]
        from scipy.special import log_softmax, logsumexp

        logs = [log_softmax(some.astype(np.float64), axis=-1) for some in logits]
        return (logsumexp(logs, axis=0) - np.log(len(logs))).astype(np.float32)

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
