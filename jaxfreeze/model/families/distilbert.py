"""DistilBERT (Sanh et al. 2019): BERT's layers and fewer of them, no token types, no pooler, one dropout less."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families.shared import OLD_NAMES, UntypedEmbeddings
from jaxfreeze.model.family import Family, build_config
from jaxfreeze.model.layers import EncoderLayer, linear
from jaxfreeze.model.token_head import TokenHead

CONFIG_NAMES = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "classifier_dropout": "seq_classif_dropout",
    "hidden_act": "activation",
}
EARLY = {"seq_classif_dropout": 0.2}  # transformers' own, where config.json has none
FIXED = {"layer_norm_eps": 1e-12, "type_vocab_size": 1}  # of transformers' modeling_distilbert.py, not of config.json


def read_config(raw: Mapping[str, Any]) -> EncoderConfig:
    """The architecture in config.json."""
    pad = raw.get("pad_token_id")  # no position is counted from it: a file may well leave it out
    values = {**EARLY, **raw, **FIXED, "pad_token_id": 0 if pad is None else pad}
    return build_config(EncoderConfig, values, CONFIG_NAMES)


def layer(config: EncoderConfig, number: int, embeddings: Any, dtype: str, rngs: nnx.Rngs) -> EncoderLayer:
    """BERT's, without dropout of the attention's output."""
    layer = EncoderLayer(config, dtype, rngs)
    layer.attention.hidden_dropout_rate = 0.0
    return layer


class Head(nnx.Module):
    """Dense, ReLU, dropout, classifier."""

    def __init__(self, config: EncoderConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs) -> None:
        self.pre_classifier = linear(config.hidden_size, config.hidden_size, dtype, rngs)
        self.classifier = linear(config.hidden_size, num_outputs, dtype, rngs)
        self.dropout_rate = config.head_dropout_prob

    def __call__(self, pooled: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, G, D] -> [R, G, C] float32."""
        pooled = jax.nn.relu(self.pre_classifier(pooled))  # [R, G, D]
        pooled = dropout(pooled, token, None if seeds is None else seeds[0], self.dropout_rate)
        return self.classifier(pooled).astype(jnp.float32)


def token_head(config: EncoderConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs) -> TokenHead:
    """The head for tokens; its dropout rate is that of hidden states, whatever seq_classif_dropout says."""
    return TokenHead(config, num_outputs, dtype, rngs, config.hidden_dropout_prob)


DISTILBERT = Family(
    model_type="distilbert",
    architecture="DistilBertForSequenceClassification",
    read_config=read_config,
    embeddings=UntypedEmbeddings,
    layer=layer,
    head=Head,
    token_head=token_head,
    names=(
        ("distilbert.embeddings.word_embeddings", "embeddings.word"),
        ("distilbert.embeddings.position_embeddings", "embeddings.position"),
        ("distilbert.embeddings.LayerNorm", "embeddings.layer_norm"),
        ("distilbert.transformer.layer.*.attention.q_lin", "layers.*.attention.query"),
        ("distilbert.transformer.layer.*.attention.k_lin", "layers.*.attention.key"),
        ("distilbert.transformer.layer.*.attention.v_lin", "layers.*.attention.value"),
        ("distilbert.transformer.layer.*.attention.out_lin", "layers.*.attention.output"),
        ("distilbert.transformer.layer.*.sa_layer_norm", "layers.*.attention.layer_norm"),
        ("distilbert.transformer.layer.*.ffn.lin1", "layers.*.feed_forward.intermediate"),
        ("distilbert.transformer.layer.*.ffn.lin2", "layers.*.feed_forward.output"),
        ("distilbert.transformer.layer.*.output_layer_norm", "layers.*.feed_forward.layer_norm"),
        ("pre_classifier", "head.pre_classifier"),
        ("classifier", "head.classifier"),
    ),
    base="distilbert",
    output="head.classifier",
    skipped=re.compile(r"distilbert\.embeddings\.position_ids"),
    tied=(("distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),),
    old_names=OLD_NAMES,
)
