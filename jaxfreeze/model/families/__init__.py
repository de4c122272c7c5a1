"""The encoders that can be fine-tuned: one file each, registered here."""

from jaxfreeze.errors import InputError, one_of
from jaxfreeze.model.families.bert import BERT
from jaxfreeze.model.families.camembert import CAMEMBERT
from jaxfreeze.model.families.deberta_v2 import DEBERTA_V2
from jaxfreeze.model.families.distilbert import DISTILBERT
from jaxfreeze.model.families.electra import ELECTRA
from jaxfreeze.model.families.esm import ESM
from jaxfreeze.model.families.modernbert import MODERNBERT
from jaxfreeze.model.families.mpnet import MPNET
from jaxfreeze.model.families.roberta import ROBERTA
from jaxfreeze.model.families.xlm_roberta import XLM_ROBERTA
from jaxfreeze.model.family import Family

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA, MPNET, MODERNBERT, DEBERTA_V2, ESM)
}
"""Every family by its `model_type` in config.json."""

REFUSED = {
    "albert": "its layers are one layer applied several times, so there are no last k to train",
}
"""Why an encoder that one might expect here is none of them, by its `model_type`."""


def family_of(model_type: str, by_token: bool = False) -> Family:
    """The family of that name, with its classifier of examples or of tokens.

    Raises InputError that lists them all for any other name, with the reason if there is one.
    """
    if model_type not in FAMILIES:
        reason = f" ({REFUSED[model_type]})" if model_type in REFUSED else ""
        raise InputError(f"model_type is {model_type!r}{reason}; expected {one_of(FAMILIES, model_type)}")
    return FAMILIES[model_type].for_tokens if by_token else FAMILIES[model_type]
