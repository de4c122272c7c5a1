"""From what final runs answered on the reported rows to the answer of a search."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.freezing import ALL, Layers, order
from jaxfreeze.search import uncertainty
from jaxfreeze.search.answer import Answer, Point, RateScore
from jaxfreeze.search.outcomes import Outcomes, Reported, best_constant, runs_of, sign_of
from jaxfreeze.search.trial import Candidate, Dropped, Question
from jaxfreeze.search.uncertainty import Draws


class About(NamedTuple):
    """What an answer holds beside what is judged here."""

    task: str
    """As `Answer.task`."""
    model: str
    selection_rows: int
    rates: tuple[RateScore, ...]
    dropped: tuple[Dropped, ...]
    not_tried: tuple[Layers, ...]
    runs: int
    """Of the whole search."""
    seconds: float
    """Of the whole search."""
    command: Callable[[Candidate], str]
    """What trains a candidate."""


def judge(
    question: Question, outcomes: Sequence[Outcomes], paper: Sequence[Outcomes], reported: Reported, about: About
) -> Answer:
    """The answer of a search.

    outcomes: of the candidates; paper: of every k at the full model's rate and epochs, which may be among them. The
    best point is the one with the highest score; of equal ones, the cheapest. Raises InputError if no candidate was
    run twice, and ValueError if there is none.
    """
    if not outcomes:
        raise ValueError("no candidate was run")
    found, of_paper = (sorted(some, key=lambda one: _order(one.candidate)) for some in (outcomes, paper))
    every = {one.candidate: one for one in (*found, *of_paper)}
    constant = best_constant(reported)
    runs = [runs_of(one, reported) for one in every.values()]
    drawn = uncertainty.draw([one.seeds for one in every.values()], runs, constant.run, reported)
    places = {candidate: place for place, candidate in enumerate(every)}
    draws = drawn.take([places[one.candidate] for one in found])
    best = int(draws.score.argmax())
    points = _points(found, draws, best, question, reported, rivals=range(len(found)))
    chosen = next((place for place, point in enumerate(points) if point.p_keeps >= question.confidence), None)
    recommended = best if chosen is None else chosen
    seed_error, row_error = draws.errors(recommended, _compared(points, recommended, best))
    return Answer(
        task=about.task,
        model=about.model,
        metric=reported.metric,
        num_layers=question.num_layers,
        rows=len(reported.counts),
        selection_rows=about.selection_rows,
        constant=sign_of(reported.metric) * constant.score,
        share=question.share,
        within=question.within,
        confidence=question.confidence,
        points=points,
        chosen=points[recommended],
        sure=chosen is not None,
        best=points[best],
        full=_full(points, draws),
        paper=_paper_points(of_paper, drawn, places, question, reported),
        rates=about.rates,
        not_tried=about.not_tried,
        dropped=about.dropped,
        dominant_uncertainty="seeds" if seed_error > row_error else "rows",
        seed_error=seed_error,
        row_error=row_error,
        runs=about.runs,
        seconds=about.seconds,
        command=about.command(points[recommended].candidate),
    )


def _order(candidate: Candidate) -> tuple[float, int, float]:
    return order(candidate.layers), candidate.epochs, candidate.learning_rate


def _points(
    found: Sequence[Outcomes],
    draws: Draws,
    reference: int,
    question: Question,
    reported: Reported,
    rivals: Sequence[int] = (),
) -> tuple[Point, ...]:
    sign = sign_of(reported.metric)
    ends = np.sort(sign * uncertainty.simultaneous(draws, reported.metric, len(reported.counts)), axis=1)
    kept = uncertainty.shares(draws, reference, question.share, rivals)
    behind = uncertainty.distances(draws, reference, question.within, rivals)
    seconds = np.array([np.mean(one.seconds) for one in found])
    front = pareto(draws.score, seconds)
    return tuple(
        Point(
            candidate=one.candidate,
            score=float(sign * draws.score[place]),
            low=float(ends[place, 0]),
            high=float(ends[place, 1]),
            quality=float(kept.quality[place]),
            quality_low=float(kept.low[place]),
            quality_high=float(kept.high[place]),
            p_within=float(behind.p_within[place]),
            p_keeps=float(kept.p_keeps[place]),
            regret=float(behind.regret[place]),
            seconds=float(seconds[place]),
            scores=tuple((sign * draws.scores[place]).tolist()),
            on_front=bool(front[place]),
        )
        for place, one in enumerate(found)
    )


def pareto(scores: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Which points no other is as good as and cheaper, or as cheap as and better: bool [P]."""
    good, cheap = scores[:, None] >= scores, seconds[:, None] <= seconds  # [other, point]
    strictly = (scores[:, None] > scores) | (seconds[:, None] < seconds)
    return np.logical_not((good & cheap & strictly).any(axis=0))


def _compared(points: Sequence[Point], chosen: int, best: int) -> int | None:
    """The point whose difference to the recommended one decides; None: the constant answer.

    The best one; where that is recommended, the one before it that most likely keeps the share.
    """
    if chosen != best:
        return best
    return max(range(chosen), key=lambda place: points[place].p_keeps, default=None)


def _full(points: Sequence[Point], draws: Draws) -> Point | None:
    places = [place for place, point in enumerate(points) if point.candidate.layers == ALL]
    return points[max(places, key=lambda place: draws.score[place])] if places else None


def _paper_points(
    found: Sequence[Outcomes], drawn: Draws, places: dict[Candidate, int], question: Question, reported: Reported
) -> tuple[Point, ...]:
    """The points of the paper's protocol, with plain ratios to the full model's score: a constant answer of 0.

    found: by k. None without the full model.
    """
    if not found or found[-1].candidate.layers != ALL:
        return ()
    draws = drawn.take([places[one.candidate] for one in found])
    plain = draws._replace(constant=0.0, drawn_constant=np.zeros_like(draws.drawn_constant))
    return _points(found, plain, len(found) - 1, question, reported)  # the full model is the last
