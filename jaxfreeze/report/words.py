"""How a report words things: numbers, tasks, k, and the sentences that answer for one curve."""

import re

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.report.document import Value
from jaxfreeze.search import terms
from jaxfreeze.search.terms import listed
from jaxfreeze.sweep.curves import CONSTANT_ANSWER, Curve, above, beats_constant_answer, cost
from jaxfreeze.sweep.results import counted_runs
from jaxfreeze.sweep.statistics import Cell, Interval, Smallest
from jaxfreeze.sweep.wording import constant_answer_warning

NOTHING = Value("\N{EN DASH}")
"""A cell of a table without a value."""
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


def typographic(text: str) -> str:
    """A text of the terminal with the signs of a page: a minus before a number, a cross between them."""
    return re.sub(r"(?<![\w.-])-(?=\d)", MINUS, text).replace(" x 100", f" {TIMES} 100")


def task(curve: Curve) -> str:
    """'MRPC'."""
    return terms.task(curve.task)


def metric(curve: Curve) -> str:
    """'F1'."""
    return terms.metric(curve.metric)


def title(curve: Curve, several: bool) -> str:
    """'MRPC', with the learning rate if the task has several."""
    return f"{task(curve)}, learning rate {curve.learning_rate:g}" if several else task(curve)


def hundred(value: float, sign: bool = False) -> str:
    """A fraction x 100 with one decimal: '86.4', '-0.3', '+1.2'."""
    return terms.hundred(value, sign).replace("-", MINUS)


def span(interval: Interval, sign: bool = False) -> str:
    """'90.2 to 95.8'."""
    return f"{hundred(interval.low, sign)} to {hundred(interval.high, sign)}"


def with_span(value: float, interval: Interval | None) -> str:
    """'93.1 (90.2 to 95.8)'."""
    return hundred(value) if interval is None else f"{hundred(value)} ({span(interval)})"


def percent(value: float, interval: Interval | None) -> str:
    """'93.1% (90.2 to 95.8)'."""
    return f"{hundred(value)}%" + (f" ({span(interval)})" if interval else "")


def with_sd(mean: float, sd: float | None) -> str:
    """'86.4 ± 0.5'."""
    return hundred(mean) if sd is None else f"{hundred(mean)} ± {hundred(sd)}"


def three_digits(value: float) -> str:
    """At least three digits, no exponent: '0.0123', '12.3', '1,234'."""
    decimals = next((d for d in range(7) if value * 10**d >= 99.5), 7)
    return f"{value:,.{decimals}f}"


def layers_value(layers: Layers, num_layers: int) -> Value:
    """k in a table."""
    return Value(str(layers), num_layers + 1 if layers == ALL else layers)


def share(value: float) -> str:
    """'83%'; '>99%' where rounding would give 100%."""
    return ">99%" if 0.995 <= value < 1 else f"{value:.0%}"


def of_full(value: float | None, full: float | None) -> Value:
    """A cost as a share of the full model's."""
    return Value(f"{100 * value / full:.1f}%", value / full) if value and full else NOTHING


def answer(curve: Curve) -> str:
    """How many layers retain 90% of full fine-tuning, in a few sentences, as far as the intervals confirm it.

    Where the score of the best constant answer is known and not 0, 90% of the gain over it; the paper's plain ratio
    comes second, by its name.
    """
    constant, full = CONSTANT_ANSWER.get(curve.task), curve.full
    if not constant or full is None or not curve.partial or not curve.smallest:
        return plain_answer(curve)
    told = f"a constant prediction ({hundred(constant)} on GLUE's dev set)"
    if not beats_constant_answer(curve, full):
        shown = (
            f"the full model's {with_span(full.mean, full.interval)} {metric(curve)} is indistinguishable from {told}"
        )
        return f"{shown}, so there is no gain to keep a share of. {_plain_ratio(curve)}"
    kept = _kept(curve, above(curve, constant), f"'s gain over {told}")
    return f"{kept} {_plain_ratio(curve)}"


