"""Figures of a search's answer: score against seconds, score by k, and the learning rates that were raced."""

import itertools
import math
import textwrap
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from jaxfreeze.freezing import ALL, Layers, order
from jaxfreeze.report.figures import (
    INK,
    MARKERS,
    MUTED,
    PAPER,
    SERIES,
    TIMES,
    Drawing,
    frame,
    legend,
    plain,
    style,
    written,
)
from jaxfreeze.report.point_labels import Label, Segment, place
from jaxfreeze.search import terms
from jaxfreeze.search.answer import Answer, Point, RateScore
from jaxfreeze.search.trial import ladder
from jaxfreeze.search.wording import anything_learned, same
from jaxfreeze.search.wording import name as name_of

OWN, OF_PAPER = SERIES[0], SERIES[1]
DASHED, DOTTED = (0, (4, 2)), (0, (1, 2))
IN_SIGHT = 1.6
"""A level that would make the score axis longer than this many times is named in the legend only."""


def front_figure(name: str, answer: Answer) -> Drawing:
    """Score against the seconds of one run (log axis); each point has its k and rate, the paper's points are hollow."""
    with style():
        figure, axes = frame(f"Score against cost, {terms.data(answer.task)}", 4.3, 3.7)
        axes.set_xscale("log")
        front = [point for point in answer.points if point.on_front]
        _joined(axes, answer, [point.seconds for point in front], front)
        _own(axes, answer, [point.seconds for point in answer.points])
        _of_paper(axes, answer, lambda point: point.seconds)
        _limits(axes, answer)
        _seconds_axis(axes, [point.seconds for point in (*answer.points, *answer.paper)])
        _level(axes, answer, answer.constant, "constant prediction", DOTTED)
        axes.set_ylabel(_score_name(answer))
        legend(figure, axes)
        _label_points(figure, axes, answer, front)
        return written(figure, name)


def layers_figure(name: str, answer: Answer) -> Drawing:
    """Score by k with simultaneous intervals, each k at its own rate; the paper's protocol beside it."""
    tried = sorted({point.candidate.layers for point in (*answer.points, *answer.paper)}, key=order)
    at = {k: float(i) for i, k in enumerate(tried)}
    best = [_best_of(answer, k) for k in tried]
    with style():
        figure, axes = frame(f"Score by k, {terms.data(answer.task)}", 4.3, 3.5)
        own = [point for point in best if point is not None]
        _joined(axes, answer, [at[point.candidate.layers] for point in own], own)
        _own(axes, answer, [at[point.candidate.layers] - _shift(answer, point) for point in answer.points])
        _of_paper(axes, answer, lambda point: at[point.candidate.layers] + 0.18)
        _limits(axes, answer)
        if anything_learned(answer):
            kept = answer.constant + answer.share * (answer.best.score - answer.constant)
            _level(axes, answer, kept, f"{terms.share(answer.share)} of the best found", DASHED)
        _level(axes, answer, answer.constant, "constant prediction", DOTTED)
        axes.set_xlim(-0.5, len(tried) - 0.5)
        rates = ["" if point is None else terms.rate(point.candidate.learning_rate) for point in best]
        axes.set_xticks([at[k] for k in tried], [f"{k}\n{rate}" for k, rate in zip(tried, rates, strict=True)])
        axes.set_xlabel(f"trainable layers, of {answer.num_layers}, and the learning rate of each")
        axes.set_ylabel(_score_name(answer))
        legend(figure, axes)
        return written(figure, name)


