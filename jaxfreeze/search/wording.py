"""What a search says in words, the same in the terminal and on the report's first screen."""

import math

from jaxfreeze.freezing import ALL, Layers, order
from jaxfreeze.search import terms
from jaxfreeze.search.answer import Answer, Point
from jaxfreeze.search.terms import listed
from jaxfreeze.search.trial import Candidate, ladder

DECIDES = 2.0
"""One source of uncertainty this many times as large as the other leaves the other without effect."""


def one_line(answer: Answer) -> str:
    """The whole answer: setting, score, best score found, probabilities, cost, command."""
    it = "it" if same(answer.best, answer.chosen) else name(answer.chosen.candidate)
    end = "." if anything_learned(answer) else f"; to train {it} anyway:"
    return f"{headline(answer)}: {'; '.join(evidence(answer))}{end} {answer.command}"


def headline(answer: Answer) -> str:
    """What to train, in a few words; that nothing was learned or decided, if so."""
    setting = described(answer.chosen.candidate, answer.num_layers)
    if not anything_learned(answer):
        return "No setting is reliably better than giving every row the same answer"
    return _capital(setting) if answer.sure else f"Not decided; the best so far is {setting}"


def evidence(answer: Answer) -> list[str]:
    """Score, best score, probabilities and cost of the recommendation: the clauses of one sentence."""
    if not anything_learned(answer):
        return _nothing_learned(answer)
    chosen = answer.chosen
    own = f"{scored(answer, chosen)} on {answer.rows:,} rows it never saw"
    if len(chosen.scores) == 1:
        own += ", from one seed (what another seed would change is not known)"
    if same(chosen, answer.best):
        return [own, _why_the_best(answer), cost(answer)]
    probabilities = (
        f"within {terms.points(answer.within, answer.metric)} of the best with probability "
        f"{terms.probability(chosen.p_within)}, keeps {terms.share(answer.share)} of its {_gain(answer)} with "
        f"probability {terms.probability(chosen.p_keeps)}"
    )
    return [own, f"the best found is {_best(answer)}", probabilities, cost(answer)]


def _nothing_learned(answer: Answer) -> list[str]:
    best = answer.best
    return [
        f"the same answer scores {terms.score(answer.constant, answer.metric)} {terms.metric(answer.metric)}",
        f"the best found, {described(best.candidate, answer.num_layers)}, scores {_with_interval(answer, best)} on "
        f"{answer.rows:,} rows it never saw",
        f"so there is no quality of which a smaller k could keep {terms.share(answer.share)}",
        "more test rows would decide it, more training rows may help",
    ]


def _why_the_best(answer: Answer) -> str:
    """What is known of the other points, where the best one is recommended."""
    chosen = answer.chosen
    others = [point for point in answer.points if not same(point, chosen)]
    if not others:
        return "nothing else was run to its end, so there is nothing to compare it with"
    smaller = [point for point in others if order(point.candidate.layers) < order(chosen.candidate.layers)]
    asked = f"{terms.share(answer.share)} of its {_gain(answer)} with the asked probability of " + terms.probability(
        answer.confidence
    )
    if not smaller:
        return "the best found, and the smallest k that was tried"
    nearest = max(smaller, key=lambda point: point.p_keeps)
    return (
        f"the best found; no smaller k that was tried keeps {asked} "
        f"({name(nearest.candidate)} comes nearest, with {terms.probability(nearest.p_keeps)})"
    )


def cost(answer: Answer) -> str:
    """'a run takes 31% of the full model's time'."""
    chosen, full = answer.chosen, answer.full
    if chosen.candidate.layers == ALL:
        return f"a run takes {terms.duration(chosen.seconds)}"
    if full is None or full.seconds <= 0:
        return f"a run takes {terms.duration(chosen.seconds)} (the full model was not run)"
    return f"a run takes {terms.part(chosen.seconds / full.seconds)} of the full model's time"


def uncertainty(answer: Answer) -> str:
    """What the uncertainty is made of, and what would reduce it, in two sentences."""
    seeds, rows = answer.seed_error, answer.row_error
    errors = (
        f"{terms.points(seeds, answer.metric)} from seeds and {terms.points(rows, answer.metric)} from the "
        f"{answer.rows:,} reported rows"
    )
    if min(seeds, rows) * DECIDES > max(seeds, rows):
        mend = "Both more seeds and more test rows would narrow the intervals."
    elif answer.dominant_uncertainty == "rows":
        mend = "More test rows would narrow the intervals; more seeds would hardly change them."
    else:
        mend = "More seeds would narrow the intervals; more test rows would hardly change them."
    return f"The standard error of {_compared(answer)} is {errors}. {mend}"


def _compared(answer: Answer) -> str:
    """The difference that decides, whose errors the answer has."""
    if not same(answer.chosen, answer.best):
        return "its distance to the best"
    earlier = answer.points[: [same(point, answer.chosen) for point in answer.points].index(True)]
    if not earlier:
        return "its gain over a constant prediction"
    nearest = max(earlier, key=lambda point: point.p_keeps)
    return f"its lead over {described(nearest.candidate, answer.num_layers)}"


