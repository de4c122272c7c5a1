"""DeBERTa-v2 and v3 (He et al. 2021, 2023): BERT's layers, whose scores also know the distance of query and key.

Letters of the axes: R rows, W slots of a row, Q slots that query, G examples of a row, D width, N heads, H head width,
P rows of the relative table that distances within a row reach.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.errors import InputError, one_of
from jaxfreeze.model.attention import Bias, Places, Queries, attend, split_heads
from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families.shared import OLD_NAMES
from jaxfreeze.model.family import Family, build_config
from jaxfreeze.model.layers import ACTIVATIONS, Embed, FeedForward, Linear, embed, layer_norm, linear
from jaxfreeze.model.token_head import TokenHead

TERMS = ("c2p", "p2c")  # content to position: of query and distance; position to content: of distance and key
EARLY = {"layer_norm_eps": 1e-7, "pad_token_id": 0, "type_vocab_size": 0}  # what config.json files leave out
NO_TOKEN = jnp.iinfo(jnp.int32).min  # numbers from here are those of no token in a store


@dataclasses.dataclass(frozen=True)
class DebertaConfig(EncoderConfig):
    """Defaults are those of transformers, for what config.json leaves out."""

    embedding_size: int = 0
    """Width of the word embedding; a projection leads from there to D if it is another."""
    token_types: bool = False
    """Whether there is a token type embedding; a file with type_vocab_size 0 has none, and `type_vocab_size` is 1."""
    position_biased_input: bool = True
    """Whether the embeddings add absolute positions."""
    relative_attention: bool = False
    """Whether there is a relative table."""
    pos_att_type: tuple[str, ...] = ()
    """Which of TERMS the scores have beside that of query and key."""
    share_att_key: bool = False
    """Whether the relative table is projected as the tokens' queries and keys are, or by layers of its own."""
    position_buckets: int = -1
    """Distances up to half as many have a row each, larger ones share rows; below 1: each distance has its own."""
    max_relative_positions: int = -1
    """From this distance on all share one row; in the file below 1 for max_position_embeddings."""
    norm_rel_ebd: bool = False
    """Whether the relative table goes through a LayerNorm."""
    pooler_dropout: float = 0.0
    """Dropout rate below the pooler."""
    pooler_hidden_act: str = "gelu"
    """Activation of the pooler."""

    @property
    def span(self) -> int:
        """Half of the relative table's rows."""
        return self.position_buckets if self.position_buckets > 0 else self.max_relative_positions


def read_config(raw: Mapping[str, Any]) -> DebertaConfig:
    """The architecture in config.json. Raises InputError for what is wrong or not computed."""
    raw = {name: value for name, value in raw.items() if value is not None or name not in EARLY}
    given = {**EARLY, **raw, "classifier_dropout": raw.get("cls_dropout")}
    given["token_types"] = given["type_vocab_size"] != 0
    given["type_vocab_size"] = given["type_vocab_size"] or 1
    given["pos_att_type"] = _terms(raw.get("pos_att_type"))
    given["norm_rel_ebd"] = "layer_norm" in _words(raw.get("norm_rel_ebd"))
    given.setdefault("embedding_size", raw.get("hidden_size"))
    config = build_config(DebertaConfig, given)
    _check_values(raw, config)
    if config.max_relative_positions < 1:
        config = dataclasses.replace(config, max_relative_positions=config.max_position_embeddings)
    most = 2 * config.max_relative_positions - 3  # more would be a bucket or more for each distance
    if config.position_buckets == 1 or config.position_buckets > max(most, 0):
        raise InputError(
            f"position_buckets is {config.position_buckets}; expected 2 to {most} where distances from "
            f"{config.max_relative_positions} on share one, or at most 0 for none"
        )
    return config


def _words(value: object) -> list[str]:
    """A list, or in early files a string with bars: "p2c|c2p"."""
    words = value.lower().split("|") if isinstance(value, str) else value if isinstance(value, list) else []
    return [str(word).strip() for word in words]


