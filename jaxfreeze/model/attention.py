"""Attention within each example of packed rows: whole up to 512 slots, beyond them in blocks whose scores come and go.

Letters of the axes: R rows, W slots of a row, Q slots that query, G examples of a row, D width, N heads, H head width.
An example's tokens lie side by side in its row, so the distance of two of its slots is that of their tokens.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxfreeze.data.batch import Batch
from jaxfreeze.model.dropout import mask_multiplier

BLOCKED = -1e30  # added to the score of a pair that must not see each other
WHOLE = 512  # slots of a row up to which the scores of all its queries are held at once
BLOCK = 256  # queries of a longer row whose scores are held at a time
NOBODY = -2  # the segment of a slot that no query sees; empty slots, -1, see each other

Bias: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(query [R, N, Q, H], its slot [R, Q], key's slot [R, W]) -> what is added to the scores, float32 [R, N, Q, W].

[R, 1 or N, Q, W] and R = 1 will do where it broadcasts.
"""


class Places(NamedTuple):
    """Slots of packed rows, as they query or are looked at; R may be 1 in `slot`."""

    token: jax.Array  # int32 [R, Q] number of the token in the store, for dropout
    segment: jax.Array  # int32 [R, Q] which of its row's examples it belongs to
    slot: jax.Array  # int32 [R, Q] where in its row it lies

    @classmethod
    def all_of(cls, batch: Batch) -> "Places":
        """Every slot: Q = W."""
        return cls(batch.index, batch.segment, jnp.arange(batch.index.shape[1])[None])

    @classmethod
    def firsts_of(cls, batch: Batch) -> "Places":
        """The slot of each example's first token: Q = G."""
        token = jnp.take_along_axis(batch.index, batch.first, axis=1)
        segment = jnp.take_along_axis(batch.segment, batch.first, axis=1)
        return cls(token, segment, batch.first)


class Queries(NamedTuple):
    """The tokens for which a layer computes its output: Q = W, or Q = G where those alone are read."""

    hidden: jax.Array  # [R, Q, D]
    places: Places

    @classmethod
    def of(cls, hidden: jax.Array, batch: Batch, first_only: bool) -> "Queries":
        """Every slot of hidden [R, W, D], or each example's first one."""
        if first_only:
            hidden = jnp.take_along_axis(hidden, batch.first[..., None], axis=1)  # [R, G, D]
        return cls(hidden, Places.firsts_of(batch) if first_only else Places.all_of(batch))


def split_heads(x: jax.Array, num_heads: int) -> jax.Array:
    """[R, W, N * H] -> [R, N, W, H]."""
    return x.reshape(*x.shape[:-1], num_heads, -1).swapaxes(1, 2)


def attend(
    query: jax.Array,  # [R, N, Q, H], scaled
    key: jax.Array,  # [R, N, W, H]
    value: jax.Array,  # [R, N, W, H]
    queries: Places,
    keys: Places,
    seed: jax.Array | None,  # uint32 [2]
    rate: float,
    bias: Bias | None = None,
    window: int | None = None,
) -> jax.Array:
    """The values weighted by a softmax of the scores, with dropout of the weights: [R, Q, N * H].

    window: the distance in tokens up to which a query looks; None for the whole example. A row of more than WHOLE slots
    is worked through in blocks of queries, and for the gradients once more: memory grows with W, not with its square.
    """
    width = key.shape[2]
    # Only the first tokens may query; and where a program is exported for rows of any width, it is no number.
    long = isinstance(width, int) and width > WHOLE and query.shape[2] == width
    how = _attend_in_blocks if long else _attend_at_once
    context = how(query, key, value, queries, keys, seed, rate, bias, window)
    return context.swapaxes(1, 2).reshape(*queries.token.shape, -1)


def _attend_at_once(
    query: jax.Array, key: jax.Array, value: jax.Array, queries: Places, keys: Places,
    seed: jax.Array | None, rate: float, bias: Bias | None, window: int | None,
) -> jax.Array:  # fmt: skip
    """-> [R, N, Q, H]."""
    scores = jnp.einsum("rnqh,rnwh->rnqw", query, key).astype(jnp.float32)
    if bias is not None:
        scores = scores + bias(query, queries.slot, keys.slot)
    seen = queries.segment[:, :, None] == keys.segment[:, None, :]  # empty slots too: softmax over nothing would be NaN
    if window is not None:
        seen &= jnp.abs(queries.slot[:, :, None] - keys.slot[:, None, :]) <= window
    # Softmax, its division left to the end, where there is less to divide; adding the mask is faster than choosing
    # by it: forward alone 2.3 times the speed of jax.nn.softmax on a busy CPU, with gradients about 1.2 times.
    scores = scores + jnp.where(seen, 0.0, BLOCKED)[:, None]
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))  # [R, N, Q, W] float32
    total = weights.sum(axis=-1, keepdims=True)
    # One number per (head, query token): the head's place is far from any neighbouring token's number.
    head = jnp.arange(scores.shape[1], dtype=jnp.uint32)[None, :, None] * jnp.uint32(0x9E3779B9)
    row = (queries.token[:, None].astype(jnp.uint32) + head)[..., None]  # [R, N, Q, 1]
    weights = weights * mask_multiplier(row, keys.token[:, None, None], seed, rate)
    return jnp.einsum("rnqw,rnwh->rnqh", weights.astype(value.dtype), value) / total.astype(value.dtype)


