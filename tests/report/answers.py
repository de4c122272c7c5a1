"""Answers that no search made: one of each kind that a report has to word."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.metrics import LOWER_IS_BETTER
from jaxfreeze.search.answer import Answer, Point, RateScore
from jaxfreeze.search.trial import Candidate, Dropped


class Row(NamedTuple):
    """A point in short."""

    layers: Layers
    rate: float
    scores: tuple[float, ...]
    seconds: float
    p_keeps: float = 0.0
    p_within: float = 0.0
    epochs: int = 3


STSB = (
    Row(0, 2e-3, (0.41, 0.404, 0.409, 0.402, 0.408), 1.1, 0.0, 0.0, 10),
    Row(1, 1e-3, (0.705, 0.709, 0.711, 0.702, 0.708), 11.9),
    Row(2, 5e-4, (0.822, 0.818, 0.825), 24.5, 0.62, 0.01),
    Row(3, 2e-4, (0.84, 0.846, 0.843), 38.0, 0.97, 0.41),
    Row(ALL, 5e-5, (0.861, 0.8625, 0.863), 122.0, 1.0, 0.97),
)
COLA = (
    Row(0, 1e-3, (0.05, 0.03, 0.02, 0.06, 0.02), 0.9, epochs=10),
    Row(1, 5e-4, (0.182, 0.16, 0.17, 0.191, 0.15), 12.0, 0.02, 0.0),
    Row(2, 2e-4, (0.19, 0.21, 0.18), 27.0, 0.1, 0.05),
    Row(3, 2e-4, (0.24, 0.22, 0.25), 41.0, 0.45, 0.2),
    Row(ALL, 5e-5, (0.278, 0.26, 0.29), 131.0, 0.86, 0.7),
)
MRPC = (
    Row(0, 2e-4, (0.823, 0.815, 0.819, 0.811, 0.816), 0.6, 0.5, 0.6, 10),
    Row(1, 1e-4, (0.809, 0.812, 0.802), 5.0, 0.4, 0.3),
    Row(2, 1e-4, (0.815, 0.812, 0.818), 10.1, 0.5, 0.5),
    Row(ALL, 5e-5, (0.826, 0.812, 0.818), 55.0, 0.6, 0.8),
)
DEEP = (
    Row(0, 2e-3, (0.701, 0.703, 0.699), 2.0, epochs=10),
    Row(1, 1e-3, (0.852, 0.855, 0.857), 31.0, 0.01, 0.0),
    Row(1, 1e-3, (0.862, 0.86, 0.863), 93.0, 0.3, 0.02, 9),
    Row(2, 5e-4, (0.881, 0.878, 0.88), 70.0, 0.6, 0.1),
    Row(3, 2e-4, (0.893, 0.889, 0.891), 104.0, 0.8, 0.3),
    Row(6, 1e-4, (0.902, 0.904, 0.9), 230.0, 0.98, 0.6),
    Row(ALL, 2e-5, (0.907, 0.906, 0.909), 640.0, 1.0, 0.9),
)
LOWER = (
    Row(0, 2e-3, (1.21, 1.2, 1.22), 1.0, epochs=10),
    Row(1, 1e-3, (0.71, 0.7, 0.72), 12.0, 0.2, 0.0),
    Row(2, 5e-4, (0.52, 0.53, 0.51), 25.0, 0.93, 0.2),
    Row(ALL, 5e-5, (0.49, 0.48, 0.5), 120.0, 1.0, 0.9),
)
FULL = (
    Row(0, 2e-3, (0.50, 0.51, 0.5), 3.0, epochs=10),
    Row(2, 5e-4, (0.72, 0.71, 0.73), 60.0, 0.3),
    Row(ALL, 2e-5, (0.91, 0.92, 0.915), 500.0, 1.0, 1.0),
)


def stsb(**more: object) -> Answer:
    """3 of 6 layers at their own rate keep what is asked for."""
    return answer(STSB, "stsb", "spearman", **more)


def cola(**more: object) -> Answer:
    """No k keeps it with the confidence that was asked for."""
    return answer(COLA, "cola", "matthews_correlation", rows=1043, half=0.055, **more)


def mrpc(**more: object) -> Answer:
    """Nothing is better than the best constant answer."""
    return answer(MRPC, "mrpc", "f1", rows=408, half=0.031, constant=0.8122, **more)


def deep(**more: object) -> Answer:
    """12 layers, k = 6, and k = 1 with two numbers of epochs."""
    return answer(DEEP, "qnli", "accuracy", num_layers=12, rows=5463, half=0.009, constant=0.5054, **more)


def lower(**more: object) -> Answer:
    """A metric in its own unit, of which less is better."""
    return answer(LOWER, "files (reviews.csv)", "mae", rows=800, half=0.04, constant=1.31, **more)


def single(**more: object) -> Answer:
    """One point, of one seed, without an interval; nothing else was run."""
    return answer((Row(2, 5e-4, (0.82,), 25.0, 1.0, 1.0),), "stsb", "spearman", half=math.nan, paper=False, **more)


def head(**more: object) -> Answer:
    """The head alone is enough."""
    return answer(tuple(row._replace(p_keeps=0.99) for row in DEEP), "sst2", "accuracy", num_layers=12, **more)


def full(**more: object) -> Answer:
    """Nothing smaller than the full model is enough."""
    return answer(FULL, "rte", "accuracy", num_layers=12, rows=277, constant=0.527, **more)


KINDS = {
    "stsb": stsb, "cola": cola, "mrpc": mrpc, "deep": deep, "lower": lower, "single": single, "head": head,
    "full": full,
}  # fmt: skip


def answer(
    rows_of_points: Sequence[Row],
    task: str,
    metric: str,
    *,
    num_layers: int = 6,
    rows: int = 1500,
    half: float = 0.013,
    constant: float = 0.0,
    paper: bool = True,
    **more: object,
) -> Answer:
    """An answer of these points; half: half of each interval. `more` replaces fields."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    best_row = max(rows_of_points, key=lambda row: sign * mean(row.scores))
    gain = mean(best_row.scores) - constant
    points = tuple(_point(row, rows_of_points, constant, gain, half, sign) for row in rows_of_points)
    best = points[rows_of_points.index(best_row)]
    keeping = [point for point in points if point.p_keeps >= 0.9]
    complete = points[-1] if points[-1].candidate.layers == ALL else None
    of_paper: tuple[Point, ...] = ()
    if paper and complete is not None:
        by_layers = {point.candidate.layers: _of_paper(point, constant, complete.score) for point in points}
        of_paper = tuple(by_layers.values())
    fields: dict = {
        "task": task, "model": "models/all-MiniLM-L6-v2", "metric": metric, "num_layers": num_layers, "rows": rows,
        "selection_rows": 575, "constant": constant, "share": 0.95, "within": 0.01, "confidence": 0.9,
        "points": points, "chosen": keeping[0] if keeping else best, "sure": bool(keeping), "best": best,
        "full": complete, "paper": of_paper,
        "rates": tuple(rate for point in points for rate in _raced(point, sign)),
        "not_tried": tuple(k for k in range(4, num_layers) if all(k != row.layers for row in rows_of_points)),
        "dropped": (Dropped(3, "at most 84.1 with the rates left, below k = 2"),) if task == "mrpc" else (),
        "dominant_uncertainty": "rows", "seed_error": 0.003, "row_error": 0.009, "runs": 61, "seconds": 913.0,
        "command": f"python run.py --task {task.split()[0]} --model models/all-MiniLM-L6-v2 "
        f"--trainable_layers {(keeping[0] if keeping else best).candidate.layers} --learning_rate 2e-4 --epochs 3",
    }  # fmt: skip
    return Answer(**(fields | more))


