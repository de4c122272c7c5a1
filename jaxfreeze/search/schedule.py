"""Which trials a search makes next: the races over learning rates, cheap k first, then final trials with fresh seeds.

Every public function here is a pure function of the question and the findings, so a search that was killed
continues as if it had not been. The search is written down once, as a generator that yields stages and is sent their
findings (`steps`); the public functions replay it.
"""

import itertools
import math
from collections.abc import Generator, Sequence

import numpy as np

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.search.answer import RateScore
from jaxfreeze.search.budget import LONGER, beyond_the_budget, exceeded, longer_price, price, room
from jaxfreeze.search.price import FULL_SURVIVORS, short_epochs
from jaxfreeze.search.rates import SERIES, first_rates, next_edge
from jaxfreeze.search.record import Record, final_seeds, is_cheap, race_seeds, trials_of
from jaxfreeze.search.trial import Candidate, Dropped, Finding, Question, Stage, Trial

SURVIVORS: dict[Layers, int] = {0: 4, 1: 3}
"""How many rates are raced at all epochs where runs are cheap."""
PAPER_SEEDS = 3
"""How many seeds the paper's protocol has where runs are cheap; elsewhere one."""
Steps = Generator[Stage, Sequence[Finding], None]


def next_stage(question: Question, findings: Sequence[Finding]) -> Stage | None:
    """The trials to make next, without those that are among the findings; None: the search is complete."""
    return _replay(question, findings)[1]


def candidates(question: Question, findings: Sequence[Finding]) -> tuple[Candidate, ...]:
    """What the final trials are of, by k, then epochs: those that are settled so far."""
    rank = question.ladder.index
    return tuple(sorted(_replay(question, findings)[0].finals, key=lambda c: (rank(c.layers), c.epochs)))


def paper_candidates(question: Question, findings: Sequence[Finding]) -> tuple[Candidate, ...]:
    """Every k at the full model's rate and epochs, as the paper compares them, as far as the budget goes."""
    return tuple(_replay(question, findings)[0].paper)


def dropped(question: Question, findings: Sequence[Finding]) -> tuple[Dropped, ...]:
    """Every k that gets no final trials, in the order of the ladder, with the reason."""
    return tuple(sorted(_replay(question, findings)[0].dropped, key=lambda drop: question.ladder.index(drop.layers)))


def rates(question: Question, findings: Sequence[Finding]) -> tuple[RateScore, ...]:
    """Every setting that was raced, by k, epochs and rate, with its mean score on the selection rows.

    The score of a setting with a run that diverged is -inf. A choice is marked at the longest race of its rate, which
    is the short one where nothing longer was raced.
    """
    record = _replay(question, findings)[0]
    scores: dict[Candidate, list[float]] = {}
    for finding in record.findings:
        if not finding.trial.final:
            scores.setdefault(finding.trial.candidate, []).append(finding.score)
    choices = itertools.chain.from_iterable(record.choices.values())
    chosen = {choice.candidate._replace(epochs=max(choice.scores)) for choice in choices}
    rank = question.ladder.index
    return tuple(
        RateScore(candidate, float(np.mean(scores[candidate])), len(scores[candidate]), candidate in chosen)
        for candidate in sorted(scores, key=lambda c: (rank(c.layers), c.epochs, c.learning_rate))
    )


def not_tried(question: Question) -> tuple[Layers, ...]:
    """The k that the ladder leaves out."""
    return tuple(k for k in range(question.num_layers + 1) if k not in question.ladder)


def _replay(question: Question, findings: Sequence[Finding]) -> tuple[Record, Stage | None]:
    """The search as far as complete stages lead, and what is missing of the next stage."""
    found = {finding.trial: finding for finding in findings}
    record = Record(question)
    search = steps(record)
    try:
        stage = next(search)
        while not (missing := tuple(trial for trial in stage.trials if trial not in found)):
            stage = search.send([found[trial] for trial in stage.trials])
    except StopIteration:
        return record, None
    return record, stage._replace(trials=missing)


