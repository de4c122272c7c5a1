"""The column that is fine-tuned, and its one cut: trunk below (frozen), top above (trained)."""

import functools
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.arrays import Array
from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import Embeddings, EncoderConfig, EncoderLayer, Precision, linear

State: TypeAlias = Array  # the state at a cut: Tokens at cut 0, else hidden [R, W, D], or [R, S, D] at cut L + 1


class BertHead(nnx.Module):
    """BERT's head: pooler (dense, tanh), dropout, classifier."""

    def __init__(self, config: EncoderConfig, num_outputs: int, precision: Precision, rngs: nnx.Rngs) -> None:
        self.pooler = linear(config.hidden_size, config.hidden_size, precision, rngs)
        self.classifier = linear(config.hidden_size, num_outputs, precision, rngs)
        self.dropout_rate = head_dropout(config)

    def __call__(self, hidden: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, S, D] -> [R, S, C] float32."""
        pooled = jnp.tanh(self.pooler(hidden))
        pooled = dropout(pooled, token, None if seeds is None else seeds[0], self.dropout_rate)
        return self.classifier(pooled).astype(jnp.float32)


class RobertaHead(nnx.Module):
    """RoBERTa's head: dropout, dense, tanh, dropout, out_proj."""

    def __init__(self, config: EncoderConfig, num_outputs: int, precision: Precision, rngs: nnx.Rngs) -> None:
        self.dense = linear(config.hidden_size, config.hidden_size, precision, rngs)
        self.out_proj = linear(config.hidden_size, num_outputs, precision, rngs)
        self.dropout_rate = head_dropout(config)

    def __call__(self, hidden: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, S, D] -> [R, S, C] float32."""
        below, above = (None, None) if seeds is None else (seeds[0], seeds[1])
        hidden = dropout(hidden, token, below, self.dropout_rate)
        hidden = dropout(jnp.tanh(self.dense(hidden)), token, above, self.dropout_rate)
        return self.out_proj(hidden).astype(jnp.float32)


def head_dropout(config: EncoderConfig) -> float:
    """The head's dropout rate, by Hugging Face's rule."""
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


class SequenceClassifier(nnx.Module):
    """Embeddings, L layers and a head; `cut` counts the blocks (embeddings first, then layers) that are below the cut.

    cut 0: nothing is below, the embeddings are trained too. cut L - k + 1: the last k layers are above it.
    cut L + 1: only the head is above it.
    """

    def __init__(self, config: EncoderConfig, num_outputs: int, precision: Precision, rngs: nnx.Rngs) -> None:
        self.embeddings = Embeddings(config, precision, rngs)
        self.layers = nnx.List([EncoderLayer(config, precision, rngs) for _ in range(config.num_hidden_layers)])
        head = RobertaHead if config.model_type == "roberta" else BertHead
        self.head = head(config, num_outputs, precision, rngs)

    def trunk(self, tokens: Tokens, batch: Batch, cut: int, seeds: jax.Array | None = None) -> State:
        """What lies below the cut: gathered tokens [R, W] -> the state at the cut.

        The state is the tokens themselves at cut 0, hidden [R, W, D] up to cut L, and at cut L + 1, where the head
        alone is left, hidden [R, S, D] of each example's first token. seeds: uint32 [L + 2, 3, 2], None for no dropout.
        """
        return self.blocks(tokens, batch, 0, cut, seeds)

    def top(
        self, state: State, batch: Batch, cut: int, seeds: jax.Array | None = None, remat: bool = False
    ) -> jax.Array:
        """What lies above the cut: the state at the cut -> logits [R, S, C], float32, one per packed example.

        remat: for the gradients, compute what is within a layer a second time rather than keep it.
        """
        last = len(self.layers) + 1
        hidden = self.blocks(state, batch, cut, last, seeds, remat)  # [R, S, D]
        token = jnp.take_along_axis(batch.index, batch.first, axis=1)  # [R, S]
        return self.head(hidden, token, None if seeds is None else seeds[last])

    def blocks(
        self, state: State, batch: Batch, start: int, stop: int, seeds: jax.Array | None, remat: bool = False
    ) -> Array:
        """Apply blocks start..stop-1 to the state at `start`; block 0 is the embeddings, block i is layer i - 1."""
        for block in range(start, stop):
            block_seeds = None if seeds is None else seeds[block]
            if block == 0:
                state = self.embeddings(state, batch.index, block_seeds)
            else:
                layer = functools.partial(self.layers[block - 1], first_only=block == len(self.layers))
                state = (jax.checkpoint(layer) if remat else layer)(state, batch, block_seeds)
        return state

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None = None) -> jax.Array:
        """The whole column: gathered tokens [R, W] -> logits [R, S, C]."""
        return self.top(tokens, batch, 0, seeds)
