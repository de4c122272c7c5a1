"""What final runs answered on the reported rows, how that is scored, and what a constant answer scores there.

Scores here are in a sign where larger is better: those of an error are negative (`sign_of`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxfreeze.metrics import LOWER_IS_BETTER
from jaxfreeze.objectives import Objective
from jaxfreeze.search.trial import Candidate


class Outcomes(NamedTuple):
    """The final runs of a candidate."""

    candidate: Candidate
    seeds: tuple[int, ...]
    """One run for each."""
    seconds: tuple[float, ...]
    """Of each run."""
    logits: tuple[np.ndarray, ...]
    """float32 [N, C] of each run on the reported rows. A run that diverged may have others than finite ones."""
    chosen: tuple[Mapping[str, float], ...] = ()
    """What `Objective.chosen_on` chose in each run, such as a threshold; (): nothing."""


class Reported(NamedTuple):
    """Rows on which runs are scored: N labels of E examples. Examples are what is resampled."""

    objective: Objective
    label: np.ndarray
    """[N, *label_shape]."""
    counts: np.ndarray
    """int64 [E], how many of the labels belong to each example."""

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.objective.primary_metric


class Run(NamedTuple):
    """The answers of one run, and the objective that turns them into predictions."""

    objective: Objective
    logits: np.ndarray  # float32 [N, C]


class Constant(NamedTuple):
    """One answer for every row."""

    run: Run
    score: float
    """In the sign where larger is better."""


def sign_of(metric: str) -> int:
    """What a metric is multiplied by so that larger is better: -1 for an error, else 1."""
    return -1 if metric in LOWER_IS_BETTER else 1


def runs_of(outcomes: Outcomes, reported: Reported) -> list[Run]:
    """The runs of a candidate, by seed. One that diverged answers 0 everywhere, as if it knew nothing."""
    found = []
    for place, logits in enumerate(outcomes.logits):
        chosen = outcomes.chosen[place] if outcomes.chosen else {}
        known = logits if np.isfinite(logits).all() else np.zeros_like(logits)
        found.append(Run(reported.objective.settled(chosen), known))
    return found


def score(run: Run, label: np.ndarray, counts: np.ndarray) -> float:
    """The primary metric of a run, in the sign where larger is better; label [N, *label_shape], counts int64 [E]."""
    metric = run.objective.primary_metric
    return sign_of(metric) * run.objective.score(run.logits, label, counts)[metric]


def best_constant(reported: Reported) -> Constant:
    """The best of the objective's constant answers on these rows, by the primary metric."""
    found = []
    for logits in reported.objective.constant_answers(reported.label):
        run = Run(reported.objective, np.broadcast_to(logits, (len(reported.label), len(logits))))
        found.append(Constant(run, score(run, reported.label, reported.counts)))
    return max(found, key=lambda one: one.score)
