"""What families share: embeddings with learned positions, layers with LayerNorm last or first, weight names."""

import re
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.errors import InputError
from jaxfreeze.model.attention import Queries, mean_of_examples
from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.layers import EncoderLayer, embed, layer_norm

OLD_NAMES = (
    (re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"),
    (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"),
)


def encoder_names(base: str) -> tuple[tuple[str, str], ...]:
    """Modules of the embeddings and layers: in the classifier's file, whose encoder has the prefix `base`, and here."""
    return (
        (f"{base}.embeddings.word_embeddings", "embeddings.word"),
        (f"{base}.embeddings.position_embeddings", "embeddings.position"),
        (f"{base}.embeddings.token_type_embeddings", "embeddings.token_type"),
        (f"{base}.embeddings.LayerNorm", "embeddings.layer_norm"),
        (f"{base}.encoder.layer.*.attention.self.query", "layers.*.attention.query"),
        (f"{base}.encoder.layer.*.attention.self.key", "layers.*.attention.key"),
        (f"{base}.encoder.layer.*.attention.self.value", "layers.*.attention.value"),
        (f"{base}.encoder.layer.*.attention.output.dense", "layers.*.attention.output"),
        (f"{base}.encoder.layer.*.attention.output.LayerNorm", "layers.*.attention.layer_norm"),
        (f"{base}.encoder.layer.*.intermediate.dense", "layers.*.feed_forward.intermediate"),
        (f"{base}.encoder.layer.*.output.dense", "layers.*.feed_forward.output"),
        (f"{base}.encoder.layer.*.output.LayerNorm", "layers.*.feed_forward.layer_norm"),
    )


def check_absolute_positions(raw: Mapping[str, Any]) -> None:
    """Raise InputError for a config.json whose positions are not those of `Embeddings`."""
    if raw.get("position_embedding_type") not in (None, "absolute"):
        raise InputError(f"position_embedding_type is {raw['position_embedding_type']!r}; expected 'absolute'")


class Embeddings(nnx.Module):
    """Sum of word, position and token type embeddings, LayerNorm, dropout."""

    def __init__(self, config: EncoderConfig, dtype: str, rngs: nnx.Rngs) -> None:
        self.word = embed(config.vocab_size, config, dtype, rngs)
        self.position = embed(config.max_position_embeddings, config, dtype, rngs)
        self.token_type = embed(config.type_vocab_size, config, dtype, rngs)
        self.layer_norm = layer_norm(config, dtype, rngs)
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None) -> jax.Array:
        """[R, W] -> [R, W, D]."""
        hidden = self.word(tokens.token_id) + self.token_type(tokens.token_type) + self.position(tokens.position)
        return dropout(self.layer_norm(hidden), batch.index, None if seeds is None else seeds[0], self.dropout_rate)


class UntypedEmbeddings(nnx.Module):
    """Sum of word and position embeddings, LayerNorm, dropout."""

    def __init__(self, config: EncoderConfig, dtype: str, rngs: nnx.Rngs) -> None:
        self.word = embed(config.vocab_size, config, dtype, rngs)
        self.position = embed(config.max_position_embeddings, config, dtype, rngs)
        self.layer_norm = layer_norm(config, dtype, rngs)
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None) -> jax.Array:
        """[R, W] -> [R, W, D]."""
        hidden = self.word(tokens.token_id) + self.position(tokens.position)
        return dropout(self.layer_norm(hidden), batch.index, None if seeds is None else seeds[0], self.dropout_rate)


def layer(config: EncoderConfig, number: int, embeddings: Embeddings, dtype: str, rngs: nnx.Rngs) -> EncoderLayer:
    """Every layer is alike, and shares nothing with the embeddings."""
    return EncoderLayer(config, dtype, rngs)


class PreNormLayer(nnx.Module):
    """Attention and feed-forward, each with a LayerNorm of its own first and added to what comes in."""

    def __init__(
        self, attention: Any, feed_forward: Any, layer_norm: nnx.LayerNorm | None = None, pooling: str = "cls"
    ) -> None:
        """layer_norm: behind the last layer. pooling: what the head reads, cls for the first token, mean for all."""
        self.attention = attention
        self.feed_forward = feed_forward
        self.layer_norm = layer_norm
        self.pooling = pooling

    def __call__(self, hidden: jax.Array, batch: Batch, seeds: jax.Array | None, pool: bool = False) -> jax.Array:
        """[R, W, D] -> [R, W, D]; with pool -> [R, G, D], the first token's state or the mean of them all."""
        first_only = pool and self.pooling == "cls"
        output, places = self.attention(hidden, batch, seeds, first_only)  # [R, Q, D]
        hidden = Queries.of(hidden, batch, first_only).hidden + output
        hidden = hidden + self.feed_forward(hidden, places.token, seeds)
        if self.layer_norm is not None:
            hidden = self.layer_norm(hidden)
        return mean_of_examples(hidden, batch) if pool and not first_only else hidden
