"""Batches as index matrices into the token store: which examples (shuffling), in which rows (packing and shapes)."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.arrays import Array
from jaxfreeze.data.token_store import TokenStore

WIDTHS = (*range(8, 256, 8), *range(256, 769, 32))  # row widths tried, in slots
ATTENTION_COST = 1 / 3072  # attention's share of a slot's cost per slot of width: 4 W D against 24 D^2 FLOPs at D = 512
PLAN_SAMPLE = 8192  # examples in the batches from which the shapes are chosen
PLAN_DRAW = 8 * PLAN_SAMPLE  # examples in the batches that the chosen shapes must hold
PLAN_BATCHES = 4096  # of these batches, at most
NO_RUN = 2**63 - 1  # the seed of those batches: any that no run has
CHUNK = 1024  # examples, neighbours in the store, that a pass without training takes before the next ones


class Batch(NamedTuple):
    """Packed examples. R rows of W slots; a row holds up to S examples. Empty places are -1 (0 in `first`).

    For runs trained side by side every leaf begins with one axis more, over the runs; then comes one over the parts of
    a batch, where it is worked through in parts.
    """

    index: Array  # int32 [R, W] number of the slot's token in the store
    segment: Array  # int32 [R, W] which of its row's examples the slot belongs to
    first: Array  # int32 [R, S] slot of each example's first token
    example: Array  # int32 [R, S] number of the example in the store
    hidden: Array | None = None  # the state at the cut, if the host read it: [R, W, D], or [R, S, D] below the head


class Tokens(NamedTuple):
    """A token store's columns as the embeddings read them: [T] each, or gathered for a batch, [R, W]."""

    token_id: Array
    token_type: Array
    position: Array

    def of(self, batch: Batch) -> "Tokens":
        """[T] -> [R, W]: one gather (an empty slot, -1, reads some token that nothing looks at)."""
        return Tokens(*(column[batch.index].astype(np.int32) for column in self))


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

    @property
    def cost(self) -> float:
        """What a step costs, in slots without attention."""
        return self.slots * (1 + self.width * ATTENTION_COST)