def rates_figure(name: str, answer: Answer) -> Drawing:
    """A panel for each k: score on the selection rows by learning rate, with a line for each number of epochs."""
    tried = sorted({raced.candidate.layers for raced in answer.rates}, key=order)
    lengths = sorted({raced.candidate.epochs for raced in answer.rates})
    columns = min(3, len(tried))
    rows = -(-len(tried) // columns)
    with style():
        figure = Figure(figsize=(4.3, max(2.2, 0.45 + 1.35 * rows)), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        for panel in panels[len(tried) :]:
            panel.set_visible(False)
        for i, (panel, k) in enumerate(zip(panels, tried, strict=False)):
            raced = [one for one in answer.rates if one.candidate.layers == k]
            _panel(panel, answer, raced, lengths)
            panel.set_xticks(_decades([one.candidate.learning_rate for one in answer.rates]))
            panel.set_title(name_of(k), fontsize=8.5)
            panel.tick_params(length=2, labelsize=7, labelbottom=i + columns >= len(tried))
        figure.supxlabel("learning rate (log scale)", fontsize=8)
        figure.supylabel(_score_name(answer), fontsize=8)
        entries = [panel.get_legend_handles_labels() for panel in panels]
        handles = {label: handle for entry in entries for handle, label in zip(*entry, strict=True)}
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=4, handletextpad=0.5)
        return written(figure, name)


def _panel(axes: Axes, answer: Answer, raced: Sequence[RateScore], lengths: Sequence[int]) -> None:
    axes.set_xscale("log")
    for i, count in enumerate(lengths):
        own = sorted(one for one in raced if one.candidate.epochs == count and math.isfinite(one.score))
        x = [one.candidate.learning_rate for one in own]
        axes.plot(
            x, [_shown(answer, one.score) for one in own], color=SERIES[i % len(SERIES)], linewidth=1.0,
            marker=MARKERS[i % len(MARKERS)], markersize=3.5, label=terms.epochs(count),
        )  # fmt: skip
    chosen = [one for one in raced if one.chosen]
    x = [one.candidate.learning_rate for one in chosen]
    axes.plot(
        x, [_shown(answer, one.score) for one in chosen], linestyle="none", marker="o", markersize=8,
        markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.0, label="chosen",
    )  # fmt: skip
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: terms.rate(value)))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.margins(x=0.15, y=0.2)


def _decades(rates: Sequence[float]) -> list[float]:
    """Ticks of a log axis: the powers of ten among the rates; the ends where there are fewer than two."""
    low, high = min(rates), max(rates)
    powers = [10.0**power for power in range(-9, 3) if low * 0.999 <= 10.0**power <= high * 1.001]
    return powers if len(powers) > 1 else sorted({low, high})


def _own(axes: Axes, answer: Answer, x: Sequence[float]) -> None:
    """The points of the search with their intervals, the recommended one in a ring."""
    label = "each k at its own rate, 95% interval" if any(map(_bounded, answer.points)) else "each k at its own rate"
    axes.plot(
        x, [_shown(answer, point.score) for point in answer.points], linestyle="none", marker="o", markersize=4.2,
        color=OWN, zorder=4, label=label,
    )  # fmt: skip
    for at, point in zip(x, answer.points, strict=True):
        if _bounded(point):
            y, ends = _shown(answer, point.score), _bar(answer, point)
            axes.errorbar(
                at, y, [[y - ends[0]], [ends[1] - y]], color=OWN, elinewidth=1.2, capsize=2.5, capthick=1.0, zorder=2.5
            )  # fmt: skip
        if same(point, answer.chosen):
            axes.plot(
                at, _shown(answer, point.score), linestyle="none", marker="o", markersize=10, markerfacecolor="none",
                markeredgecolor=INK, markeredgewidth=1.2, zorder=5,
                label="recommended" if answer.sure and anything_learned(answer) else "best found",
            )  # fmt: skip


def _joined(axes: Axes, answer: Answer, x: Sequence[float], points: Sequence[Point]) -> None:
    """A line through some of the search's points."""
    pairs = sorted(zip(x, [_shown(answer, point.score) for point in points], strict=True))
    axes.plot([at for at, _ in pairs], [y for _, y in pairs], color=OWN, linewidth=1.1, zorder=2)


def _of_paper(axes: Axes, answer: Answer, x: Callable[[Point], float]) -> None:
    """The paper's protocol: hollow points on a dashed line, which ends where a k had no run."""
    rates = {point.candidate.learning_rate for point in answer.paper}
    label = (
        f"the paper's protocol, every k at {terms.listed([terms.rate(one) for one in sorted(rates)])}" if rates else ""
    )
    for points in _stretches(answer):
        axes.plot(
            [x(point) for point in points], [_shown(answer, point.score) for point in points], color=OF_PAPER,
            linewidth=1.0, linestyle=DASHED, marker="s", markersize=4.2, markerfacecolor=PAPER, markeredgewidth=1.1,
            zorder=3, label=label,
        )  # fmt: skip
        label = ""  # a name in the legend is enough


def _stretches(answer: Answer) -> list[list[Point]]:
    """The paper's points by k, parted where a k of the ladder had no run."""
    by_layers = {point.candidate.layers: point for point in answer.paper}
    parts = itertools.groupby(ladder(answer.num_layers), key=by_layers.__contains__)
    return [[by_layers[layers] for layers in some] for run, some in parts if run]


