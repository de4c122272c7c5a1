"""What a kind of label is: its array, loss, scores and predictions, and how a cell of a file becomes a label."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxfreeze import metrics
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError, did_you_mean, listed, shorten

MOST_NAMES = 30  # of metrics or classes in an error


class Prediction(NamedTuple):
    """What a run predicts for one example."""

    prediction: str | float | list[str]
    """The name of a class, the names of any number of classes, or a number."""
    probabilities: dict[str, float]
    """By class, in id order; empty for an objective without probabilities."""
    logits: np.ndarray
    """float32 [C], in id order."""

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values; probabilities are left out where there are none."""
        fields = {"prediction": self.prediction, "probabilities": self.probabilities, "logits": self.logits.tolist()}
        return {name: value for name, value in fields.items() if value != {}}


class Strata(NamedTuple):
    """What should be as frequent in a part of the rows as in the whole."""

    member: np.ndarray
    """int [E], the group of each example; or bool [E, G], any number of groups of each."""
    names: tuple[str, ...] = ()
    """Of the groups, where each has to have rows in every part: classes; () where one may have none."""


class LabelReader(Protocol):
    """Reads the label column of one file, from its first cell to its last."""

    def read(self, cell: object) -> None:
        """Take the next cell, or none of it: raises MissingLabelError, or InputError for another wrong one.

        Of several label columns a cell is a tuple, of their cells. The message does not say where the cell is.
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
    by_token: ClassVar[bool] = False
    """Whether the head answers for every token and a label belongs to a token, not to an example."""
    pipeline: ClassVar[str] = "text-classification"
    """The pipeline of transformers for an exported run."""
    pipeline_settings: ClassVar[str] = "truncation=True"
    """What makes that pipeline answer as the run does."""
    pipeline_options: ClassVar[str] = ""
    """What its call takes beside the texts, to answer as the run does."""
    fitting_metrics: ClassVar[tuple[str, ...]] = ()
    """What --metric may name, `f1:NAME` for one of each class; beside these, `metrics`."""

    @classmethod
    @abc.abstractmethod
    def of(cls, labels: Sequence[str]) -> "Objective":
        """The objective of a user's own files; no labels: a training file is still to be read for them."""

    @classmethod
    def of_own_rows(cls, labels: Sequence[str], config: TrainConfig) -> "Objective":
        """The same, with what the flags say of the labels."""
        return cls.of(labels)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Axes of one label."""
        return ()

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

    def measured_by(self, name: str | None) -> Self:
        """The same with this metric first, `f1:NAME` or the like; None: as it is. Raises InputError for a misfit."""
        if name is None:
            return self
        kind, colon, of_class = name.partition(":")
        fitting = dict.fromkeys((*self.fitting_metrics, *self.metrics))
        if colon and f"{kind}:NAME" in fitting and of_class not in self.labels:
            raise InputError(f"--metric {shorten(name)}: {self.no_class(of_class)}")
        if f"{kind}:NAME" not in fitting if colon else name not in fitting:
            raise InputError(
                f"--metric {shorten(name)}: not a metric of {self.kind}; expected one of "
                f"{', '.join(fitting)}{did_you_mean(fitting, name)}"
            )
        return self._with(metrics=(name, *(other for other in self.metrics if other != name)))

    def trained_with(self, class_weights: Sequence[str], smoothing: float, label: np.ndarray) -> Self:
        """The same with a loss that counts rare classes for more, and smooths labels.

        class_weights: `balanced`, or NAME=W for classes by name; none: all count 1. smoothing: a share. label: of the
        training rows, [N, *label_shape]. Raises InputError for what does not fit the labels.
        """
        for flag, value in (("class_weights", class_weights), ("label_smoothing", smoothing)):
            if value:
                raise InputError(f"--{flag}: expected labels that are classes, found {self.kind}; leave it out")
        return self

    def no_class(self, name: str) -> str:
        """The end of an error line: a name that is none of the classes, and those that are."""
        shown = f"expected one of {listed(self.labels, MOST_NAMES)}{did_you_mean(self.labels, name)}"
        return f"no class '{shorten(name)}'; {shown}"

    def _with(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]  # every subclass is a dataclass

    @abc.abstractmethod
    def loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """Loss of each label: float32 logits [..., C], label [..., *label_shape] -> float32 [...].

        A batch's loss is the sum of these over the sum of `weight`.
        """

    def weight(self, label: jax.Array) -> jax.Array:
        """What each label counts in the mean over a batch: [..., *label_shape] -> float32 [...]; 0: it is none."""
        return jnp.ones(label.shape[: label.ndim - len(self.label_shape)], jnp.float32)

    def strata(self, label: np.ndarray, counts: np.ndarray) -> Strata:
        """The groups by which validation rows are drawn, of labels [N, *label_shape]; counts: int64 [E], as in `score`.

        Classes; of labels of words, whether an example has any class but `O`.
        """
        if self.by_token:
            named = label != (self.labels.index("O") if "O" in self.labels else -1)
            return Strata(np.logical_or.reduceat(named, np.cumsum(counts) - counts).astype(np.int32))
        return Strata(label, self.labels) if label.ndim == 1 else Strata(label > 0)

    @abc.abstractmethod
    def decide(self, logits: np.ndarray) -> np.ndarray:
        """The predicted labels, which the metrics compare with the true ones: logits [N, C] -> [N, *label_shape]."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Of each class: logits [N, C] -> float64 [N, C]; [N, 0] for an objective without probabilities."""
        return np.empty((len(logits), 0))

    def chosen_on(
        self, logits: np.ndarray, label: np.ndarray, counts: np.ndarray | None = None
    ) -> tuple[Self, dict[str, float]]:
        """The same with what is to be chosen on the validation rows, and that by name.

        logits [N, C], label [N, *label_shape] and counts as `score` takes them.
        """
        return self, {}

    def settled(self, chosen: Mapping[str, Any]) -> Self:
        """The same with what `chosen_on` chose; chosen: that, or a run's metrics.json."""
        return self

    def kept(self) -> dict[str, Any]:
        """What metrics.json and an exported config.json hold of it beside the classes, by name."""
        return {}

    def score(self, logits: np.ndarray, label: np.ndarray, counts: np.ndarray | None = None) -> dict[str, float]:
        """The metrics by name, as fractions: logits [N, C], label [N, *label_shape].

        counts: int64 [E], how many of the N labels belong to each example; None: one each, N = E. Raises ValueError for
        logits that are not finite.
        """
        if not np.isfinite(logits).all():
            raise ValueError("cannot score: some logits are not finite")
        return metrics.compute(self.metrics, self.decide(logits), label, self.probabilities(logits), self.labels)

    @abc.abstractmethod
    def constant_answers(self, label: np.ndarray) -> np.ndarray:
        """Answers that are the same for every row, of which one is the best by any metric: logits float32 [A, C].

        label: the true ones, [N, *label_shape], whose frequencies an answer may use.
        """

    @abc.abstractmethod
    def predictions(self, logits: np.ndarray, counts: np.ndarray | None = None) -> list[Prediction]:
        """One for each example of logits [N, C]; counts: int64 [E], how many of the N belong to each (None: one)."""

    def in_ensemble(self, others: Sequence["Objective"]) -> "Objective":
        """This objective for runs that answer as one; others: those of the other runs, of its kind and classes."""
        return self

    def average(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """The logits whose probabilities are the mean of those of several: [N, C] each -> float32 [N, C].

        Here of probabilities that add up to 1; a kind whose probabilities do not, or that has none, has its own.
        """
        if len(logits) == 1:
            return logits[0]
        from scipy.special import log_softmax, logsumexp  # here, because training does without

        logs = [log_softmax(some.astype(np.float64), axis=-1) for some in logits]
        return (logsumexp(logs, axis=0) - np.log(len(logs))).astype(np.float32)

    def glue_answers(self, logits: np.ndarray) -> list[str]:
        """The predicted labels of logits [E, C], as the files of GLUE's leaderboard spell them."""
        raise TypeError(f"no task of GLUE's has labels of the kind {self.kind}")

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
            **self.kept(),
        }
