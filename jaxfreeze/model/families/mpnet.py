"""MPNet (Song et al. 2020): RoBERTa without token types, and a bias of the attention by the distance of two tokens."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxfreeze.errors import InputError
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families.roberta import Head
from jaxfreeze.model.families.shared import OLD_NAMES, UntypedEmbeddings
from jaxfreeze.model.family import Family, build_config
from jaxfreeze.model.layers import Embed, EncoderLayer

FIXED = {"type_vocab_size": 1, "classifier_dropout": None}  # of transformers' modeling_mpnet.py, not of config.json

NEAREST = np.array([1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91])
"""The least distance of each bucket but the first, 0: one by one up to 8, from there ceil(8 * 2^(i / 2))."""
SIDE = len(NEAREST) + 1  # buckets of the keys up to the query, and again of those after it
FAR = 127  # distances beyond fall into the last bucket
DISTANCES = np.arange(-FAR, FAR + 1)  # of the key from the query
BUCKETS = np.searchsorted(NEAREST, abs(DISTANCES), side="right") + SIDE * (DISTANCES > 0)  # [2 * FAR + 1]


@dataclasses.dataclass(frozen=True)
class MPNetConfig(EncoderConfig):
    """The position embedding has two rows that no token uses, whatever the padding token is."""

    @property
    def first_position(self) -> int:
        """The position id of an example's first token."""
        return 2


def read_config(raw: Mapping[str, Any]) -> MPNetConfig:
    """The architecture in config.json."""
    buckets = raw.get("relative_attention_num_buckets", 2 * SIDE)
    if buckets != 2 * SIDE:
        raise InputError(f"relative_attention_num_buckets is {buckets!r}; expected {2 * SIDE}")
    pad = raw.get("pad_token_id")  # no position is counted from it: a file may well leave it out
    return build_config(MPNetConfig, {**raw, **FIXED, "pad_token_id": 1 if pad is None else pad})


class RelativeBias(nnx.Module):
    """What is added to the scores of two tokens at a distance, for each head; in float32 for every type."""

    def __init__(self, config: MPNetConfig, rngs: nnx.Rngs) -> None:
        self.table = Embed(2 * SIDE, config.num_attention_heads, dtype="float32", rngs=rngs)

    def __call__(self, query: jax.Array, slot: jax.Array, key_slot: jax.Array) -> jax.Array:
        """Slots of queries [R, Q] and keys [R, W] -> [R, N, Q, W]; an R may be 1."""
        distance = jnp.clip(key_slot[:, None, :] - slot[:, :, None], -FAR, FAR)  # [R, Q, W]
        return jnp.moveaxis(self.table(jnp.asarray(BUCKETS))[distance + FAR], -1, 1)


class Embeddings(UntypedEmbeddings):
    """Word and position embeddings, and the bias that all layers share."""

    def __init__(self, config: MPNetConfig, dtype: str, rngs: nnx.Rngs) -> None:
        super().__init__(config, dtype, rngs)
        self.relative = RelativeBias(config, rngs)


def layer(config: MPNetConfig, number: int, embeddings: Embeddings, dtype: str, rngs: nnx.Rngs) -> EncoderLayer:
    """BERT's, with the bias."""
    return EncoderLayer(config, dtype, rngs, bias=embeddings.relative)


MPNET = Family(
    model_type="mpnet",
    architecture="MPNetForSequenceClassification",
    read_config=read_config,
    embeddings=Embeddings,
    layer=layer,
    head=Head,
    names=(
        ("mpnet.embeddings.word_embeddings", "embeddings.word"),
        ("mpnet.embeddings.position_embeddings", "embeddings.position"),
        ("mpnet.embeddings.LayerNorm", "embeddings.layer_norm"),
        ("mpnet.encoder.relative_attention_bias", "embeddings.relative.table"),
        ("mpnet.encoder.layer.*.attention.attn.q", "layers.*.attention.query"),
        ("mpnet.encoder.layer.*.attention.attn.k", "layers.*.attention.key"),
        ("mpnet.encoder.layer.*.attention.attn.v", "layers.*.attention.value"),
        ("mpnet.encoder.layer.*.attention.attn.o", "layers.*.attention.output"),
        ("mpnet.encoder.layer.*.attention.LayerNorm", "layers.*.attention.layer_norm"),
        ("mpnet.encoder.layer.*.intermediate.dense", "layers.*.feed_forward.intermediate"),
        ("mpnet.encoder.layer.*.output.dense", "layers.*.feed_forward.output"),
        ("mpnet.encoder.layer.*.output.LayerNorm", "layers.*.feed_forward.layer_norm"),
        ("classifier.dense", "head.dense"),
        ("classifier.out_proj", "head.out_proj"),
    ),
    base="mpnet",
    output="head.out_proj",
    # The classifier has a head of its own; the pooler that some files hold belongs to none of its outputs.
    skipped=re.compile(r"mpnet\.embeddings\.position_ids|(mpnet\.)?pooler\..*"),
    tied=(("mpnet.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),),
    old_names=OLD_NAMES,
)
