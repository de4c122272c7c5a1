"""What the budget of a search leaves for more, in seconds."""

from collections.abc import Iterable

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.search.price import FULL_SURVIVORS, price_of, reference_epochs, short_epochs
from jaxfreeze.search.rates import first_rates
from jaxfreeze.search.record import Record, final_seeds, is_cheap, race_seeds, trials_of
from jaxfreeze.search.trial import Trial

LONGER = 3
"""Where a run is cheap, its k is also tried with this many times the epochs: the view at equal cost."""
TIMING = 0.98
"""Share of the budget that is planned for: estimates of seconds are off by some percent."""
TOLERANCE = 0.03
"""Share of the budget that may be missing before a k is left out: not every race moves on at an edge."""


def price(record: Record, trials: Iterable[Trial]) -> float:
    """Seconds of those trials that are still to be made."""
    return price_of(record.missing(trials), record.epoch_seconds())


def least(record: Record, layers: Layers) -> float:
    """Seconds from here to the end of the final trials of a k, with the shortest race that it may have.

    One rate more than the race begins with is counted, for the edge of its grid. The full model has the
    reference's race, and the head alone its longer runs too.
    """
    question, second = record.question, record.epoch_seconds()[layers]
    epochs, short, seeds = question.epochs, short_epochs(question.epochs), len(race_seeds(question, layers))
    longer = longer_price(record, layers) or 0.0 if layers == 0 and len(record.choices.get(0, ())) < 2 else 0.0
    if layers in record.choices:
        candidate = record.choices[layers][0].candidate
        return longer + price(record, trials_of([candidate], final_seeds(question, layers), final=True))
    at_all_epochs = len(final_seeds(question, layers)) + (seeds if is_cheap(layers) and short < epochs else 0)
    at_short = 0
    if not record.races_of(layers):
        at_short = seeds * (len(first_rates(layers, record.below(layers))) + 1)
        at_all_epochs += FULL_SURVIVORS if layers == ALL and short < epochs else 0
    return longer + second * (at_short * short + at_all_epochs * epochs)


def longer_price(record: Record, layers: Layers) -> float | None:
    """Seconds of racing two rates at LONGER times the epochs and of final trials of one of them.

    None where such a run costs more than one of the full model.
    """
    question, seconds = record.question, record.epoch_seconds()
    if LONGER * seconds[layers] > seconds[ALL]:
        return None
    runs = 2 * len(race_seeds(question, layers)) + len(final_seeds(question, layers))
    return runs * LONGER * question.epochs * seconds[layers]


def allowed(record: Record) -> float:
    """Seconds that may be planned for."""
    reference = reference_epochs(record.question.epochs) * record.epoch_seconds()[ALL]
    return TIMING * record.question.budget * reference


def room(record: Record) -> float:
    """Seconds that the budget leaves beside taking every k that was not dropped to its end; below 0: too few."""
    spent = sum(finding.seconds for finding in record.findings)
    return allowed(record) - spent - sum(least(record, layers) for layers in record.ahead())


def exceeded(record: Record) -> bool:
    """Whether what is planned no longer fits, since runs take longer than was expected."""
    return room(record) < -TOLERANCE * allowed(record)


def beyond_the_budget(record: Record) -> list[tuple[Layers, float]]:
    """The k that the budget has no room for, each with a budget that has.

    The budget goes to the cheap ones first, then to the full model, then to the others from below.
    """
    ladder, limit = record.question.ladder, (1 + TOLERANCE) * allowed(record)
    total, out = 0.0, []
    for layers in sorted(ladder, key=lambda k: (not is_cheap(k), k != ALL)):
        total += least(record, layers)
        if total > limit and layers != ladder[0]:
            out.append((layers, record.question.budget * total / limit))
    return out
