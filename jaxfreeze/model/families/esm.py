"""ESM-2 (Lin et al. 2023), an encoder of proteins: LayerNorm first, rotary positions, RoBERTa's head."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.errors import InputError
from jaxfreeze.model.attention import (
    Places,
    Queries,
    attend,
    mean_of_examples,
    rotary_frequencies,
    rotated,
    split_heads,
)
from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families.roberta import Head
from jaxfreeze.model.families.shared import OLD_NAMES, PreNormLayer
from jaxfreeze.model.family import Family, build_config
from jaxfreeze.model.files import Place, read_finite_float32
from jaxfreeze.model.layers import embed, gelu, layer_norm, linear

KEPT_IN_PRETRAINING = 1 - 0.15 * 0.8  # share of tokens that were not <mask>: fixed, whatever a config says
FREQUENCIES = "rotary_embeddings.inv_freq"  # how the names of the rotary frequencies end, in files of any age


@dataclasses.dataclass(frozen=True)
class EsmConfig(EncoderConfig):
    """There is no dropout behind the embeddings, and the head's rate is that of hidden states."""

    frequencies: tuple[float, ...] = ()
    """Of the rotary positions, [H / 2], radians a token; each a float32."""
    token_dropout: bool = False
    """Whether <mask> has no embedding, and the other tokens are scaled up for it."""
    mask_token_id: int | None = None
    """The token <mask>; of no meaning without token_dropout."""
    emb_layer_norm_before: bool = False
    """Whether a LayerNorm follows the embeddings."""

    @property
    def head_dropout_prob(self) -> float:
        """The head's dropout rate."""
        return self.hidden_dropout_prob


def read_config(raw: Mapping[str, Any]) -> EsmConfig:
    """The architecture in config.json, with the frequencies that follow from its rope_theta."""
    if raw.get("is_folding_model"):
        raise InputError("is_folding_model is true: this is ESMFold; expected an encoder")
    position = raw.get("position_embedding_type", "absolute")
    if position != "rotary":
        raise InputError(f"position_embedding_type is {position!r}; expected 'rotary', which ESM-2 has and ESM-1 lacks")
    flags = {name: raw.get(name) or False for name in ("token_dropout", "emb_layer_norm_before")}
    config = build_config(EsmConfig, {**raw, **flags, "type_vocab_size": 1, "frequencies": ()})
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise InputError(f"{name} is {value!r}; expected true or false")
    mask = config.mask_token_id
    if config.token_dropout and not (isinstance(mask, int) and 0 <= mask < config.vocab_size):
        raise InputError(f"mask_token_id is {mask!r}; expected 0 to {config.vocab_size - 1}")
    if config.hidden_size // config.num_attention_heads % 2:
        raise InputError(f"hidden_size {config.hidden_size} gives {config.num_attention_heads} heads of an odd width")
    theta = raw.get("rope_theta", 10_000.0)
    if not isinstance(theta, int | float) or isinstance(theta, bool) or not 0 < theta < float("inf"):
        raise InputError(f"rope_theta is {theta!r}; expected a number above 0")
    frequencies = rotary_frequencies(theta, config.hidden_size // config.num_attention_heads)
    return dataclasses.replace(config, frequencies=tuple(map(float, frequencies)))


def with_filed_frequencies(config: EsmConfig, places: Sequence[tuple[str, Place]]) -> EsmConfig:
    """The config with the frequencies that the weights hold, if they do; transformers computes with those too.

    ESM-2 was trained in float16, frequencies included, and its files keep those: by the exact ones, two tokens at a
    distance of 1,000 are turned against each other by up to 0.16 radians more or less. Raises InputError for others
    than those of the config to within the precision of bfloat16.
    """
    place = next((place for name, place in places if name.endswith(FREQUENCIES)), None)
    if place is None:
        return config
    filed = read_finite_float32(place)
    if filed.shape != (len(config.frequencies),) or not np.allclose(filed, config.frequencies, rtol=2**-8, atol=1e-6):
        raise InputError(f"{place.file}: {place.name} does not hold the frequencies of config.json's rope_theta")
    return dataclasses.replace(config, frequencies=tuple(map(float, filed)))


class Embeddings(nnx.Module):
    """Word embeddings, scaled by the share of <mask> among an example's tokens, and a LayerNorm if there is one."""

    def __init__(self, config: EsmConfig, dtype: str, rngs: nnx.Rngs) -> None:
        self.word = embed(config.vocab_size, config, dtype, rngs)
        self.layer_norm = layer_norm(config, dtype, rngs) if config.emb_layer_norm_before else None
        self.mask_token_id = config.mask_token_id if config.token_dropout else None

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None) -> jax.Array:
        """[R, W] -> [R, W, D]."""
        hidden = self.word(tokens.token_id)
        if self.mask_token_id is not None:
            hidden = (hidden * self._scale(tokens, batch)[..., None]).astype(hidden.dtype)
        return hidden if self.layer_norm is None else self.layer_norm(hidden)

    def _scale(self, tokens: Tokens, batch: Batch) -> jax.Array:
        """What a token's embedding is multiplied by: 0 for <mask>, else as with dropout of tokens; float32 [R, W]."""
        masked = (tokens.token_id == self.mask_token_id).astype(jnp.float32)
        share = mean_of_examples(masked[..., None], batch)[..., 0]  # [R, G]
        share = jnp.take_along_axis(share, jnp.maximum(batch.segment, 0), axis=1)  # [R, W]
        return (1 - masked) * KEPT_IN_PRETRAINING / (1 - share)


