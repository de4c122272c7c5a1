"""Tables of a search's answer: every k at its best, the learning rates that were raced, several answers together."""

import math
from collections.abc import Sequence

from jaxfreeze.freezing import Layers
from jaxfreeze.report.document import Table, Value
from jaxfreeze.report.words import NOTHING, layers_value, typographic
from jaxfreeze.search import terms, wording
from jaxfreeze.search.answer import Answer, Point, RateScore


def by_layers(answer: Answer) -> Table:
    """A row for each point: its setting, score, quality, probabilities, cost."""
    within, kept = terms.points(answer.within, answer.metric), terms.share(answer.share)
    columns = [
        "k", "learning rate", "epochs", "score (95% interval)", "quality (95% interval)", f"keeps {kept}",
        f"within {within}", "expected loss", "seconds of one run", "of the full model's", "seeds", "",
    ]  # fmt: skip
    times = "" if answer.metric in terms.IN_UNITS else ", x 100"
    caption = (
        f"Each k at its own best setting, on the reported rows ({terms.metric(answer.metric)}{times}). Intervals are "
        "over seeds and rows, and hold for all rows of this table together. Quality: the gain over a constant "
        f"prediction ({terms.score(answer.constant, answer.metric)}), in % of the best point's gain. Keeps {kept}, "
        f"within {within}: the probability that the quality is at least {kept}, and that the score is at most {within} "
        "short of the best. Expected loss: the mean distance to the best score."
    )
    return Table(typographic(caption), columns, [_row(answer, point) for point in answer.points])


def _row(answer: Answer, point: Point) -> list[Value]:
    k, rate, epochs = point.candidate
    full = answer.full.seconds if answer.full is not None else 0.0
    return [
        layers_value(k, answer.num_layers),
        Value(terms.rate(rate), rate),
        Value(str(epochs), epochs),
        _score(answer, point),
        _quality(answer, point),
        _probability(point.p_keeps) if wording.anything_learned(answer) else NOTHING,
        _probability(point.p_within),
        Value(terms.score(point.regret, answer.metric), point.regret) if math.isfinite(point.regret) else NOTHING,
        Value(f"{point.seconds:,.3g}" if point.seconds < 1000 else f"{point.seconds:,.0f}", point.seconds),
        Value(terms.part(point.seconds / full), point.seconds / full) if full else NOTHING,
        Value(str(len(point.scores)), len(point.scores)),
        Value(_mark(answer, point)),
    ]


def _score(answer: Answer, point: Point) -> Value:
    texts = (terms.score(value, answer.metric) for value in (point.score, point.low, point.high))
    return Value(typographic(_interval(*texts)), point.score)


def _mark(answer: Answer, point: Point) -> str:
    if not wording.learned(answer, point):
        return "no better than a constant prediction"
    if wording.same(point, answer.chosen) and answer.sure:
        return "recommended"
    return "best found" if wording.same(point, answer.best) else ""


def _quality(answer: Answer, point: Point) -> Value:
    if not wording.anything_learned(answer) or not math.isfinite(point.quality):
        return NOTHING
    ends = (point.quality, point.quality_low, point.quality_high)
    texts = [terms.hundred(end) if math.isfinite(end) else "none" for end in ends]
    return Value(typographic(_interval(*texts)), point.quality)


def _interval(middle: str, low: str, high: str) -> str:
    return middle if "none" in (low, high) else f"{middle} ({low} to {high})"


def _probability(value: float) -> Value:
    return Value(terms.probability(value), value) if math.isfinite(value) else NOTHING


def rates(answer: Answer) -> Table:
    """Every learning rate that was raced, a row for each k and number of epochs, a column for each rate."""
    tried = sorted({raced.candidate.learning_rate for raced in answer.rates})
    found = {raced.candidate: raced for raced in answer.rates}
    kinds = list(dict.fromkeys((raced.candidate.layers, raced.candidate.epochs) for raced in answer.rates))
    rows = []
    for layers, epochs in sorted(kinds, key=lambda kind: (layers_value(kind[0], answer.num_layers).key, kind[1])):
        own = {
            raced.candidate.learning_rate: raced for raced in found.values() if raced.candidate[::2] == (layers, epochs)
        }
        rows.append([
            layers_value(layers, answer.num_layers),
            Value(str(epochs), epochs),
            *(_raced(answer, own.get(rate)) for rate in tried),
        ])  # fmt: skip
    caption = (
        f"Learning rates that were raced: mean score on the {answer.selection_rows:,} selection rows (number of runs). "
        "A star marks the rate that was chosen. The choice also weighs neighbouring rates, shorter runs and the k "
        "below. A race begins with few epochs, and the better rates continue with more."
    )
    return Table(caption, ["k", "epochs", *map(terms.rate, tried)], rows)


def _raced(answer: Answer, raced: RateScore | None) -> Value:
    if raced is None:
        return NOTHING
    score = terms.score(raced.score, answer.metric) if math.isfinite(raced.score) else "diverged"
    return Value(typographic(f"{score} ({raced.runs}){' *' if raced.chosen else ''}"), raced.score)


def all_answers(answers: Sequence[Answer]) -> Table:
    """One row for each answer."""
    columns = ["task", "k", "sure?", "keeps its share", "learning rate", "epochs", "score (95% interval)", "metric",
               "best found", "of the full model's time", "the paper's k", "of layers", "model"]  # fmt: skip
    rows = []
    for answer in answers:
        chosen, (k, rate, epochs) = answer.chosen, answer.chosen.candidate
        share = chosen.seconds / answer.full.seconds if answer.full is not None and answer.full.seconds > 0 else None
        of_paper = wording.paper_choices(answer)
        rows.append([
            Value(terms.data(answer.task)),
            layers_value(k, answer.num_layers),
            Value(verdict(answer)),
            _probability(chosen.p_keeps) if wording.anything_learned(answer) else NOTHING,
            Value(terms.rate(rate), rate),
            Value(str(epochs), epochs),
            _score(answer, chosen),
            Value(terms.metric(answer.metric)),
            Value(typographic(terms.score(answer.best.score, answer.metric)), answer.best.score),
            NOTHING if share is None else Value(terms.part(share), share),
            _either(of_paper, answer.num_layers),
            Value(str(answer.num_layers), answer.num_layers),
            Value(terms.short(answer.model)),
        ])  # fmt: skip
    caption = (
        "The answers of all searches. Keeps its share: the probability that this k keeps the asked share of the best "
        "model's gain over a constant prediction. Not decided: no k keeps it with the asked probability, and "
        "the row shows the best model found. The paper's k: the smallest k tried whose mean keeps that share of the "
        "full model's raw score, all at the full model's learning rate. Where there are several, only the last of them "
        "was run at that rate."
    )
    return Table(caption, columns, rows)


def _either(choices: Sequence[Layers], num_layers: int) -> Value:
    """'2, 3 or all'; sorted by the last one."""
    if not choices:
        return NOTHING
    return layers_value(choices[-1], num_layers)._replace(text=terms.listed(choices, "or"))


def verdict(answer: Answer) -> str:
    """In a word or two."""
    if not wording.anything_learned(answer):
        return "nothing beats a constant prediction"
    return "yes" if answer.sure else "not decided"
