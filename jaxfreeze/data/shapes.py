"""Shapes: the few (rows, width, segments) that hold every batch of a run at the least cost."""

import itertools
from collections.abc import Sequence

import numpy as np

from jaxfreeze.data.batch import Shape
from jaxfreeze.data.packing import full_rows, rows_within

WIDTHS = (*range(8, 256, 8), *range(256, 769, 32))  # row widths tried, in slots
PLAN_SAMPLE = 8192  # examples in the batches from which the shapes are chosen


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
    shapes, table = candidates(sample, row_multiple)
    best = best_set(table * weight, limit)
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


def surely_holding(lengths: np.ndarray, batch_size: int, row_multiple: int = 1) -> Shape:
    """A shape that holds any batch of examples of lengths [E]: a row for each."""
    width = _up(int(lengths.max()), 8)
    return Shape(_up(batch_size, row_multiple), width, min(batch_size, width // int(lengths.min())))


def _widths(longest: int) -> set[int]:
    """Widths worth trying for examples of which the longest has so many tokens."""
    longest = _up(longest, 8)
    return {*(width for width in WIDTHS if width <= 2 * longest), longest}


def candidates(sample: list[list[int]], row_multiple: int) -> tuple[list[Shape], np.ndarray]:
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


def best_set(table: np.ndarray, limit: int) -> list[int]:
    """At most `limit` rows of costs [N, M], the last one among them, whose elementwise minimum has the least sum."""
    last = len(table) - 1
    if limit == 1:
        return [last]
    sets = []
    for others in itertools.combinations(range(last), max(0, min(limit, len(table)) - 2)):
        sums = np.minimum(table, table[[*others, last]].min(axis=0)).sum(axis=1)  # with each one more
        sets.append((float(sums.min()), sorted({*others, int(sums.argmin()), last})))
    return min(sets)[1]


def _tight(lengths: Sequence[int], width: int, row_multiple: int) -> Shape | None:
    """The smallest shape of this width that holds examples of these lengths; None where one is longer than a row."""
    if max(lengths) > width:
        return None
    rows = full_rows(lengths, width)
    return Shape(_up(len(rows), row_multiple), width, max(map(len, rows)))


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
