"""Figures as SVG and PNG: score against k for one task, and the paper's figure for one model."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.report.reference import AuthorsScores, authors_scores
from jaxfreeze.sweep.curves import CONSTANT_ANSWER, Curve
from jaxfreeze.sweep.statistics import Interval, interval_of

TIMES = "\N{MULTIPLICATION SIGN}"

# Each colour maps to one CSS variable of page.html, so that figures follow its dark mode.
INK, MUTED, RULE, PAPER, AUTHORS = "#1b1c1e", "#6a6f76", "#d8dade", "#fffffe", "#b4500f"
SERIES = ("#0b5fa5", "#a3328a", "#00796b", "#c0392b", "#6b5bd2", "#5f7a12", "#8a5a2b", "#0f8fb3", "#4d5763")
MARKERS = "osD^vPXhp"
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper", AUTHORS: "authors"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES)
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxfreeze",
    "text.parse_math": False,  # names from files may hold a dollar sign
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
}


class Drawing(NamedTuple):
    """One drawn figure."""

    name: str
    """File name without its suffix."""
    svg: str
    png: bytes


class Line(NamedTuple):
    """One series of points with intervals."""

    label: str
    points: list[tuple[float, float, Interval | None]]
    """x, y, interval of y."""
    colour: str
    marker: str
    hollow: bool = False


def score_figure(name: str, title: str, metric: str, curves: Sequence[Curve]) -> Drawing:
    """Score x 100 against k: means with intervals, single runs as dots, and the authors' means at the same k.

    metric: the score's name. curves: of one model and task, at different learning rates.
    """
    tried = sorted({cell.layers for curve in curves for cell in curve.partial if cell.layers != ALL})
    last = tried[-1] if tried else 0
    place: dict[Layers, float] = {k: float(k) for k in tried} | {ALL: last + max(1.0, 0.14 * last)}
    with style():
        figure, axes = frame(title, 4.3, 3.1)
        of_authors = authors_scores(curves[0].model, curves[0].task, curves[0].num_layers)
        lines = [_line(curve, place, SERIES[i % len(SERIES)], len(curves) > 1) for i, curve in enumerate(curves)]
        if of_authors is not None and (line := _authors_line(of_authors, curves, place)).points:
            lines.append(line)
        dodge = 0.034 * (max(place.values()) - min(place.values())) if len(lines) > 1 else 0.0
        for i, line in enumerate(lines):
            _draw(axes, line, (i - (len(lines) - 1) / 2) * dodge, place[ALL])
        beside = 0.022 * (max(place.values()) - min(place.values()))
        for i, curve in enumerate(curves):
            _dots(axes, curve, place, (i - (len(lines) - 1) / 2) * dodge + beside, SERIES[i % len(SERIES)])
        _limits(axes, lines, [100 * float(x) for curve in curves for cell in curve.cells for x in cell.scores])
        _levels(axes, curves[0])
        axes.set_xlabel(f"trainable layers, of {curves[0].num_layers}")
        axes.set_ylabel(f"{plain(metric)} {TIMES} 100")
        shown = _thinned(tried)
        axes.set_xticks(
            [place[k] for k in shown] + [place[ALL]] * any(curve.full is not None for curve in curves),
            [str(k) for k in shown] + ["all"] * any(curve.full is not None for curve in curves),
        )
        return saved(figure, axes, name)


def difference_figure(name: str, title: str, curves: Sequence[Curve], labels: Sequence[str]) -> Drawing:
    """The paper's figure for one model: score minus the full model's, x 100, against the number of frozen layers."""
    lines = []
    for i, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        of_authors = authors_scores(curve.model, curve.task, curve.num_layers)
        colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
        points = [
            (float(curve.num_layers - k), 100 * paired.mean, _times_100(paired.interval))
            for k, paired in curve.differences.items()
            if k != ALL
        ]
        lines.append(Line(plain(label), points, colour, marker))
        if of_authors is not None and ALL in of_authors.later:
            full = of_authors.later[ALL].mean
            theirs: list[tuple[float, float, Interval | None]] = [
                (float(curve.num_layers - k), 100 * (snapshot.mean - full), None)
                for k, snapshot in of_authors.later.items()
                if k != ALL and k in curve.differences
            ]
            lines.append(Line("", theirs, colour, "", hollow=True))
    with style():
        figure, axes = frame(title, 4.3, 3.4)
        axes.axhline(0, color=INK, linewidth=0.9)
        dodge = min(0.018 * curves[0].num_layers, 0.7 / len(curves))  # together within one layer
        for line in lines:
            own = next(i for i, colour in enumerate(SERIES) if colour == line.colour)
            _draw(axes, line, 0.0 if line.hollow else (own - (len(curves) - 1) / 2) * dodge, np.inf)
        _limits(axes, lines, [0.0])
        frozen = sorted({int(x) for line in lines for x, _, _ in line.points})
        axes.set_xticks(_thinned(frozen))
        axes.set_xlabel(f"frozen layers, of {curves[0].num_layers} (the embeddings too)")
        axes.set_ylabel(f"difference to the full model {TIMES} 100")
        if any(line.hollow and line.points for line in lines):
            axes.plot([], [], color=MUTED, linestyle=(0, (4, 2)), linewidth=1.1, label="authors")
        return saved(figure, axes, name)


def inline(svg: str, prefix: str, alt: str) -> str:
    """An SVG to be embedded in an HTML page: unique ids, the page's font and colours, a text for screen readers.

    prefix: makes the ids unique among the figures of a page. alt: the text, escaped already.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)  # it would apply to the whole page
    svg = re.sub(r'\b(id=")', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    return svg.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1).strip()


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults with our settings, independent of the user's."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def frame(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches with one diagram; within `style`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(plain(title))
    axes.tick_params(length=3)
    return figure, axes