def _terms(value: object) -> tuple[str, ...]:
    for word in _words(value):
        if word not in (*TERMS, "", "none"):
            raise InputError(f"pos_att_type has {word!r}; expected {one_of(TERMS, word)}")
    return tuple(term for term in TERMS if term in _words(value))


def _check_values(raw: Mapping[str, Any], config: DebertaConfig) -> None:
    for name in ("relative_attention", "position_biased_input", "share_att_key"):
        if not isinstance(getattr(config, name), bool):
            raise InputError(f"{name} is {getattr(config, name)!r}; expected true or false")
    for name, least in (("embedding_size", 1), ("position_buckets", None), ("max_relative_positions", None)):
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or (least and value < least):
            raise InputError(f"{name} is {value!r}; expected a whole number{f' of at least {least}' if least else ''}")
    if not isinstance(config.pooler_dropout, int | float) or not 0 <= config.pooler_dropout < 1:
        raise InputError(
            f"pooler_dropout is {config.pooler_dropout!r}; expected a number from 0 up to, but not including, 1"
        )
    if str(config.pooler_hidden_act) not in ACTIVATIONS:
        expected = one_of(ACTIVATIONS, str(config.pooler_hidden_act))
        raise InputError(f"pooler_hidden_act is {config.pooler_hidden_act!r}; expected {expected}")
    if raw.get("conv_kernel_size"):
        raise InputError(f"conv_kernel_size is {raw['conv_kernel_size']!r}; expected 0: a convolution is not computed")
    for name, size in (
        ("attention_head_size", config.hidden_size // config.num_attention_heads),
        ("pooler_hidden_size", config.hidden_size),
    ):
        if raw.get(name) not in (None, size):
            raise InputError(f"{name} is {raw[name]!r}; expected {size}, as hidden_size says")
    if not config.relative_attention and not config.position_biased_input:
        raise InputError("relative_attention and position_biased_input are both false; expected one that tells order")
    if config.norm_rel_ebd and not config.relative_attention:
        raise InputError("norm_rel_ebd is 'layer_norm', but relative_attention is false; expected a relative table")


def rows_of_distances(config: DebertaConfig, distance: np.ndarray) -> np.ndarray:
    """Distances of a query from a key, in tokens -> rows of the relative table: integers of the same shape.

    Up to half of position_buckets each distance has a row of its own; beyond, rows are evenly spaced in the distance's
    logarithm. They are computed here, in float64, as some devices' logarithm is not exact enough for the nearest whole.
    """
    if config.position_buckets > 0:
        own = config.position_buckets // 2
        far = np.maximum(np.abs(distance), own) / own
        steps = np.ceil(np.log(far) / np.log((config.max_relative_positions - 1) / own) * (own - 1))
        distance = np.where(np.abs(distance) <= own, distance, np.sign(distance) * (steps + own)).astype(np.int64)
    return np.clip(distance + config.span, 0, 2 * config.span - 1)


class RelativeTable(nnx.Module):
    """A vector for each distance or bucket of distances, through a LayerNorm if the file says so."""

    def __init__(self, config: DebertaConfig, dtype: str, rngs: nnx.Rngs) -> None:
        self.table = embed(2 * config.span, config, dtype, rngs)
        self.layer_norm = layer_norm(config, dtype, rngs) if config.norm_rel_ebd else None

    def __call__(self, rows: jax.Array) -> jax.Array:
        """[P] -> [P, D]."""
        vectors = self.table(rows)
        return vectors if self.layer_norm is None else self.layer_norm(vectors)


class Embeddings(nnx.Module):
    """Sum of the embeddings that there are, projection, LayerNorm, dropout; and the table that the layers share."""

    def __init__(self, config: DebertaConfig, dtype: str, rngs: nnx.Rngs) -> None:
        size = config.embedding_size
        self.word = Embed(config.vocab_size, size, dtype=dtype, rngs=rngs)
        rows = config.max_position_embeddings
        self.position = Embed(rows, size, dtype=dtype, rngs=rngs) if config.position_biased_input else None
        self.token_type = Embed(config.type_vocab_size, size, dtype=dtype, rngs=rngs) if config.token_types else None
        project = size != config.hidden_size
        self.projection = Linear(size, config.hidden_size, use_bias=False, dtype=dtype, rngs=rngs) if project else None
        self.layer_norm = layer_norm(config, dtype, rngs)
        self.relative = RelativeTable(config, dtype, rngs) if config.relative_attention else None
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None) -> jax.Array:
        """[R, W] -> [R, W, D]."""
        hidden = self.word(tokens.token_id)
        if self.position is not None:
            hidden = hidden + self.position(tokens.position)
        if self.token_type is not None:
            hidden = hidden + self.token_type(tokens.token_type)
        if self.projection is not None:
            hidden = self.projection(hidden)
        return dropout(self.layer_norm(hidden), batch.index, None if seeds is None else seeds[0], self.dropout_rate)


