"""Figures of one run's failures: confusions, calibration, and numbers against their predictions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle

from jaxfreeze.report.figures import INK, MUTED, RULE, SERIES, Drawing, frame, saved, style
from jaxfreeze.training.calibration import Bin

RIGHT, WRONG = SERIES[2], SERIES[3]
FEW = 12  # classes that keep their own order, and whose cells have room for their counts
MOST = 100  # classes that a picture can show
DOTS = 2000  # rows that a picture can show


def confusion_figure(matrix: np.ndarray, names: Sequence[str]) -> Drawing:
    """The cells of a confusion matrix, int64 [C, C], in the shade of their share of the label's rows.

    Many classes are ordered so that those that are confused with each other are adjacent.
    """
    order = class_order(matrix)
    counts = matrix[np.ix_(order, order)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(9.5, 2.6 + 0.3 * len(counts))
    with style():
        figure, axes = frame("", size, size)
        for right, colour in ((True, RIGHT), (False, WRONG)):
            cells = [(i, j) for i, j in zip(*np.nonzero(counts), strict=True) if bool(i == j) is right]
            shades = [(colour, 0.15 + 0.8 * float(np.sqrt(shares[cell]))) for cell in cells]
            squares = [Rectangle((j - 0.5, i - 0.5), 1, 1) for i, j in cells]
            axes.add_collection(PatchCollection(squares, facecolor=shades, edgecolor="none"))
        if len(counts) <= FEW:
            for i, j in zip(*np.nonzero(counts), strict=True):
                axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=8, color=INK)
        labels = [label_of(names[number], number) for number in order]
        font = float(np.clip(430 / len(counts), 5, 8))
        axes.set_xticks(range(len(counts)), labels, rotation=90, fontsize=font)
        axes.set_yticks(range(len(counts)), labels, fontsize=font)
        axes.grid(axis="both", color=RULE, linewidth=0.35)
        axes.set_xlim(-0.5, len(counts) - 0.5)
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")
        axes.set_aspect("equal")
        return saved(figure, axes, "confusion", with_png=False)


def class_order(matrix: np.ndarray) -> list[int]:
    """The classes in the order of a picture: by the leaves of average linkage over how often two are confused."""
    if len(matrix) <= FEW:
        return list(range(len(matrix)))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    apart = 1 - np.clip(shares + shares.T, 0, 1)
    np.fill_diagonal(apart, 0.0)
    return [int(number) for number in leaves_list(linkage(squareform(apart), "average", optimal_ordering=True))]


def calibration_figure(before: Sequence[Bin], after: Sequence[Bin], temperature: float) -> Drawing:
    """The share that came true against the mean probability of each bin."""
    with style():
        figure, axes = frame("", 4.3, 3.6)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), label="as it should be")
        for bins, colour, marker, label in (
            (before, WRONG, "s", "as it is"),
            (after, RIGHT, "o", f"at temperature {temperature:.2f}"),
        ):
            axes.plot(
                [one.probability for one in bins], [one.right for one in bins], color=colour, marker=marker,
                markersize=4, linewidth=1.1, label=label,
            )  # fmt: skip
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("mean probability")
        axes.set_ylabel("share that came true")
        return saved(figure, axes, "calibration", with_png=False)


def points_figure(points: Sequence[tuple[float, float, int]]) -> Drawing:
    """Predictions against labels."""
    label, prediction, _ = np.array(some_of(points)).T
    low, high = min(label.min(), prediction.min()), max(label.max(), prediction.max())
    with style():
        figure, axes = frame("", 4.3, 3.6)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), label="as it should be")
        axes.plot(label, prediction, "o", color=SERIES[0], markersize=3, alpha=0.4, markeredgewidth=0, label="one row")
        axes.set_xlabel("label")
        axes.set_ylabel("prediction")
        return saved(figure, axes, "predictions", with_png=False)


def residuals_figure(points: Sequence[tuple[float, float, int]]) -> Drawing:
    """Errors against lengths."""
    label, prediction, length = np.array(some_of(points)).T
    with style():
        figure, axes = frame("", 4.3, 3.2)
        axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.plot(length, prediction - label, "o", color=SERIES[0], markersize=3, alpha=0.4, markeredgewidth=0)
        axes.set_xlabel("tokens")
        axes.set_ylabel("prediction - label")
        return saved(figure, axes, "residuals", with_png=False)


def some_of(points: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """At most DOTS of the points, drawn at random, always the same ones."""
    if len(points) <= DOTS:
        return list(points)
    chosen = np.random.Generator(np.random.Philox(0)).choice(len(points), DOTS, replace=False)
    return [points[number] for number in np.sort(chosen).tolist()]


def label_of(name: str, number: int) -> str:
    """The name of a class for a figure, shortened; its number where the font cannot write it."""
    known = get_font(findfont(FontProperties(family="DejaVu Sans")))
    text = "".join(c for c in name if c.isprintable() and known.get_char_index(ord(c)))
    if len(text) < len(name) / 2:
        text = f"class {number}"
    return text if len(text) <= 26 else f"{text[:24]}.."
