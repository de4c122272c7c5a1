"""The tables of scores, each from the curves of one model."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.report import words
from jaxfreeze.report.document import Table, Value
from jaxfreeze.report.reference import EVE, LATER, AuthorsScores, Snapshot, authors_scores
from jaxfreeze.report.words import NOTHING, TIMES, hundred, layers_value, span, with_sd, with_span
from jaxfreeze.sweep.curves import CONSTANT_ANSWER, Curve
from jaxfreeze.sweep.statistics import Cell, Interval


def _authors(curve: Curve) -> AuthorsScores:
    """The authors' runs of a curve; empty if they have none."""
    return authors_scores(curve.model, curve.task, curve.num_layers) or AuthorsScores({}, {})


def _has_authors(curves: Sequence[Curve]) -> bool:
    return any(_authors(curve).later for curve in curves)


def _score(value: float | None, sd: float | None = None, more: str = "") -> Value:
    return NOTHING if value is None else Value(with_sd(value, sd) + more, value)


def _signed(value: float | None) -> Value:
    return NOTHING if value is None else Value(hundred(value, sign=True), value)


def _span(interval: Interval | None, sign: bool = False) -> Value:
    return NOTHING if interval is None else Value(span(interval, sign), interval.low)


def _cell_score(cell: Cell | None, with_layers: bool = False) -> Value:
    if cell is None:
        return NOTHING
    return _score(cell.mean, cell.sd, f" (k = {cell.layers})" if with_layers else "")


def _operating_point(cells: dict[Layers, float]) -> int | None:
    """The smallest k whose mean keeps 90% of the full model's (the paper's: the largest N); None where none does."""
    if cells.get(ALL, 0.0) <= 0:
        return None
    return min((k for k, mean in cells.items() if isinstance(k, int) and mean >= 0.9 * cells[ALL]), default=None)


def none_some_all(curves: Sequence[Curve], title: Callable[[Curve], str]) -> Table:
    """The paper's tables: none, some and all of the layers."""
    columns = ["task", "metric", "none (k = 0)", "some", "all"]
    if _has_authors(curves):
        columns += [f"authors, {part}" for part in ("none", "some", "all")]
    rows = []
    for curve in curves:
        point = _operating_point({cell.layers: cell.mean for cell in curve.cells})
        own = [
            _cell_score(curve.cell(0)),
            NOTHING if point is None else _cell_score(curve.cell(point), with_layers=True),
            _cell_score(curve.full),
        ]
        rows.append(
            [Value(title(curve)), Value(words.metric(curve)), *own, *_authors_none_some_all(curve)[: len(columns) - 5]]
        )
    caption = (
        f"None, some and all of the layers: mean ± standard deviation over seeds, {TIMES} 100. None: the head alone. "
        "Some: the smallest k tried whose mean keeps 90% of the full model's (the paper's operating point); a dash: "
        "none does. All: the embeddings too."
    )
    if _has_authors(curves):
        caption += f" Authors: all their runs up to {LATER}."
    return Table(caption, columns, rows)


def _authors_none_some_all(curve: Curve) -> list[Value]:
    later = _authors(curve).later
    point = _operating_point({k: snapshot.mean for k, snapshot in later.items()})
    some = NOTHING if point is None else _snapshot(later[point], f" (k = {point})")
    return [_snapshot(later.get(0)), some, _snapshot(later.get(ALL))]


def _snapshot(snapshot: Snapshot | None, more: str = "") -> Value:
    return NOTHING if snapshot is None else _score(snapshot.mean, snapshot.sd, more)


def relative_quality(curves: Sequence[Curve], title: Callable[[Curve], str]) -> Table:
    """Relative quality: a row for each task, a column for each k, the authors' rows below ours."""
    tried = sorted({k for curve in curves for k in curve.qualities if isinstance(k, int)})
    rows: list[list[Value]] = []
    for curve in curves:
        found = (curve.qualities.get(k) for k in tried)
        cells = [
            Value(with_span(quality.value, quality.interval), quality.value) if quality else NOTHING
            for quality in found
        ]
        rows.append([Value(title(curve)), *cells])
        theirs = authors_relative(curve)
        if any(k in theirs for k in tried):
            rows.append([Value(f"{title(curve)}, authors"), *(_score(theirs.get(k)) for k in tried)])
    if len(curves) > 1 and len({curve.task for curve in curves}) == len(curves):
        rows += _mean_rows(curves, tried)
    caption = (
        "Relative quality by k, the paper's plain ratio of scores: mean in % of the full model's mean, with its 95% "
        "interval over seeds."
    )
    return Table(caption, ["task", *(f"k = {k}" for k in tried)], rows)


def authors_relative(curve: Curve) -> dict[Layers, float]:
    """The authors' relative quality by k, of plain means."""
    later = _authors(curve).later
    if ALL not in later:
        return {}
    return {k: snapshot.mean / later[ALL].mean for k, snapshot in later.items() if k != ALL}


def _mean_rows(curves: Sequence[Curve], tried: Sequence[int]) -> list[list[Value]]:
    rows = []
    for name, tables in (
        ("mean of these tasks", [{k: quality.value for k, quality in curve.qualities.items()} for curve in curves]),
        ("mean of these tasks, authors", [authors_relative(curve) for curve in curves]),
    ):
        everywhere = [all(k in table for table in tables) for k in tried]
        if any(everywhere):
            means = (
                float(np.mean([table[k] for table in tables])) if ok else None
                for k, ok in zip(tried, everywhere, strict=True)
            )
            rows.append([Value(name), *map(_score, means)])
    return rows


