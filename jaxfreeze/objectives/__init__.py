"""The kinds of label, one file each. To add a kind, write its file and register it here."""

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
