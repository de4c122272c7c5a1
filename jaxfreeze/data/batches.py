"""Batches as index matrices into the token store: which examples (shuffling), in which rows (packing and shapes)."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxfreeze.arrays import Array
from jaxfreeze.data.token_store import TokenStore

IMPOSSIBLE = np.iinfo(np.int32).max  # rows needed where an example is longer than a row
WIDTHS = (*range(16, 64, 8), *range(64, 512, 16))  # row widths tried, in slots
ATTENTION_COST = 1 / 2304  # attention's share of a slot's cost per slot of width: 4 W D against 24 D^2 FLOPs at D = 384
CHUNK = 1024  # examples dealt out together in a pass without training
PLAN_SAMPLE = 1024  # batches looked at when the shapes are chosen


class Batch(NamedTuple):
    """Packed examples. R rows of W slots; a row holds up to S examples. Empty places are -1 (0 in `first`)."""

    index: Array  # int32 [R, W] number of the slot's token in the store
    segment: Array  # int32 [R, W] which of its row's examples the slot belongs to
    first: Array  # int32 [R, S] slot of each example's first token
    example: Array  # int32 [R, S] number of the example in the store
    hidden: Array | None = None  # the state at the cut, if the host read it: [R, W, D], or [R, S, D] below the head


@dataclasses.dataclass(frozen=True, order=True)
class Shape:
    """The shape of a batch, and so of one compiled step."""

    rows: int
    width: int
    segments: int

    @property
    def slots(self) -> int:
        """Tokens computed."""
        return self.rows * self.width


def shuffled_batches(num_examples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The batches of one epoch, in plain shuffled order: int32 [steps, B], the last row filled up with -1."""
    order = np.random.Generator(np.random.Philox(key=(seed, epoch))).permutation(num_examples)
    return _rows_of(order, batch_size)


