"""A simulated world in which the answer is known: learning curves, seeds and rows, without any training.

Every row has a difficulty that all runs share, one that the runs of a k share, and one of its own in each run. A run is
right about a row where the sum is below a threshold that its true score sets.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args
from unittest import mock

import numpy as np
from scipy.special import ndtri

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.objectives import Classification
from jaxfreeze.search import schedule, uncertainty
from jaxfreeze.search.answer import Answer
from jaxfreeze.search.judge import About, judge
from jaxfreeze.search.outcomes import Outcomes, Reported
from jaxfreeze.search.record import Record
from jaxfreeze.search.trial import Candidate, Finding, Question, Stage, Trial, ladder

Need = Literal[0, 1, 2, 3, "all", "constant"]
"""The k from which on quality is kept; constant: no k beats the constant answer."""
NEEDS: tuple[Need, ...] = get_args(Need)
COSTS: dict[int, dict[Layers, float]] = {  # share of a full run, measured (L = 6) and scaled from it
    6: {0: 0.01, 1: 0.14, 2: 0.3, 3: 0.45, ALL: 1.0},
    12: {0: 0.01, 1: 0.075, 2: 0.15, 3: 0.22, 6: 0.45, ALL: 1.0},
    24: {0: 0.01, 1: 0.04, 2: 0.075, 3: 0.11, 6: 0.23, 12: 0.46, ALL: 1.0},
}
SHARED, OF_LAYERS, OF_RUN = (
    0.65**0.5,
    0.15**0.5,
    0.2**0.5,
)  # standard deviations of a row's difficulties; squares add to 1


class Curve(NamedTuple):
    """What a k reaches, as a share of what the full model can gain over the constant answer."""

    peak: float
    optimum: float
    """log10 of the best learning rate at the question's epochs."""
    width: float
    """Decades from the optimum to where nothing is left of the gain."""
    lag: float
    """Share that is lost at a third of the epochs."""
    longer: float
    """Share that is gained at three times the epochs."""
    steep: float = 1.0
    """The width below the optimum, as a share of the one above it."""


class Rows(NamedTuple):
    """Rows that runs are scored on."""

    label: np.ndarray
    """int32 [N]: 1 is the class of the constant answer."""
    difficulty: np.ndarray
    """[N], shared by all runs."""
    of_layers: dict[Layers, np.ndarray]
    """k -> [N]."""


