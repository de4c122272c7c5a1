"""RoBERTa (Liu et al. 2019): BERT's encoder, positions counted from the one after the padding token's, another head."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families.shared import OLD_NAMES, Embeddings, check_absolute_positions, encoder_names, layer
from jaxfreeze.model.family import Family, build_config
from jaxfreeze.model.layers import linear

EARLY = {"pad_token_id": 1}  # what early config.json files leave out


@dataclasses.dataclass(frozen=True)
class RobertaConfig(EncoderConfig):
    """The position embedding has rows for the padding token and those before it, which no token uses."""

    @property
    def first_position(self) -> int:
        """The position id of an example's first token."""
        return self.pad_token_id + 1


def read_config(raw: Mapping[str, Any]) -> RobertaConfig:
    """The architecture in config.json."""
    check_absolute_positions(raw)
    return build_config(RobertaConfig, {**EARLY, **raw})


class Head(nnx.Module):
    """Dropout, dense, tanh, dropout, out_proj."""

    activation: Callable[[jax.Array], jax.Array] = staticmethod(jnp.tanh)

    def __init__(self, config: EncoderConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs) -> None:
        self.dense = linear(config.hidden_size, config.hidden_size, dtype, rngs)
        self.out_proj = linear(config.hidden_size, num_outputs, dtype, rngs)
        self.dropout_rate = config.head_dropout_prob

    def __call__(self, pooled: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, G, D] -> [R, G, C] float32."""
        below, above = (None, None) if seeds is None else (seeds[0], seeds[1])
        pooled = dropout(pooled, token, below, self.dropout_rate)
        pooled = dropout(self.activation(self.dense(pooled)), token, above, self.dropout_rate)  # [R, G, D]
        return self.out_proj(pooled).astype(jnp.float32)


ROBERTA = Family(
    model_type="roberta",
    architecture="RobertaForSequenceClassification",
    read_config=read_config,
    embeddings=Embeddings,
    layer=layer,
    head=Head,
    names=(
        *encoder_names("roberta"),
        ("classifier.dense", "head.dense"),
        ("classifier.out_proj", "head.out_proj"),
    ),
    base="roberta",
    output="head.out_proj",
    # The classifier has a head of its own; the pooler that some files hold belongs to none of its outputs.
    skipped=re.compile(r"roberta\.embeddings\.position_ids|(roberta\.)?pooler\..*"),
    tied=(("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),),
    old_names=OLD_NAMES,
)
