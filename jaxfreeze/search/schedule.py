"""Which trials a search makes next: the races over learning rates, cheap k first, then final trials with fresh seeds.

Every function here is a pure function of the question and the findings, so a search that was killed goes on as if it
had not been. The search is written down once, as a generator that yields stages and is sent their findings
(`_Search.steps`); the public functions replay it.
"""

import itertools
import math
from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.search.answer import RateScore
from jaxfreeze.search.price import (
    FULL_SEEDS,
    FULL_SURVIVORS,
    epoch_seconds,
    expected_costs,
    price_of,
    reference_epochs,
    short_epochs,
)
from jaxfreeze.search.rates import best_rates, expectation, first_rates, next_edge, regrets, run_noise
from jaxfreeze.search.trial import Candidate, Dropped, Finding, Question, Stage, Trial

FIRST_RACE_SEED = 1001
LONGER = 3
"""Where a run is cheap, it also gets this many times the epochs: the view at equal cost."""


def next_stage(question: Question, findings: Sequence[Finding]) -> Stage | None:
    """The trials to make next, without those that are among the findings; None: the search is complete."""
    return _replay(question, findings)[1]


def candidates(question: Question, findings: Sequence[Finding]) -> tuple[Candidate, ...]:
    """What the final trials are of, by k, then epochs; those that are settled so far."""
    return tuple(_replay(question, findings)[0].finals)


def paper_candidates(question: Question, findings: Sequence[Finding]) -> tuple[Candidate, ...]:
    """Every k at the full model's rate and epochs, as the paper compares them; those that have final trials."""
    return tuple(_replay(question, findings)[0].paper)


def dropped(question: Question, findings: Sequence[Finding]) -> tuple[Dropped, ...]:
    """Every k that has no final trials, with the reason."""
    return tuple(_replay(question, findings)[0].dropped)


def rates(question: Question, findings: Sequence[Finding]) -> tuple[RateScore, ...]:
    """Every setting that was raced, by k, epochs and rate, with its mean score on the selection rows."""
    search = _replay(question, findings)[0]
    scores: dict[Candidate, list[float]] = {}
    for finding in search.findings:
        if not finding.trial.final:
            scores.setdefault(finding.trial.candidate, []).append(finding.score)
    chosen = {choice.candidate for choices in search.choices.values() for choice in choices}
    rank = list(question.ladder).index
    return tuple(
        RateScore(candidate, float(np.mean(scores[candidate])), len(scores[candidate]), candidate in chosen)
        for candidate in sorted(scores, key=lambda c: (rank(c.layers), c.epochs, c.learning_rate))
    )


def not_tried(question: Question) -> tuple[Layers, ...]:
    """The k that lie between those of the ladder."""
    return tuple(k for k in range(question.num_layers + 1) if k not in question.ladder)


def final_seeds(question: Question, layers: Layers) -> tuple[int, ...]:
    """Seeds of the final trials: five where runs are cheap, three otherwise, unless the question names them."""
    return question.seeds or tuple(range(1, 6 if _cheap(layers) else FULL_SEEDS + 1))


def race_seeds(question: Question, layers: Layers) -> tuple[int, ...]:
    """Seeds of the race: three for the head alone, one for others; none is a final trial's."""
    fresh = (seed for seed in itertools.count(FIRST_RACE_SEED) if seed not in question.seeds)
    return tuple(itertools.islice(fresh, 3 if layers == 0 else 1))


def search(question: Question) -> "_Search":
    """The search as values: `steps()` yields stages and is sent their findings. For simulations, which never stop."""
    return _Search(question)


def _replay(question: Question, findings: Sequence[Finding]) -> "tuple[_Search, Stage | None]":
    """The search as far as complete stages lead, and what is missing of the next stage."""
    found = {finding.trial: finding for finding in findings}
    replayed = _Search(question)
    steps = replayed.steps()
    try:
        stage = next(steps)
        while not (missing := tuple(trial for trial in stage.trials if trial not in found)):
            stage = steps.send([found[trial] for trial in stage.trials])
    except StopIteration:
        return replayed, None
    return replayed, stage._replace(trials=missing)


class Choice(NamedTuple):
    """What a race chose."""

    candidate: Candidate
    score: float
    """Mean over its race seeds on the selection rows."""
    noise: float
    """Standard error of that mean, over rows."""


def _cheap(layers: Layers) -> bool:
    return layers in (0, 1)


