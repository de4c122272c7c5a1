"""BERT (Devlin et al. 2019)."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families.shared import OLD_NAMES, Embeddings, check_absolute_positions, encoder_names, layer
from jaxfreeze.model.family import Family, build_config
from jaxfreeze.model.layers import linear

EARLY = {"layer_norm_eps": 1e-12}  # what early config.json files leave out


def read_config(raw: Mapping[str, Any]) -> EncoderConfig:
    """The architecture in config.json."""
    check_absolute_positions(raw)
    pad = raw.get("pad_token_id")  # no position is counted from it: a file may well leave it out
    return build_config(EncoderConfig, {**EARLY, **raw, "pad_token_id": 0 if pad is None else pad})


class Head(nnx.Module):
    """Pooler (dense, tanh), dropout, classifier."""

    def __init__(self, config: EncoderConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs) -> None:
        self.pooler = linear(config.hidden_size, config.hidden_size, dtype, rngs)
        self.classifier = linear(config.hidden_size, num_outputs, dtype, rngs)
        self.dropout_rate = config.head_dropout_prob

    def __call__(self, pooled: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, G, D] -> [R, G, C] float32."""
        pooled = jnp.tanh(self.pooler(pooled))  # [R, G, D]
        pooled = dropout(pooled, token, None if seeds is None else seeds[0], self.dropout_rate)
        return self.classifier(pooled).astype(jnp.float32)


BERT = Family(
    model_type="bert",
    architecture="BertForSequenceClassification",
    read_config=read_config,
    embeddings=Embeddings,
    layer=layer,
    head=Head,
    names=(
        *encoder_names("bert"),
        ("bert.pooler.dense", "head.pooler"),
        ("classifier", "head.classifier"),
    ),
    base="bert",
    output="head.classifier",
    skipped=re.compile(r"bert\.embeddings\.position_ids"),
    tied=(("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),),
    old_names=OLD_NAMES,
)
