"""Which learning rate suits a k: the series, where a race starts, and what its runs say of every rate."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.search.trial import Finding, Question

SERIES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
"""Learning rates that are tried; a position is an index into it."""
USUAL_FULL = 2
"""Position of 5e-5, where the full model usually does best."""
OPTIMUM = np.linspace(-1, len(SERIES), 2 * len(SERIES) + 3)
"""Positions of the best rate that are considered."""
CURVATURE = np.geomspace(0.001, 0.1, 7)
"""What a score of scale 1 loses one position away from the best rate, on either side of it: from flat to sharp."""
FALL = 0.4
"""Positions by which the best rate falls when epochs are tripled: a low rate gains more from longer training."""
TOP = 0.25
"""How far below its best score a curve is modelled, as a share of what that score gains over the constant answer."""


class Expectation(NamedTuple):
    """Where the best rate is expected before any run at this k."""

    position: float
    spread: float
    """Standard deviation, in positions."""


def expectation(layers: Layers, below: float | None) -> Expectation:
    """Where the best rate of k is expected, from the one chosen at the k below.

    The best rate falls smoothly as k rises: arXiv:2504.10735. In our own searches (benchmarks/RESULTS.md) it falls by
    about two positions from the head alone to one layer, and by 0.7 from there to the next k.
    """
    position = None if below is None else SERIES.index(below)
    if layers == ALL:
        return Expectation(USUAL_FULL if position is None else (USUAL_FULL + position - 1.5) / 2, 1.0)
    if position is None:
        return Expectation({0: 6.5, 1: 5.5}.get(layers, 4.5), 2.5)
    return Expectation(position - 2, 2.0) if layers == 1 else Expectation(position - 0.7, 1.2)


def first_rates(layers: Layers, below: float | None) -> tuple[float, ...]:
    """The rates that a race begins with: many where runs are cheap, few around the expected best where they are not."""
    if layers == 0:
        return SERIES[3:]
    if layers == 1:
        return SERIES[2:8]
    if layers == ALL:
        centre = min(max(round(expectation(layers, below).position), 1), len(SERIES) - 2)
        return SERIES[centre - 1 : centre + 2]
    top = 5 if below is None else SERIES.index(below)
    return SERIES[max(top - (2 if layers <= 3 else 1), 0) : top + 1]


def run_noise(question: Question) -> float:
    """Standard error of a run's score that remains when rates are compared on the same selection rows.

    Two rates of one k answer most rows alike, which cancels. About 0.7 of a score's standard error remains.
    """
    return 0.35 * question.scale / math.sqrt(question.rows)


def regrets(question: Question, findings: Sequence[Finding], expected: Expectation, epochs: int) -> np.ndarray:
    """Expected distance of every rate of SERIES from the best one at `epochs`, by the runs of one k: float64 [rates].

    The score is modelled as two halves of parabolas over the positions that meet at the best rate: a rate that is too
    low may fall off a cliff where a high one loses little. Only the top of the curve is modelled (TOP): a rate below
    it is as bad as any, and how bad says nothing about where the best is. The result is a mean over such curves
    (OPTIMUM, CURVATURE twice). Each is weighted by how well it fits the means over seeds at each number of epochs, with
    a free level, and by where the optimum was expected. So neighbouring rates and the k below are averaged over. At
    fewer epochs the optimum is higher (FALL).
    """
    curves = (axis.ravel() for axis in np.meshgrid(OPTIMUM, *2 * [CURVATURE * question.scale]))
    optimum, left, right = (values[:, None] for values in curves)
    fit = -(((optimum[:, 0] - expected.position) / expected.spread) ** 2) / 2
    noise = run_noise(question)
    height = noise

    def drop_at(position: np.ndarray, height: float) -> np.ndarray:
        away = position - optimum
        return np.minimum(np.where(away < 0, left, right) * away**2, height)

    for made, scores in _by_epochs(question, findings).items():
        mean = np.array([np.mean(values) for values in scores.values()])
        weight = np.array([len(values) for values in scores.values()]) / noise**2
        gain = max(float(mean.max()) - question.constant, noise)
        height = min(gain, max(TOP * gain, 4 * noise))
        position = np.array([SERIES.index(rate) for rate in scores]) - FALL * math.log(epochs / made, 3)
        score = np.maximum(mean, mean.max() - height) + drop_at(position, height)
        level = score @ weight / weight.sum()
        fit -= (score - level[:, None]) ** 2 @ weight / 2
    probability = np.exp(fit - fit.max())
    drop = drop_at(np.arange(len(SERIES)), height)
    drop -= drop.min(axis=1, keepdims=True)
    return probability @ drop / probability.sum()


def _by_epochs(question: Question, findings: Iterable[Finding]) -> dict[int, dict[float, list[float]]]:
    """Scores by epochs, the fewest first, then by rate; a run that diverged scores what a constant answer scores."""
    scores: dict[int, dict[float, list[float]]] = {}
    for finding in findings:
        _, rate, epochs = finding.trial.candidate
        score = finding.score if math.isfinite(finding.score) else question.constant
        scores.setdefault(epochs, {}).setdefault(rate, []).append(score)
    return {epochs: dict(sorted(scores[epochs].items())) for epochs in sorted(scores)}


def best_rates(question: Question, findings: Sequence[Finding], expected: Expectation, epochs: int) -> list[float]:
    """The rates tried at `epochs`, the most promising first.

    By expected distance from the best rate at the question's epochs, or at `epochs` if these are more. Where that is
    the same to within a tenth of a run's noise, by the loss. A rate at which a run diverged comes after those at
    which none did.
    """
    regret = regrets(question, findings, expected, max(epochs, question.epochs))
    loss = losses(findings, epochs)
    of_rate = {rate: float(regret[SERIES.index(rate)]) for rate in loss}
    step = run_noise(question) / 10
    least = min(of_rate.values())

    def rank(rate: float) -> tuple[bool, float, float, float]:
        return math.isinf(loss[rate]), (of_rate[rate] - least) // step, loss[rate], rate

    return sorted(loss, key=rank)


def losses(findings: Iterable[Finding], epochs: int) -> dict[float, float]:
    """The rates tried at `epochs` with their mean losses over seeds; inf where a run diverged."""
    found: dict[float, list[float]] = {}
    for finding in findings:
        if finding.trial.candidate.epochs == epochs:
            found.setdefault(finding.trial.candidate.learning_rate, []).append(finding.loss)
    return {rate: float(np.mean(values)) for rate, values in found.items()}


def next_edge(tried: Sequence[float], best: float) -> float | None:
    """The rate beside the grid if the best rate lies on its edge; None if not, or where the series ends."""
    position = [SERIES.index(rate) for rate in tried]
    at = SERIES.index(best)
    if at == min(position) and at > 0:
        return SERIES[at - 1]
    if at == max(position) and at < len(SERIES) - 1:
        return SERIES[at + 1]
    return None
