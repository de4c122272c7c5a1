"""Any number of classes for each example."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from jaxfreeze import metrics
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError, shorten
from jaxfreeze.objectives.class_weights import BALANCED, weights_of
from jaxfreeze.objectives.label_cells import WHOLE, ClassIds, MissingLabelError, class_name, is_missing
from jaxfreeze.objectives.losses import binary_cross_entropy
from jaxfreeze.objectives.objective import LabelReader, Objective, Prediction

THRESHOLDS = np.arange(1, 50) / 50
"""Those that --threshold tuned tries."""


@dataclasses.dataclass(frozen=True)
class MultiLabel(Objective):
    """Any number of classes for each example. uint8 [C], 1 for those it has; sigmoid cross-entropy."""

    kind: ClassVar[str] = "multi_label"
    problem_type: ClassVar[str] = "multi_label_classification"
    label_dtype: ClassVar[type[np.generic]] = np.uint8
    pipeline_options: ClassVar[str] = "top_k=None"
    fitting_metrics: ClassVar[tuple[str, ...]] = (
        *("micro_f1", "macro_f1", "weighted_f1", "f1:NAME", "precision:NAME", "recall:NAME", "lrap", "roc_auc"),
        *("average_precision", "hamming_loss", "accuracy"),
    )

    labels: tuple[str, ...] = ()
    """Class names in id order; () until a training file has been read for them."""
    metrics: tuple[str, ...] = ("micro_f1", "macro_f1", "lrap", "accuracy")
    """lrap: label ranking average precision; accuracy: the share of examples with every class right."""
    threshold: float | None = 0.5
    """A class is predicted where its probability is above this; None: still to be chosen on the validation rows."""
    separator: str | None = None
    """What stands between the names in a file's cell; None: the cell is a list, or there is a column for each class."""
    by_number: bool = False
    """Whether a file's numbers are ids, from 0: where --label_names gives every name, and no name is a number."""
    class_weights: tuple[float, ...] = ()
    """What having a class counts in the loss against not having it; (): 1 each."""
    smoothing: float = 0.0
    """Share of a label, 0 or 1, that becomes 1/2 in the loss."""

    @classmethod
    def of(cls, labels: Sequence[str]) -> "MultiLabel":
        return cls(tuple(labels))

    @classmethod
    def of_own_rows(cls, labels: Sequence[str], config: TrainConfig) -> "MultiLabel":
        columns = config.label_column if len(config.label_column) > 1 else ()
        return cls(
            tuple(labels) or columns,
            threshold=None if config.threshold == "tuned" else config.threshold,
            separator=config.label_separator,
            by_number=bool(config.label_names) and not any(map(WHOLE.fullmatch, config.label_names)),
        )

    @property
    def label_shape(self) -> tuple[int, ...]:
        return (len(self.labels),)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.labels

    def loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        return binary_cross_entropy(logits, label, self.class_weights, self.smoothing)

    def trained_with(self, class_weights: Sequence[str], smoothing: float, label: np.ndarray) -> "MultiLabel":
        counts = label.sum(axis=0, dtype=np.int64)  # [C]
        balanced = (len(label) - counts) / np.maximum(counts, 1)
        if tuple(class_weights) == (BALANCED,) and not balanced.all():
            name = shorten(self.labels[balanced.argmin()])
            raise InputError(f"--class_weights balanced: every training row has the class '{name}'; leave it out")
        weights = weights_of(class_weights, self, counts, balanced)
        return dataclasses.replace(self, class_weights=weights, smoothing=smoothing)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        from scipy.special import expit  # here, because training does without

        return expit(logits.astype(np.float64))

    def decide(self, logits: np.ndarray) -> np.ndarray:
        if self.threshold is None:
            raise ValueError("the threshold is still to be chosen on the validation rows")
        return (self.probabilities(logits) > self.threshold).astype(self.label_dtype)

    def chosen_on(
        self, logits: np.ndarray, label: np.ndarray, counts: np.ndarray | None = None
    ) -> tuple["MultiLabel", dict[str, float]]:
        """The threshold of all classes that the primary metric is best with; of equal ones, that nearest to 0.5.

        A metric that no threshold changes leaves it at 0.5.
        """
        if self.threshold is not None:
            return self, {}
        probability, name = self.probabilities(logits), self.primary_metric
        best, best_score = 0.5, None
        tried = () if name in metrics.RANKINGS else THRESHOLDS.tolist()
        for threshold in sorted(tried, key=lambda threshold: abs(threshold - 0.5)):
            prediction = (probability > threshold).astype(self.label_dtype)
            score = metrics.compute((name,), prediction, label, probability, self.labels)[name]
            if best_score is None or metrics.is_better(name, score, best_score):
                best, best_score = threshold, score
        return dataclasses.replace(self, threshold=best), {"threshold": best}

    def settled(self, chosen: Mapping[str, Any]) -> "MultiLabel":
        return dataclasses.replace(self, threshold=chosen["threshold"]) if "threshold" in chosen else self

    def constant_answers(self, label: np.ndarray) -> np.ndarray:
        """No class, the most frequent one, the two most frequent ones, ..., all; and the most frequent set of classes.

        In each answer the more frequent class has the higher logit.
        """
        order = np.argsort(-label.mean(axis=0), kind="stable")
        rank = np.argsort(order)  # 0: the most frequent
        sets, times = np.unique(label, axis=0, return_counts=True)
        named = np.vstack([rank < np.arange(len(self.labels) + 1)[:, None], sets[times.argmax()] > 0])  # [A, C]
        return np.where(named, 10.0, -10.0).astype(np.float32) - (rank / len(self.labels)).astype(np.float32)

    def predictions(self, logits: np.ndarray, counts: np.ndarray | None = None) -> list[Prediction]:
        found = []
        for decided, shares, row in zip(self.decide(logits), self.probabilities(logits).tolist(), logits, strict=True):
            names = [self.labels[number] for number in np.flatnonzero(decided)]
            found.append(Prediction(names, dict(zip(self.labels, shares, strict=True)), row))
        return found

    def in_ensemble(self, others: Sequence[Objective]) -> "MultiLabel":
        """With the mean of their thresholds, which the runs may have chosen."""
        found = [one.threshold for one in (self, *others) if isinstance(one, MultiLabel) and one.threshold is not None]
        return dataclasses.replace(self, threshold=float(np.mean(found)))

    def average(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        if len(logits) == 1:
            return logits[0]
        from scipy.special import log_expit, logsumexp

        yes, no = (
            logsumexp([log_expit(sign * some.astype(np.float64)) for some in logits], axis=0) for sign in (1, -1)
        )
        return (yes - no).astype(np.float32)

    def reader(self, column: str, declared: Sequence[str] = ()) -> LabelReader:
        return _SetReader(self, column, declared)

    def renumber(self, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
        if sorted(names) != sorted(self.labels):
            raise InputError(f"expected the labels {list(self.labels)}, found {list(names)}")
        return values[:, [list(names).index(name) for name in self.labels]].astype(self.label_dtype)

    def describe(self) -> str:
        classes = f"any number of {len(self.labels)} classes, named in config.json"
        return f"{classes}; one is predicted where its probability (sigmoid) is above {self.threshold:g}"

    def kept(self) -> dict[str, Any]:
        return {"threshold": self.threshold}


class _SetReader:
    """Sets of class ids: from lists, from names with a separator, or from a column of 0 and 1 for each class."""

    def __init__(self, objective: MultiLabel, column: str, declared: Sequence[str]) -> None:
        self.objective, self.column = objective, column
        self.declared = tuple(declared)
        self.class_ids = ClassIds(objective.labels or declared)
        self.sets: list[set[int]] = []
        self.parted = objective.separator is None

    def read(self, cell: object) -> None:
        if isinstance(cell, tuple):
            self.sets.append({number for number, flag in enumerate(cell) if self._flag(number, flag)})
        else:
            self.sets.append({self._id(name) for name in self._names(cell)})

    def _flag(self, number: int, cell: object) -> bool:
        name = class_name(cell)
        if name not in ("0", "1", "false", "true"):
            column = shorten(self.objective.labels[number])
            raise InputError(f"label '{name[:60]}' in column '{column}': expected 0 or 1, as of several label columns")
        return name in ("1", "true")

    def _names(self, cell: object) -> Sequence[object]:
        if isinstance(cell, list):
            return cell
        separator = self.objective.separator
        if is_missing(cell) and not (separator and isinstance(cell, str)):
            raise MissingLabelError("expected a list of labels, found none; an empty list stands for no label")
        if separator is None:
            raise InputError(
                f"expected a list of labels, found '{str(cell)[:60]}'; give --label_separator for names in one cell, "
                "or several columns of 0 and 1 to --label_column"
            )
        self.parted |= separator in str(cell)
        return [name for name in map(str.strip, str(cell).split(separator)) if name]

    def _id(self, cell: object) -> int:
        if isinstance(cell, (list, dict)):
            raise InputError(f"expected a list of labels, found a {type(cell).__name__} in it")
        if self.objective.by_number and not is_missing(cell) and (name := class_name(cell)).isdecimal():
            if int(name) >= len(self.objective.labels):
                most = len(self.objective.labels) - 1
                raise InputError(f"label {name[:60]}: expected 0 to {most}, the places in --label_names, or a name")
            return int(name)
        return self.class_ids(cell)

    def finish(self) -> tuple[np.ndarray, Objective]:
        names = self.class_ids.names
        if not (self.parted or self.objective.labels):
            raise InputError(
                f"--label_separator '{self.objective.separator}': appears in no row of column '{self.column}'; "
                "expected what is between the labels of a row"
            )
        known = self.objective.labels or self.declared
        labels = known or self.class_ids.in_order()
        if len(labels) < 2:
            raise InputError(f"expected two classes or more in column '{self.column}', found {len(labels)}")
        matrix = np.zeros((len(self.sets), len(names)), self.objective.label_dtype)
        for row, numbers in enumerate(self.sets):
            matrix[row, list(numbers)] = 1
        objective = dataclasses.replace(self.objective, labels=labels)
        return objective.renumber(matrix, names), objective