def left_out(answer: Answer) -> list[tuple[str, str]]:
    """(k, reason) of every k without a point: given up on the way, or never tried."""
    found = [(name(dropped.layers), dropped.reason) for dropped in answer.dropped]
    if answer.not_tried:
        between = "the search tries k = 0, 1, 2, 3, then doubles k, and the full model"
        found.append((f"k = {listed(list(answer.not_tried))}", f"not tried: {between}"))
    return found


def of_paper(answer: Answer) -> str:
    """What the paper's protocol would have answered, as one sentence."""
    full = next((point for point in answer.paper if point.candidate.layers == ALL), None)
    if full is None:
        return "Not run: it needs the full model."
    setting = f"every k at learning rate {terms.rate(full.candidate.learning_rate)} for "
    setting += f"{terms.epochs(full.candidate.epochs)}, the ratio of raw scores, no interval"
    if terms.lower_is_better(answer.metric):
        return f"Of {terms.metric(answer.metric)}, where lower is better, it has no ratio ({setting})."
    if full.score <= 0:
        score = terms.score(full.score, answer.metric)
        return f"The full model scores {score}, of which no ratio can be taken ({setting})."
    *unknown, layers = paper_choices(answer)
    found = next(point for point in answer.paper if point.candidate.layers == layers)
    keeps = f"keeps {terms.share(answer.share)} of its score ({setting})"
    not_run = f"k = {listed(unknown)} had no run at the full model's rate" if unknown else ""
    if found is not full:
        score, whole = (terms.score(point.score, answer.metric) for point in (found, full))
        text = f"{_capital(name(layers))}, which scores {score}, {terms.hundred(found.quality)}% of the full model's "
        text += f"{whole} ({setting}){'; ' * bool(unknown)}{not_run}"
    elif unknown:
        text = f"Not known: {not_run}; of the others, only the full model {keeps}"
    else:
        text = f"The full model: no smaller k that was tried {keeps}"
    constant = terms.score(answer.constant, answer.metric)
    return f"{text}." if learned(answer, found) else f"{text}; but a constant prediction scores {constant}."


def paper_choices(answer: Answer) -> tuple[Layers, ...]:
    """The k that the paper's protocol may ask for; () where that is not defined.

    The last one is the smallest whose mean keeps the asked share of the full model's. Before it are smaller ones that
    had no run at the full model's rate, so that nothing is known of them.
    """
    full = next((point for point in answer.paper if point.candidate.layers == ALL), None)
    if full is None or full.score <= 0 or terms.lower_is_better(answer.metric):
        return ()
    keeping = [point.candidate.layers for point in answer.paper if point.quality >= answer.share]
    found = min(keeping, key=order, default=ALL)
    run = {point.candidate.layers for point in answer.paper}
    return *(k for k in ladder(answer.num_layers) if k not in run and order(k) < order(found)), found


def described(candidate: Candidate, num_layers: int) -> str:
    """'3 of 6 layers, learning rate 2e-4, 3 epochs'."""
    layers = candidate.layers
    who = name(candidate) if layers in (0, ALL) else f"{layers} of {num_layers} layers"
    return f"{who}, learning rate {terms.rate(candidate.learning_rate)}, {terms.epochs(candidate.epochs)}"


def name(of: Candidate | Layers) -> str:
    """'k = 2', 'the head alone' (k = 0), 'the full model'."""
    layers = of.layers if isinstance(of, Candidate) else of
    return {0: "the head alone", ALL: "the full model"}.get(layers, f"k = {layers}")


def scored(answer: Answer, point: Point) -> str:
    """'84.3 (82.9 to 85.6) Spearman correlation'."""
    lower = " (lower is better)" if terms.lower_is_better(answer.metric) else ""
    return f"{_with_interval(answer, point)} {terms.metric(answer.metric)}{lower}"


def learned(answer: Answer, point: Point) -> bool:
    """Whether a point's whole interval is better than the best constant answer; its score, if it has no interval."""
    if terms.lower_is_better(answer.metric):
        return (point.high if math.isfinite(point.high) else point.score) < answer.constant
    return (point.low if math.isfinite(point.low) else point.score) > answer.constant


def anything_learned(answer: Answer) -> bool:
    """Whether any point is better than the best constant answer with its whole interval."""
    return any(learned(answer, point) for point in answer.points)


def same(one: Point, other: Point) -> bool:
    """Whether two points are of one setting."""
    return one.candidate == other.candidate


def _with_interval(answer: Answer, point: Point) -> str:
    score = terms.score(point.score, answer.metric)
    if not math.isfinite(point.low) or not math.isfinite(point.high):
        return f"{score} (no interval)"
    return f"{score} ({terms.score(point.low, answer.metric)} to {terms.score(point.high, answer.metric)})"


def _best(answer: Answer) -> str:
    best = answer.best.candidate
    text = f"{terms.score(answer.best.score, answer.metric)} with {name(best)} at {terms.rate(best.learning_rate)}"
    return text if best.epochs == answer.chosen.candidate.epochs else f"{text} for {terms.epochs(best.epochs)}"


def _gain(answer: Answer) -> str:
    """'quality', where a constant answer has none; else what is kept a share of."""
    if answer.constant == 0 and not terms.lower_is_better(answer.metric):
        return "quality"
    return f"gain over a constant prediction ({terms.score(answer.constant, answer.metric)})"


def _capital(text: str) -> str:
    return text if text.startswith("k = ") else text[:1].upper() + text[1:]
