"""The encoder of BERT and RoBERTa: embeddings and layers over packed rows (Devlin et al. 2019; Liu et al. 2019)."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.data.batch import Batch
from jaxfreeze.model.dropout import dropout, mask_multiplier


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU by erf, as PyTorch has it; by erfc, as in jax.nn.gelu, a feed-forward's gradients take 1.5x."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}

BLOCKED = -1e30  # added to the score of a pair that must not see each other


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """What config.json says of the architecture; the names are Hugging Face's."""

    model_type: str
    """bert or roberta."""
    vocab_size: int
    """Rows of the word embedding."""
    hidden_size: int
    """D, the width."""
    num_hidden_layers: int
    """L, the encoder layers."""
    num_attention_heads: int
    """N, the attention heads; D is a multiple of it."""
    intermediate_size: int
    """F, the feed-forward width."""
    max_position_embeddings: int
    """Rows of the position embedding (RoBERTa's include the padding position and those before it)."""
    type_vocab_size: int
    """Rows of the token type embedding."""
    layer_norm_eps: float
    """Epsilon of every LayerNorm."""
    pad_token_id: int
    """The padding token; RoBERTa counts positions from the one after it."""
    hidden_dropout_prob: float = 0.1
    """Dropout rate of hidden states."""
    attention_probs_dropout_prob: float = 0.1
    """Dropout rate of attention probabilities."""
    classifier_dropout: float | None = None
    """Dropout rate in the head; None: as hidden_dropout_prob."""
    hidden_act: str = "gelu"
    """Activation of the feed-forward network."""

    @property
    def first_position(self) -> int:
        """The position id of an example's first token."""
        return self.pad_token_id + 1 if self.model_type == "roberta" else 0

    @property
    def max_tokens(self) -> int:
        """The longest example that the position embedding can hold, in tokens."""
        return self.max_position_embeddings - self.first_position


@dataclasses.dataclass(frozen=True)
class Precision:
    """Types of one model: `compute` for activations and products, `parameter` for the weights it is built with."""

    compute: str = "float32"
    parameter: str = "float32"


class Linear(nnx.Linear):
    """A dense layer over flat tokens: on a CPU, gradients of a feed-forward network alone take half the time so."""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """[..., in] -> [..., out]."""
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]), out_sharding)
        return flat.reshape(*inputs.shape[:-1], -1)


def linear(size_in: int, size_out: int, precision: Precision, rngs: nnx.Rngs) -> nnx.Linear:
    """A dense layer, kernel [in, out]."""
    return Linear(size_in, size_out, dtype=precision.compute, param_dtype=precision.parameter, rngs=rngs)


