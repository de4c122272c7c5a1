"""The answer of a search: what every candidate scored on the reported rows, and which one is recommended."""

import dataclasses
from typing import Literal, NamedTuple

from jaxfreeze.freezing import Layers
from jaxfreeze.search.trial import Candidate, Dropped


class Point(NamedTuple):
    """A candidate on the reported rows. Scores are fractions, in the metric's own sign; intervals are simultaneous."""

    candidate: Candidate
    score: float
    """Mean over its final seeds."""
    low: float
    """Ends of its 95% interval over seeds and rows, simultaneous over all points."""
    high: float
    quality: float
    """(score - constant) / (the best point's score - constant); 0 where the best point is not above the constant."""
    quality_low: float
    """Ends of the 95% interval of that share, of this point alone; -inf and inf where it is unbounded."""
    quality_high: float
    p_within: float
    """Probability that the score is within `within` of the best."""
    p_keeps: float
    """Probability that it keeps the share that was asked for."""
    regret: float
    """Expected distance from the best score, at least 0."""
    seconds: float
    """Of one run, a mean over its final seeds."""
    scores: tuple[float, ...]
    """By final seed."""
    on_front: bool
    """No other point is both cheaper and better."""


class RateScore(NamedTuple):
    """A learning rate that was raced: its mean score on the selection rows."""

    candidate: Candidate
    score: float
    runs: int
    chosen: bool


@dataclasses.dataclass(frozen=True)
class Answer:
    """All that a search says. `answer.json` holds the same."""

    task: str
    """As --task names it; for own rows with their training file or data set."""
    model: str
    """As --model names it."""
    metric: str
    """The metric that decides, by name."""
    num_layers: int
    """Encoder layers of the model."""
    rows: int
    """Reported rows."""
    selection_rows: int
    """Rows on which learning rates and epochs were chosen."""
    constant: float
    """Score of the best constant answer on the reported rows."""
    share: float
    """Share of the best model's quality to keep, as asked."""
    within: float
    """Points below the best score that count as good, as asked."""
    confidence: float
    """Probability with which the share must be kept, as asked."""
    points: tuple[Point, ...]
    """By k, then epochs; the full model last."""
    chosen: Point
    """The smallest k that keeps the share with the asked confidence; the best point where none does."""
    sure: bool
    """Whether `chosen` does keep it with that confidence."""
    best: Point
    """The point with the best score."""
    full: Point | None
    """The full model at its own rate; None where it was not run."""
    paper: tuple[Point, ...]
    """Every k at the full model's learning rate and epochs, as the paper compares them; its qualities are plain ratios
    to the full model's score."""
    rates: tuple[RateScore, ...]
    """Every setting that was raced."""
    not_tried: tuple[Layers, ...]
    """Every k that the search leaves out from the beginning."""
    dropped: tuple[Dropped, ...]
    """Every k that it began with and that got no final runs, with the reason."""
    dominant_uncertainty: Literal["seeds", "rows"]
    """Which of the two standard errors below is the larger one."""
    seed_error: float
    """Standard error of the difference between `chosen` and `best` that comes from seeds ... Where they are the same
    point: between it and the cheaper point that most likely keeps the share, or else the constant answer."""
    row_error: float
    """... and from the reported rows."""
    runs: int
    """Runs of the whole search."""
    seconds: float
    """Of the whole search."""
    command: str
    """That trains the recommendation."""
