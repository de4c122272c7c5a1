"""CamemBERT (Martin et al. 2020): RoBERTa in every respect but the names of its model type and classes."""

import dataclasses

from jaxfreeze.model.families.roberta import ROBERTA

CAMEMBERT = dataclasses.replace(ROBERTA, model_type="camembert", architecture="CamembertForSequenceClassification")
