"""What encoders are made of: dense layers, LayerNorm, BERT's attention and feed-forward over packed rows.

Letters of the axes: R rows, W slots of a row, Q slots that query, G examples of a row, D width, N heads, H head width.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.data.batch import Batch
from jaxfreeze.model.attention import Bias, Places, Queries, attend, split_heads
from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU by erf, as PyTorch has it; by erfc, as in jax.nn.gelu, a feed-forward's gradients take 1.5x."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def gelu_tanh(x: jax.Array) -> jax.Array:
    """The GELU approximated by tanh (Hendrycks & Gimpel 2016)."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    # One formula, in transformers/activations.py written five times.
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "relu": jax.nn.relu,
}


class Linear(nnx.Linear):
    """A dense layer; `flat`: over flat tokens, as CPUs want it and TPUs do not (`for_platform`)."""

    flat: bool = True

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """[..., in] -> [..., out]."""
        if not self.flat:
            return super().__call__(inputs, out_sharding)
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]), out_sharding)
        return flat.reshape(*inputs.shape[:-1], -1)


def for_platform(model: nnx.Module, platform: str) -> None:
    """Make dense layers as they are fastest on a platform, as `devices.platform_of` names it.

    Over flat tokens the gradients of a feed-forward network alone take half the time on a CPU. On a TPU the reshape
    costs transposes around attention: a layer of BERT-base forward 909 us instead of 597, by the compiler's estimate.
    """
    for _, module in nnx.iter_graph(model):
        if isinstance(module, Linear):
            module.flat = platform == "cpu"


def linear(size_in: int, size_out: int, dtype: str, rngs: nnx.Rngs) -> Linear:
    """A dense layer, kernel [in, out]; dtype: of its products. Its parameters are described as float32."""
    return Linear(size_in, size_out, dtype=dtype, rngs=rngs)


class Embed(nnx.Embed):
    """A table whose vectors are cast once they are read: so the gradient of a row is added up in float32."""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """[...] integers -> [..., D]."""
        return jnp.take(self.embedding[...], inputs, axis=0).astype(self.dtype)


def embed(rows: int, config: EncoderConfig, dtype: str, rngs: nnx.Rngs) -> Embed:
    """A table of vectors, [rows, D]."""
    return Embed(rows, config.hidden_size, dtype=dtype, rngs=rngs)


def layer_norm(config: EncoderConfig, dtype: str, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm with the file's epsilon; mean and variance in float32, the variance in two passes."""
    return nnx.LayerNorm(
        config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, dtype=dtype, rngs=rngs
    )


class Attention(nnx.Module):
    """Multi-head self-attention within each example of a packed row, with its residual and LayerNorm."""

    def __init__(self, config: EncoderConfig, dtype: str, rngs: nnx.Rngs) -> None:
        width = config.hidden_size
        self.query = linear(width, width, dtype, rngs)
        self.key = linear(width, width, dtype, rngs)
        self.value = linear(width, width, dtype, rngs)
        self.output = linear(width, width, dtype, rngs)
        self.layer_norm = layer_norm(config, dtype, rngs)
        self.num_heads = config.num_attention_heads
        self.probs_dropout_rate = config.attention_probs_dropout_prob
        self.hidden_dropout_rate = config.hidden_dropout_prob

    def __call__(
        self,
        hidden: jax.Array,  # [R, W, D] keys and values
        queries: Queries,
        keys: Places,
        seeds: jax.Array | None,  # [3, 2]
        bias: Bias | None = None,
    ) -> jax.Array:
        """The attention's output for the queries: [R, Q, D]."""
        query = split_heads(self.query(queries.hidden), self.num_heads)  # [R, N, Q, H]
        key = split_heads(self.key(hidden), self.num_heads)  # [R, N, W, H]
        value = split_heads(self.value(hidden), self.num_heads)  # [R, N, W, H]
        query = query * (query.shape[-1] ** -0.5)
        seed, seed_hidden = (None, None) if seeds is None else (seeds[0], seeds[1])
        context = attend(query, key, value, queries.places, keys, seed, self.probs_dropout_rate, bias)
        output = dropout(self.output(context), queries.places.token, seed_hidden, self.hidden_dropout_rate)
        return self.layer_norm(queries.hidden + output)


class FeedForward(nnx.Module):
    """The position-wise feed-forward network, with its residual and LayerNorm."""

    def __init__(self, config: EncoderConfig, dtype: str, rngs: nnx.Rngs) -> None:
        self.intermediate = linear(config.hidden_size, config.intermediate_size, dtype, rngs)
        self.output = linear(config.intermediate_size, config.hidden_size, dtype, rngs)
        self.layer_norm = layer_norm(config, dtype, rngs)
        self.activation = config.hidden_act
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(self, hidden: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, Q, D] -> [R, Q, D]; token [R, Q]; seeds [3, 2]."""
        output = self.output(ACTIVATIONS[self.activation](self.intermediate(hidden)))  # [R, Q, D]
        output = dropout(output, token, None if seeds is None else seeds[2], self.dropout_rate)
        return self.layer_norm(hidden + output)


class EncoderLayer(nnx.Module):
    """Attention, then feed-forward, a LayerNorm after each (Devlin et al. 2019)."""

    def __init__(self, config: EncoderConfig, dtype: str, rngs: nnx.Rngs, bias: Bias | None = None) -> None:
        """bias: of the attention's scores; a module of the embeddings, if all layers share it."""
        self.attention = Attention(config, dtype, rngs)
        self.feed_forward = FeedForward(config, dtype, rngs)
        self.bias = bias

    def __call__(self, hidden: jax.Array, batch: Batch, seeds: jax.Array | None, pool: bool = False) -> jax.Array:
        """[R, W, D] -> [R, W, D]; with pool -> [R, G, D]: keys and values of all tokens, the rest of the first ones."""
        queries = Queries.of(hidden, batch, first_only=pool)
        hidden = self.attention(hidden, queries, Places.all_of(batch), seeds, self.bias)  # [R, Q, D]
        return self.feed_forward(hidden, queries.places.token, seeds)
