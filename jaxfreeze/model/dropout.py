"""Dropout whose mask is a pure function of (seed, token number, feature): the same in every packing, on any device."""

import jax
import jax.numpy as jnp

SITES_PER_BLOCK = 3  # attention probabilities, attention output, feed-forward output


def dropout_seeds(key: jax.Array, num_layers: int) -> jax.Array:
    """Seeds of one training step: uint32 [L + 2, 3, 2], a row for the embeddings, each layer, and the head."""
    return jax.random.bits(key, (num_layers + 2, SITES_PER_BLOCK, 2), jnp.uint32)


def mix(x: jax.Array) -> jax.Array:
    """The 32-bit finalizer of MurmurHash3 (Appleby): a bijection in which every input bit moves every output bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def mask_multiplier(row: jax.Array, column: jax.Array, seed: jax.Array | None, rate: float) -> jax.Array | float:
    """What dropout multiplies by, float32: 0 with probability `rate`, else 1 / (1 - rate); 1.0 where there is none.

    `row` and `column` are integer arrays that broadcast against each other; an element of the mask depends on its
    own row number, its own column number and the seed (uint32 [2]), on nothing else.
    """
    if seed is None or rate == 0.0:
        return 1.0
    rows = mix(row.astype(jnp.uint32) ^ seed[0])
    columns = mix(column.astype(jnp.uint32) ^ seed[1])
    keep = mix(rows ^ columns) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, jnp.float32(1.0 / (1.0 - rate)), jnp.float32(0.0))


def dropout(x: jax.Array, token: jax.Array, seed: jax.Array | None, rate: float) -> jax.Array:
    """Dropout of x [..., D], whose tokens are numbered by token [...]."""
    multiplier = mask_multiplier(token[..., None], jnp.arange(x.shape[-1]), seed, rate)
    # Multiplied in float32: 1 / (1 - rate) in bfloat16 would change every mean, at rate 0.1 by -0.16%.
    return x if isinstance(multiplier, float) else (x * multiplier).astype(x.dtype)
