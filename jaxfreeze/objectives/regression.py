"""One number for each example."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxfreeze.objectives.label_cells import read_score
from jaxfreeze.objectives.objective import LabelReader, Objective, Prediction, Strata

MOST_BINS = 10


@dataclasses.dataclass(frozen=True)
class Regression(Objective):
    """One number for each example. float32; squared error."""

    kind: ClassVar[str] = "regression"
    problem_type: ClassVar[str] = "regression"
    label_dtype: ClassVar[type[np.generic]] = np.float32
    fitting_metrics: ClassVar[tuple[str, ...]] = (
        *("spearman", "pearson", "kendall", "r2", "explained_variance", "mae", "mse", "rmse"),
    )

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

    def strata(self, label: np.ndarray, counts: np.ndarray) -> Strata:
        """Up to ten bins of equally many labels."""
        bins = max(1, min(MOST_BINS, len(label) // MOST_BINS))
        edges = np.quantile(label, np.arange(1, bins) / bins, method="lower")
        return Strata(np.searchsorted(edges, label, side="left"))

    def decide(self, logits: np.ndarray) -> np.ndarray:
        return logits[:, 0].astype(np.float64)

    def constant_answers(self, label: np.ndarray) -> np.ndarray:
        """The mean, whose squared error is the smallest, and the median, whose absolute error is."""
        return np.array([[label.mean(dtype=np.float64)], [np.median(label)]], np.float32)

    def predictions(self, logits: np.ndarray, counts: np.ndarray | None = None) -> list[Prediction]:
        return [Prediction(float(row[0]), {}, row) for row in logits]

    def average(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(logits).mean(axis=0, dtype=np.float64).astype(np.float32)

    def glue_answers(self, logits: np.ndarray) -> list[str]:
        scores = logits[:, 0] if self.bounds is None else np.clip(logits[:, 0], *self.bounds)
        return [f"{score:.3f}" for score in scores]

    def reader(self, column: str, declared: Sequence[str] = ()) -> LabelReader:
        return _ScoreReader(self)

    def renumber(self, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
        return values.astype(self.label_dtype)

    def describe(self) -> str:
        return "a number as label"


class _ScoreReader:
    """Scores within an objective's bounds."""

    def __init__(self, objective: Regression) -> None:
        self.objective = objective
        self.labels: list[float] = []

    def read(self, cell: object) -> None:
        self.labels.append(read_score(cell, self.objective.bounds))

    def finish(self) -> tuple[np.ndarray, Objective]:
        return np.array(self.labels, self.objective.label_dtype), self.objective
