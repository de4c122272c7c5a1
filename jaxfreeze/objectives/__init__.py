"""The kinds of label. All that is peculiar to one stands in its file here; to add one, write it and register it."""

from jaxfreeze.objectives.classification import Classification
from jaxfreeze.objectives.label_cells import MissingLabelError
from jaxfreeze.objectives.multi_label import MultiLabel
from jaxfreeze.objectives.objective import LabelReader, Objective, Prediction, Strata
from jaxfreeze.objectives.regression import Regression
from jaxfreeze.objectives.tokens import Tokens

__all__ = [
    "OBJECTIVES",
    "Classification",
    "LabelReader",
    "MissingLabelError",
    "MultiLabel",
    "Objective",
    "Prediction",
    "Regression",
    "Strata",
    "Tokens",
]

KINDS = (Classification, MultiLabel, Regression, Tokens)
OBJECTIVES: dict[str, type[Objective]] = {objective.kind: objective for objective in KINDS}
"""Every kind of label, by name."""
