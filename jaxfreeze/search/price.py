"""What trials cost, in seconds: estimated from the runs so far, and from expected costs where there are none."""

from collections.abc import Iterable, Mapping, Sequence

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.search.trial import Finding, Question, Stage, Trial

FULL_RATES, FULL_SURVIVORS, FULL_SEEDS = 3, 2, 3
"""What tuning and running the full model alone takes: so many rates at a third of the epochs, so many of them at all
epochs, so many final seeds."""
LayersCost = Mapping[Layers, float]
"""What an epoch with k layers is expected to cost, in any unit: FLOPs, or seconds."""


def short_epochs(epochs: int) -> int:
    """Epochs of the first rung of a race: a third, at least 1."""
    return max(1, round(epochs / 3))


def expected_costs(question: Question) -> LayersCost:
    """Cost of an epoch with each k of the ladder, as a share of the full model's.

    0.01 for the head and 0.88 / L for each layer, a fit to runs of MiniLM on a CPU.
    """
    return {k: 1.0 if k == ALL else 0.01 + 0.88 * k / question.num_layers for k in question.ladder}


def epoch_seconds(findings: Iterable[Finding], layers_cost: LayersCost) -> dict[Layers, float]:
    """Seconds of an epoch with each k of `layers_cost`.

    A k with runs has their mean. Another one has its expected cost times what the k that is nearest to it in cost took
    for each unit. Without any finding the values are those of `layers_cost`.
    """
    seconds: dict[Layers, float] = {}
    epochs: dict[Layers, int] = {}
    for finding in findings:
        candidate = finding.trial.candidate
        seconds[candidate.layers] = seconds.get(candidate.layers, 0.0) + finding.seconds
        epochs[candidate.layers] = epochs.get(candidate.layers, 0) + candidate.epochs
    measured = {k: seconds[k] / epochs[k] for k in seconds if k in layers_cost and seconds[k] > 0}
    if not measured:
        return dict(layers_cost)

    def nearest(k: Layers) -> Layers:
        ratio = {
            other: max(layers_cost[k] / layers_cost[other], layers_cost[other] / layers_cost[k]) for other in measured
        }
        return min(ratio, key=ratio.__getitem__)

    return {
        k: measured[k] if k in measured else cost * measured[nearest(k)] / layers_cost[nearest(k)]
        for k, cost in layers_cost.items()
    }


def price(stage: Stage, findings: Sequence[Finding], layers_cost: LayersCost) -> float:
    """Seconds that the trials of a stage will take."""
    return price_of(stage.trials, epoch_seconds(findings, layers_cost))


def price_of(trials: Iterable[Trial], seconds: Mapping[Layers, float]) -> float:
    """Seconds of trials, from the seconds of an epoch with each k."""
    return sum(seconds[trial.candidate.layers] * trial.candidate.epochs for trial in trials)


def reference_price(question: Question, findings: Sequence[Finding], layers_cost: LayersCost) -> float:
    """Seconds of tuning and running the full model alone, which the price of a search is a multiple of."""
    return reference_epochs(question.epochs) * epoch_seconds(findings, layers_cost)[ALL]


def reference_epochs(epochs: int) -> int:
    """Epochs of that: 3 rates at a third of the epochs, the 2 best of them at all epochs, 3 final seeds."""
    short = short_epochs(epochs)
    second_rung = FULL_SURVIVORS * epochs if short < epochs else 0
    return FULL_RATES * short + second_rung + FULL_SEEDS * epochs
