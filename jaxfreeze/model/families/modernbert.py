"""ModernBERT (Warner et al. 2024): LayerNorm first, gated GELU, rotary positions, global and local layers in turn."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.errors import InputError, one_of
from jaxfreeze.model.attention import (
    Places,
    Queries,
    attend,
    rotary_frequencies,
    rotated,
    split_heads,
)
from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families.shared import PreNormLayer
from jaxfreeze.model.family import Family, build_config
from jaxfreeze.model.layers import ACTIVATIONS, Linear, embed, linear

OUR_NAMES = {
    "norm_eps": "layer_norm_eps",
    "hidden_activation": "hidden_act",
    "attention_dropout": "attention_probs_dropout_prob",
    "mlp_dropout": "hidden_dropout_prob",
}
"""Name in config.json -> field. What a file holds under the field's own name, transformers does not read."""
DEFAULTS = {  # what transformers takes for a value that config.json leaves out
    "pad_token_id": 50283,
    "norm_eps": 1e-5,
    "hidden_activation": "gelu",
    "attention_dropout": 0.0,
    "mlp_dropout": 0.0,
    "classifier_dropout": 0.0,
}
GLOBAL, LOCAL = "full_attention", "sliding_attention"  # the kinds of layers, as config.json calls them
THETAS = {GLOBAL: ("global_rope_theta", 160_000.0), LOCAL: ("local_rope_theta", 10_000.0)}  # name in early files
POOLINGS = ("cls", "mean")


@dataclasses.dataclass(frozen=True)
class ModernBertConfig(EncoderConfig):
    """Attention's dropout rate is that of its output too; the rate of hidden states, that of the gated GELU's."""

    layer_types: tuple[str, ...] = ()
    """Of each layer: full_attention or sliding_attention."""
    global_theta: float = 160_000.0
    """Base of the rotary wavelengths in layers with full attention."""
    local_theta: float = 10_000.0
    """The same in layers with sliding attention."""
    local_attention: int = 128
    """The window of a layer with sliding attention, in tokens, both sides together."""
    attention_bias: bool = False
    """Whether attention's dense layers have biases."""
    mlp_bias: bool = False
    """Whether those of the feed-forward network have biases."""
    norm_bias: bool = False
    """Whether LayerNorms have biases."""
    classifier_bias: bool = False
    """Whether the head's first dense layer has a bias; the last one always has."""
    embedding_dropout: float = 0.0
    """Dropout rate of the embeddings."""
    classifier_activation: str = "gelu"
    """Activation in the head."""
    classifier_pooling: str = "cls"
    """What the head reads: cls, the first token's state, or mean, the mean over all tokens."""


def read_config(raw: Mapping[str, Any]) -> ModernBertConfig:
    """The architecture in config.json, with the names of early files or those of transformers 5.

    A file's `position_embedding_type` says nothing: published ones have absolute, rope and sans_pos for the same model.
    """
    if raw.get("rope_scaling"):
        raise InputError(f"rope_scaling is {raw['rope_scaling']!r}; expected none")
    own = {name: value for name, value in (DEFAULTS | dict(raw)).items() if name not in OUR_NAMES.values()}
    values = {OUR_NAMES.get(name, name): value for name, value in own.items()} | {"type_vocab_size": 1}
    config = build_config(ModernBertConfig, values | {"layer_types": ()})
    config = dataclasses.replace(
        config,
        layer_types=_layer_types(raw, config.num_hidden_layers),
        global_theta=_theta(raw, GLOBAL),
        local_theta=_theta(raw, LOCAL),
    )
    _check(config)
    return config


def _layer_types(raw: Mapping[str, Any], count: int) -> tuple[str, ...]:
    types = raw.get("layer_types")
    if types is None:
        every = raw.get("global_attn_every_n_layers", 3)
        if not _is_whole(every):
            raise InputError(f"global_attn_every_n_layers is {every!r}; expected a whole number of at least 1")
        return tuple(LOCAL if number % every else GLOBAL for number in range(count))
    if not isinstance(types, list) or len(types) != count or any(kind not in (GLOBAL, LOCAL) for kind in types):
        raise InputError(f"layer_types is {types!r}; expected {count} times {GLOBAL} or {LOCAL}")
    return tuple(types)


