"""A finished run as one function in StableHLO: token ids in, logits out, called by JAX without this package."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxfreeze import freezing
from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.training.pretrained import Model

PLATFORMS = ("cpu", "cuda", "tpu")


def serialized(model: Model, params: freezing.Params) -> bytes:
    """What `jax.export.deserialize` reads: its `call` takes input_ids, token_type_ids and attention_mask, int32 [B, W].

    Returns logits, float32 [B, C], or [B, W, C] of a run that labels words. B and W are free; a row begins with its
    text, and attention_mask is 0 behind it. The weights are in it.
    """
    classifier = model.column.bind({path: np.asarray(leaf) for path, leaf in params.items()})

    def logits(input_ids: jax.Array, token_type_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        place = jnp.broadcast_to(jnp.arange(input_ids.shape[1]), input_ids.shape)  # [B, W]
        nothing = jnp.zeros_like(input_ids[:, :1])  # [B, 1]: each row's one example begins in its first slot
        batch = Batch(place, 1 - attention_mask, nothing, nothing)
        tokens = Tokens(input_ids, token_type_ids, place + model.encoder.first_position)
        found = classifier(tokens, batch)
        return found if model.column.by_token else found[:, 0]

    tokens = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, length"), jnp.int32)
    return bytes(jax.export.export(jax.jit(logits), platforms=PLATFORMS)(tokens, tokens, tokens).serialize())
