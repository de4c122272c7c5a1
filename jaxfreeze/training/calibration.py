"""Calibration of probabilities: the calibration error, and temperature scaling (Guo et al. 2017)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxfreeze.objectives import Objective
from jaxfreeze.objectives.answers import decisions, has_probabilities, losses
from jaxfreeze.training.evaluation import Scored

BINS = 15
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are tried


class Bin(NamedTuple):
    """Decisions of about the same probability."""

    low: float
    """Their lowest probability."""
    high: float
    size: int
    probability: float
    """Their mean probability."""
    right: float
    """The share of them that came true."""


def bins_of(probability: np.ndarray, right: np.ndarray, most: int = BINS) -> list[Bin]:
    """Bins of equal mass, the lowest probabilities first: float64 [M], bool [M]; equal ones are never parted."""
    order = np.argsort(probability, kind="stable")
    ranked, came = probability[order], right[order]
    cuts = np.linspace(0, len(ranked), min(most, len(ranked)) + 1).round().astype(int)[1:-1]
    borders = np.unique(np.searchsorted(ranked, ranked[cuts], side="left"))
    parts = zip(np.split(ranked, borders), np.split(came, borders), strict=True)
    return [
        Bin(float(some[0]), float(some[-1]), len(some), float(some.mean()), float(true.mean()))
        for some, true in parts
        if len(some)
    ]


def calibration_error(bins: list[Bin]) -> float:
    """The expected calibration error (Naeini et al. 2015): the mean over all decisions of their bin's |right - p|."""
    total = sum(one.size for one in bins)
    return sum(one.size * abs(one.right - one.probability) for one in bins) / total


def fit_temperature(objective: Objective, logits: np.ndarray, label: np.ndarray) -> float:
    """The temperature with the least mean log loss: logits [N, C], label [N, *label_shape].

    1.0 where the loss only falls as the temperature does, as when every label is right: then nothing bounds it.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return float(losses(objective, logits, label, float(np.exp(log_temperature))).mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-5})
    return 1.0 if loss(np.log(LOWEST)) <= found.fun else float(np.exp(found.x))


def errors(objective: Objective, logits: np.ndarray, label: np.ndarray, temperature: float) -> dict[str, Any]:
    """The calibration error before and after scaling, and of how many labels."""
    before, after = (
        calibration_error(bins_of(*decisions(objective, logits, label, degree))) for degree in (1.0, temperature)
    )
    return {"ece_before": before, "ece_after": after, "rows": len(label)}


def calibrate(objective: Objective, validation: Sequence[Scored], test: Sequence[Scored] = ()) -> dict[str, Any]:
    """What metrics.json says of calibration; {} for a kind of label without probabilities.

    The temperature is fitted on the validation rows, so that their own error after scaling is in-sample; that of the
    test rows is not.
    """
    if not has_probabilities(objective):
        return {}
    rows = together(validation)
    temperature = fit_temperature(objective, *rows)
    found = errors(objective, *rows, temperature)
    if test:
        found["test"] = errors(objective, *together(test), temperature)
    return {"temperature": temperature, "calibration": found}


def together(scored: Sequence[Scored]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of several splits as those of one: float32 [N, C], [N, *label_shape]."""
    return np.concatenate([one.logits for one in scored]), np.concatenate([one.label for one in scored])
