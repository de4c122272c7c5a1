"""Batches: every example once, exactly B at a time, packed without overlap, in few shapes, the same every time."""

import dataclasses
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxfreeze.data import batches
from jaxfreeze.data.batch import Batch, Shape
from jaxfreeze.data.batches import CHUNK, BatchPlan, evaluation_batches, first_token_batches, shuffled_batches
from jaxfreeze.data.packing import full_rows, pack, rows_within
from jaxfreeze.data.readers import read_split
from jaxfreeze.data.shapes import best_set, candidates, choose_shapes
from jaxfreeze.data.tasks import get_task
from jaxfreeze.data.token_store import TextEncoder, TokenStore, tokenize
from jaxfreeze.model import hub

GLUE_DIR = os.environ.get("JAXFREEZE_GLUE_DIR")
MINILM = importlib.util.find_spec(hub.DEMO_PACKAGE)
needs_glue = pytest.mark.skipif(not GLUE_DIR, reason="JAXFREEZE_GLUE_DIR is not set")
needs_minilm = pytest.mark.skipif(MINILM is None, reason="the packaged MiniLM is not installed")
MOST_EXAMPLES = 20_000  # of SST-2, MNLI and QNLI; more take long to tokenise and say no more


def store_of(lengths: np.ndarray) -> TokenStore:
    start = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(start[-1], dtype=np.int32)
    return TokenStore(
        tokens, np.zeros(start[-1], np.int8), np.zeros(start[-1], np.int16), start, np.zeros(len(lengths))
    )


def random_lengths(count: int, seed: int = 0, longest: int = 128) -> np.ndarray:
    """Lengths like those of sentence pairs: a log-normal, cut at the longest."""
    return np.clip(np.random.default_rng(seed).lognormal(3.6, 0.5, count), 5, longest).astype(np.int64)


def batches_of(plan: BatchPlan) -> list[Batch]:
    """Every batch of one run, without the axis of its one part."""
    return [jax.tree.map(lambda leaf: leaf[0], batch) for batch in plan.batches()]


def efficiency(made: Iterable[Batch]) -> float:
    """Share of real tokens among the computed slots."""
    slots, tokens = zip(*((batch.index.size, (batch.index >= 0).sum()) for batch in made), strict=True)
    return sum(tokens) / sum(slots)


def check(batch: Batch, store: TokenStore) -> list[int]:
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
    plan = BatchPlan.make(store, batch_size, seeds=(3,), epochs=2, row_multiple=row_multiple)
    everything = batches_of(plan)
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
    again = batches_of(BatchPlan.make(store, batch_size, seeds=(3,), epochs=2, row_multiple=row_multiple))
    for one, other in zip(everything, again, strict=True):
        assert jax.tree.structure(one) == jax.tree.structure(other)
        assert all((a == b).all() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
        assert one.hidden is other.hidden is None


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
        ([5, 5], 10, [[0, 1]]),
        ([6, 5, 4], 10, [[0, 2], [1]]),
        ([3, 7, 6, 4], 10, [[1, 0], [2, 3]]),
        ([10, 0, 1], 10, [[0], [2]]),
        ([1, 1, 1], 10, [[0, 1, 2]]),
        ([5, 4, 4, 3, 2, 2], 10, [[0, 3, 4], [1, 2, 5]]),  # the next longest first would need three rows
        ([0, 0], 10, []),
    ],
)
def test_full_rows(lengths: list[int], width: int, rows: list[list[int]]) -> None:
    assert [sorted(row) for row in full_rows(lengths, width)] == [sorted(row) for row in rows]


def test_full_rows_of_random_lengths() -> None:
    for number, lengths in enumerate(random_lengths(16 * 200).reshape(200, 16).tolist()):
        width = (128, 136, 200)[number % 3]
        rows = full_rows(lengths, width)
        assert sorted(place for row in rows for place in row) == list(range(16))
        used = [sum(lengths[place] for place in row) for row in rows]
        assert max(used) <= width
        for row, tokens in zip(rows, used, strict=True):  # what comes later would not have filled the row better
            assert all(lengths[place] > width - tokens for later in rows[rows.index(row) + 1 :] for place in later)


