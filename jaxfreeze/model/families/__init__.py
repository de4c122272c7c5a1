"""The encoders that can be fine-tuned: one file each, registered here."""

from jaxfreeze.errors import InputError, one_of
from jaxfreeze.model.families.bert import BERT
from jaxfreeze.model.families.deberta_v2 import DEBERTA_V2
from jaxfreeze.model.families.roberta import ROBERTA
from jaxfreeze.model.family import Family

FAMILIES: dict[str, Family] = {family.model_type: family for family in (BERT, ROBERTA, DEBERTA_V2)}
"""Every family by its `model_type` in config.json."""


def family_of(model_type: str) -> Family:
    """The family of that name. Raises InputError that lists them all for any other."""
    if model_type not in FAMILIES:
        raise InputError(f"model_type is {model_type!r}; expected {one_of(FAMILIES, model_type)}")
    return FAMILIES[model_type]
