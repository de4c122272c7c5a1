"""Which training rows are held out for validation: a pure function of texts, labels, share and seed.

Every group of labels, such as a class, keeps its share on both sides, and rows with identical texts stay on one.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.errors import InputError, shorten
from jaxfreeze.objectives import Strata

SHARE = 0.1
"""The share that is held out by default."""
LARGE = 0.1
"""Identical rows train if they are more than this share of a group's validation rows: no text shall decide a score."""


class _Unit(NamedTuple):
    """Rows with identical texts."""

    rows: list[int]
    groups: Mapping[int, int]
    """How many of the rows are in each group."""


def hold_out(
    texts: Sequence[Sequence[Hashable]], strata: Strata, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that train and those that are held out: two sorted int64 arrays, which have every row once.

    texts: one sequence per column, E each; texts that differ in outer blanks alone are identical. share: of the rows,
    to be held out. Each group's number of validation rows is that share of it to within one row, as far as identical
    texts allow; at least one on each side. The choice is drawn by numpy's Philox from the seed alone, after
    "On the Stratification of Multi-Label Data" (Sechidis et al., 2011): the rarest group first, each row to the side
    that lacks most of it. Raises InputError for a
    class that cannot be on both sides.
    """
    units = _units(texts, strata.member)
    counts: Counter[int] = Counter()
    distinct: Counter[int] = Counter()
    for unit in units:
        for group, count in unit.groups.items():
            counts[group] += count
            distinct[group] += 1
    wanted = _quotas(counts, distinct, share, exact=strata.member.ndim == 1)
    draw = np.random.Philox(seed).random_raw(len(units))  # the raw numbers are the same in every version of numpy
    held = _assign([units[number] for number in np.argsort(draw, kind="stable")], counts, wanted, share)
    on_held = _leave_no_group_out(units, held, distinct)
    for group, texts_of_it in sorted(distinct.items()):
        if strata.names and not 0 < on_held[group] < texts_of_it:
            raise InputError(
                f"class '{shorten(strata.names[group])}' has {_count(counts[group], 'row')} of "
                f"{_count(texts_of_it, 'text')}, too few to be among the training and the validation rows; add rows of "
                "it, merge it with another class, leave it out, or give validation rows of your own"
            )
    if not held:
        raise InputError("expected two different texts or more, to hold one out for validation; add rows")
    rows = np.array(sorted(row for unit in units if id(unit) in held for row in unit.rows), np.int64)
    return np.setdiff1d(np.arange(len(strata.member)), rows), rows


def _units(texts: Sequence[Sequence[Hashable]], member: np.ndarray) -> list[_Unit]:
    by_texts: dict[Hashable, list[int]] = defaultdict(list)
    for row, columns in enumerate(zip(*texts, strict=True)):
        by_texts[tuple(text.strip() if isinstance(text, str) else text for text in columns)].append(row)
    of_row = _groups_of_rows(member)
    return [
        _Unit(
            rows,
            Counter(group for row in rows for group in of_row[row]) if rows[1:] else dict.fromkeys(of_row[rows[0]], 1),
        )
        for rows in by_texts.values()
    ]


def _groups_of_rows(member: np.ndarray) -> list[Sequence[int]]:
    """The groups of each row; rows that are in none of G are a group too, number G."""
    if member.ndim == 1:
        return [(group,) for group in member.tolist()]
    return [np.flatnonzero(row).tolist() or (len(row),) for row in member]


def _quotas(counts: Counter[int], distinct: Counter[int], share: float, exact: bool) -> dict[int, float]:
    """How many rows of each group are to be held out; exact: whole numbers that add up to the share of all rows."""
    groups = sorted(counts)
    quota = {group: round(share * counts[group], 9) for group in groups}
    if exact:
        whole = {group: float(int(quota[group])) for group in groups}
        missing = round(share * counts.total()) - int(sum(whole.values()))
        for group in sorted(groups, key=lambda group: whole[group] - quota[group])[:missing]:
            whole[group] += 1
        quota = whole
    least = {group: min(1, distinct[group] - 1) for group in groups}
    return {group: min(max(quota[group], least[group]), counts[group] - least[group]) for group in groups}


def _assign(units: list[_Unit], counts: Counter[int], wanted: dict[int, float], share: float) -> set[int]:
    """The ids of the units that are held out; units: in the order in which they are drawn."""
    lacks_held = dict(wanted)
    lacks_train = {group: counts[group] - wanted[group] for group in counts}
    held: set[int] = set()

    def put(unit: _Unit, out: bool) -> None:
        lacks = lacks_held if out else lacks_train
        for group, count in unit.groups.items():
            lacks[group] -= count
        if out:
            held.add(id(unit))

    for number, unit in enumerate(several := [unit for unit in units if len(unit.rows) > 1]):
        small = all(count <= min(lacks_held[group], LARGE * wanted[group]) for group, count in unit.groups.items())
        put(unit, small and number < share * len(several))
    single: dict[int, list[_Unit]] = defaultdict(list)
    for unit in units:
        if len(unit.rows) == 1:
            for group in unit.groups:
                single[group].append(unit)
    done: set[int] = set()
    for group in sorted(single, key=lambda group: (len(single[group]), group)):  # the rarest first
        for unit in single[group]:
            if id(unit) not in done:
                done.add(id(unit))
                put(unit, lacks_held[group] > lacks_train[group])
    return held


def _leave_no_group_out(units: list[_Unit], held: set[int], distinct: Counter[int]) -> Counter[int]:
    """Move the smallest unit of a group that is on one side alone to the other, unless another group would be missed.

    Returns how many units of each group are held out then.
    """
    on_held = Counter(group for unit in units if id(unit) in held for group in unit.groups)
    for group in sorted(distinct, key=lambda group: (distinct[group], group)):
        if distinct[group] < 2 or 0 < on_held[group] < distinct[group]:
            continue
        out = not on_held[group]
        for unit in sorted((unit for unit in units if group in unit.groups), key=lambda unit: len(unit.rows)):
            left = [(distinct[g] - on_held[g] if out else on_held[g]) for g in unit.groups]
            if min(left) > 1:
                held.symmetric_difference_update({id(unit)})
                on_held.update(dict.fromkeys(unit.groups, 1 if out else -1))
                break
    return on_held


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
