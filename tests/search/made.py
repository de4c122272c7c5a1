"""Outcomes of final runs that were never trained, and what is asked of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxfreeze.freezing import Layers
from jaxfreeze.objectives import Classification, Objective
from jaxfreeze.search.answer import RateScore
from jaxfreeze.search.judge import About
from jaxfreeze.search.outcomes import Outcomes, Reported
from jaxfreeze.search.trial import Candidate, Dropped, Question

YES_NO = Classification(("no", "yes"), ("accuracy",))
SECONDS: dict[Layers, float] = {0: 1.0, 1: 2.0, 2: 4.0, 3: 6.0, "all": 13.0}


def candidate(layers: Layers, learning_rate: float = 1e-4, epochs: int = 3) -> Candidate:
    return Candidate(layers, learning_rate, epochs)


def reported(label: np.ndarray, objective: Objective = YES_NO, counts: np.ndarray | None = None) -> Reported:
    return Reported(objective, label, np.ones(len(label), np.int64) if counts is None else counts)


def logits_of(decided: np.ndarray, classes: int = 2) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[decided]


def outcomes(layers: Layers, logits: Sequence[np.ndarray], **changes: Any) -> Outcomes:
    seeds = tuple(range(1, len(logits) + 1))
    seconds = (SECONDS[layers],) * len(logits)
    return Outcomes(candidate(layers, **changes), seeds, seconds, tuple(logits))


def with_errors(layers: Layers, label: np.ndarray, wrong: Sequence[Sequence[int]], **changes: Any) -> Outcomes:
    """Runs that are right but for these rows, by seed."""
    decided = [np.where(np.isin(np.arange(len(label)), some), 1 - label, label) for some in wrong]
    return outcomes(layers, [logits_of(some) for some in decided], **changes)


def with_rates(layers: Layers, label: np.ndarray, rates: Sequence[float], seed: int = 0, **changes: Any) -> Outcomes:
    """Runs that are wrong in these shares of the rows, by seed: in the hardest ones, which are the same for all."""
    hard = np.random.default_rng(seed).permutation(len(label))
    return with_errors(layers, label, [hard[: round(rate * len(label))].tolist() for rate in rates], **changes)


def question(**changes: Any) -> Question:
    return Question(**{"num_layers": 6, "epochs": 3, "constant": 0.5, "rows": 250} | changes)


def about(**changes: Any) -> About:
    given: dict[str, Any] = {
        "task": "rte",
        "model": "tiny",
        "selection_rows": 250,
        "rates": (RateScore(candidate(1), 0.7, 3, True),),
        "dropped": (Dropped(2, "no better than k = 1"),),
        "not_tried": (4, 5),
        "runs": 40,
        "seconds": 100.0,
        "command": lambda one: f"train --trainable_layers {one.layers}",
    }
    return About(**given | changes)


def labels(rows: int = 300, ones: float = 0.5) -> np.ndarray:
    """0 and 1, this share of 1."""
    return (np.arange(rows) < ones * rows).astype(np.int32)
