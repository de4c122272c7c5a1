"""Attention in blocks is attention at once, in memory that grows with the row; windows and rotary positions."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfreeze.data.batch import Batch
from jaxfreeze.model import attention
from jaxfreeze.model.attention import Places, attend, mean_of_examples, rotary_frequencies, rotated

HEADS, SIZE = 2, 8
SEED = np.array([1, 2], np.uint32)


def batch_of(width: int, rows: int = 2) -> Batch:
    """Rows of examples of all lengths, some slots at the end empty."""
    segment = np.full((rows, width), -1, np.int32)
    first = np.zeros((rows, 4), np.int32)
    for row in range(rows):
        ends = [0, 3 + row, width // 3, width - 40, width - 7 * row]
        for place, (start, stop) in enumerate(itertools.pairwise(ends)):
            segment[row, start:stop] = place
            first[row, place] = start
    index = np.where(segment >= 0, np.arange(rows * width).reshape(rows, width), -1)
    return Batch(*map(jnp.asarray, (index, segment, first, np.zeros_like(first))))


def inputs(width: int, rows: int = 2) -> list[jax.Array]:
    return list(jax.random.normal(jax.random.key(0), (3, rows, HEADS, width, SIZE)))


def slope(query: jax.Array, slot: jax.Array, key_slot: jax.Array) -> jax.Array:
    """A bias that knows the query and either slot."""
    distance = slot[:, None, :, None] - key_slot[:, None, None, :]
    return 0.01 * distance + query[..., :1] * jnp.sin(distance)


@pytest.mark.parametrize("width", [520, 768, 1030])
@pytest.mark.parametrize(("bias", "window"), [(None, None), (slope, None), (None, 16), (slope, 300)])
def test_in_blocks_is_at_once(width: int, bias, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, and so are the gradients."""
    places = Places.all_of(batch_of(width))

    def context(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return attend(query, key, value, places, places, SEED, 0.1, bias, window)

    def both(*leaves: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        real = (places.segment >= 0)[..., None]
        return context(*leaves), jax.grad(lambda *x: jnp.sum(jnp.sin(context(*x)) * real), (0, 1, 2))(*leaves)

    assert "scan" in str(jax.make_jaxpr(context)(*inputs(width)))
    blocks = jax.jit(both)(*inputs(width))
    monkeypatch.setattr(attention, "WHOLE", 10**6)
    once = jax.jit(both)(*inputs(width))
    real = np.asarray(places.segment) >= 0
    np.testing.assert_allclose(blocks[0][real], once[0][real], atol=2e-6, rtol=0)
    for one, other in zip(blocks[1], once[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)
    assert np.isfinite(blocks[0]).all()


@pytest.mark.parametrize("window", [0, 3, 200])
def test_a_window_ends_where_it_says(window: int) -> None:
    """In one example of 600 tokens: changing a key moves the queries within the window, and no others."""
    query, key, value = inputs(600, rows=1)
    places = Places(jnp.arange(600)[None], jnp.zeros((1, 600), int), jnp.arange(600)[None])
    step = jax.jit(functools.partial(attend, queries=places, keys=places, seed=None, rate=0.0, window=window))
    at = 311
    moved = np.asarray(step(query, key, value) != step(query, key, value.at[:, :, at].add(1.0))).any(axis=(0, 2))
    np.testing.assert_array_equal(moved, np.abs(np.arange(600) - at) <= window)


@pytest.mark.parametrize("window", [None, 64])
def test_memory_grows_with_the_row_not_with_its_square(window: int | None) -> None:
    def kept(width: int) -> int:
        places = Places.all_of(batch_of(width))

        def loss(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            return jnp.sum(attend(query, key, value, places, places, None, 0.0, None, window) ** 2)

        step = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*inputs(width)).compile()
        return step.memory_analysis().temp_size_in_bytes

    assert kept(4096) < 2.6 * kept(2048)
    assert kept(2048) < 2 * HEADS * 2048 * 2048 * 4 / 2  # half of one matrix of scores


def test_rotated_scores_tell_distances_alone() -> None:
    query, key, _ = inputs(40)
    frequencies = rotary_frequencies(1e4, SIZE)
    near, far = (
        jnp.einsum("rnqh,rnwh->rnqw", rotated(query, slot, frequencies), rotated(key, slot, frequencies))
        for slot in (jnp.arange(40)[None], jnp.arange(40)[None] + 500)
    )
    np.testing.assert_allclose(near, far, atol=2e-4, rtol=0)
    unrotated = jnp.einsum("rnqh,rnwh->rnqw", query, key)
    np.testing.assert_allclose(near[..., 7, 7], unrotated[..., 7, 7], atol=1e-5, rtol=0)
    assert np.abs(near[..., 7, 9] - unrotated[..., 7, 9]).min() > 1e-3


def test_a_mean_is_that_of_its_example() -> None:
    batch = batch_of(64)
    hidden = jax.random.normal(jax.random.key(1), (2, 64, 5))
    means = mean_of_examples(hidden, batch)
    for row in range(2):
        for place in range(4):
            mine = np.asarray(hidden[row])[np.asarray(batch.segment[row]) == place]
            np.testing.assert_allclose(means[row, place], mine.mean(axis=0), atol=1e-6, rtol=0)
