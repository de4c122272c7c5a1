"""What a search has found and chosen so far, and what its budget leaves for more."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.search.price import (
    FULL_SEEDS,
    epoch_seconds,
    expected_costs,
    price_of,
    reference_epochs,
    short_epochs,
)
from jaxfreeze.search.rates import best_rates, expectation, first_rates
from jaxfreeze.search.trial import Candidate, Dropped, Finding, Question, Trial

FIRST_RACE_SEED = 1001
RACE_SEEDS = ((0.02, 3), (0.1, 2), (1.0, 1))
"""(cost, seeds): how many seeds a race has for a k that costs at most this share of the full model."""
CHEAP_SEEDS = 5
"""Final seeds for k = 0 and 1."""
HOPELESS = 3.0
"""Standard errors by which the score of a hopeless k lies below what it would have to keep."""
TIMING = 0.98
"""Share of the budget that is planned for: estimates of seconds are off by some percent."""
TOLERANCE = 0.03
"""Share of the budget that may be missing before a k is given up that had been planned for."""


class Choice(NamedTuple):
    """What a race chose."""

    candidate: Candidate
    score: float
    """Mean over its race seeds on the selection rows."""


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
    """A search so far. The schedule alone writes into it; everything here follows from the question and the findings."""

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

    def below(self, layers: Layers) -> float | None:
        """The rate chosen at the nearest k below."""
        ladder = self.question.ladder
        below = [k for k in ladder[: ladder.index(layers)] if k in self.choices]
        return self.choices[below[-1]][0].candidate.learning_rate if below else None

    def choose(self, layers: Layers, epochs: int) -> None:
        """Settle the rate of a k at these epochs."""
        candidate = Candidate(layers, self.best(layers, epochs)[0], epochs)
        scores = [finding.score for finding in self.races_of(layers) if finding.trial.candidate == candidate]
        self.choices.setdefault(layers, []).append(Choice(candidate, float(np.mean(scores))))

    def hopeless(self, layers: Layers) -> str | None:
        """Why a k cannot keep the share, in a sentence; None if its race leaves that open.

        Two k that answer a quarter of the rows differently have scores whose difference has a standard error of
        scale / 2 / sqrt(rows).
        """
        question = self.question
        best = max(choices[0].score for choices in self.choices.values())
        gain = best - question.constant
        noise = question.scale / 2 / math.sqrt(question.rows)
        score = self.choices[layers][0].score
        if gain <= 0 or score + HOPELESS * noise >= question.constant + question.share * gain:
            return None
        kept = max((score - question.constant) / gain, 0.0)
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

    # The budget

    def epoch_seconds(self) -> dict[Layers, float]:
        """Seconds of an epoch with each k, as far as is known."""
        return epoch_seconds(self.findings, expected_costs(self.question))

    def price(self, trials: Iterable[Trial]) -> float:
        """Seconds of those trials that are still to be made."""
        return price_of(self.missing(trials), self.epoch_seconds())

    def missing(self, trials: Iterable[Trial]) -> tuple[Trial, ...]:
        """The trials that were not made yet."""
        made = {finding.trial for finding in self.findings}
        return tuple(trial for trial in trials if trial not in made)

    def least(self, layers: Layers) -> float:
        """Seconds from here to the end of the final trials of a k, with the shortest race that it may have.

        The full model has the reference's race, until that begins, with one rate more at the edge of its grid.
        """
        question, seconds = self.question, self.epoch_seconds()
        epochs, short = question.epochs, short_epochs(question.epochs)
        if layers in self.choices:
            candidate = self.choices[layers][0].candidate
            return self.price(trials_of([candidate], final_seeds(question, layers), final=True))
        second_rung = epochs if short < epochs else 0
        race = second_rung * len(race_seeds(question, layers))
        if not self.races_of(layers):
            race += short * len(first_rates(layers, self.below(layers))) * len(race_seeds(question, layers))
            race += short + second_rung if layers == ALL else 0
        return seconds[layers] * (race + epochs * len(final_seeds(question, layers)))

    @property
    def allowed(self) -> float:
        """Seconds that may be planned for."""
        reference = reference_epochs(self.question.epochs) * self.epoch_seconds()[ALL]
        return TIMING * self.question.budget * reference

    def room(self) -> float:
        """Seconds that the budget leaves beside taking every k that was not dropped to its end; below 0: too few."""
        spent = sum(finding.seconds for finding in self.findings)
        return self.allowed - spent - sum(map(self.least, self.ahead()))

    def beyond_the_budget(self) -> list[Layers]:
        """The k that the budget has no room for; it goes to the cheap ones first, the full model, then from below."""
        ladder = self.question.ladder
        left, out = self.allowed, []
        for layers in sorted(ladder, key=lambda k: (not is_cheap(k), k != ALL)):
            if self.least(layers) <= left or layers == ladder[0]:
                left -= self.least(layers)
            else:
                out.append(layers)
        return out
