"""What a search tries and what it learns from it: plain values, so that the schedule is a pure function of them.

Three sets of rows: the training rows; the selection rows, on which everything is chosen; the reported rows, which are
scored once, by the final trials, and choose nothing before the last stage.
"""

import dataclasses
from typing import NamedTuple

from jaxfreeze.freezing import ALL, Layers


class Candidate(NamedTuple):
    """A setting that a search may recommend."""

    layers: Layers
    """k: how many of the last layers train."""
    learning_rate: float
    """Peak of the schedule."""
    epochs: int
    """Passes over the training rows, with a complete schedule."""


class Trial(NamedTuple):
    """One run of a candidate."""

    candidate: Candidate
    seed: int
    final: bool = False
    """Whether it is scored on the reported rows; such a trial has a seed that chose nothing."""


class Finding(NamedTuple):
    """What the schedule may know of a finished trial. It holds nothing of the reported rows."""

    trial: Trial
    score: float
    """The primary metric on the selection rows, with the sign turned where lower is better; -inf if it diverged."""
    loss: float
    """Mean loss on the selection rows; inf if it diverged."""
    seconds: float
    """Of training and scoring; what is computed once for many runs, such as a program or the trunk, is not in it."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked, and what is known before the first run."""

    num_layers: int
    """L, of the encoder."""
    epochs: int
    """Passes over the training rows that the full model gets."""
    constant: float
    """Score of the best constant answer on the selection rows, in the sign of `Finding.score`."""
    rows: int
    """Number of selection rows, which limits what they can decide."""
    scale: float = 1.0
    """How far a score moves with one row: 1 for an accuracy (its standard error is about scale / 2 / sqrt(rows))."""
    share: float = 0.95
    """Share of the reference's quality, above the constant answer's, that is to be kept."""
    within: float = 0.01
    """A score this far below the best one found counts as good."""
    confidence: float = 0.8
    """Probability with which the share has to be kept."""
    seeds: tuple[int, ...] = ()
    """Seeds of the final trials of every k; (): five where runs are cheap, three for the full model."""
    budget: float = 2.0
    """What training and scoring may cost, as a multiple of tuning and running the full model alone."""

    @property
    def ladder(self) -> tuple[Layers, ...]:
        """The k that are tried, cheapest first."""
        return ladder(self.num_layers)


def ladder(num_layers: int) -> tuple[Layers, ...]:
    """The k that are tried of L layers, cheapest first: 0, 1, 2, 3, then doubled below L, and the full model.

    For 6 layers 0, 1, 2, 3, all; for 12 0, 1, 2, 3, 6, all; for 24 0, 1, 2, 3, 6, 12, all.
    """
    rungs = [k for k in (0, 1, 2, 3) if k < num_layers]
    while 2 * rungs[-1] < num_layers and rungs[-1] >= 3:
        rungs.append(2 * rungs[-1])
    return (*rungs, ALL)


class Stage(NamedTuple):
    """Trials that are made together before anything is decided again."""

    name: str
    """What it is for, in a few words: 'k = 1: learning rates, 1 epoch'."""
    trials: tuple[Trial, ...]


class Dropped(NamedTuple):
    """A k that was not tried to its end."""

    layers: Layers
    reason: str
