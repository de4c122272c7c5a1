"""The best step of a run by its validation rows, and how long a run has waited for a better one."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxfreeze import metrics


class Best(NamedTuple):
    """The best evaluation so far. Of equal scores the earlier step stays; a score of NaN is never the best."""

    step: int | None = None
    score: float | None = None
    without_better: int = 0
    """Evaluations in a row since then."""

    def after(self, step: int, score: float, metric: str) -> "Best":
        """With one more evaluation, by this metric."""
        if not math.isnan(score) and (self.score is None or metrics.is_better(metric, score, self.score)):
            return Best(step, score)
        return self._replace(without_better=self.without_better + 1)

    def as_json(self) -> dict[str, Any]:
        """As a checkpoint's description holds it."""
        return {"best_step": self.step, "best_score": self.score, "evaluations_without_better": self.without_better}

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> "Best":
        """From a checkpoint's description; those of earlier versions did not count evaluations."""
        return cls(about["best_step"], about["best_score"], about.get("evaluations_without_better", 0))
