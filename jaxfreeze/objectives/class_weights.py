"""What each class counts in the loss, from the words of --class_weights."""

import math
from collections.abc import Sequence

import numpy as np

from jaxfreeze.errors import InputError, shorten
from jaxfreeze.objectives.objective import Objective

BALANCED = "balanced"


def weights_of(
    words: Sequence[str], objective: Objective, counts: np.ndarray, balanced: np.ndarray
) -> tuple[float, ...]:
    """A weight for each class of the objective, in id order; () for no words.

    words: `balanced`, or NAME=W for classes by name; the others count 1. counts, balanced: rows with each class, and
    its weight if it is `balanced`, [C]. Raises InputError for anything else, and for `balanced` with a class that no
    row has.
    """
    if not words:
        return ()
    if tuple(words) == (BALANCED,):
        for name, count in zip(objective.labels, counts, strict=True):
            if not count:
                raise InputError(
                    f"--class_weights balanced: no training row has the class '{shorten(name)}'; leave it out of "
                    "--label_names, or give weights as NAME=W"
                )
        return tuple(map(float, balanced))
    given: dict[str, float] = {}
    for word in words:
        name, equals, number = word.rpartition("=")
        if not equals:
            raise InputError(f"--class_weights {shorten(word)}: expected balanced alone, or NAME=W for classes by name")
        if name not in objective.labels:
            raise InputError(f"--class_weights {shorten(word)}: {objective.no_class(name)}")
        if name in given:
            raise InputError(f"--class_weights: '{shorten(name)}' appears twice; expected each class once")
        given[name] = _weight(word, number)
    return tuple(given.get(name, 1.0) for name in objective.labels)


def _weight(word: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 1e-6 <= weight <= 1e6:
        raise InputError(f"--class_weights {shorten(word)}: expected a weight from 1e-06 to 1e+06, found '{number}'")
    return weight