def plain_answer(curve: Curve) -> str:
    """The same by the paper's plain ratio of scores."""
    full = curve.full
    if full is None:
        return (
            f"no run of the full model (trainable_layers all) at learning rate {curve.learning_rate:g}, "
            "so there is no relative quality to tell."
        )
    if not curve.partial:
        return f"only the full model was run: {with_sd(full.mean, full.sd)} ({counted_runs(full.n)})."
    if not curve.smallest:
        return f"the full model's mean is {hundred(full.mean)}, of which no share can be taken."
    warning = ""
    if curve.smallest[0].layers != ALL and (cell := curve.cell(curve.smallest[0].layers)):
        warning = constant_answer_warning(curve, cell)
    return f"{_kept(curve, curve, '')} {warning}".rstrip()


def _plain_ratio(curve: Curve) -> str:
    """'By the paper's plain ratio of scores: 94.2% at k = 0.'"""
    smallest = curve.smallest[0]
    if smallest.layers == ALL:
        return "By the paper's plain ratio of scores: no k keeps 90%."
    ratio = curve.qualities[smallest.layers].value
    return f"By the paper's plain ratio of scores: {percent(ratio, None)} at k = {smallest.layers}."


def _kept(curve: Curve, judged: Curve, of_what: str) -> str:
    """The sentences on 90%. judged: the curve whose qualities count. of_what: follows 'full fine-tuning'."""
    full, smallest = curve.full, judged.smallest[0]
    assert full is not None  # there are qualities
    of_full = f"full fine-tuning{of_what}"
    if smallest.layers == ALL:
        return _only_all(judged, full, smallest, of_full)
    return _some_layers(curve, judged, full, smallest, of_full)


def _some_layers(curve: Curve, judged: Curve, full: Cell, smallest: Smallest, of_full: str) -> str:
    k, quality = smallest.layers, judged.qualities[smallest.layers]
    cell = next(cell for cell in curve.partial if cell.layers == k)
    who = "the head alone" if k == 0 else f"{k} of {curve.num_layers} layers"
    keep = ("keeps" if k in (0, 1) else "keep") if smallest.decided else "kept"
    time = cost(cell).train_seconds / max(cost(full).train_seconds, 1e-9)
    text = (
        f"{who} {keep} {percent(quality.value, quality.interval)} of {of_full}, {hundred(cell.mean)} against "
        f"{hundred(full.mean)} {metric(curve)}, at {time:.0%} of its training time"
    )
    if quality.interval is None:
        return f"{text}; {_no_interval(cell, full)}, which is inconclusive with these seeds."
    if not smallest.decided:
        return f"{text}. The interval contains 90%: inconclusive with these seeds. {_reliable(smallest)}"
    if smallest.undecided_below:
        fewer = "the head alone" if smallest.undecided_below == [0] else f"k = {listed(smallest.undecided_below, 'or')}"
        return f"{text}. Whether {fewer} would keep 90% too is inconclusive with these seeds."
    return f"{text}."


def _only_all(curve: Curve, full: Cell, smallest: Smallest, of_full: str) -> str:
    tried = listed([cell.layers for cell in curve.partial], "or")
    best = max(curve.qualities, key=lambda k: curve.qualities[k].value)
    quality = curve.qualities[best]
    text = f"k = {tried} {'keeps' if smallest.decided else 'kept'} less than 90% of {of_full} in the mean; "
    text += f"the most is {percent(quality.value, quality.interval)} at k = {best}."
    if smallest.decided:
        return text
    if smallest.unknown:
        without = [cell for cell in curve.partial if cell.layers in smallest.unknown]
        which = listed([cell.layers for cell in without])
        return f"{text} At k = {which} {_no_interval(without[0], full)}, which is inconclusive with these seeds."
    return f"{text} Inconclusive with these seeds: k = {listed(smallest.undecided_below)}. {_reliable(smallest)}"


def _reliable(smallest: Smallest) -> str:
    if smallest.reliable_from == ALL:
        return f"No k tried has its whole interval above {smallest.threshold:.0%}."
    return f"From k = {smallest.reliable_from} on, the whole interval lies above {smallest.threshold:.0%}."


def _no_interval(cell: Cell, full: Cell) -> str:
    if min(cell.n, full.n) < 2:
        return "one run has no interval"
    return "the full model's own interval contains 0, so the share has none"


def verdict(smallest: Smallest) -> str:
    """What the intervals confirm about one threshold, for a table."""
    if smallest.decided:
        fewer = smallest.layers != ALL and smallest.undecided_below
        return f"kept; k = {listed(fewer, 'or')} not decided" if fewer else "decided"
    if smallest.unknown:
        return "not decided: some k have no interval"
    return "inconclusive with these seeds"