def mean(values: Sequence[float]) -> float:
    """Of some scores."""
    return sum(values) / len(values)


def _point(row: Row, others: Sequence[Row], constant: float, gain: float, half: float, sign: int) -> Point:
    score = mean(row.scores)
    cheaper = [other for other in others if other.seconds < row.seconds]
    return Point(
        Candidate(row.layers, row.rate, row.epochs), score, score - half, score + half, (score - constant) / gain,
        (score - constant - half) / gain, (score - constant + half) / gain, row.p_within, row.p_keeps,
        abs(gain + constant - score) + 0.001, row.seconds, row.scores,
        all(sign * mean(other.scores) < sign * score for other in cheaper),
    )  # fmt: skip


def _of_paper(point: Point, constant: float, full: float) -> Point:
    lost = {0: 0.5, 1: 0.17, 2: 0.06, 3: 0.035, 6: 0.01}.get(point.candidate.layers, 0.0)  # type: ignore[arg-type]
    scores = tuple(score - lost * (score - constant) for score in point.scores)
    moved = mean(scores) - point.score
    return point._replace(
        candidate=Candidate(point.candidate.layers, 5e-5, 3), score=mean(scores), scores=scores,
        low=point.low + moved, high=point.high + moved, quality=mean(scores) / full,
        seconds=point.seconds * 3 / point.candidate.epochs,
    )  # fmt: skip


def _raced(point: Point, sign: int) -> list[RateScore]:
    """Three rates around a point's own, in a short race, and two of them again with all epochs."""
    candidate = point.candidate
    short = [candidate._replace(learning_rate=candidate.learning_rate * by, epochs=1) for by in (0.4, 1, 2.5)]
    found = [RateScore(one, point.score - sign * (0.05 + 0.02 * abs(i - 1)), 2, False) for i, one in enumerate(short)]
    found.append(RateScore(candidate, point.score - sign * 0.01, 3, True))
    return [*found, RateScore(candidate._replace(learning_rate=short[2].learning_rate), point.score * 0.98, 2, False)]