def layer_norm(config: EncoderConfig, precision: Precision, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm with the file's epsilon; mean and variance in float32, the variance in two passes."""
    return nnx.LayerNorm(
        config.hidden_size,
        epsilon=config.layer_norm_eps,
        use_fast_variance=False,
        dtype=precision.compute,
        param_dtype=precision.parameter,
        rngs=rngs,
    )


class Embeddings(nnx.Module):
    """Sum of word, position and token type embeddings, LayerNorm, dropout."""

    def __init__(self, config: EncoderConfig, precision: Precision, rngs: nnx.Rngs) -> None:
        def table(rows: int) -> nnx.Embed:
            return nnx.Embed(
                rows, config.hidden_size, dtype=precision.compute, param_dtype=precision.parameter, rngs=rngs
            )

        self.word = table(config.vocab_size)
        self.position = table(config.max_position_embeddings)
        self.token_type = table(config.type_vocab_size)
        self.layer_norm = layer_norm(config, precision, rngs)
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(
        self,
        tokens: tuple[jax.Array, jax.Array, jax.Array],  # token id, token type, position: [R, W] each
        token: jax.Array,  # [R, W] number of the token in the store, for dropout
        seeds: jax.Array | None,  # [3, 2]
    ) -> jax.Array:
        token_id, token_type, position = tokens
        hidden = self.word(token_id) + self.token_type(token_type) + self.position(position)  # [R, W, D]
        return dropout(self.layer_norm(hidden), token, None if seeds is None else seeds[0], self.dropout_rate)


class Attention(nnx.Module):
    """Multi-head self-attention within each example of a packed row, with its residual and LayerNorm."""

    def __init__(self, config: EncoderConfig, precision: Precision, rngs: nnx.Rngs) -> None:
        width = config.hidden_size
        self.query = linear(width, width, precision, rngs)
        self.key = linear(width, width, precision, rngs)
        self.value = linear(width, width, precision, rngs)
        self.output = linear(width, width, precision, rngs)
        self.layer_norm = layer_norm(config, precision, rngs)
        self.num_heads = config.num_attention_heads
        self.probs_dropout_rate = config.attention_probs_dropout_prob
        self.hidden_dropout_rate = config.hidden_dropout_prob

    def heads(self, x: jax.Array) -> jax.Array:
        """[R, W, D] -> [R, N, W, H]."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1).swapaxes(1, 2)

    def __call__(
        self,
        hidden: jax.Array,  # [R, W, D] keys and values
        query_hidden: jax.Array,  # [R, Q, D] where the output is wanted
        mask: jax.Array,  # [R, Q, W] True where a query may look
        query_token: jax.Array,  # [R, Q]
        token: jax.Array,  # [R, W]
        seeds: jax.Array | None,  # [3, 2]
    ) -> jax.Array:
        query, key, value = (
            self.heads(self.query(query_hidden)),
            self.heads(self.key(hidden)),
            self.heads(self.value(hidden)),
        )
        query = query * (query.shape[-1] ** -0.5)
        scores = jnp.einsum("rnqh,rnwh->rnqw", query, key).astype(jnp.float32)
        # Softmax, its division left to the end, where there is less to divide; adding the mask is faster than choosing
        # by it: forward alone 2.3 times the speed of jax.nn.softmax on a busy CPU, with gradients about 1.2 times.
        scores = scores + jnp.where(mask, 0.0, BLOCKED)[:, None]
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))  # [R, N, Q, W] float32
        total = weights.sum(axis=-1, keepdims=True)
        seed_probs, seed_hidden = (None, None) if seeds is None else (seeds[0], seeds[1])
        # One number per (head, query token): the head's place is far from any neighbouring token's number.
        head = jnp.arange(self.num_heads, dtype=jnp.uint32)[None, :, None] * jnp.uint32(0x9E3779B9)
        row = (query_token[:, None].astype(jnp.uint32) + head)[..., None]  # [R, N, Q, 1]
        weights = weights * mask_multiplier(row, token[:, None, None], seed_probs, self.probs_dropout_rate)
        context = jnp.einsum("rnqw,rnwh->rnqh", weights.astype(value.dtype), value) / total.astype(value.dtype)
        output = self.output(context.swapaxes(1, 2).reshape(query_hidden.shape))
        return self.layer_norm(query_hidden + dropout(output, query_token, seed_hidden, self.hidden_dropout_rate))


class FeedForward(nnx.Module):
    """The position-wise feed-forward network, with its residual and LayerNorm."""

    def __init__(self, config: EncoderConfig, precision: Precision, rngs: nnx.Rngs) -> None:
        self.intermediate = linear(config.hidden_size, config.intermediate_size, precision, rngs)
        self.output = linear(config.intermediate_size, config.hidden_size, precision, rngs)
        self.layer_norm = layer_norm(config, precision, rngs)
        self.activation = config.hidden_act
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(self, hidden: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, Q, D] -> [R, Q, D]; token [R, Q]; seeds [3, 2]."""
        output = self.output(ACTIVATIONS[self.activation](self.intermediate(hidden)))
        output = dropout(output, token, None if seeds is None else seeds[2], self.dropout_rate)
        return self.layer_norm(hidden + output)


class EncoderLayer(nnx.Module):
    """One encoder layer, for every token or, where only the head reads the result, for each example's first token."""

    def __init__(self, config: EncoderConfig, precision: Precision, rngs: nnx.Rngs) -> None:
        self.attention = Attention(config, precision, rngs)
        self.feed_forward = FeedForward(config, precision, rngs)

    def __call__(self, hidden: jax.Array, batch: Batch, seeds: jax.Array | None, first_only: bool = False) -> jax.Array:
        """[R, W, D] -> [R, W, D]; with first_only -> [R, S, D]: keys and values for all tokens, the rest for S."""
        query_hidden, query_token, query_segment = hidden, batch.index, batch.segment
        if first_only:
            query_hidden = jnp.take_along_axis(hidden, batch.first[..., None], axis=1)  # [R, S, D]
            query_token = jnp.take_along_axis(batch.index, batch.first, axis=1)  # [R, S]
            query_segment = jnp.take_along_axis(batch.segment, batch.first, axis=1)  # [R, S]
        # Empty slots see each other: a softmax over nothing would be NaN.
        mask = query_segment[:, :, None] == batch.segment[:, None, :]
        hidden = self.attention(hidden, query_hidden, mask, query_token, batch.index, seeds)
        return self.feed_forward(hidden, query_token, seeds)
