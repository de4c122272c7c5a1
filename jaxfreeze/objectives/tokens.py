"""One class of several for each word."""

import dataclasses
import itertools
from array import array
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jaxfreeze.errors import InputError
from jaxfreeze.metrics import compute
from jaxfreeze.objectives.classification import Classification
from jaxfreeze.objectives.entities import METRICS, OUTSIDE, is_scheme, matches, scores
from jaxfreeze.objectives.label_cells import ClassIds, class_name
from jaxfreeze.objectives.objective import LabelReader, Objective, Prediction


@dataclasses.dataclass(frozen=True)
class Tokens(Classification):
    """One class of several for each word. int32 ids; softmax cross-entropy at the first token of a word."""

    kind: ClassVar[str] = "tokens"
    problem_type: ClassVar[str] = ""  # Hugging Face has none
    by_token: ClassVar[bool] = True
    pipeline: ClassVar[str] = "token-classification"
    pipeline_settings: ClassVar[str] = 'aggregation_strategy="first"'
    fitting_metrics: ClassVar[tuple[str, ...]] = (
        *("accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "weighted_f1", "f1:NAME", "precision:NAME"),
        *("recall:NAME", "matthews_correlation", "cohen_kappa", "log_loss"),
    )

    metrics: tuple[str, ...] = ()
    """Default: of entities, if the classes are their tags, and accuracy. All others are about words one by one."""

    def __post_init__(self) -> None:
        if self.labels and not self.metrics:
            of_entities = METRICS if is_scheme(self.labels) else ()
            object.__setattr__(self, "metrics", (*of_entities, "accuracy"))

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

    def entity_matches(self, predicted: np.ndarray, label: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
        """Of each sequence the entities that are right, predicted and true: class ids [N] each -> int64 [E, 3]."""
        return matches(self._tags(predicted, counts), self._tags(label, counts))

    def constant_answers(self, label: np.ndarray) -> np.ndarray:
        """Of tags of entities that nothing is one; of other classes as for examples."""
        found = super().constant_answers(label)
        return found[[self.labels.index(OUTSIDE)]] if OUTSIDE in self.labels and is_scheme(self.labels) else found

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
