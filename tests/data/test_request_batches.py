"""Batches of texts that come as they come: each example once, in few shapes."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxfreeze.data.request_batches import request_batches
from jaxfreeze.data.token_store import TokenStore


def store_of(lengths: list[int]) -> TokenStore:
    """Tokens numbered from 0."""
    start = np.concatenate([[0], np.cumsum(lengths)])
    total = int(start[-1])
    position = np.concatenate([np.arange(length) for length in lengths])
    labels = np.full(len(lengths), -1, np.int32)
    return TokenStore(np.arange(total, dtype=np.int32), np.zeros(total, np.int8), position, start, labels)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(3, 140), min_size=1, max_size=120), st.sampled_from([1, 2, 3, 8]))
@example([3] * 100, 1)  # more in a row than it has segments
def test_every_example_once_and_whole(lengths: list[int], devices: int) -> None:
    store = store_of(lengths)
    seen: list[int] = []
    for batch in request_batches(store, 8, devices):
        assert len(batch.index) % devices == 0
        for row, place in zip(*np.nonzero(batch.example >= 0), strict=True):
            number, first = batch.example[row, place], batch.first[row, place]
            slots = batch.index[row, first : first + lengths[number]]
            assert (slots == np.arange(store.start[number], store.start[number + 1])).all()
            assert (batch.segment[row, first : first + lengths[number]] == place).all()
            seen.append(int(number))
        assert (batch.index >= 0).sum() == sum(lengths[number] for number in batch.example[batch.example >= 0])
    assert sorted(seen) == list(range(len(lengths)))


def test_few_shapes_whatever_comes() -> None:
    """A service compiles them all in a minute: 2 small ones, and rows of one width in powers of two."""
    random = np.random.default_rng(0)
    shapes = set()
    for _ in range(2000):
        lengths = random.integers(3, 129, random.integers(1, 60)).tolist()
        shapes |= {(*batch.index.shape, *batch.example.shape) for batch in request_batches(store_of(lengths), 8)}
    assert {shape[:2] for shape in shapes} == {(1, 32), (1, 64), (1, 128), (2, 128), (4, 128), (8, 128)}
    assert len(shapes) == 6


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [
        ([5], (1, 32)),
        ([30, 3], (1, 64)),
        ([3] * 5, (1, 64)),
        ([65], (1, 128)),
        ([200, 20], (1, 256)),
        ([1500], (1, 2048)),
    ],
)
def test_no_larger_than_need_be(lengths: list[int], shape: tuple[int, int]) -> None:
    (batch,) = request_batches(store_of(lengths), 8)
    assert batch.index.shape == shape


def test_most_slots_hold_a_token() -> None:
    lengths = np.clip(np.random.default_rng(1).lognormal(3.5, 0.5, 1024).astype(int), 5, 128)
    slots = sum(batch.index.size for batch in request_batches(store_of(lengths.tolist()), 8))
    assert lengths.sum() / slots > 0.96