def _limits(axes: Axes, answer: Answer) -> None:
    """Limits of the score axis around all scores and the intervals of usual length; longer ones are clipped."""
    scores = [point.score for point in (*answer.points, *answer.paper)]
    low, high = min(scores), max(scores)
    halves = sorted((point.high - point.low) / 2 for point in answer.points if _bounded(point))
    usual = halves[len(halves) // 2] if halves else 0.0
    room = max(0.6 * (high - low), 2 * usual, 0.01 * max(abs(high), abs(low)), 0.005)
    ends = [end for point in answer.points if _bounded(point) for end in (point.low, point.high)]
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    if high - low < room:
        low, high = low - room, high + room
    wide = [min(low, answer.constant), max(high, answer.constant)]
    if wide[1] - wide[0] <= IN_SIGHT * (high - low):
        low, high = wide
    margin = 0.08 * (high - low)
    axes.set_ylim(_shown(answer, low - margin), _shown(answer, high + margin))


def _level(axes: Axes, answer: Answer, score: float, text: str, dashes: tuple[int, tuple[int, int]]) -> None:
    """A horizontal line; where it lies outside the diagram the legend says so."""
    low, high = axes.get_ylim()
    level = _shown(answer, score)
    where = " (below)" if level < low else " (above)" if level > high else ""
    label = f"{text}: {terms.score(score, answer.metric)}{where}"
    if where:
        axes.plot([], [], color=MUTED, linewidth=1.0, linestyle=dashes, label=label)
    else:
        axes.axhline(level, color=MUTED, linewidth=1.0, linestyle=dashes, zorder=1, label=label)


def _seconds_axis(axes: Axes, seconds: Sequence[float]) -> None:
    """A log axis of at least a decade with room for labels, its ticks in plain numbers."""
    low, high = min(seconds), max(seconds)
    decades = math.log10(high / low)
    reach = 0.09 * max(decades, 1.0) + max(0.0, 1 - decades) / 2
    axes.set_xlim(low / 10**reach, high * 10 ** (1.8 * reach))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 30 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("seconds of one run (log scale)")


def _label_points(figure: Figure, axes: Axes, answer: Answer, front: Sequence[Point]) -> None:
    """Write k and rate beside each point of the search; with the epochs where one k has several."""
    labels = []
    for point in sorted(
        answer.points, key=lambda point: not same(point, answer.chosen)
    ):  # that one has the first choice
        k, rate, count = point.candidate
        several = sum(other.candidate.layers == k for other in answer.points) > 1
        text = f"{'all' if k == ALL else f'k = {k}'}, {terms.rate(rate)}" + (
            f", {terms.epochs(count)}" if several else ""
        )
        bold = same(point, answer.chosen)
        labels.append(Label(point.seconds, _shown(answer, point.score), text, INK, bold))
    taken = [(point.seconds, _shown(answer, point.score)) for point in (*answer.points, *answer.paper)]
    lines = [Segment((p.seconds, p.seconds), _bar(answer, p)) for p in answer.points]
    for series in (sorted(front, key=lambda p: p.seconds), *_stretches(answer)):
        lines += [
            Segment((a.seconds, b.seconds), (_shown(answer, a.score), _shown(answer, b.score)))
            for a, b in itertools.pairwise(series)
        ]
    place(figure, axes, labels, taken, lines)


def _bounded(point: Point) -> bool:
    return math.isfinite(point.low) and math.isfinite(point.high)


def _bar(answer: Answer, point: Point) -> tuple[float, float]:
    """The ends of a point's interval; the score itself where it has none."""
    low, high = (point.low, point.high) if _bounded(point) else (point.score, point.score)
    return _shown(answer, low), _shown(answer, high)


def _best_of(answer: Answer, k: Layers) -> Point | None:
    """The best of a k's points, which differ in epochs."""
    own = [point for point in answer.points if point.candidate.layers == k]
    sign = -1 if terms.lower_is_better(answer.metric) else 1
    return max(own, key=lambda point: sign * point.score, default=None)


def _shift(answer: Answer, point: Point) -> float:
    """How far left of its tick a point stands: those that are not the best of their k."""
    best = _best_of(answer, point.candidate.layers)
    return 0.0 if best is None or same(point, best) else 0.16


def _shown(answer: Answer, value: float) -> float:
    """A score in the diagram's unit."""
    return value if answer.metric in terms.IN_UNITS else 100 * value


def _score_name(answer: Answer) -> str:
    times = "" if answer.metric in terms.IN_UNITS else f" {TIMES} 100"
    lower = " (lower is better)" if terms.lower_is_better(answer.metric) else ""
    return "\n".join(textwrap.wrap(plain(f"{terms.metric(answer.metric)}{times}{lower}"), 26))