def _attend_in_blocks(
    query: jax.Array, key: jax.Array, value: jax.Array, queries: Places, keys: Places,
    seed: jax.Array | None, rate: float, bias: Bias | None, window: int | None,
) -> jax.Array:  # fmt: skip
    """-> [R, N, Q, H]. With a window, a block of queries meets the keys within it alone; for Q = W."""
    size = query.shape[2]
    count = -(-size // BLOCK)
    reach = 0 if window is None else window
    query = _in_blocks(_extended(query, 2, 0, count * BLOCK - size, 0), 2, count)
    asked = _places_extended(queries, 0, count * BLOCK - size)
    asked = Places(*(_in_blocks(leaf, 1, count) for leaf in asked))
    if window is not None:
        after = reach + count * BLOCK - size
        key, value = (_extended(x, 2, reach, after, 0) for x in (key, value))
        keys = _places_extended(keys, reach, after)

    @jax.checkpoint  # its scores are not kept for the gradients
    def block(number: jax.Array, query: jax.Array, asked: Places) -> jax.Array:
        def near(x: jax.Array, axis: int) -> jax.Array:
            if window is None:
                return x
            return jax.lax.dynamic_slice_in_dim(x, number * BLOCK, BLOCK + 2 * reach, axis)

        some = Places(*(near(leaf, 1) for leaf in keys))
        return _attend_at_once(query, near(key, 2), near(value, 2), asked, some, seed, rate, bias, window)

    context = jax.lax.map(lambda inputs: block(*inputs), (jnp.arange(count), query, asked))  # [count, R, N, BLOCK, H]
    context = jnp.moveaxis(context, 0, 2)
    return context.reshape(*context.shape[:2], count * BLOCK, -1)[:, :, :size]


def _in_blocks(x: jax.Array, axis: int, count: int) -> jax.Array:
    """[..., count * B, ...] -> [count, ..., B, ...]."""
    return jnp.moveaxis(x.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :]), axis, 0)


def _extended(x: jax.Array, axis: int, before: int, after: int, filling: int) -> jax.Array:
    pads = [(before, after) if place == axis else (0, 0) for place in range(x.ndim)]
    return jnp.pad(x, pads, constant_values=filling)


def _places_extended(places: Places, before: int, after: int) -> Places:
    """With slots before and after that belong to no example, at the positions they would have."""
    token, segment = (_extended(x, 1, before, after, NOBODY) for x in places[:2])
    return Places(token, segment, jnp.arange(-before, places.slot.shape[1] + after)[None])


def rotary_frequencies(theta: float, size: int) -> np.ndarray:
    """The frequencies of a rotary position embedding whose wavelengths have the base theta: float32 [H / 2].

    size: H, the width of a head, an even number (Su et al. 2021, section 3.2.2).
    """
    half = size // 2
    return (theta ** (-np.arange(half) / half)).astype(np.float32)


def rotated(x: jax.Array, slot: jax.Array, frequencies: np.ndarray) -> jax.Array:
    """Rotary position embedding of queries or keys [R, N, Q, H] at slots [R, Q] (Su et al. 2021), in float32.

    Pairs are an element of the first half and its like in the second; frequencies: float32 [H / 2], radians a token.
    """
    half = x.shape[-1] // 2
    angle = slot[:, None, :, None] * jnp.asarray(frequencies)  # [R, 1, Q, H / 2]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def mean_of_examples(hidden: jax.Array, batch: Batch) -> jax.Array:
    """The mean over each example's tokens of hidden [R, W, D]: [R, G, D]; 0 where there is no example."""
    examples = jnp.arange(batch.first.shape[1])
    within = (batch.segment[:, None, :] == examples[None, :, None]).astype(jnp.float32)  # [R, G, W]
    total = jnp.einsum("rgw,rwd->rgd", within, hidden.astype(jnp.float32))
    return (total / jnp.maximum(within.sum(axis=-1, keepdims=True), 1.0)).astype(hidden.dtype)
