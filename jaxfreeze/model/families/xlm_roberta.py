"""XLM-RoBERTa (Conneau et al. 2020): RoBERTa in every respect but the names of its model type and classes."""

import dataclasses

from jaxfreeze.model.families.roberta import ROBERTA

XLM_ROBERTA = dataclasses.replace(ROBERTA, model_type="xlm-roberta", architecture="XLMRobertaForSequenceClassification")
