"""Batches: every example once, exactly B at a time, packed without overlap, in few shapes, the same every time."""

import numpy as np
import pytest

from jaxfreeze.data import batches
from jaxfreeze.data.batches import BatchPlan, Shape, best_fit, choose_shapes, evaluation_batches, pack, shuffled_batches
from jaxfreeze.data.token_store import TokenStore


def store_of(lengths: np.ndarray) -> TokenStore:
    start = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(start[-1], dtype=np.int32)
    return TokenStore(
        tokens, np.zeros(start[-1], np.int8), np.zeros(start[-1], np.int16), start, np.zeros(len(lengths))
    )


def random_lengths(count: int, seed: int = 0, longest: int = 128) -> np.ndarray:
    """Lengths like those of sentence pairs: a log-normal, cut at the longest."""
    return np.clip(np.random.default_rng(seed).lognormal(3.6, 0.5, count), 5, longest).astype(np.int64)


def check(batch: batches.Batch, store: TokenStore) -> list[int]:
    """Every example of a batch lies whole, in order, in one row, under one segment -> the examples."""
    rows, width = batch.index.shape
    assert batch.segment.shape == (rows, width)
    assert ((batch.index < 0) == (batch.segment < 0)).all()
    found = []
    for row in range(rows):
        for segment, example in enumerate(batch.example[row]):
            slots = np.flatnonzero(batch.segment[row] == segment)
            if example < 0:
                assert not slots.size
                continue
            expected = np.arange(store.start[example], store.start[example + 1])
            np.testing.assert_array_equal(batch.index[row, slots], expected)
            assert slots[0] == batch.first[row, segment]
            assert (np.diff(slots) == 1).all()
            found.append(int(example))
    assert (batch.index >= 0).sum() == sum(store.lengths[e] for e in found)  # no slot besides
    return found


@pytest.mark.parametrize("row_multiple", [1, 8])
@pytest.mark.parametrize("batch_size", [1, 16, 33])
def test_plan(batch_size: int, row_multiple: int) -> None:
    store = store_of(random_lengths(205))
    plan = BatchPlan.make(store, batch_size, seed=3, epochs=2, row_multiple=row_multiple)
    everything = list(plan)
    assert len(everything) == 2 * -(-205 // batch_size)
    assert len({(batch.index.shape, batch.first.shape) for batch in everything}) <= len(plan.shapes) <= 4
    sizes = []
    for epoch in range(2):
        seen: list[int] = []
        for batch in everything[epoch * len(everything) // 2 : (epoch + 1) * len(everything) // 2]:
            examples = check(batch, store)
            assert len(batch.index) % row_multiple == 0
            sizes.append(len(examples))
            seen += examples
        assert sorted(seen) == list(range(205))  # every example once, the partial batch included
    assert sizes.count(batch_size) >= len(sizes) - 2
    again = list(BatchPlan.make(store, batch_size, seed=3, epochs=2, row_multiple=row_multiple))
    for one, other in zip(everything, again, strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_order_depends_on_seed_and_epoch_only() -> None:
    orders = [shuffled_batches(50, 8, seed, epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0))]
    assert (orders[0] == orders[3]).all()
    assert not (orders[0] == orders[1]).all()
    assert not (orders[0] == orders[2]).all()
    assert sorted(orders[0].ravel()) == sorted([*range(50), *[-1] * 6])


def test_shuffling_is_plain() -> None:
    """No bucketing: the mean length of a batch varies as that of a random sample does."""
    lengths = random_lengths(4000)
    means = lengths[shuffled_batches(4000, 16, 0, 0)].mean(axis=1)
    assert means.std() == pytest.approx(lengths.std() / 4, rel=0.15)


@pytest.mark.parametrize(
    ("lengths", "width", "rows"),
    [
        ([5, 5], 10, [0, 0]),
        ([6, 5, 4], 10, [0, 1, 0]),
        ([3, 7, 6, 4], 10, [0, 0, 1, 1]),
        ([10, 0, 1], 10, [0, -1, 1]),
        ([11, 2], 10, [batches.IMPOSSIBLE, None]),
    ],
)
def test_best_fit(lengths: list[int], width: int, rows: list[int | None]) -> None:
    found = best_fit(np.array([lengths]), width)[0].tolist()
    assert [f for f, r in zip(found, rows, strict=True) if r is not None] == [r for r in rows if r is not None]


def test_best_fit_of_many_batches_is_that_of_each() -> None:
    lengths = random_lengths(16 * 50).reshape(50, 16)
    together = best_fit(lengths, 144)
    for number, row in enumerate(lengths):
        np.testing.assert_array_equal(best_fit(row[None], 144)[0], together[number])
        assert np.bincount(together[number], weights=row).max() <= 144


def test_shapes_hold_every_batch_even_those_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PLAN_SAMPLE", 4)
    lengths = random_lengths(16 * 300).reshape(300, 16)
    lengths[7] = 128  # one batch of the longest examples only
    shapes = choose_shapes(lengths)
    store = store_of(lengths.ravel())
    for number in range(300):
        check(pack(store, np.arange(16 * number, 16 * number + 16), shapes), store)


@pytest.mark.parametrize("lengths", [[[1]], [[128] * 16], [[5, 0, 0, 0]], [[512, 3]]])
def test_shapes_of_odd_batches(lengths: list[list[int]]) -> None:
    array = np.array(lengths)
    for shape in choose_shapes(array, row_multiple=8):
        assert shape.rows % 8 == 0
    assert len(choose_shapes(array, limit=1)) == 1


def test_most_of_what_is_computed_is_real() -> None:
    store = store_of(random_lengths(3000))
    made = list(BatchPlan.make(store, 16, seed=0, epochs=1))
    assert sum((b.index >= 0).sum() for b in made) / sum(b.index.size for b in made) > 0.88


def test_evaluation_covers_every_example_once() -> None:
    store = store_of(random_lengths(1001))
    made = list(evaluation_batches(store, 64))
    assert sorted(example for batch in made for example in check(batch, store)) == list(range(1001))
    assert len({batch.index.shape for batch in made}) <= 2
    assert sum((b.index >= 0).sum() for b in made) / sum(b.index.size for b in made) > 0.93


def test_no_shape_holds_it() -> None:
    store = store_of(np.array([30, 30]))
    with pytest.raises(ValueError, match="no shape"):
        pack(store, np.array([0, 1]), (Shape(1, 32, 2),))