def _line(curve: Curve, place: dict[Layers, float], colour: str, several: bool) -> Line:
    points = [(place[cell.layers], 100 * cell.mean, _times_100(cell.interval)) for cell in curve.cells]
    label = f"learning rate {curve.learning_rate:g}" if several else "mean, 95% interval"
    return Line(label, points, colour, "o")


def _authors_line(of_authors: AuthorsScores, curves: Sequence[Curve], place: dict[Layers, float]) -> Line:
    tried = {cell.layers for curve in curves for cell in curve.cells}
    points = [
        (place[k], 100 * snapshot.mean, _times_100(interval_of(snapshot.mean, snapshot.sd, snapshot.runs)))
        for k, snapshot in of_authors.later.items()
        if k in tried
    ]
    return Line("authors, 2020-05", sorted(points), AUTHORS, "D", hollow=True)


def _draw(axes: Axes, line: Line, shift: float, gap_from: float) -> None:
    """Draw points, intervals, and a line through the points left of `gap_from`."""
    if not line.points:
        return
    x, y = np.array([x for x, _, _ in line.points]), np.array([y for _, y, _ in line.points])
    face = PAPER if line.hollow else line.colour
    steady = x < gap_from
    dashes = (0, (4, 2)) if line.hollow else "-"
    axes.plot(x[steady] + shift, y[steady], color=line.colour, linewidth=1.1, linestyle=dashes, zorder=2)
    for at, _, interval in line.points:
        if interval is not None:
            axes.plot([at + shift] * 2, interval, color=line.colour, linewidth=1.3, alpha=0.75, zorder=2.5)
    if line.marker:
        axes.plot(
            x + shift, y, linestyle="none", marker=line.marker, markersize=4.5, color=line.colour,
            markerfacecolor=face, markeredgewidth=1.1, zorder=4, label=line.label,
        )  # fmt: skip


def _dots(axes: Axes, curve: Curve, place: dict[Layers, float], shift: float, colour: str) -> None:
    x = [place[cell.layers] + shift for cell in curve.cells for _ in cell.scores]
    y = [100 * float(score) for cell in curve.cells for score in cell.scores]
    label = None if axes.get_legend_handles_labels()[1].count("one run") else "one run"
    axes.plot(
        x, y, linestyle="none", marker="o", markersize=3.2, color=colour, alpha=0.6, markeredgewidth=0, zorder=3,
        label=label,
    )  # fmt: skip


def _levels(axes: Axes, curve: Curve) -> None:
    """Draw the full model's mean, 90% of it, and the score of a constant prediction, where they are in the frame."""
    low, high = axes.get_ylim()
    levels = [] if curve.full is None else [(curve.full.mean, "full"), (0.9 * curve.full.mean, "90% of full")]
    if curve.task in CONSTANT_ANSWER:
        levels.append((CONSTANT_ANSWER[curve.task], "one answer\nfor all rows"))
    lowest = -np.inf  # place of the next label: labels must not overlap
    for level, text in sorted((100 * value, text) for value, text in levels):
        if low < level < high:
            axes.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
            at = max(level, lowest)
            lowest = at + (high - low) * (0.11 if "\n" in text else 0.075)
            axes.annotate(
                text, (1.01, at), xycoords=("axes fraction", "data"), va="center", color=MUTED, fontsize=7.5
            )  # fmt: skip


def _limits(axes: Axes, lines: Sequence[Line], values: Sequence[float]) -> None:
    """Set the y limits around all values and means; intervals extend them by at most 60% and are clipped there."""
    values = [*values, *(y for line in lines for _, y, _ in line.points)]
    low, high = min(values), max(values)
    room = 0.6 * max(high - low, 1.0)
    ends = [end for line in lines for _, _, interval in line.points if interval for end in interval]
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    margin = 0.06 * max(high - low, 0.5)
    axes.set_ylim(low - margin, high + margin)


def _thinned(ticks: Sequence[int]) -> list[int]:
    """At most nine of them, the last among them."""
    step = -(-len(ticks) // 9)
    return list(ticks[::-1][::step][::-1]) if ticks else []


def _times_100(interval: Interval | None) -> Interval | None:
    return None if interval is None else Interval(100 * interval.low, 100 * interval.high)


def plain(text: str) -> str:
    """The text in characters that the font certainly has, shortened if it is long."""
    text = "".join(c if (c.isascii() and c.isprintable()) or c == TIMES else "?" for c in text)
    text = text if len(text) <= 56 else f"{text[:53]}..."
    return f" {text}" if text.startswith("_") else text  # matplotlib leaves such a label out of the legend


def saved(figure: Figure, axes: Axes, name: str, with_png: bool = True) -> Drawing:
    """The figure drawn, its legend below it; with_png: as PNG too."""
    legend(figure, axes)
    return written(figure, name, with_png)


def legend(figure: Figure, axes: Axes) -> None:
    """Add the legend below a diagram, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        longest = max(map(len, labels))
        columns = 4 if longest <= 8 else 3 if longest <= 19 else 2 if longest <= 27 else 1
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, handletextpad=0.5, columnspacing=1.2)


def written(figure: Figure, name: str, with_png: bool = True) -> Drawing:
    """The figure drawn as it is; with_png: as PNG too."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    if with_png:
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return Drawing(name, svg.getvalue(), png.getvalue())
