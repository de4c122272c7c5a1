"""Which examples form a batch: shuffled for training, dealt by length for a pass; every batch of a run."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import numpy as np

from jaxfreeze.data.batch import Batch, Shape
from jaxfreeze.data.packing import first_tokens_shape, lay_first_tokens, pack
from jaxfreeze.data.shapes import PLAN_SAMPLE, choose_shapes, surely_holding, with_room
from jaxfreeze.data.token_store import TokenStore

PLAN_DRAW = 8 * PLAN_SAMPLE  # examples in the batches that the chosen shapes must hold
PLAN_BATCHES = 4096  # of these batches, at most
NO_RUN = 2**63 - 1  # the seed of those batches: any that no run has
CHUNK = 1024  # examples, neighbours in the store, that a pass without training takes before the next ones


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


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Every batch of a run: a pure function of (seed, epoch, step), in a few shapes fixed beforehand."""

    store: TokenStore
    batch_size: int
    seeds: tuple[int, ...]  # of the run, or of each of the runs side by side
    epochs: int
    shapes: tuple[Shape, ...]
    parts: int  # M
    first_tokens: bool = False  # whether only the head is left, which reads each example's first token
    row_multiple: int = 1

    @classmethod
    def make(
        cls,
        store: TokenStore,
        batch_size: int,
        seeds: tuple[int, ...],
        epochs: int,
        row_multiple: int = 1,
        limit: int = 4,
        parts: int = 1,
        first_tokens: bool = False,
        any_seed: bool = False,
    ) -> "BatchPlan":
        """Choose at most `limit` shapes that hold every batch of the run, or every part of one.

        row_multiple: devices that share the rows. parts: M, the parts of a batch that are computed in turn.

        The shapes are chosen from batches that do not depend on the seed, so runs that differ only in their seed share
        one compiled program. If a seed produces a larger batch, the last shape is enlarged; any_seed: one more shape
        holds any batch, and the shapes depend on neither seeds nor epochs.
        """
        size = -(-batch_size // parts)
        if first_tokens:
            shapes: tuple[Shape, ...] = (first_tokens_shape(size, row_multiple),)
            return cls(store, batch_size, seeds, epochs, shapes, parts, first_tokens, row_multiple)
        shapes = _foreseen_shapes(store.lengths.astype(np.int32).tobytes(), batch_size, row_multiple, limit, parts)
        if any_seed:
            shapes = (*shapes, surely_holding(store.lengths, size, row_multiple))
        else:
            shapes = with_room(shapes, _lengths_of(store.lengths, batch_size, seeds, epochs, parts), row_multiple)
        return cls(store, batch_size, seeds, epochs, shapes, parts)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch, the last, partial batch included."""
        return steps_per_epoch(self.store.num_examples, self.batch_size)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches in order, from that of step `start` on; leaves [M, R, ...], of several runs [S, M, R, ...]."""
        sizes = (self.store.num_examples, self.batch_size)
        first_epoch, first = divmod(start, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            orders = [shuffled_batches(*sizes, seed, epoch) for seed in self.seeds]
            order = orders[0] if len(orders) == 1 else np.stack(orders, axis=1)  # [steps, B] or [steps, S, B]
            for examples in order[first:]:
                yield self._lay(_in_parts(examples, self.parts))
            first = 0

    def _lay(self, examples: np.ndarray) -> Batch:
        if self.first_tokens:
            return lay_first_tokens(self.store, examples, self.row_multiple)
        return pack(self.store, examples, self.shapes)


@functools.lru_cache(maxsize=8)  # for the runs of a sweep
def _foreseen_shapes(
    int32_lengths: bytes, batch_size: int, row_multiple: int, limit: int, parts: int
) -> tuple[Shape, ...]:
    """The shapes chosen from batches of a seed that no run has."""
    lengths = np.frombuffer(int32_lengths, np.int32).astype(np.int64)
    count = min(PLAN_BATCHES, max(1, PLAN_DRAW // batch_size))
    drawn = _lengths_of(lengths, batch_size, (NO_RUN,), -(-count * batch_size // len(lengths)), parts)
    return choose_shapes(drawn[:count], row_multiple, limit)


def _lengths_of(lengths: np.ndarray, batch_size: int, seeds: Iterable[int], epochs: int, parts: int) -> np.ndarray:
    """Lengths of examples [E] -> those of every part of every batch: [number of parts, B / M], 0 where none is."""
    sizes = (len(lengths), batch_size)
    orders = (shuffled_batches(*sizes, seed, epoch) for seed in seeds for epoch in range(epochs))
    found = np.concatenate([_lengths(lengths, _in_parts(order, parts)) for order in orders])
    found = found.reshape(-1, found.shape[-1])
    return found[found.any(axis=1)]


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Optimizer steps in one epoch, the last, partial batch included."""
    return -(-num_examples // batch_size)


def _in_parts(examples: np.ndarray, parts: int) -> np.ndarray:
    """Examples [..., B] -> [..., M, B / M], filled up with -1."""
    *leading, size = examples.shape
    padded = np.full((*leading, parts * -(-size // parts)), -1, examples.dtype)
    padded[..., :size] = examples
    return padded.reshape(*leading, parts, -1)


def evaluation_batches(store: TokenStore, batch_size: int, row_multiple: int = 1) -> Iterator[Batch]:
    """Every example once, in the shapes of `evaluation_shapes`; one chunk of the store after another."""
    batches, shapes = _evaluation_plan(store, batch_size, row_multiple)
    for examples in batches:
        yield pack(store, examples, shapes)


def evaluation_shapes(store: TokenStore, batch_size: int, row_multiple: int = 1) -> tuple[Shape, ...]:
    """The shapes, two at most, that `evaluation_batches` has."""
    return _evaluation_plan(store, batch_size, row_multiple)[1]


@functools.lru_cache(maxsize=8)
def _evaluation_plan(store: TokenStore, batch_size: int, row_multiple: int) -> tuple[np.ndarray, tuple[Shape, ...]]:
    """The examples of each batch [steps, B], and the shapes that hold them."""
    batches = dealt_batches(store.lengths, batch_size)
    return batches, choose_shapes(_lengths(store.lengths, batches), row_multiple, limit=2)


def first_token_batches(store: TokenStore, row_multiple: int = 1) -> Iterator[Batch]:
    """Every example once, for the head alone: CHUNK first tokens at a time, all in one shape."""
    for examples in _rows_of(np.arange(store.num_examples), min(CHUNK, store.num_examples)):
        yield lay_first_tokens(store, examples, row_multiple)


def _lengths(lengths: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Lengths in tokens [E] -> those of examples [M, B], 0 where there is none."""
    return np.where(examples >= 0, lengths[examples], 0)