class Attention(nnx.Module):
    """Disentangled self-attention (He et al. 2021, section 3.1), with its residual and LayerNorm."""

    def __init__(self, config: DebertaConfig, relative: RelativeTable | None, dtype: str, rngs: nnx.Rngs) -> None:
        """relative: the embeddings' table, which keeps its path there."""
        width = config.hidden_size
        self.query = linear(width, width, dtype, rngs)
        self.key = linear(width, width, dtype, rngs)
        self.value = linear(width, width, dtype, rngs)
        self.output = linear(width, width, dtype, rngs)
        self.layer_norm = layer_norm(config, dtype, rngs)
        own = () if relative is None or config.share_att_key else config.pos_att_type
        self.position_key = linear(width, width, dtype, rngs) if "c2p" in own else None
        self.position_query = linear(width, width, dtype, rngs) if "p2c" in own else None
        self.relative = relative
        self.config = config
        # Transformers counts the terms also where there is no table for them.
        self.scale = (width // config.num_attention_heads * (1 + len(config.pos_att_type))) ** -0.5

    def __call__(
        self,
        hidden: jax.Array,  # [R, W, D] keys and values
        queries: Queries,
        keys: Places,
        seeds: jax.Array | None,  # [3, 2]
        pool: bool,
    ) -> jax.Array:
        """The attention's output for the queries: [R, Q, D]; pool: they are not every slot, but here and there one."""
        config, heads = self.config, self.config.num_attention_heads
        query = split_heads(self.query(queries.hidden), heads) * self.scale  # [R, N, Q, H]
        key = split_heads(self.key(hidden), heads)  # [R, N, W, H]
        value = split_heads(self.value(hidden), heads)  # [R, N, W, H]
        seed, seed_hidden = (None, None) if seeds is None else (seeds[0], seeds[1])
        bias = self.bias(key, seed_hidden, pool)
        context = attend(
            query, key, value, queries.places, keys, seed, config.attention_probs_dropout_prob, bias
        )  # [R, Q, D]
        output = dropout(self.output(context), queries.places.token, seed_hidden, config.hidden_dropout_prob)
        return self.layer_norm(queries.hidden + output)

    def bias(self, key: jax.Array, seed: jax.Array | None, pool: bool) -> Bias | None:
        """What distances add to the scores of keys [R, N, W, H]."""
        config, width = self.config, key.shape[2]
        if self.relative is None or not config.pos_att_type:
            return None
        rows = rows_of_distances(config, np.arange(-width, width + 1))  # [2 * W + 1], in ascending order
        number = jnp.arange(rows[0], rows[-1] + 1)  # [P]
        table = dropout(self.relative(number), number + NO_TOKEN, seed, config.hidden_dropout_prob)[None]  # [1, P, D]
        position_key = position_query = None
        if "c2p" in config.pos_att_type:
            project = self.key if self.position_key is None else self.position_key
            position_key = split_heads(project(table), config.num_attention_heads)[0]
        if "p2c" in config.pos_att_type:
            project = self.query if self.position_query is None else self.position_query
            position_query = split_heads(project(table), config.num_attention_heads)[0] * self.scale
        scores = DistanceScores(key, position_key, position_query, rows - rows[0])
        return scores.of_any if pool else scores.of_neighbours


class DistanceScores(NamedTuple):
    """The terms of the scores in which distances have a part; either method is a Bias.

    What many pairs read from one place is read in float32, so that its gradient is added up in float32.
    """

    key: jax.Array  # [R, N, W, H]
    position_key: jax.Array | None  # [N, P, H]; None: no such term
    position_query: jax.Array | None  # [N, P, H], scaled
    rows: np.ndarray  # [2 * W + 1] which of P the distances -W to W have

    def of_any(self, query: jax.Array, slot: jax.Array, key_slot: jax.Array) -> jax.Array:
        """For queries anywhere in their rows, as are the first tokens: [R, N, Q, W]."""
        row = self._rows_of(slot[:, :, None] - key_slot[:, None, :])[:, None]  # [R, 1, Q, W]
        terms = []
        if self.position_key is not None:
            scores = jnp.einsum("rnqh,nph->rnqp", query, self.position_key)
            terms.append(jnp.take_along_axis(scores.astype(jnp.float32), row, axis=3))
        if self.position_query is not None:
            scores = jnp.einsum("rnwh,nph->rnpw", self.key, self.position_query)
            terms.append(jnp.take_along_axis(scores.astype(jnp.float32), row, axis=2))
        return sum(terms, jnp.float32(0.0))

    def of_neighbours(self, query: jax.Array, slot: jax.Array, key_slot: jax.Array) -> jax.Array:
        """For queries side by side, in the same slots of each row: [R, N, Q, W].

        Not as `of_any`, by a gather and a scatter of single numbers, which TPUs do one after the other. On a CPU a
        layer's step takes as long either way at 128 slots; at 512 this way takes about a third more.
        """
        size, width = query.shape[2], self.key.shape[2]
        start, steps = slot[0, 0], jnp.arange(size + width)
        terms = []
        if self.position_key is not None:
            position = _of_rows(self.position_key, self._rows_of(start + size - 1 - steps))  # [N, Q + W, H]
            terms.append(_diagonals(jnp.einsum("rnqh,nph->rnqp", query, position), width))
        if self.position_query is not None:
            position = _of_rows(self.position_query, self._rows_of(start - width + 1 + steps))
            terms.append(_diagonals(jnp.einsum("rnwh,nph->rnwp", self.key, position), size).swapaxes(2, 3))
        return sum(terms, jnp.float32(0.0))

    def _rows_of(self, distance: jax.Array) -> jax.Array:
        return jnp.take(jnp.asarray(self.rows), distance + len(self.rows) // 2, mode="clip")


def _of_rows(x: jax.Array, rows: jax.Array) -> jax.Array:
    """[N, P, H] -> [N, len(rows), H]."""
    return x.astype(jnp.float32)[:, rows].astype(x.dtype)


def _diagonals(x: jax.Array, count: int) -> jax.Array:
    """[..., A, A + count] -> [..., A, count]: element (a, b) is (a, A - 1 - a + b) of x."""
    rows, columns = x.shape[-2:]
    flat = x.reshape(*x.shape[:-2], rows * columns)[..., rows - 1 : rows * columns - 1]
    return flat.reshape(*x.shape[:-1], columns - 1)[..., :count]


class Layer(nnx.Module):
    """Attention, then feed-forward, a LayerNorm after each."""

    def __init__(self, config: DebertaConfig, number: int, embeddings: Embeddings, dtype: str, rngs: nnx.Rngs) -> None:
        self.attention = Attention(config, embeddings.relative, dtype, rngs)
        self.feed_forward = FeedForward(config, dtype, rngs)

    def __call__(self, hidden: jax.Array, batch: Batch, seeds: jax.Array | None, pool: bool = False) -> jax.Array:
        """[R, W, D] -> [R, W, D]; with pool -> [R, G, D]: keys and values of all tokens, the rest of the first ones."""
        queries = Queries.of(hidden, batch, first_only=pool)
        hidden = self.attention(hidden, queries, Places.all_of(batch), seeds, pool)  # [R, Q, D]
        return self.feed_forward(hidden, queries.places.token, seeds)


class Head(nnx.Module):
    """Dropout, pooler (dense, an activation), dropout, classifier."""

    def __init__(self, config: DebertaConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs) -> None:
        self.pooler = linear(config.hidden_size, config.hidden_size, dtype, rngs)
        self.classifier = linear(config.hidden_size, num_outputs, dtype, rngs)
        self.activation = config.pooler_hidden_act
        self.pooler_dropout_rate = config.pooler_dropout
        self.dropout_rate = config.head_dropout_prob

    def __call__(self, pooled: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, G, D] -> [R, G, C] float32."""
        below, above = (None, None) if seeds is None else (seeds[0], seeds[1])
        pooled = dropout(pooled, token, below, self.pooler_dropout_rate)
        pooled = ACTIVATIONS[self.activation](self.pooler(pooled))  # [R, G, D]
        return self.classifier(dropout(pooled, token, above, self.dropout_rate)).astype(jnp.float32)


def token_head(config: DebertaConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs) -> TokenHead:
    """The head for tokens; its dropout rate is that of hidden states, whatever cls_dropout says."""
    return TokenHead(config, num_outputs, dtype, rngs, config.hidden_dropout_prob)


DEBERTA_V2 = Family(
    model_type="deberta-v2",
    architecture="DebertaV2ForSequenceClassification",
    read_config=read_config,
    embeddings=Embeddings,
    layer=Layer,
    head=Head,
    token_head=token_head,
    names=(
        ("deberta.embeddings.word_embeddings", "embeddings.word"),
        ("deberta.embeddings.position_embeddings", "embeddings.position"),
        ("deberta.embeddings.token_type_embeddings", "embeddings.token_type"),
        ("deberta.embeddings.embed_proj", "embeddings.projection"),
        ("deberta.embeddings.LayerNorm", "embeddings.layer_norm"),
        ("deberta.encoder.rel_embeddings", "embeddings.relative.table"),
        ("deberta.encoder.LayerNorm", "embeddings.relative.layer_norm"),
        ("deberta.encoder.layer.*.attention.self.query_proj", "layers.*.attention.query"),
        ("deberta.encoder.layer.*.attention.self.key_proj", "layers.*.attention.key"),
        ("deberta.encoder.layer.*.attention.self.value_proj", "layers.*.attention.value"),
        ("deberta.encoder.layer.*.attention.self.pos_key_proj", "layers.*.attention.position_key"),
        ("deberta.encoder.layer.*.attention.self.pos_query_proj", "layers.*.attention.position_query"),
        ("deberta.encoder.layer.*.attention.output.dense", "layers.*.attention.output"),
        ("deberta.encoder.layer.*.attention.output.LayerNorm", "layers.*.attention.layer_norm"),
        ("deberta.encoder.layer.*.intermediate.dense", "layers.*.feed_forward.intermediate"),
        ("deberta.encoder.layer.*.output.dense", "layers.*.feed_forward.output"),
        ("deberta.encoder.layer.*.output.LayerNorm", "layers.*.feed_forward.layer_norm"),
        ("pooler.dense", "head.pooler"),
        ("classifier", "head.classifier"),
    ),
    base="deberta",
    output="head.classifier",
    # Some files keep absolute positions that their encoder does not add.
    skipped=re.compile(r"deberta\.embeddings\.position_(ids|embeddings\.weight)"),
    tied=(("deberta.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),),
    old_names=OLD_NAMES,
)