def shuffled_batches(num_examples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The batches of one epoch, in plain shuffled order: int32 [steps, B], the last row filled up with -1."""
    order = np.random.Generator(np.random.Philox(key=(seed, epoch))).permutation(num_examples)
    return _rows_of(order, batch_size)


def dealt_batches(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """Batches for a pass without training, chunk by chunk: int32 [steps, B], filled up with -1.

    Within a chunk of the store, examples are dealt like cards from longest to shortest, so its batches have nearly the
    same lengths in them, and one or two shapes fit them all tightly.
    """
    batches = []
    for begin in range(0, len(lengths), CHUNK):
        order = np.argsort(-lengths[begin : begin + CHUNK], kind="stable") + begin
        batches.append(_rows_of(order, batch_size).reshape(batch_size, -1).T)
    return np.concatenate(batches)


def _rows_of(order: np.ndarray, batch_size: int) -> np.ndarray:
    padded = np.full(-(-len(order) // batch_size) * batch_size, -1, np.int32)
    padded[: len(order)] = order
    return padded.reshape(-1, batch_size)


def full_rows(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Pack examples of these lengths (0: none), none over `width`, into rows: the places in `lengths` of each row's.

    A row takes the longest example left and, of the others, those that fill it best (the MBS' heuristic of Fleszar
    and Hindi 2002). Which totals can be had is a subset sum problem; bit n of an integer stands for a total of n.
    """
    left = sorted(filter(lengths.__getitem__, range(len(lengths))), key=lengths.__getitem__, reverse=True)
    rows = []
    while left:
        row = [left.pop(0)]
        room = width - lengths[row[0]]
        if left and lengths[left[-1]] <= room:
            full = 1 << room
            totals = 1
            reached = [totals]  # the totals, up to `room`, that the first 0, 1, 2 ... of those left can have
            for place in left:
                totals = (totals | totals << lengths[place]) & (2 * full - 1)
                reached.append(totals)
                if totals >= full:
                    break
            total = totals.bit_length() - 1
            for number in range(len(reached) - 2, -1, -1):
                if not reached[number] >> total & 1:  # no such total without this one
                    row.append(left.pop(number))
                    total -= lengths[row[-1]]
        rows.append(row)
    return rows


def rows_within(lengths: Sequence[int], shape: Shape) -> list[list[int]] | None:
    """Rows, as full_rows gives them, if `shape` holds them."""
    if not lengths:
        return []
    if max(lengths) > shape.width or sum(lengths) > shape.slots:
        return None
    rows = full_rows(lengths, shape.width)
    return rows if len(rows) <= shape.rows and max(map(len, rows)) <= shape.segments else None


def _tight(lengths: Sequence[int], width: int, row_multiple: int) -> Shape | None:
    """The smallest shape of this width that holds examples of these lengths; None where one is longer than a row."""
    if max(lengths) > width:
        return None
    rows = full_rows(lengths, width)
    return Shape(_up(len(rows), row_multiple), width, max(map(len, rows)))


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def choose_shapes(lengths: np.ndarray, row_multiple: int = 1, limit: int = 4) -> tuple[Shape, ...]:
    """At most `limit` shapes that hold every batch of lengths [M, B] (0: no example) at least cost, cheapest first.

    row_multiple: number of devices that share the rows. The best set for a sample of the batches is taken, evenly
    spread and with all of the fullest, and its largest shape then enlarged if a batch outside the sample asks for it.
    """
    batches = lengths[np.argsort(lengths.sum(axis=1), kind="stable")].tolist()  # the fullest batches come last
    count = min(len(batches), max(1, PLAN_SAMPLE // lengths.shape[1]))
    spread = np.linspace(len(batches) - 1, 0, count).astype(int)
    fullest = np.setdiff1d(np.arange(len(batches) - count // 4, len(batches)), spread)
    sample = [batches[place] for place in (*spread, *fullest)]
    weight = np.repeat([len(batches) / count, 1], [len(spread), len(fullest)])  # batches that each stands for
    shapes, table = _candidates(sample, row_multiple)
    best = _best_set(table * weight, limit)
    if np.isfinite(table[best[:-1]].min(axis=0, initial=np.inf)).all():  # the others hold all without the largest
        best.pop()
    return with_room(tuple(shapes[place] for place in best), lengths, row_multiple)


def with_room(shapes: tuple[Shape, ...], lengths: np.ndarray, row_multiple: int = 1) -> tuple[Shape, ...]:
    """These shapes, the last one replaced if there are batches of lengths [M, B] that none of them holds.

    Its successor holds these, and what else of the batches only it held.
    """
    *others, largest = shapes
    rest = [batch for batch in lengths.tolist() if not any(rows_within(batch, shape) for shape in others)]
    if all(rows_within(batch, largest) for batch in rest):
        return shapes
    longest = max(map(max, rest))

    def fitted(width: int) -> Shape:
        needs = [need for batch in rest if (need := _tight(batch, width, row_multiple))]
        return Shape(max(need.rows for need in needs), width, max(need.segments for need in needs))

    fitting = (fitted(width) for width in _widths(longest) if width >= longest)
    return (*others, min(fitting, key=lambda shape: (shape.cost, shape)))


def _widths(longest: int) -> set[int]:
    """Widths worth trying for examples of which the longest has so many tokens."""
    longest = _up(longest, 8)
    return {*(width for width in WIDTHS if width <= 2 * longest), longest}


def _candidates(sample: list[list[int]], row_multiple: int) -> tuple[list[Shape], np.ndarray]:
    """The N shapes worth choosing from, cheapest first, and the cost of each batch in each (inf: does not fit) [N, M].

    They are the shapes that some batch of the sample needs exactly. One is left out if a cheaper one holds all that it
    holds; so only the last one holds every batch.
    """
    fits: dict[Shape, np.ndarray] = {}  # [M]
    for width in _widths(max(map(max, sample))):
        tight = [_tight(batch, width, row_multiple) for batch in sample]
        for rows in {shape.rows for shape in tight if shape}:
            held = [shape if shape and shape.rows <= rows else None for shape in tight]
            segments = max(shape.segments for shape in held if shape)
            fits[Shape(rows, width, segments)] = np.array([shape is not None for shape in held])
    kept: list[Shape] = []
    for shape in sorted(fits, key=lambda shape: (shape.cost, shape)):
        if not any((fits[shape] <= fits[other]).all() for other in kept):
            kept.append(shape)
    return kept, np.array([np.where(fits[shape], shape.cost, np.inf) for shape in kept])


def _best_set(table: np.ndarray, limit: int) -> list[int]:
    """At most `limit` rows of costs [N, M], the last one among them, whose elementwise minimum has the least sum."""
    last = len(table) - 1
    if limit == 1:
        return [last]
    sets = []
    for others in itertools.combinations(range(last), max(0, min(limit, len(table)) - 2)):
        sums = np.minimum(table, table[[*others, last]].min(axis=0)).sum(axis=1)  # with each one more
        sets.append((float(sums.min()), sorted({*others, int(sums.argmin()), last})))
    return min(sets)[1]


def pack(store: TokenStore, examples: np.ndarray, shapes: tuple[Shape, ...]) -> Batch:
    """Pack examples [B] (-1: none) into the first of `shapes` that holds them; a pure function of both.

    Examples [..., B], of several runs or parts of a batch, are packed into the first shape that holds every B of them.
    """
    *leading, size = examples.shape
    numbers = [batch[batch >= 0].tolist() for batch in examples.reshape(-1, size)]
    lengths = [store.lengths[batch].tolist() for batch in numbers]
    for shape in shapes:
        packed = [rows_within(batch, shape) for batch in lengths]
        if None not in packed:
            batches = [
                fill(store, [[batch[place] for place in row] for row in rows], shape)
                for batch, rows in zip(numbers, packed, strict=True)
                if rows is not None
            ]
            stacked = map(np.stack, list(zip(*batches, strict=True))[:4])
            return Batch(*(leaf.reshape(*leading, *leaf.shape[1:]) for leaf in stacked))
    raise ValueError(f"no shape of {shapes} holds examples of lengths {lengths}")


def fill(store: TokenStore, rows: Sequence[Sequence[int]], shape: Shape) -> Batch:
    """Lay the examples of each row into it, in order, without gaps between them."""
    index = np.full((shape.rows, shape.width), -1, np.int32)
    segment = np.full((shape.rows, shape.width), -1, np.int32)
    first = np.zeros((shape.rows, shape.segments), np.int32)
    example = np.full((shape.rows, shape.segments), -1, np.int32)
    starts = np.asarray(store.start)  # a plain array, quicker in small pieces than a memory map
    for row, numbers in enumerate(rows):
        used = 0
        for place, number in enumerate(numbers):
            start, stop = int(starts[number]), int(starts[number + 1])
            slots = slice(used, used + stop - start)
            index[row, slots] = np.arange(start, stop)
            segment[row, slots] = place
            first[row, place] = used
            example[row, place] = number
            used = slots.stop
    return Batch(index, segment, first, example)


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Every batch of a run: a pure function of (seed, epoch, step), in a few shapes fixed beforehand."""

    store: TokenStore
    batch_size: int
    seed: int | tuple[int, ...]  # or one for each of the runs trained side by side
    epochs: int
    shapes: tuple[Shape, ...]
    parts: int = 1  # of a batch, packed one by one: leaves of batches begin with this axis, if it is not 1

    @classmethod
    def make(
        cls,
        store: TokenStore,
        batch_size: int,
        seed: int | tuple[int, ...],
        epochs: int,
        row_multiple: int = 1,
        limit: int = 4,
        parts: int = 1,
    ) -> "BatchPlan":
        """Choose at most `limit` shapes that hold every batch of the run, or every part of one.

        row_multiple: devices that share the rows.

        They are chosen from batches that do not depend on the seed, so that runs which differ only in it share one
        compiled program, unless one of them draws a batch that is larger than all of those.
        """

        def lengths_of(seeds: Iterable[int], epochs: int) -> np.ndarray:
            orders = [
                shuffled_batches(store.num_examples, batch_size, s, epoch) for s in seeds for epoch in range(epochs)
            ]
            lengths = np.concatenate([_lengths(store, _in_parts(order, parts)) for order in orders])
            lengths = lengths.reshape(-1, lengths.shape[-1])
            return lengths[lengths.any(axis=1)]

        count = min(PLAN_BATCHES, max(1, PLAN_DRAW // batch_size))
        drawn = lengths_of([NO_RUN], -(-count * batch_size // store.num_examples))[:count]
        own = lengths_of([seed] if isinstance(seed, int) else seed, epochs)
        shapes = with_room(choose_shapes(drawn, row_multiple, limit), own, row_multiple)
        return cls(store, batch_size, seed, epochs, shapes, parts)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch, the last, partial batch included."""
        return -(-self.store.num_examples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches in order, from that of step `start` on."""
        sizes = (self.store.num_examples, self.batch_size)
        first_epoch, first = divmod(start, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            if isinstance(self.seed, int):
                order = shuffled_batches(*sizes, self.seed, epoch)
            else:
                order = np.stack([shuffled_batches(*sizes, seed, epoch) for seed in self.seed], axis=1)  # [M, S, B]
            for examples in order[first:]:
                yield pack(self.store, _in_parts(examples, self.parts), self.shapes)
            first = 0


def _in_parts(examples: np.ndarray, parts: int) -> np.ndarray:
    """Examples [..., B] -> [..., parts, B / parts], filled up with -1; as they are if there is one part."""
    if parts == 1:
        return examples
    *leading, size = examples.shape
    padded = np.full((*leading, parts * -(-size // parts)), -1, examples.dtype)
    padded[..., :size] = examples
    return padded.reshape(*leading, parts, -1)


def evaluation_batches(store: TokenStore, batch_size: int, row_multiple: int = 1) -> Iterator[Batch]:
    """Every example once, in at most two shapes; those of one chunk of the store come before those of the next."""
    batches = dealt_batches(store.lengths, batch_size)
    shapes = choose_shapes(_lengths(store, batches), row_multiple, limit=2)
    for examples in batches:
        yield pack(store, examples, shapes)


def _lengths(store: TokenStore, examples: np.ndarray) -> np.ndarray:
    """Lengths in tokens of examples [M, B], 0 where there is none."""
    return np.where(examples >= 0, store.lengths[examples], 0)
