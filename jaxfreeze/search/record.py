"""What a search has found, chosen and left out so far."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.search.price import FULL_SEEDS, epoch_seconds, expected_costs, short_epochs
from jaxfreeze.search.rates import best_rates, expectation, losses
from jaxfreeze.search.trial import Candidate, Dropped, Finding, Question, Trial

FIRST_RACE_SEED = 1001
RACE_SEEDS = ((0.02, 3), (0.1, 2), (1.0, 1))
"""(cost, seeds): how many seeds a race has for a k that costs at most this share of the full model."""
CHEAP_SEEDS = 5
"""Final seeds for k = 0 and 1."""
HOPELESS = 3.0
"""Standard errors by which the score of a hopeless k lies below what it would have to keep."""


class Choice(NamedTuple):
    """What a race chose."""

    candidate: Candidate
    scores: dict[int, float]
    """Mean score of its rate on the selection rows, over race seeds, by epochs."""


def is_cheap(layers: Layers) -> bool:
    """Whether runs come by the dozen: training the head alone, or one layer."""
    return layers in (0, 1)


def final_seeds(question: Question, layers: Layers) -> tuple[int, ...]:
    """Seeds of the final trials: five where runs are cheap, three otherwise, unless the question names them."""
    return question.seeds or tuple(range(1, (CHEAP_SEEDS if is_cheap(layers) else FULL_SEEDS) + 1))


def race_seeds(question: Question, layers: Layers) -> tuple[int, ...]:
    """Seeds of a race: three, two or one, by what a run is expected to cost. None is a final trial's."""
    cost = expected_costs(question)[layers]
    count = next((seeds for limit, seeds in RACE_SEEDS if cost <= limit), 1)
    fresh = (seed for seed in itertools.count(FIRST_RACE_SEED) if seed not in question.seeds)
    return tuple(itertools.islice(fresh, count))


def trials_of(made: Iterable[Candidate], seeds: Sequence[int], final: bool = False) -> tuple[Trial, ...]:
    """Every candidate with every seed."""
    return tuple(Trial(candidate, seed, final) for candidate in made for seed in seeds)


class Record:
    """A search so far: what the schedule has written down, and what follows from it."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.findings: list[Finding] = []
        self.choices: dict[Layers, list[Choice]] = {}
        """Of every k that was raced: at the question's epochs, then at more of them where that was raced."""
        self.finals: list[Candidate] = []
        self.paper: list[Candidate] = []
        self.dropped: list[Dropped] = []

    def races_of(self, layers: Layers) -> list[Finding]:
        """The findings of a k's race."""
        return [f for f in self.findings if f.trial.candidate.layers == layers and not f.trial.final]

    def tried(self, layers: Layers, epochs: int) -> list[float]:
        """The rates that were raced, in ascending order."""
        found = (finding.trial.candidate for finding in self.races_of(layers))
        return sorted({candidate.learning_rate for candidate in found if candidate.epochs == epochs})

    def best(self, layers: Layers, epochs: int) -> list[float]:
        """The rates tried at these epochs, the most promising first."""
        return best_rates(self.question, self.races_of(layers), expectation(layers, self.below(layers)), epochs)

    def survivors(self, layers: Layers, epochs: int, count: int) -> list[float]:
        """The most promising of the rates tried at these epochs, best first; one of them has the lowest loss.

        After few epochs many runs still answer the same for every row. Their scores say nothing; their losses do.
        count: how many, at least two.
        """
        loss = losses(self.races_of(layers), epochs)
        lowest = min(loss, key=loss.__getitem__)
        kept = self.best(layers, epochs)[:count]
        return kept if lowest in kept else [*kept[:-1], lowest]

    def below(self, layers: Layers) -> float | None:
        """The rate chosen at the nearest k below."""
        ladder = self.question.ladder
        below = [k for k in ladder[: ladder.index(layers)] if k in self.choices]
        return self.choices[below[-1]][0].candidate.learning_rate if below else None

    def choose(self, layers: Layers, epochs: int) -> None:
        """Settle the rate of a k at these epochs, by runs of fewer where there are none."""
        raced = epochs if self.tried(layers, epochs) else short_epochs(epochs)
        rate = self.best(layers, raced)[0]
        scores: dict[int, list[float]] = {}
        for finding in self.races_of(layers):
            if finding.trial.candidate.learning_rate == rate:
                scores.setdefault(finding.trial.candidate.epochs, []).append(finding.score)
        means = {epochs: float(np.mean(values)) for epochs, values in scores.items()}
        self.choices.setdefault(layers, []).append(Choice(Candidate(layers, rate, epochs), means))

    def drop_hopeless(self) -> None:
        """Drop what was raced, is not cheap, and cannot keep the share; the full model stays for comparison."""
        for layers in self.ahead():
            if layers in self.choices and layers != ALL and not is_cheap(layers) and (reason := self.hopeless(layers)):
                self.drop(layers, reason)

    def hopeless(self, layers: Layers) -> str | None:
        """Why a k cannot keep the share, in a sentence; None if its race leaves that open.

        It is compared with the best of the others at the same epochs. Two k that answer a quarter of the rows
        differently have scores whose difference has a standard error of scale / 2 / sqrt(rows).
        """
        question = self.question
        scores = self.choices[layers][0].scores
        epochs = max(scores)
        best = max(choices[0].scores.get(epochs, -math.inf) for choices in self.choices.values())
        gain = best - question.constant
        noise = question.scale / 2 / math.sqrt(question.rows)
        if gain <= 0 or scores[epochs] + HOPELESS * noise >= question.constant + question.share * gain:
            return None
        kept = max((scores[epochs] - question.constant) / gain, 0.0)
        return (
            f"on the selection rows it keeps {kept:.0%} of the best quality, "
            f"too far below {question.share:.0%} to be chance"
        )

    def ahead(self) -> list[Layers]:
        """The k that are taken to their end."""
        out = {drop.layers for drop in self.dropped}
        return [layers for layers in self.question.ladder if layers not in out]

    def drop(self, layers: Layers, reason: str) -> None:
        """Leave a k out from here on."""
        self.dropped.append(Dropped(layers, reason))

    def missing(self, trials: Iterable[Trial]) -> tuple[Trial, ...]:
        """The trials that were not made yet."""
        made = {finding.trial for finding in self.findings}
        return tuple(trial for trial in trials if trial not in made)

    def epoch_seconds(self) -> dict[Layers, float]:
        """Seconds of an epoch with each k, as far as is known."""
        return epoch_seconds(self.findings, expected_costs(self.question))
