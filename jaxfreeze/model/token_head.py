"""The head of a classifier of tokens: dropout, classifier."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.model.dropout import dropout
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.layers import linear


class TokenHead(nnx.Module):
    """Dropout, classifier."""

    def __init__(
        self, config: EncoderConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs, dropout_rate: float | None = None
    ) -> None:
        """dropout_rate: where it is not the one that the head for examples has."""
        self.classifier = linear(config.hidden_size, num_outputs, dtype, rngs)
        self.dropout_rate = config.head_dropout_prob if dropout_rate is None else dropout_rate

    def __call__(self, hidden: jax.Array, token: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """[R, W, D] -> [R, W, C] float32; token [R, W]."""
        hidden = dropout(hidden, token, None if seeds is None else seeds[0], self.dropout_rate)
        return self.classifier(hidden).astype(jnp.float32)