def dealt_batches(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """Batches for a pass without training: int32 [steps, B], examples dealt like cards from longest to shortest.

    So all batches have nearly the same lengths in them, and one shape fits them all tightly.
    """
    order = _rows_of(np.argsort(-lengths, kind="stable"), batch_size)
    return order.reshape(batch_size, -1).T


def _rows_of(order: np.ndarray, batch_size: int) -> np.ndarray:
    padded = np.full(-(-len(order) // batch_size) * batch_size, -1, np.int32)
    padded[: len(order)] = order
    return padded.reshape(-1, batch_size)


def best_fit(lengths: np.ndarray, width: int) -> np.ndarray:
    """Best-fit decreasing packing of many batches at once: lengths [M, B] (0: no example) -> their rows [M, B].

    Examples are placed longest first, each in the fullest row that has room (Johnson 1973). -1 where there is no
    example; the row is IMPOSSIBLE where an example is longer than `width`.
    """
    order = np.argsort(-lengths, axis=1, kind="stable")
    ordered = np.take_along_axis(lengths, order, axis=1)
    batches = np.arange(len(lengths))
    room = np.full(lengths.shape, width)  # never more rows than examples
    rows = np.full(lengths.shape, -1, np.int64)
    for place in range(lengths.shape[1]):
        length = ordered[:, place, None]  # [M, 1]
        row = np.where(room >= length, room, width + 1).argmin(axis=1)
        room[batches, row] -= length[:, 0]
        rows[batches, order[:, place]] = np.where(length[:, 0] > 0, row, -1)
    rows[lengths > width] = IMPOSSIBLE
    return rows


def _needs(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and examples in the fullest row, that batches [M, B] need at this width: two int arrays [M]."""
    rows = best_fit(lengths, width)
    possible = rows.max(axis=1) < IMPOSSIBLE
    safe = np.where(possible[:, None], rows, -1)
    counts = np.stack([(safe == row).sum(axis=1) for row in range(max(1, safe.max() + 1))])
    return np.where(possible, safe.max(axis=1) + 1, IMPOSSIBLE), counts.max(axis=0)


def choose_shapes(lengths: np.ndarray, row_multiple: int = 1, limit: int = 4) -> tuple[Shape, ...]:
    """At most `limit` shapes that hold every batch of lengths [M, B] at little cost, cheapest first.

    row_multiple: number of devices that share the rows. Candidates are the shapes that some batch of an evenly spread
    sample needs exactly; the set starts with the cheapest one that holds every batch and grows by the one that saves
    most (a greedy solution of a facility location problem), then each is exchanged once for a better one.
    """
    lengths = lengths[np.argsort(lengths.sum(axis=1), kind="stable")]  # the fullest batches come last
    sample = np.unique(np.linspace(0, len(lengths) - 1, min(PLAN_SAMPLE, len(lengths))).astype(int))
    longest = int(lengths.max())
    widths = [width for width in WIDTHS if width <= 2 * longest] or [WIDTHS[0]]
    widths.append(-(-longest // 8) * 8)
    candidates: list[Shape] = []
    needs: list[np.ndarray] = []  # per candidate, rows needed by the sample [M']
    for width in sorted(set(widths)):
        rows, segments = _needs(lengths[sample], width)
        rows = np.where(rows < IMPOSSIBLE, -(-rows // row_multiple) * row_multiple, IMPOSSIBLE)
        for count in np.unique(rows[rows < IMPOSSIBLE]):
            fits = rows <= count
            candidates.append(Shape(int(count), width, int(segments[fits].max())))
            needs.append(fits)
    cost = np.array([shape.slots * (1 + shape.width * ATTENTION_COST) for shape in candidates])
    table = np.where(np.array(needs), cost[:, None], np.inf)  # [candidates, M']
    chosen = [int(np.where(np.isfinite(table).all(axis=1), cost, np.inf).argmin())]
    while len(chosen) < limit:
        chosen.append(int(np.minimum(table, table[chosen].min(axis=0)).sum(axis=1).argmin()))
    for place in range(limit):
        others = chosen[:place] + chosen[place + 1 :]
        chosen[place] = int(np.minimum(table, table[others].min(axis=0, initial=np.inf)).sum(axis=1).argmin())
    return _verified(lengths, {candidates[c] for c in chosen}, row_multiple)


def _verified(lengths: np.ndarray, shapes: set[Shape], row_multiple: int) -> tuple[Shape, ...]:
    """Widen the roomiest shape until every batch, sampled or not, fits one of the shapes."""
    ordered = sorted(shapes, key=lambda shape: shape.slots)
    unheld = np.ones(len(lengths), bool)
    for place, shape in enumerate(ordered):
        if not unheld.any():
            break
        rows, segments = _needs(lengths[unheld], shape.width)
        if place == len(ordered) - 1:
            if rows.max() == IMPOSSIBLE:
                shape = dataclasses.replace(shape, width=-(-int(lengths.max()) // 8) * 8)
                rows, segments = _needs(lengths[unheld], shape.width)
            count = -(-int(max(rows.max(), shape.rows)) // row_multiple) * row_multiple
            ordered[-1] = Shape(count, shape.width, int(max(segments.max(), shape.segments)))
        unheld[unheld] = (rows > shape.rows) | (segments > shape.segments)
    return tuple(ordered)


def pack(store: TokenStore, examples: np.ndarray, shapes: tuple[Shape, ...]) -> Batch:
    """Pack examples [B] (-1: none) into the first of `shapes` that holds them; a pure function of both."""
    lengths = np.where(examples >= 0, store.lengths[examples], 0)
    for shape in shapes:
        row_of = best_fit(lengths[None], shape.width)[0]
        if row_of.max() < shape.rows and np.bincount(row_of[row_of >= 0]).max() <= shape.segments:
            return fill(store, examples, row_of, shape)
    raise ValueError(f"no shape of {shapes} holds examples of lengths {lengths.tolist()}")


def fill(store: TokenStore, examples: np.ndarray, row_of: np.ndarray, shape: Shape) -> Batch:
    """Lay examples [B] into the rows given by row_of [B], in order, without gaps between them."""
    index = np.full((shape.rows, shape.width), -1, np.int32)
    segment = np.full((shape.rows, shape.width), -1, np.int32)
    first = np.zeros((shape.rows, shape.segments), np.int32)
    example = np.full((shape.rows, shape.segments), -1, np.int32)
    used = np.zeros(shape.rows, int)
    count = np.zeros(shape.rows, int)
    for number, row in zip(examples, row_of, strict=True):
        if number < 0:
            continue
        start, stop = store.start[number], store.start[number + 1]
        slots = slice(used[row], used[row] + stop - start)
        index[row, slots] = np.arange(start, stop)
        segment[row, slots] = count[row]
        first[row, count[row]] = used[row]
        example[row, count[row]] = number
        used[row] = slots.stop
        count[row] += 1
    return Batch(index, segment, first, example)


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Every batch of a run: a pure function of (seed, epoch, step), in a few shapes fixed beforehand."""

    store: TokenStore
    batch_size: int
    seed: int
    epochs: int
    shapes: tuple[Shape, ...]

    @classmethod
    def make(cls, store: TokenStore, batch_size: int, seed: int, epochs: int, row_multiple: int = 1) -> "BatchPlan":
        """Look at every batch of the run and choose the shapes. row_multiple: devices that share the rows."""
        lengths = np.concatenate(
            [_lengths(store, shuffled_batches(store.num_examples, batch_size, seed, epoch)) for epoch in range(epochs)]
        )
        return cls(store, batch_size, seed, epochs, choose_shapes(lengths, row_multiple))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch, the last, partial batch included."""
        return -(-self.store.num_examples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for epoch in range(self.epochs):
            for examples in shuffled_batches(self.store.num_examples, self.batch_size, self.seed, epoch):
                yield pack(self.store, examples, self.shapes)


def evaluation_batches(store: TokenStore, batch_size: int, row_multiple: int = 1) -> Iterator[Batch]:
    """Every example once, in at most two shapes."""
    chunks = [store.lengths[begin : begin + CHUNK] for begin in range(0, store.num_examples, CHUNK)]
    dealt = [dealt_batches(lengths, batch_size) for lengths in chunks]
    batches = np.concatenate([np.where(d >= 0, d + i * CHUNK, -1) for i, d in enumerate(dealt)])
    shapes = choose_shapes(_lengths(store, batches), row_multiple, limit=2)
    for examples in batches:
        yield pack(store, examples, shapes)


def _lengths(store: TokenStore, examples: np.ndarray) -> np.ndarray:
    """Lengths in tokens of examples [M, B], 0 where there is none."""
    return np.where(examples >= 0, store.lengths[examples], 0)
