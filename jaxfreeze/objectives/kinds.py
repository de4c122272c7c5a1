"""Which kind of label own rows have, if --objective does not say it."""

from collections.abc import Iterable
from decimal import Decimal

import numpy as np

from jaxfreeze.config import TrainConfig
from jaxfreeze.objectives.label_cells import FLOAT, WHOLE, is_missing


def asked_kind(config: TrainConfig) -> str | None:
    """The kind that the flags ask for, by name; None: the cells say which."""
    if config.regression:
        return "regression"
    return config.objective or ("multi_label" if config.label_separator or len(config.label_column) > 1 else None)


def kind_of(texts: Iterable[object], labels: Iterable[object]) -> str:
    """The kind of label of some rows, by name: the only one that fits their cells, else a class for each row.

    texts: the cells of a text column, labels: those of the label column.
    """
    labels = [cell for cell in labels if isinstance(cell, list) or not is_missing(cell)]
    if any(isinstance(cell, list) for cell in texts):
        return "tokens"
    if any(isinstance(cell, list) for cell in labels):
        return "multi_label"
    numbers = [_number(cell) for cell in labels]
    fractions = any(number is not None and not number.is_integer() for number in numbers)
    return "regression" if fractions and None not in numbers else "classification"


def _number(cell: object) -> float | None:
    if isinstance(cell, str):
        text = cell.strip()
        return float(text) if WHOLE.fullmatch(text) or FLOAT.fullmatch(text) else None
    if isinstance(cell, (int, float, Decimal, np.number)) and not isinstance(cell, bool):
        return float(cell)
    return None