@dataclasses.dataclass(frozen=True)
class World:
    """Everything that is true of a task."""

    need: Need
    question: Question
    constant: float
    gain: float
    """What the full model can score above the constant answer."""
    seed_spread: float
    """Standard deviation of the score over seeds."""
    curves: dict[Layers, Curve]
    shift: float
    """Decades by which the best rate falls when epochs are tripled."""
    selection: Rows
    reported: Rows
    random: np.random.Generator

    def truth(self, candidate: Candidate) -> float:
        """Expected score on unseen rows, over seeds."""
        return self.constant + self.gain * self._quality(candidate)

    def best(self, layers: Layers, epochs: int) -> float:
        """The true score at the best rate of the series' range."""
        curve = self.curves[layers]
        rate = 10 ** (curve.optimum - self.shift * np.log(epochs / self.question.epochs) / np.log(3))
        return self.truth(Candidate(layers, rate, epochs))

    def _quality(self, candidate: Candidate, shift: float = 0.0) -> float:
        curve = self.curves[candidate.layers]
        thirds = np.log(candidate.epochs / self.question.epochs) / np.log(3)  # -1, 0 or 1
        away = (np.log10(candidate.learning_rate) - curve.optimum + self.shift * thirds + shift) / curve.width
        away /= curve.steep if away < 0 else 1.0
        length = 1 + (curve.lag if thirds < 0 else curve.longer) * thirds
        return curve.peak * length * max(0.0, 1 - away**2)

    def run(self, stage: Stage) -> list[Finding]:
        """Make the trials of a stage: what the schedule may know of them."""
        right, achieved = self.outcomes(self.selection, stage.trials)
        noise = self.random.normal(0, 0.01, len(stage.trials))
        cost = COSTS[self.question.num_layers]
        findings = []
        for trial, score, true, jitter in zip(stage.trials, right.mean(axis=1), achieved, noise, strict=True):
            # The loss prefers lower rates, is steadier than the score, and is common to the rows as the score is.
            bias = self.gain * (self._quality(trial.candidate, shift=0.1) - self._quality(trial.candidate))
            loss = 0.7 - (true + bias + 0.7 * (score - true)) + jitter
            seconds = cost[trial.candidate.layers] * trial.candidate.epochs * float(np.exp(jitter))
            findings.append(Finding(trial, float(score), float(loss), seconds))
        return findings

    def outcomes(self, rows: Rows, trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
        """Whether each run is right about each row, bool [runs, N], and the true score that each run has [runs]."""
        truth = np.array([self.truth(trial.candidate) for trial in trials])
        achieved = np.clip(truth + self.seed_spread * self.random.standard_normal(len(trials)), 0.02, 0.98)
        gained = np.clip((achieved - self.constant) / (1 - self.constant), 0.0, 1.0) ** 0.5
        rare = np.where(achieved > self.constant, gained, 0.0)  # right about the rarer class
        usual = (achieved - (1 - self.constant) * rare) / self.constant
        threshold = ndtri(np.clip(np.stack([rare, usual], axis=1), 1e-6, 1 - 1e-6))[:, rows.label]
        shared = np.stack([rows.of_layers[trial.candidate.layers] for trial in trials])
        own = self.random.standard_normal(threshold.shape, np.float32)
        return SHARED * rows.difficulty + OF_LAYERS * shared + OF_RUN * own < threshold, achieved


def complete(world: World) -> Record:
    """Make a whole search in a world."""
    record = Record(world.question)
    steps = schedule.steps(record)
    try:
        stage = next(steps)
        while True:
            stage = steps.send(world.run(stage))
    except StopIteration:
        return record


RESAMPLES, DRAWS = 250, 2000  # an eighth and a tenth of the judge's own


@contextlib.contextmanager
def quick_judge() -> Iterator[None]:
    """The judge with fewer resamples, so that it judges many worlds."""
    with mock.patch.multiple(uncertainty, ROW_RESAMPLES=RESAMPLES, DRAWS=DRAWS):
        yield


OBJECTIVE = Classification(labels=("rare", "usual"), metrics=("accuracy",))


def judged(world: World, record: Record) -> Answer:
    """The answer of a complete search, by the real judge on the reported rows."""
    finals = [finding.trial for finding in record.findings if finding.trial.final]
    right, _ = world.outcomes(world.reported, finals)
    label = world.reported.label
    logits = np.eye(2, dtype=np.float32)[np.where(right, label, 1 - label)]  # [runs, N, 2]
    seconds = [finding.seconds for finding in record.findings if finding.trial.final]

    def of(candidate: Candidate) -> Outcomes:
        places = [place for place, trial in enumerate(finals) if trial.candidate == candidate]
        return Outcomes(
            candidate,
            tuple(finals[place].seed for place in places),
            tuple(seconds[place] for place in places),
            tuple(logits[place] for place in places),
        )

    about = About(
        task="world",
        model="world",
        selection_rows=world.question.rows,
        rates=(),
        dropped=tuple(record.dropped),
        not_tried=(),
        runs=len(record.findings),
        seconds=sum(finding.seconds for finding in record.findings),
        command=str,
    )
    reported = Reported(OBJECTIVE, label, np.ones(len(label), np.int64))
    return judge(world.question, [of(c) for c in record.finals], [of(c) for c in record.paper], reported, about)


class Naive(NamedTuple):
    """What the paper's protocol says: one rate, plain ratios to the full model's score, on the reported rows."""

    layers: Layers
    ratios: dict[Layers, float]


def naive(world: World) -> Naive:
    """The smallest k whose mean over three seeds at 5e-5 is at least the share of the full model's."""
    made = [
        Trial(Candidate(layers, 5e-5, world.question.epochs), seed)
        for layers in world.question.ladder
        for seed in (1, 2, 3)
    ]
    right, _ = world.outcomes(world.reported, made)
    means = right.mean(axis=1).reshape(-1, 3).mean(axis=1)
    ratios = dict(zip(world.question.ladder, (means / means[-1]).tolist(), strict=True))
    return Naive(next(layers for layers, ratio in ratios.items() if ratio >= world.question.share), ratios)


def make_world(seed: int, num_layers: int = 6, epochs: int = 3) -> World:
    """A world of a kind that the seed chooses."""
    random = np.random.default_rng(seed)
    need = NEEDS[seed % len(NEEDS)]
    rows, reported = int(random.choice([250, 250, 500])), int(random.choice([300, 500, 1000, 2000]))
    constant = float(random.uniform(0.5, 0.7))
    gain = 0.0 if need == "constant" else float(random.uniform(0.3, 0.85)) * (1 - constant)
    tried = ladder(num_layers)
    selection = _rows(random, rows, constant, tried)
    question = Question(
        num_layers,
        epochs,
        max(float(selection.label.mean()), 1 - float(selection.label.mean())),
        rows,
    )
    return World(
        need,
        question,
        constant,
        gain,
        float(random.choice([0.003, 0.008, 0.02])) if need != "constant" else 0.01,
        _curves(random, need, tried),
        float(random.uniform(0.0, 0.2)),
        selection,
        _rows(random, reported, constant, tried),
        random,
    )


def with_a_cliff(world: World, rows: int) -> World:
    """The world with many selection rows, steady seeds, and scores that fall off steeply below the best rates."""
    selection = _rows(world.random, rows, world.constant, world.question.ladder)
    share = float(selection.label.mean())
    return dataclasses.replace(
        world,
        question=dataclasses.replace(world.question, rows=rows, constant=max(share, 1 - share)),
        selection=selection,
        seed_spread=0.003,
        curves={layers: curve._replace(steep=0.3) for layers, curve in world.curves.items()},
    )


def _rows(random: np.random.Generator, count: int, constant: float, ladder: Iterable[Layers]) -> Rows:
    label = (random.random(count) < constant).astype(np.int32)
    return Rows(
        label,
        random.standard_normal(count, np.float32),
        {layers: random.standard_normal(count, np.float32) for layers in ladder},
    )


def _curves(random: np.random.Generator, need: Need, ladder: Sequence[Layers]) -> dict[Layers, Curve]:
    """Best rates fall with k, faster at the end or evenly; peaks rise until the k that is needed."""
    low = random.random() < 0.25
    top = random.uniform(-3.2, -2.5)
    bottom = random.uniform(-4.9, -4.6) if low else random.uniform(-4.6, -4.0)
    bend = random.uniform(0.8, 2.2)
    sharp = random.choice([0.9, 1.5, 3.0])
    needed = ladder.index(ALL if need == "constant" else need)
    curves, peak = {}, 1.0
    for place in reversed(range(len(ladder))):
        if place >= needed:
            peak = 1.0 if place == len(ladder) - 1 else float(random.uniform(0.97, 1.01))
        else:
            peak *= float(random.uniform(0.6, 0.92))
        optimum = top + (bottom - top) * (place / (len(ladder) - 1)) ** bend + random.normal(0, 0.12)
        lag, longer = random.uniform(0.03, 0.25), random.uniform(-0.02, 0.06)
        curves[ladder[place]] = Curve(peak, float(optimum), float(sharp * random.uniform(0.85, 1.2)), lag, longer)
    return {layers: curves[layers] for layers in ladder}
