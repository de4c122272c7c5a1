"""What a kind of label is: its array, loss, scores and predictions, and how a cell of a file becomes a label."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxfreeze import metrics


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
        """Take the next cell, or none of it: raises MissingLabelError, or InputError for another wrong one.

        The message does not say where the cell is.
        """

    def finish(self) -> tuple[np.ndarray, "Objective"]:
        """The labels of all cells [E, *label_shape], and the objective with the classes that were found.

        Raises InputError if the column as a whole is of no use; the message does not name the file.
        """


class Objective(abc.ABC):
    """A kind of label, with the classes and metrics of one task.

    A subclass is a frozen dataclass, hashable by value: compiled steps take it as a static argument.
    """

    kind: ClassVar[str]
    """Its name in OBJECTIVES."""
    problem_type: ClassVar[str]
    """Hugging Face's name for it, in config.json."""
    label_dtype: ClassVar[type[np.generic]]
    label_shape: ClassVar[tuple[int, ...]] = ()
    """Axes of one label."""
    by_token: ClassVar[bool] = False
    """Whether the head answers for every token and a label belongs to a token, not to an example."""

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
        """Loss of each label: float32 logits [..., C], label [..., *label_shape] -> float32 [...].

        A batch's loss is the sum of these over the sum of `weight`.
        """

    def weight(self, label: jax.Array) -> jax.Array:
        """What each label counts in the mean over a batch: [..., *label_shape] -> float32 [...]; 0: it is none."""
        return jnp.ones(label.shape[: label.ndim - len(self.label_shape)], jnp.float32)

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
    def average(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """The logits whose probabilities are the mean of those of several: [N, C] each -> float32 [N, C]."""

    @abc.abstractmethod
    def glue_answers(self, logits: np.ndarray) -> list[str]:
        """The predicted labels of logits [E, C], as the files of GLUE's leaderboard spell them."""

    @abc.abstractmethod
    def reader(self, column: str, declared: Sequence[str] = ()) -> LabelReader:
        """A reader for one file's label column, whose name its errors give.

        declared: the names of the classes in id order, where the file itself declares them; they are the classes unless
        this objective has its own.
        """

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