def test_shapes_hold_every_batch_even_those_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PLAN_SAMPLE", 4 * 16)
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


def test_shapes_that_hold_every_batch_only_together() -> None:
    lengths = np.array([[48] + [0] * 15, [8] * 16])
    assert choose_shapes(lengths) == (Shape(1, 48, 1), Shape(16, 8, 1))
    (shape,) = choose_shapes(lengths, limit=1)
    assert all(rows_within(batch, shape) for batch in lengths.tolist())


def test_shapes_are_the_best_of_all_sets() -> None:
    """Against every set of up to three of the candidates, one by one."""
    sample = random_lengths(16 * 40).reshape(40, 16).tolist()
    shapes, table = candidates(sample, 1)
    for shape, costs in zip(shapes, table, strict=True):
        fits = [rows_within(batch, shape) is not None for batch in sample]
        assert costs.tolist() == [shape.cost if fit else np.inf for fit in fits]
    least = min(
        table[list({one, other, len(shapes) - 1})].min(axis=0).sum()
        for one in range(len(shapes))
        for other in range(len(shapes))
    )
    assert table[best_set(table, 3)].min(axis=0).sum() == pytest.approx(least)


def test_most_of_what_is_computed_is_real() -> None:
    """Rows filled by best-fit decreasing, and shapes found greedily, come to 0.899."""
    store = store_of(random_lengths(3000))
    assert efficiency(batches_of(BatchPlan.make(store, 16, seeds=(0,), epochs=1))) > 0.92


