"""Labels beside the points of a diagram, placed so that none covers another label or a point."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from jaxfreeze.report.figures import MUTED, PAPER

GAPS = (7.0, 10.0, 15.0, 22.0, 30.0, 40.0, 52.0, 66.0, 84.0, 104.0)
"""Distances between a point and its label that are tried, in points."""
ANGLES = tuple(math.radians(degrees) for degrees in (60, -60, 120, -120, 0, 180, 90, -90, 30, -30, 150, -150))
LEADER_FROM = 10.0
"""From this gap on a line leads from the label to its point."""
MARKER = 6.0
"""Half of the room that a marker takes, in points."""
PADDING = 2.0
"""Room around a label, in points."""
CROSSING = 12.0
"""What each line costs that a label covers, beside the gap."""
COVERING = 1e4
"""What covering a label or a point costs."""


class Label(NamedTuple):
    """A text for a point, in the diagram's units."""

    x: float
    y: float
    text: str
    colour: str
    bold: bool = False


class Segment(NamedTuple):
    """A straight line that a label should rather not cover, in the diagram's units."""

    x: tuple[float, float]
    y: tuple[float, float]


def place(
    figure: Figure,
    axes: Axes,
    labels: Sequence[Label],
    points: Sequence[tuple[float, float]],
    lines: Sequence[Segment] = (),
) -> list[Annotation]:
    """Write each label near its point; the limits of the diagram and the legend must be final.

    points: all points that are drawn, those of other series too.
    """
    assert isinstance(figure.canvas, FigureCanvasAgg)  # which can measure a text
    figure.draw_without_rendering()  # the layout is made now
    pixels = figure.dpi / 72
    taken = [_around(axes.transData.transform(point), MARKER * pixels) for point in points]
    soft = [_boxes(axes, line) for line in lines]
    placed = []
    for label in labels:
        note = axes.annotate(
            label.text, (label.x, label.y), xytext=(0, 0), textcoords="offset points", ha="center", va="center",
            color=label.colour, fontsize=7.5, fontweight="bold" if label.bold else "normal", zorder=6,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},  # so that no line goes through the text
        )  # fmt: skip
        note.set_in_layout(False)
        size = note.get_window_extent(figure.canvas.get_renderer())
        room = (size.width + 2 * PADDING * pixels, size.height + PADDING * pixels)
        at = axes.transData.transform((label.x, label.y))
        gap, (dx, dy) = _best(at, room, pixels, axes.bbox, taken, soft)
        note.set_position((dx / pixels, dy / pixels))
        taken.append(_box(at, (dx, dy), room))
        if gap >= LEADER_FROM:
            _leader(axes, label, (dx, dy), size, pixels)
        placed.append(note)
    return placed


def _best(
    at: np.ndarray,
    size: tuple[float, float],
    pixels: float,
    frame: Bbox,
    taken: Sequence[Bbox],
    soft: Sequence[Sequence[Bbox]],
) -> tuple[float, tuple[float, float]]:
    """The gap and the offset of the label's middle, in pixels, that cover the least and are nearest."""
    found = []
    for gap in GAPS:
        for rank, angle in enumerate(ANGLES):
            shift = _shift(angle, gap * pixels, size)
            box = _box(at, shift, size)
            if box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1:
                continue
            covered = sum(box.overlaps(other) for other in taken)
            crossed = sum(any(box.overlaps(part) for part in line) for line in soft)
            found.append((COVERING * covered + CROSSING * crossed + gap + 0.05 * rank, gap, shift))
    _, gap, shift = min(found, default=(0.0, GAPS[0], (0.0, (size[1] / 2 + GAPS[0] * pixels))))
    return gap, shift


def _shift(angle: float, gap: float, size: tuple[float, float]) -> tuple[float, float]:
    """From a point to the middle of a label whose nearest edge or corner is `gap` away in this direction."""
    across, up = math.cos(angle), math.sin(angle)
    beside = 0.0 if abs(across) < 1e-9 else math.copysign(size[0] / 2, across)
    above = 0.0 if abs(up) < 1e-9 else math.copysign(size[1] / 2, up)
    return across * gap + beside, up * gap + above


def _box(at: np.ndarray, shift: tuple[float, float], size: tuple[float, float]) -> Bbox:
    x, y = at[0] + shift[0], at[1] + shift[1]
    return Bbox.from_extents(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)


def _around(at: np.ndarray, half: float) -> Bbox:
    return Bbox.from_extents(at[0] - half, at[1] - half, at[0] + half, at[1] + half)


def _boxes(axes: Axes, line: Segment, parts: int = 24) -> list[Bbox]:
    """A line as a chain of small boxes, in pixels."""
    (x0, y0), (x1, y1) = (axes.transData.transform(end) for end in zip(line.x, line.y, strict=True))
    across, up = (x1 - x0) / parts, (y1 - y0) / parts
    ends = [(x0 + i * across, y0 + i * up) for i in range(parts)]
    return [Bbox.from_extents(*_ends(x, y, x + across, y + up)) for x, y in ends]


def _ends(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
    """(left, bottom, right, top), half a pixel wide at least."""
    return min(x0, x1) - 0.5, min(y0, y1) - 0.5, max(x0, x1) + 0.5, max(y0, y1) + 0.5


def _leader(axes: Axes, label: Label, shift: tuple[float, float], size: Bbox, pixels: float) -> None:
    """A thin line from a point to the nearest place of its label's edge."""
    end = [
        math.copysign(max(abs(middle) - half, 0.0), middle)
        for middle, half in zip(shift, (size.width / 2, size.height / 2), strict=True)
    ]
    line = axes.annotate(
        "", (label.x, label.y), xytext=(end[0] / pixels, end[1] / pixels), textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}, zorder=1.5,
    )  # fmt: skip
    line.set_in_layout(False)