def _trials(made: Iterable[Candidate], seeds: Sequence[int], final: bool = False) -> tuple[Trial, ...]:
    return tuple(Trial(candidate, seed, final) for candidate in made for seed in seeds)


Steps = Generator[Stage, Sequence[Finding], None]


class _Search:
    """A search: what it has found, chosen and left out so far."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.findings: list[Finding] = []
        self.choices: dict[Layers, list[Choice]] = {}
        """Of every k that was raced: at equal steps, then the longer one where there is one."""
        self.finals: list[Candidate] = []
        self.paper: list[Candidate] = []
        self.dropped: list[Dropped] = []

    def steps(self) -> Steps:
        """The whole search, in the order in which it happens."""
        for layers in self.question.ladder:
            if self._affordable(layers):
                yield from self._race(layers)
                if _cheap(layers):
                    yield from self._race_longer(layers)
            else:
                self._drop(layers, f"the budget of {self.question.budget:g} leaves no room for it")
        for layers in self.choices:
            if not _cheap(layers) and (reason := self._hopeless(layers)):
                self._drop(layers, reason)
        yield from self._final_trials()
        yield from self._paper_trials()

    # Races

    def _race(self, layers: Layers) -> Steps:
        """The rates at a third of the epochs; the best of them at all epochs; further ones while the best is an edge."""
        epochs, short = self.question.epochs, short_epochs(self.question.epochs)
        seeds = race_seeds(self.question, layers)
        yield from self._rung(layers, first_rates(layers, self._below(layers)), short, seeds)
        while (edge := next_edge(self._tried(layers, short), self._best(layers, short)[0])) is not None:
            yield from self._rung(layers, [edge], short, seeds)
        if short < epochs:
            survivors = self._best(layers, short)[: {0: 4, 1: 3}.get(layers, FULL_SURVIVORS)]
            yield from self._rung(layers, survivors, epochs, seeds)
        self._choose(layers, epochs)

    def _race_longer(self, layers: Layers) -> Steps:
        """The chosen rate and the one below it with three times the epochs, if that costs no more than the full model."""
        longer = LONGER * self.question.epochs
        costs = self._costs
        if costs[layers] * LONGER > costs[ALL]:
            return
        seeds = race_seeds(self.question, layers)
        chosen = self.choices[layers][0].candidate.learning_rate
        lower = next_edge([chosen], chosen)
        stage = self._rung(layers, [chosen] if lower is None else [lower, chosen], longer, seeds)
        yield from stage
        self._choose(layers, longer)

    def _rung(self, layers: Layers, tried: Sequence[float], epochs: int, seeds: Sequence[int]) -> Steps:
        made = [Candidate(layers, rate, epochs) for rate in sorted(tried)]
        name = f"k = {layers}: learning rates, {epochs} epoch{'s' if epochs > 1 else ''}"
        self.findings += yield Stage(name, _trials(made, seeds))

    def _choose(self, layers: Layers, epochs: int) -> None:
        candidate = Candidate(layers, self._best(layers, epochs)[0], epochs)
        scores = [finding.score for finding in self._of(layers) if finding.trial.candidate == candidate]
        noise = run_noise(self.question) * 2 / math.sqrt(len(scores))
        self.choices.setdefault(layers, []).append(Choice(candidate, float(np.mean(scores)), noise))

    def _of(self, layers: Layers) -> list[Finding]:
        return [f for f in self.findings if f.trial.candidate.layers == layers and not f.trial.final]

    def _tried(self, layers: Layers, epochs: int) -> list[float]:
        found = (finding.trial.candidate for finding in self._of(layers))
        return sorted({candidate.learning_rate for candidate in found if candidate.epochs == epochs})

    def _best(self, layers: Layers, epochs: int) -> list[float]:
        return best_rates(self.question, self._of(layers), expectation(layers, self._below(layers)), epochs)

    def _below(self, layers: Layers) -> float | None:
        """The rate chosen at the nearest k below, at equal steps."""
        ladder = self.question.ladder
        below = [k for k in ladder[: ladder.index(layers)] if k in self.choices]
        return self.choices[below[-1]][0].candidate.learning_rate if below else None

    # What is left out

    @property
    def _costs(self) -> dict[Layers, float]:
        return epoch_seconds(self.findings, expected_costs(self.question))

    def _seconds(self, trials: Iterable[Trial]) -> float:
        return price_of(trials, self._costs)

    def _least(self, layers: Layers) -> float:
        """Seconds that a k takes from here to its final trials; the full model's are those of the reference."""
        epochs, short, costs = self.question.epochs, short_epochs(self.question.epochs), self._costs
        if layers in self.choices:
            return costs[layers] * epochs * len(final_seeds(self.question, layers))
        if layers == ALL:
            return costs[layers] * reference_epochs(epochs)
        rungs = len(first_rates(layers, self._below(layers))) * short + (epochs if short < epochs else 0)
        seeds = len(race_seeds(self.question, layers))
        return costs[layers] * (rungs * seeds + epochs * len(final_seeds(self.question, layers)))

    def _room(self, ahead: Iterable[Layers]) -> float:
        """Seconds that the budget leaves when those k are taken to their end."""
        spent = sum(finding.seconds for finding in self.findings)
        allowed = self.question.budget * reference_epochs(self.question.epochs) * self._costs[ALL]
        return allowed - spent - sum(self._least(layers) for layers in ahead)

    def _ahead(self) -> list[Layers]:
        """The k that the budget admits: those begun, then 0, 1, the full model, and the others from the cheapest on."""
        admitted = [k for k in self.question.ladder if k in self.choices]
        rest = sorted((k for k in self.question.ladder if k not in self.choices), key=lambda k: _PRIORITY.get(k, 3))
        for layers in rest:
            if self._room([*admitted, layers]) >= 0:
                admitted.append(layers)
        return admitted

    def _affordable(self, layers: Layers) -> bool:
        return layers in self._ahead()

    def _drop(self, layers: Layers, reason: str) -> None:
        self.dropped.append(Dropped(layers, reason))

    def _hopeless(self, layers: Layers) -> str | None:
        """Why a k need not be run any further, if its race says so."""
        best = max((choices[0] for choices in self.choices.values()), key=lambda choice: choice.score)
        choice = self.choices[layers][0]
        gain = best.score - self.question.constant
        if gain <= best.noise:
            return None
        quality = (choice.score - self.question.constant) / gain
        noise = math.hypot(choice.noise, best.noise) / gain
        if quality + HOPELESS * noise >= self.question.share:
            return None
        return f"it kept {max(quality, 0):.0%} of the best quality on the selection rows, which is too far below {self.question.share:.0%}"

    # Final trials

    def _final_trials(self) -> Steps:
        """Equal steps first; the longer candidates while the budget has room for them."""
        out = {drop.layers for drop in self.dropped}
        chosen = {k: choices for k, choices in self.choices.items() if k not in out}
        for layers, choices in chosen.items():
            yield from self._finish(choices[0].candidate, final_seeds(self.question, layers))
        for layers, choices in chosen.items():
            if len(choices) > 1 and not self._hopeless(layers):
                yield from self._finish(choices[1].candidate, final_seeds(self.question, layers), optional=True)
        rank = self.question.ladder.index
        self.finals.sort(key=lambda candidate: (rank(candidate.layers), candidate.epochs))

    def _finish(self, candidate: Candidate, seeds: Sequence[int], optional: bool = False) -> Steps:
        trials = _trials([candidate], seeds, final=True)
        if optional and self._seconds(trials) > self._room([]):
            return
        self.finals.append(candidate)
        self.findings += yield Stage(f"k = {candidate.layers}: final trials, {candidate.epochs} epochs", trials)

    def _paper_trials(self) -> Steps:
        """Every k at the full model's rate and epochs, where the budget has room; trials that were made are reused."""
        full = [choice.candidate for choice in self.choices.get(ALL, [])]
        for layers in self.question.ladder if full else ():
            candidate = full[0]._replace(layers=layers)
            made = {finding.trial for finding in self.findings}
            seeds = final_seeds(self.question, layers)
            trials = _trials([candidate], seeds[: 3 if _cheap(layers) else 1], final=True)
            if candidate not in self.finals and self._seconds(set(trials) - made) > self._room([]):
                continue
            self.paper.append(candidate)
            if candidate not in self.finals:
                self.findings += yield Stage(f"k = {layers}: the paper's protocol", trials)


HOPELESS = 3.0
"""Standard errors by which the quality of a hopeless k lies below the share."""
_PRIORITY: dict[Layers, int] = {0: 0, 1: 1, ALL: 2}
"""What the budget goes to first."""