def smallest(curves: Sequence[Curve], title: Callable[[Curve], str]) -> Table:
    """The smallest k for 90, 95 and 99%, and how far the seeds confirm it."""
    rows = []
    for curve in curves:
        for found in curve.smallest:
            quality = curve.qualities.get(found.layers)
            ends = found.interval and f"{found.interval[0]} to {found.interval[1]}"
            if found.interval and found.interval[0] == found.interval[1]:
                ends = str(found.interval[0])
            rows.append([
                Value(title(curve)),
                Value(f"{found.threshold:.0%}", found.threshold),
                layers_value(found.layers, curve.num_layers),
                Value(with_span(quality.value, quality.interval), quality.value) if quality else Value("100", 1.0),
                NOTHING if found.share is None else Value(words.share(found.share), found.share),
                Value(ends) if ends else NOTHING,
                Value(words.verdict(found)),
            ])  # fmt: skip
    caption = (
        "The smallest k tried that keeps 90, 95 and 99% of the full model's mean; all: no smaller one does. Agree: the "
        "share of the resamples in which it is this k. Decided: the interval of the relative quality at this k lies "
        "above the threshold, and those of all smaller k below it (for all: those of all k tried lie below it)."
    )
    columns = [
        "task",
        "at least",
        "smallest k",
        "relative quality",
        "agree",
        "k in 95% of the resamples",
        "do the seeds decide?",
    ]
    return Table(caption, columns, rows)


def scores(curve: Curve) -> Table:
    """The scores of one curve, a row for each k."""
    authors = _authors(curve)
    columns = ["k", "runs", "mean", "sd", "min", "max", "95% interval", "difference to full", "its 95% interval"]
    columns += ["pairs", "differs?"]
    if authors.later:
        columns += [f"authors, {LATER}", f"authors, {EVE}"]
    rows = []
    for cell in curve.cells:
        paired = curve.differences.get(cell.layers)
        row = [
            layers_value(cell.layers, curve.num_layers),
            Value(str(cell.n), cell.n),
            _score(cell.mean),
            _score(cell.sd),
            _score(float(cell.scores.min())),
            _score(float(cell.scores.max())),
            _span(cell.interval),
            _signed(paired.mean if paired else None),
            _span(paired.interval if paired else None, sign=True),
            Value(str(paired.pairs), paired.pairs) if paired else NOTHING,
            Value(_comparison(paired.interval)) if paired else NOTHING,
        ]
        if authors.later:
            row += [_with_runs(snapshots.get(cell.layers)) for snapshots in (authors.later, authors.eve)]
        rows.append(row)
    caption = (
        f"Score ({words.metric(curve)}) {TIMES} 100 by k. The difference to the full model is over the seeds that both "
        "have, run by run; differs: its interval does not contain 0."
    )
    if curve.task in CONSTANT_ANSWER:
        caption += f" A constant prediction scores {hundred(CONSTANT_ANSWER[curve.task])} on GLUE's dev set."
    if authors.later:
        caption += " Authors: mean ± standard deviation (runs)."
    return Table(caption, columns, rows)


def _comparison(interval: Interval | None) -> str:
    if interval is None:
        return "one pair"
    if interval.holds(0.0):
        return "no"
    return "below full" if interval.high < 0 else "above full"


def _with_runs(snapshot: Snapshot | None) -> Value:
    return NOTHING if snapshot is None else _snapshot(snapshot, f" ({snapshot.runs})")


def filtered(curves: Sequence[Curve], title: Callable[[Curve], str]) -> Table:
    """Means of all runs and of those that the authors' filter keeps, side by side."""
    columns = ["task", "k", "runs", "collapsed", "mean", "filtered mean", "difference to full", "filtered difference"]
    columns += ["relative quality", "filtered relative quality"]
    if _has_authors(curves):
        columns += ["authors, difference", "authors, filtered difference"]
    rows = []
    for curve in curves:
        full = curve.full
        for cell in curve.cells:
            plain = _against(cell.mean, full.mean if full else None)
            kept = _against(cell.filtered_mean, full.filtered_mean if full else None)
            row = [
                Value(title(curve)),
                layers_value(cell.layers, curve.num_layers),
                Value(str(cell.n), cell.n),
                Value(str(len(cell.collapsed)), len(cell.collapsed)),
                _score(cell.mean),
                _score(cell.filtered_mean),
                *(both[0] for both in (plain, kept)),
                *(both[1] for both in (plain, kept)),
            ]
            if _has_authors(curves):
                row += _authors_differences(_authors(curve).later, cell.layers)
            rows.append(row)
    caption = (
        "With and without the authors' filter, which drops a run that scores 0 or at most 0.9 "
        f"{TIMES} the best run of its cell. The differences here are of means, since a filter leaves no pairs."
    )
    if _has_authors(curves):
        caption += f" Authors: runs up to {LATER}."
    return Table(caption, columns, rows)


def _against(mean: float | None, full: float | None) -> tuple[Value, Value]:
    """(difference, relative quality)."""
    if mean is None or full is None:
        return NOTHING, NOTHING
    return _signed(mean - full), _score(mean / full) if full > 0 else NOTHING


def _authors_differences(later: dict[Layers, Snapshot], layers: Layers) -> list[Value]:
    if layers not in later or ALL not in later:
        return [NOTHING, NOTHING]
    cell, full = later[layers], later[ALL]
    return [_against(cell.mean, full.mean)[0], _against(cell.filtered_mean, full.filtered_mean)[0]]