def steps(record: Record) -> Steps:
    """The whole search, in the order in which it happens: yields a stage, is sent its findings, writes the record."""
    budget = f"a budget of {record.question.budget:g} times the full model's"
    for layers, enough in beyond_the_budget(record):
        record.drop(layers, f"{budget} leaves no room for it; {math.ceil(10 * enough) / 10:g} would")
    for layers in record.ahead():
        if layers != ALL and not is_cheap(layers) and exceeded(record):
            record.drop(layers, f"runs take longer than expected, and {budget} leaves no room for it")
        else:
            yield from _race(record, layers)
            record.drop_hopeless()
    for layers in record.ahead():
        yield from _final_trials(record, record.choices[layers][0].candidate)
    for layers in filter(is_cheap, record.ahead()):
        yield from _longer(record, layers)
    yield from _paper_trials(record)


def _race(record: Record, layers: Layers) -> Steps:
    """The rates of a k at a third of the epochs, further ones while the best is an edge, the best ones at all epochs.

    Where runs are dear and the budget has no room for two survivors, the first rung decides.
    """
    epochs, short = record.question.epochs, short_epochs(record.question.epochs)
    yield from _rung(record, layers, first_rates(layers, record.below(layers)), short)
    for moved in range(len(SERIES)):
        edge = next_edge(record.tried(layers, short), record.best(layers, short)[0])
        planned = is_cheap(layers) or moved == 0
        if edge is None or not (planned or _affordable(record, layers, [edge], short)):
            break
        yield from _rung(record, layers, [edge], short)
    if short < epochs:
        survivors = record.survivors(layers, short, SURVIVORS.get(layers, FULL_SURVIVORS))
        if is_cheap(layers):
            while len(survivors) > 1 and not _affordable(record, layers, survivors[1:], epochs):
                survivors.pop()
            yield from _rung(record, layers, survivors, epochs)
        elif len(survivors) > 1 and _affordable(record, layers, survivors, epochs):
            yield from _rung(record, layers, survivors, epochs)
    record.choose(layers, epochs)


def _rung(record: Record, layers: Layers, rates: Sequence[float], epochs: int) -> Steps:
    trials = _race_trials(record, layers, sorted(rates), epochs)
    record.findings += yield Stage(f"k = {layers}: learning rates, {_epochs(epochs)}", trials)


def _affordable(record: Record, layers: Layers, rates: Sequence[float], epochs: int) -> bool:
    return price(record, _race_trials(record, layers, rates, epochs)) <= room(record)


def _race_trials(record: Record, layers: Layers, rates: Sequence[float], epochs: int) -> tuple[Trial, ...]:
    made = (Candidate(layers, rate, epochs) for rate in rates)
    return trials_of(made, race_seeds(record.question, layers))


def _final_trials(record: Record, candidate: Candidate) -> Steps:
    trials = trials_of([candidate], final_seeds(record.question, candidate.layers), final=True)
    record.finals.append(candidate)
    record.findings += yield Stage(f"k = {candidate.layers}: final trials, {_epochs(candidate.epochs)}", trials)


def _longer(record: Record, layers: Layers) -> Steps:
    """The chosen rate and the one below it with more epochs, then final trials of the better one.

    Nothing, where such a run costs more than one of the full model or the budget has no room for all of them.
    """
    epochs = LONGER * record.question.epochs
    seconds = longer_price(record, layers)
    if seconds is None or room(record) < (0.0 if layers == 0 else seconds):  # room is kept for the head alone
        return
    chosen = record.choices[layers][0].candidate.learning_rate
    rates = {chosen, next_edge([chosen], chosen) or chosen}
    yield from _rung(record, layers, sorted(rates), epochs)
    record.choose(layers, epochs)
    yield from _final_trials(record, record.choices[layers][1].candidate)


def _paper_trials(record: Record) -> Steps:
    """Every k at the full model's rate and epochs, while the budget has room; trials that were made are reused."""
    for choice in record.choices.get(ALL, [])[:1]:
        for layers in record.question.ladder:
            candidate = choice.candidate._replace(layers=layers)
            seeds = final_seeds(record.question, layers)[: PAPER_SEEDS if is_cheap(layers) else 1]
            trials = record.missing(trials_of([candidate], seeds, final=True))
            if trials and price(record, trials) > room(record):
                continue
            record.paper.append(candidate)
            if trials:
                name = f"k = {layers}: the paper's protocol, {_epochs(candidate.epochs)}"
                record.findings += yield Stage(name, trials)


def _epochs(epochs: int) -> str:
    return f"{epochs} epoch{'s' if epochs > 1 else ''}"