@pytest.mark.parametrize("count", [1001, 2 * CHUNK, 2 * CHUNK + 70])
def test_evaluation_covers_every_example_once_chunk_by_chunk(count: int) -> None:
    store = store_of(random_lengths(count))
    made = list(evaluation_batches(store, 64))
    found = [check(batch, store) for batch in made]
    assert sorted(example for examples in found for example in examples) == list(range(count))
    chunks = [{example // CHUNK for example in examples} for examples in found]
    assert all(len(chunk) == 1 for chunk in chunks)
    assert [*map(min, chunks)] == sorted(map(min, chunks))
    assert len({batch.index.shape for batch in made}) <= 2
    assert efficiency(made) > 0.95


def test_evaluation_takes_no_more_batches_than_the_chunks_need() -> None:
    store = store_of(random_lengths(CHUNK + 65))
    assert len(list(evaluation_batches(store, 64))) == CHUNK // 64 + 2


@pytest.mark.parametrize("row_multiple", [1, 4])
def test_runs_that_differ_in_their_seed_share_their_shapes(row_multiple: int) -> None:
    """So the second of them finds its steps compiled. A batch larger than any foreseen may enlarge the last shape."""
    store = store_of(random_lengths(1500))
    plans = [BatchPlan.make(store, 16, (seed,), epochs, row_multiple).shapes for seed in range(6) for epochs in (1, 3)]
    assert len({shapes[:-1] for shapes in plans}) == 1
    assert max(map(plans.count, plans)) >= 10


def test_a_batch_larger_than_any_foreseen_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PLAN_DRAW", 1)
    lengths = np.full(2000, 10)
    lengths[:24] = 128
    grown = [BatchPlan.make(store_of(lengths), 8, (seed,), epochs=1) for seed in range(20)]
    assert all(batches_of(plan) for plan in grown)  # none raises
    assert len({plan.shapes[-1] for plan in grown}) > 1


@pytest.mark.parametrize("row_multiple", [1, 4])
@pytest.mark.parametrize("parts", [1, 3])
def test_one_more_shape_holds_the_batches_of_any_seed(
    row_multiple: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the shapes depend on neither seeds nor epochs, and all runs of a search have one program."""
    monkeypatch.setattr(batches, "PLAN_DRAW", 1)  # the shapes are chosen from a single batch
    lengths = random_lengths(300)
    lengths[:20] = 128
    store = store_of(lengths)
    plans = [
        BatchPlan.make(store, 16, (seed,), epochs, row_multiple, 1, parts, any_seed=True)
        for seed in range(4)
        for epochs in (1, 2)
    ]
    assert len({plan.shapes for plan in plans}) == 1
    taken = {batch.shape for plan in plans for batch in plan.batches()}  # none raises
    assert taken == {*plans[0].shapes}
    longest = np.argsort(-lengths)[: -(-16 // parts)]
    assert pack(store, longest, plans[0].shapes).shape == plans[0].shapes[-1]


@pytest.mark.parametrize("row_multiple", [1, 4])
@pytest.mark.parametrize("parts", [1, 3])
def test_first_tokens_have_one_shape(row_multiple: int, parts: int) -> None:
    """Where the head alone is left: each example once, by its first token, in the order of the packed batches."""
    store = store_of(random_lengths(101))
    plan = BatchPlan.make(store, 16, (3,), 2, row_multiple, parts=parts, first_tokens=True)
    made, packed = (list(one.batches()) for one in (plan, BatchPlan.make(store, 16, (3,), 2, row_multiple)))
    assert len(made) == len(packed) == 14
    for batch, like in zip(made, packed, strict=True):
        assert batch.shape in plan.shapes
        assert batch.example.shape[0] == parts
        read = np.take_along_axis(batch.index, batch.first, axis=-1)
        there = batch.example >= 0
        np.testing.assert_array_equal(read[there], store.start[batch.example[there]])
        assert (read[~there] == -1).all()
        assert sorted(batch.example[there]) == sorted(like.example[like.example >= 0])
    assert len(plan.shapes) == 1
    every = np.concatenate([batch.example.ravel() for batch in first_token_batches(store, row_multiple)])
    np.testing.assert_array_equal(every[every >= 0], np.arange(101))


def test_no_shape_holds_it() -> None:
    store = store_of(np.array([30, 30]))
    with pytest.raises(ValueError, match="no shape"):
        pack(store, np.array([0, 1]), (Shape(1, 32, 2),))


# Real lengths: GLUE as MiniLM's tokenizer splits it, at most 128 tokens.


def glue_store(name: str) -> TokenStore:
    folder = hub.model_folder("demo")
    config = hub.read_config(folder)
    split = read_split(get_task(name), "train", Path(str(GLUE_DIR)))
    split = dataclasses.replace(split, texts=tuple(t[:MOST_EXAMPLES] for t in split.texts), labels=None)
    sizes = (config.vocab_size, config.type_vocab_size, config.first_position)
    return tokenize(split, TextEncoder(folder, 128, *sizes, config.model_type))


@needs_glue
@needs_minilm
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("rte", 0.90), ("mrpc", 0.90), ("stsb", 0.90), ("mnli", 0.90), ("qnli", 0.90), ("cola", 0.85), ("sst2", 0.85),
    ],
)  # fmt: skip
def test_most_of_what_is_computed_is_real_on_glue(name: str, least: float) -> None:
    """Batches of 16 in plain shuffled order, three epochs, at most four shapes."""
    store = glue_store(name)
    for seed in range(2):
        plan = BatchPlan.make(store, 16, (seed,), epochs=3)
        assert len(plan.shapes) <= 4
        assert efficiency(batches_of(plan)) >= least


@needs_glue
@needs_minilm
@pytest.mark.parametrize("name", ["rte", "mrpc", "mnli"])
def test_most_of_what_evaluation_computes_is_real_on_glue(name: str) -> None:
    made = list(evaluation_batches(glue_store(name), 64))
    assert len({batch.index.shape for batch in made}) <= 2
    assert efficiency(made) >= 0.93
