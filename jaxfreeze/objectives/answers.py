"""What a run's logits say of its labels, for files and reports: probabilities, losses, names, indicators.

Everything here follows from what an objective declares: its classes, the axes of a label, and whether it is one of a
token. N labels, C classes; a label is the id of one class, a row of 0 and 1 for any number of classes, or a number.
"""

from typing import Any

import numpy as np

from jaxfreeze.objectives.objective import Objective


def has_probabilities(objective: Objective) -> bool:
    """Whether the logits are those of classes."""
    return bool(objective.labels)


def is_one_of_many(objective: Objective) -> bool:
    """Whether a label is exactly one class, so that one class can be predicted as another."""
    return bool(objective.labels) and not objective.label_shape


def probabilities(objective: Objective, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Of every class: logits [N, C] -> float64 [N, C]. The logits are divided by the temperature first."""
    return objective.probabilities(logits.astype(np.float64) / temperature)


def losses(objective: Objective, logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The loss of every label, without class weights and label smoothing: logits [N, C] -> float64 [N].

    The negative log-likelihood of one class, its mean over the classes where there may be several; of a number, the
    squared error.
    """
    from scipy.special import logsumexp  # here, because training does without

    scaled = logits.astype(np.float64) / temperature
    if not has_probabilities(objective):
        return np.square(scaled[:, 0] - label)
    if is_one_of_many(objective):
        return logsumexp(scaled, axis=-1) - np.take_along_axis(scaled, label[:, None].astype(np.int64), axis=-1)[:, 0]
    return (np.logaddexp(0.0, scaled) - label * scaled).mean(axis=-1)


def decisions(
    objective: Objective, logits: np.ndarray, label: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """What calibration is about: a probability, and whether that came true; float64 [M] and bool [M].

    One of many classes: the probability of the predicted class, M = N. Any number of classes: the probability of each
    class for each label, M = N C.
    """
    shares = probabilities(objective, logits, temperature)
    if is_one_of_many(objective):
        best = logits.argmax(axis=-1)
        return shares[np.arange(len(best)), best], best == label
    return shares.ravel(), label.ravel() > 0.5


def indicators(objective: Objective, label: np.ndarray) -> np.ndarray:
    """Which classes each label names: [N, *label_shape] -> bool [N, C]."""
    if is_one_of_many(objective):
        return label[:, None] == np.arange(len(objective.labels))
    return label > 0.5


def names(objective: Objective, label: np.ndarray) -> list[Any]:
    """Labels as people write them, [N, *label_shape]: the name of a class, a list of names, or a number."""
    if not has_probabilities(objective):
        return [float(value) for value in label]
    if is_one_of_many(objective):
        return [objective.labels[number] for number in label.tolist()]
    return [[objective.labels[number] for number in np.flatnonzero(row)] for row in indicators(objective, label)]


def mean_by_example(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """N numbers as E: the mean of each example's, 0 where it has none: float64 [E]."""
    example = np.repeat(np.arange(len(counts)), counts)
    return np.bincount(example, values, minlength=len(counts)) / np.maximum(counts, 1)