def _theta(raw: Mapping[str, Any], kind: str) -> float:
    """The base of the rotary wavelengths in layers of that kind."""
    kinds = raw.get("rope_parameters") or {}
    if not (isinstance(kinds, dict) and kinds.keys() <= THETAS.keys()) or not isinstance(kinds.get(kind) or {}, dict):
        raise InputError(f"rope_parameters is {kinds!r}; expected objects by the names {GLOBAL} and {LOCAL}")
    given = kinds.get(kind) or {}
    rope_type = given.get("rope_type", "default")
    if rope_type != "default":
        raise InputError(f"rope_type of {kind} is {rope_type!r}; expected 'default'")
    name, default = THETAS[kind]
    theta = given.get("rope_theta", raw.get(name, default))
    if not isinstance(theta, int | float) or isinstance(theta, bool) or not 0 < theta < float("inf"):
        raise InputError(f"{name} is {theta!r}; expected a number above 0")
    return float(theta)


def _check(config: ModernBertConfig) -> None:
    for name in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        if not isinstance(getattr(config, name), bool):
            raise InputError(f"{name} is {getattr(config, name)!r}; expected true or false")
    for name, allowed in (("classifier_activation", ACTIVATIONS), ("classifier_pooling", POOLINGS)):
        value = getattr(config, name)
        if str(value) not in allowed:
            raise InputError(f"{name} is {value!r}; expected {one_of(allowed, str(value))}")
    if not _is_whole(config.local_attention):
        raise InputError(f"local_attention is {config.local_attention!r}; expected a whole number of at least 1")
    rate = config.embedding_dropout
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise InputError(f"embedding_dropout is {rate!r}; expected a number from 0 up to, but not including, 1")
    if config.hidden_size // config.num_attention_heads % 2:
        raise InputError(f"hidden_size {config.hidden_size} gives {config.num_attention_heads} heads of an odd width")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def norm(config: ModernBertConfig, dtype: str, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm, with a bias if the config says so; mean and variance in float32, the variance in two passes."""
    return nnx.LayerNorm(
        config.hidden_size, epsilon=config.layer_norm_eps, use_bias=config.norm_bias, use_fast_variance=False,
        dtype=dtype, rngs=rngs,
    )  # fmt: skip


class Embeddings(nnx.Module):
    """Word embeddings, LayerNorm, dropout; no positions and no token types."""

    def __init__(self, config: ModernBertConfig, dtype: str, rngs: nnx.Rngs) -> None:
        self.word = embed(config.vocab_size, config, dtype, rngs)
        self.layer_norm = norm(config, dtype, rngs)
        self.dropout_rate = config.embedding_dropout

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None) -> jax.Array:
        """[R, W] -> [R, W, D]."""
        hidden = self.layer_norm(self.word(tokens.token_id))
        return dropout(hidden, batch.index, None if seeds is None else seeds[0], self.dropout_rate)


class Attention(nnx.Module):
    """LayerNorm, which the first layer lacks, then multi-head self-attention with rotary positions; no residual."""

    def __init__(self, config: ModernBertConfig, number: int, dtype: str, rngs: nnx.Rngs) -> None:
        width, use_bias = config.hidden_size, config.attention_bias
        is_global = config.layer_types[number] == GLOBAL
        self.layer_norm = norm(config, dtype, rngs) if number else None
        self.query_key_value = Linear(width, 3 * width, use_bias=use_bias, dtype=dtype, rngs=rngs)
        self.output = Linear(width, width, use_bias=use_bias, dtype=dtype, rngs=rngs)
        self.num_heads = config.num_attention_heads
        self.theta = config.global_theta if is_global else config.local_theta
        self.window = None if is_global else config.local_attention // 2  # as far to each side
        self.dropout_rate = config.attention_probs_dropout_prob

    def __call__(
        self, hidden: jax.Array, batch: Batch, seeds: jax.Array | None, first_only: bool
    ) -> tuple[jax.Array, Places]:
        """Hidden [R, W, D] -> the attention's output [R, Q, D] and its queries' places [R, Q]; seeds [3, 2]."""
        if self.layer_norm is not None:
            hidden = self.layer_norm(hidden)
        query, key, value = jnp.split(self.query_key_value(hidden), 3, axis=-1)  # [R, W, D] each
        queries, keys = Queries.of(query, batch, first_only), Places.all_of(batch)
        query, key, value = (split_heads(x, self.num_heads) for x in (queries.hidden, key, value))  # [R, N, Q, H]
        frequencies = rotary_frequencies(self.theta, query.shape[-1])
        query = rotated(query * (query.shape[-1] ** -0.5), queries.places.slot, frequencies)
        key = rotated(key, keys.slot, frequencies)
        seed, seed_output = (None, None) if seeds is None else (seeds[0], seeds[1])
        context = attend(query, key, value, queries.places, keys, seed, self.dropout_rate, window=self.window)
        output = dropout(self.output(context), queries.places.token, seed_output, self.dropout_rate)
        return output, queries.places


class FeedForward(nnx.Module):
    """LayerNorm, then a feed-forward network whose activation is gated (GeGLU, Shazeer 2020); no residual."""

    def __init__(self, config: ModernBertConfig, dtype: str, rngs: nnx.Rngs) -> None:
        width, inner, use_bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.layer_norm = norm(config, dtype, rngs)
        self.intermediate = Linear(width, 2 * inner, use_bias=use_bias, dtype=dtype, rngs=rngs)
        self.output = Linear(inner, width, use_bias=use_bias, dtype=dtype, rngs=rngs)
        self.activation = config.hidden_act
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(self, hidden: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, Q, D] -> [R, Q, D]; token [R, Q]; seeds [3, 2]."""
        activated, gate = jnp.split(self.intermediate(self.layer_norm(hidden)), 2, axis=-1)  # [R, Q, F] each
        inner = ACTIVATIONS[self.activation](activated) * gate
        return self.output(dropout(inner, token, None if seeds is None else seeds[2], self.dropout_rate))


def layer(config: ModernBertConfig, number: int, embeddings: Embeddings, dtype: str, rngs: nnx.Rngs) -> PreNormLayer:
    """Layers differ in their attention."""
    last = norm(config, dtype, rngs) if number == config.num_hidden_layers - 1 else None
    parts = Attention(config, number, dtype, rngs), FeedForward(config, dtype, rngs)
    return PreNormLayer(*parts, last, config.classifier_pooling)


class Head(nnx.Module):
    """Dense, activation, LayerNorm, dropout, classifier."""

    def __init__(self, config: ModernBertConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs) -> None:
        width = config.hidden_size
        self.dense = Linear(width, width, use_bias=config.classifier_bias, dtype=dtype, rngs=rngs)
        self.layer_norm = norm(config, dtype, rngs)
        self.classifier = linear(width, num_outputs, dtype, rngs)
        self.activation = config.classifier_activation
        self.dropout_rate = config.head_dropout_prob

    def __call__(self, pooled: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, G, D] -> [R, G, C] float32."""
        pooled = self.layer_norm(ACTIVATIONS[self.activation](self.dense(pooled)))  # [R, G, D]
        pooled = dropout(pooled, token, None if seeds is None else seeds[0], self.dropout_rate)
        return self.classifier(pooled).astype(jnp.float32)


MODERNBERT = Family(
    model_type="modernbert",
    architecture="ModernBertForSequenceClassification",
    read_config=read_config,
    embeddings=Embeddings,
    layer=layer,
    head=Head,
    token_head=Head,
    token_names=(("head.dense", "head.dense"), ("head.norm", "head.layer_norm"), ("classifier", "head.classifier")),
    names=(
        ("model.embeddings.tok_embeddings", "embeddings.word"),
        ("model.embeddings.norm", "embeddings.layer_norm"),
        ("model.layers.*.attn_norm", "layers.*.attention.layer_norm"),
        ("model.layers.*.attn.Wqkv", "layers.*.attention.query_key_value"),
        ("model.layers.*.attn.Wo", "layers.*.attention.output"),
        ("model.layers.*.mlp_norm", "layers.*.feed_forward.layer_norm"),
        ("model.layers.*.mlp.Wi", "layers.*.feed_forward.intermediate"),
        ("model.layers.*.mlp.Wo", "layers.*.feed_forward.output"),
        ("model.final_norm", "layers.*.layer_norm"),
        # All of its classes for other tasks have these two as well; transformers takes them over, and so do we.
        ("head.dense", "head.dense"),
        ("head.norm", "head.layer_norm"),
        ("classifier", "head.classifier"),
    ),
    base="model",
    output="head.classifier",
    skipped=re.compile(r"(?!)"),
    tied=(("model.embeddings.tok_embeddings.weight", "decoder.weight"),),
)
