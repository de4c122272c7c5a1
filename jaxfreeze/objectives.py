"""The kinds of label. Each class holds all that is peculiar to one: its array, loss, scores, predictions and cells."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import softmax

from jaxfreeze import metrics
from jaxfreeze.errors import InputError
from jaxfreeze.label_cells import ClassIds, read_score


class Prediction(NamedTuple):
    """What a run predicts for one example."""

    prediction: str | float
    """The name of a class, or a number."""
    probabilities: dict[str, float]
    """By class, in id order; empty for an objective without probabilities."""
    logits: np.ndarray
    """float32 [C], in id order."""

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values; probabilities are left out where there are none."""
        fields = {"prediction": self.prediction, "probabilities": self.probabilities, "logits": self.logits.tolist()}
        return {name: value for name, value in fields.items() if value != {}}


class LabelReader(Protocol):
    """Reads the label column of one file, from its first cell to its last."""

    def read(self, cell: object) -> None:
        """Take the next cell. Raises InputError for a wrong one; the message does not say where the cell is."""

    def finish(self) -> tuple[np.ndarray, "Objective"]:
        """The labels of all cells [E, *label_shape], and the objective with the classes that were found.

        Raises InputError if the column as a whole is of no use; the message does not name the file.
        """


class Objective(abc.ABC):
    """A kind of label, with the classes and metrics of one task.

    A subclass is a frozen dataclass, hashable by value: compiled steps take it as a static argument. To add a kind of
    label, write the subclass and register it in OBJECTIVES.
    """

    kind: ClassVar[str]
    """Its name in OBJECTIVES."""
    problem_type: ClassVar[str]
    """Hugging Face's name for it, in config.json."""
    label_dtype: ClassVar[type[np.generic]]
    label_shape: ClassVar[tuple[int, ...]] = ()
    """Axes of one example's label."""

    @classmethod
    @abc.abstractmethod
    def of(cls, labels: Sequence[str]) -> "Objective":
        """The objective of a user's own files; no labels: a training file is still to be read for them."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in id order; () where labels are not classes, or not known yet."""
        return ()

    @property
    @abc.abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Names that jaxfreeze/metrics.py knows; runs are compared by the first."""

    @property
    @abc.abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """The names of the head's outputs in Hugging Face's `id2label`."""

    @property
    def primary_metric(self) -> str:
        """The metric by which runs are compared."""
        return self.metrics[0]

    @property
    def num_outputs(self) -> int:
        """C, the width of the head."""
        return len(self.output_names)

    @abc.abstractmethod
    def loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """Loss of each example: float32 logits [..., C], label [..., *label_shape] -> float32 [...]."""

    @abc.abstractmethod
    def decide(self, logits: np.ndarray) -> np.ndarray:
        """The predicted labels, which the metrics compare with the true ones: logits [E, C] -> [E, *label_shape]."""

    def score(self, logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
        """The metrics by name, as fractions: logits [E, C], label [E, *label_shape].

        Raises ValueError for logits that are not finite.
        """
        if not np.isfinite(logits).all():
            raise ValueError("cannot score: some logits are not finite")
        return metrics.compute(self.metrics, self.decide(logits), label)

    @abc.abstractmethod
    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        """One for each example of logits [E, C]."""

    @abc.abstractmethod
    def glue_answers(self, logits: np.ndarray) -> list[str]:
        """The predicted labels of logits [E, C], as the files of GLUE's leaderboard spell them."""

    @abc.abstractmethod
    def reader(self, column: str) -> LabelReader:
        """A reader for one file's label column, whose name its errors give."""

    @abc.abstractmethod
    def renumber(self, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """The labels that `values` are where a class has another id than here; `names`: the classes in that order.

        Raises InputError for other classes than this objective's.
        """

    @abc.abstractmethod
    def describe(self) -> str:
        """What a label is, in words, for a model card."""

    def about(self) -> list[str] | str:
        """What the server says of the labels: the class names, or the kind where there are none."""
        return list(self.labels) or self.kind

    def hugging_face_config(self) -> dict[str, Any]:
        """The entries of config.json that depend on the kind of label."""
        return {
            "id2label": {str(number): name for number, name in enumerate(self.output_names)},
            "label2id": {name: number for number, name in enumerate(self.output_names)},
            "problem_type": self.problem_type,
        }


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
        shares = softmax(logits.astype(np.float64), axis=-1).tolist()
        return [
            Prediction(self.labels[best], dict(zip(self.labels, share, strict=True)), row)
            for best, share, row in zip(self.decide(logits).tolist(), shares, logits, strict=True)
        ]

    def glue_answers(self, logits: np.ndarray) -> list[str]:
        return [self.spellings[number] for number in self.decide(logits)]

    def reader(self, column: str) -> LabelReader:
        return _ClassReader(self, column)

    def renumber(self, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
        if sorted(names) != sorted(self.labels):
            raise InputError(f"expected the labels {list(self.labels)}, found {list(names)}")
        return np.array([self.labels.index(name) for name in names], self.label_dtype)[values]

    def describe(self) -> str:
        return f"{len(self.labels)} classes, named in config.json"


@dataclasses.dataclass(frozen=True)
class Regression(Objective):
    """One number for each example. float32; squared error."""

    kind: ClassVar[str] = "regression"
    problem_type: ClassVar[str] = "regression"
    label_dtype: ClassVar[type[np.generic]] = np.float32

    metrics: tuple[str, ...] = ("spearman", "pearson")
    bounds: tuple[float, float] | None = None
    """The lowest and the highest score that there is, if it is known."""

    @classmethod
    def of(cls, labels: Sequence[str]) -> "Regression":
        return cls()

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("LABEL_0",)  # transformers' own default

    def loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        return jnp.square(logits[..., 0] - label)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        return logits[:, 0].astype(np.float64)

    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        return [Prediction(float(row[0]), {}, row) for row in logits]

    def glue_answers(self, logits: np.ndarray) -> list[str]:
        scores = logits[:, 0] if self.bounds is None else np.clip(logits[:, 0], *self.bounds)
        return [f"{score:.3f}" for score in scores]

    def reader(self, column: str) -> LabelReader:
        return _ScoreReader(self)

    def renumber(self, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
        return values.astype(self.label_dtype)

    def describe(self) -> str:
        return "a number as label"


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
        return objective.renumber(labels, tuple(self.class_ids.ids)), objective


class _ScoreReader:
    """Scores within an objective's bounds."""

    def __init__(self, objective: Regression) -> None:
        self.objective = objective
        self.labels: list[float] = []

    def read(self, cell: object) -> None:
        self.labels.append(read_score(cell, self.objective.bounds))

    def finish(self) -> tuple[np.ndarray, Objective]:
        return np.array(self.labels, self.objective.label_dtype), self.objective


OBJECTIVES: dict[str, type[Objective]] = {objective.kind: objective for objective in (Classification, Regression)}
"""Every kind of label, by name."""
