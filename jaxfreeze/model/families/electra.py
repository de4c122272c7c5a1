"""ELECTRA (Clark et al. 2020): BERT's encoder, embeddings that may be narrower than the layers, another head."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families.roberta import Head as RobertaHead
from jaxfreeze.model.families.shared import OLD_NAMES, check_absolute_positions, encoder_names, layer
from jaxfreeze.model.families.shared import Embeddings as BertEmbeddings
from jaxfreeze.model.family import Family, build_config, check_size
from jaxfreeze.model.layers import gelu, linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElectraConfig(EncoderConfig):
    """The embeddings have a width of their own."""

    embedding_size: int
    """Width of the embeddings."""


def read_config(raw: Mapping[str, Any]) -> ElectraConfig:
    """The architecture in config.json."""
    check_absolute_positions(raw)
    pad = raw.get("pad_token_id")  # no position is counted from it: a file may well leave it out
    config = build_config(ElectraConfig, {**raw, "pad_token_id": 0 if pad is None else pad})
    check_size("embedding_size", config.embedding_size)
    return config


class Embeddings(BertEmbeddings):
    """BERT's at their own width E, then a dense layer to the layers' width D; none where the widths are equal."""

    def __init__(self, config: ElectraConfig, dtype: str, rngs: nnx.Rngs) -> None:
        narrow, wide = config.embedding_size, config.hidden_size
        super().__init__(dataclasses.replace(config, hidden_size=narrow), dtype, rngs)
        self.project = None if narrow == wide else linear(narrow, wide, dtype, rngs)

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None) -> jax.Array:
        """[R, W] -> [R, W, D]."""
        hidden = super().__call__(tokens, batch, seeds)  # [R, W, E]
        return hidden if self.project is None else self.project(hidden)


class Head(RobertaHead):
    """RoBERTa's, with GELU."""

    activation = staticmethod(gelu)


ELECTRA = Family(
    model_type="electra",
    architecture="ElectraForSequenceClassification",
    read_config=read_config,
    embeddings=Embeddings,
    layer=layer,
    head=Head,
    names=(
        *encoder_names("electra"),
        ("electra.embeddings_project", "embeddings.project"),
        ("classifier.dense", "head.dense"),
        ("classifier.out_proj", "head.out_proj"),
    ),
    base="electra",
    output="head.out_proj",
    skipped=re.compile(r"electra\.embeddings\.position_ids"),
    tied=(("electra.embeddings.word_embeddings.weight", "generator_lm_head.weight"),),
    old_names=OLD_NAMES,
)