class Attention(nnx.Module):
    """LayerNorm, then multi-head self-attention with rotary positions; no residual."""

    def __init__(self, config: EsmConfig, dtype: str, rngs: nnx.Rngs) -> None:
        width = config.hidden_size
        self.layer_norm = layer_norm(config, dtype, rngs)
        self.query = linear(width, width, dtype, rngs)
        self.key = linear(width, width, dtype, rngs)
        self.value = linear(width, width, dtype, rngs)
        self.output = linear(width, width, dtype, rngs)
        self.num_heads = config.num_attention_heads
        self.frequencies = config.frequencies
        self.probs_dropout_rate = config.attention_probs_dropout_prob
        self.hidden_dropout_rate = config.hidden_dropout_prob

    def __call__(
        self, hidden: jax.Array, batch: Batch, seeds: jax.Array | None, first_only: bool
    ) -> tuple[jax.Array, Places]:
        """Hidden [R, W, D] -> the attention's output [R, Q, D] and its queries' places [R, Q]; seeds [3, 2]."""
        hidden = self.layer_norm(hidden)
        queries, keys = Queries.of(hidden, batch, first_only), Places.all_of(batch)
        query = split_heads(self.query(queries.hidden), self.num_heads)  # [R, N, Q, H]
        key = split_heads(self.key(hidden), self.num_heads)  # [R, N, W, H]
        value = split_heads(self.value(hidden), self.num_heads)  # [R, N, W, H]
        frequencies = np.asarray(self.frequencies, np.float32)
        query = rotated(query * (query.shape[-1] ** -0.5), queries.places.slot, frequencies)
        key = rotated(key, keys.slot, frequencies)
        seed, seed_output = (None, None) if seeds is None else (seeds[0], seeds[1])
        context = attend(query, key, value, queries.places, keys, seed, self.probs_dropout_rate)
        output = dropout(self.output(context), queries.places.token, seed_output, self.hidden_dropout_rate)
        return output, queries.places


class FeedForward(nnx.Module):
    """LayerNorm, then the position-wise feed-forward network; no residual."""

    def __init__(self, config: EsmConfig, dtype: str, rngs: nnx.Rngs) -> None:
        self.layer_norm = layer_norm(config, dtype, rngs)
        self.intermediate = linear(config.hidden_size, config.intermediate_size, dtype, rngs)
        self.output = linear(config.intermediate_size, config.hidden_size, dtype, rngs)
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(self, hidden: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, Q, D] -> [R, Q, D]; token [R, Q]; seeds [3, 2]."""
        inner = gelu(self.intermediate(self.layer_norm(hidden)))  # in transformers too, whatever hidden_act says
        return dropout(self.output(inner), token, None if seeds is None else seeds[2], self.dropout_rate)


def layer(config: EsmConfig, number: int, embeddings: Embeddings, dtype: str, rngs: nnx.Rngs) -> PreNormLayer:
    """Every layer is alike, but for the LayerNorm behind the last one."""
    last = layer_norm(config, dtype, rngs) if number == config.num_hidden_layers - 1 else None
    return PreNormLayer(Attention(config, dtype, rngs), FeedForward(config, dtype, rngs), last)


ESM = Family(
    model_type="esm",
    architecture="EsmForSequenceClassification",
    read_config=read_config,
    read_weights=with_filed_frequencies,
    embeddings=Embeddings,
    layer=layer,
    head=Head,
    names=(
        ("esm.embeddings.word_embeddings", "embeddings.word"),
        ("esm.embeddings.layer_norm", "embeddings.layer_norm"),
        ("esm.encoder.layer.*.attention.self.query", "layers.*.attention.query"),
        ("esm.encoder.layer.*.attention.self.key", "layers.*.attention.key"),
        ("esm.encoder.layer.*.attention.self.value", "layers.*.attention.value"),
        ("esm.encoder.layer.*.attention.output.dense", "layers.*.attention.output"),
        ("esm.encoder.layer.*.attention.LayerNorm", "layers.*.attention.layer_norm"),
        ("esm.encoder.layer.*.intermediate.dense", "layers.*.feed_forward.intermediate"),
        ("esm.encoder.layer.*.output.dense", "layers.*.feed_forward.output"),
        ("esm.encoder.layer.*.LayerNorm", "layers.*.feed_forward.layer_norm"),
        ("esm.encoder.emb_layer_norm_after", "layers.*.layer_norm"),
        ("classifier.dense", "head.dense"),
        ("classifier.out_proj", "head.out_proj"),
    ),
    base="esm",
    output="head.out_proj",
    # The head of contacts is part of transformers' encoder, and in all of its files; the position embedding, of some
    # early ones, which rotary positions leave unused.
    skipped=re.compile(
        r"esm\.embeddings\.(position_ids|position_embeddings\.weight)"
        r"|(esm\.)?(pooler|contact_head)\..*"
        r"|(esm\.)?(encoder\.layer\.\d+\.attention\.self\.)?rotary_embeddings\.inv_freq"
    ),
    carried=(
        "esm.rotary_embeddings.inv_freq",
        "esm.contact_head.regression.weight",
        "esm.contact_head.regression.bias",
    ),
    tied=(("esm.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),),
    # transformers 5.24 writes an asterisk for the layer's number, and gamma and beta, as early files have.
    old_names=(
        *OLD_NAMES,
        (re.compile(r"encoder\.layer\.(0|\*)\.attention\.self\.rotary_embeddings\."), "rotary_embeddings."),
    ),
)
