"""The first screen of a report on a search: what to train, what it costs, how sure that is, and why."""

from collections.abc import Sequence

from jaxfreeze.report import choice_figures, choice_tables
from jaxfreeze.report.document import Block, Heading, Items, Lead, Picture
from jaxfreeze.report.words import typographic
from jaxfreeze.search import terms, wording
from jaxfreeze.search.answer import Answer, Point


def blocks(answer: Answer, stem: str = "search", level: int = 3) -> list[Block]:
    """What a report says of one answer, the most important first.

    stem: how the names of its figures begin. level: of its headings.
    """
    found: list[Block] = [
        _lead(answer, stem),
        Heading(level, f"Every k at its own learning rate{_of(answer, level)}"),
        _by_layers_picture(answer, stem),
        choice_tables.by_layers(answer),
    ]  # fmt: skip
    if answer.rates:
        found += [Heading(level, f"Which learning rate for which k{_of(answer, level)}")]
        found += [_rates_picture(answer, stem), choice_tables.rates(answer)]
    if left_out := wording.left_out(answer):
        found += [Heading(level, f"What was left out{_of(answer, level)}"), Items(left_out)]
    return [*found, Heading(level, f"How it was found{_of(answer, level)}"), Items(_made(answer))]


def _of(answer: Answer, level: int) -> str:
    """What tells a heading from those of another answer."""
    return f", {terms.data(answer.task)}" if level > 2 else ""


def _lead(answer: Answer, stem: str) -> Lead:
    picture = Picture(
        choice_figures.front_figure(f"{stem}-front", answer),
        "Score on the reported rows against the time of one run, with 95% intervals that hold for all points "
        "together. The line joins the points that no other one beats in both.",
        f"Score against seconds of one run. {_said(answer, answer.points)}.",
    )
    items = [
        ("How sure is that", wording.uncertainty(answer)),
        ("This search", _in_short(answer)),
        ("The paper's protocol", wording.of_paper(answer)),
    ]
    return Lead(
        wording.headline(answer),
        [typographic(f"{line[:1].upper()}{line[1:]}") for line in wording.evidence(answer)],
        answer.command,
        picture,
        [(about, typographic(text)) for about, text in items],
    )


def _said(answer: Answer, points: Sequence[Point]) -> str:
    return "; ".join(
        f"{wording.described(point.candidate, answer.num_layers)}: {wording.scored(answer, point)}, "
        f"{terms.duration(point.seconds)}"
        for point in points
    )


def _in_short(answer: Answer) -> str:
    if not wording.anything_learned(answer):
        return f"{wording.headline(answer)} ({terms.score(answer.constant, answer.metric)})."
    score = wording.scored(answer, answer.chosen)
    return f"{wording.headline(answer)}, which scores {score} (every k at its own rate, chosen on other rows)."


def _by_layers_picture(answer: Answer, stem: str) -> Picture:
    return Picture(
        choice_figures.layers_figure(f"{stem}-layers", answer),
        "Score by k, each k at the learning rate below it, with 95% intervals over seeds and rows that hold for all "
        "points together. Squares: the same k at the full model's rate, as the paper compares them.",
        f"Score by k. Own rate for each k: {_said(answer, answer.points)}. The paper's protocol: "
        f"{_said(answer, answer.paper) or 'not run'}.",
    )


def _rates_picture(answer: Answer, stem: str) -> Picture:
    return Picture(
        choice_figures.rates_figure(f"{stem}-rates", answer),
        "Score on the selection rows by learning rate, for each k; a ring marks the rate that was chosen. Each score "
        "axis has its own scale.",
        "Score on the selection rows by learning rate, for each k; the table below has the numbers.",
    )


def _made(answer: Answer) -> list[tuple[str, str]]:
    asked = (
        f"the smallest k that keeps {terms.share(answer.share)} of the best model's gain over a constant "
        f"prediction, with a probability of at least {terms.share(answer.confidence)}; if there is none, the best model"
    )
    rows = (
        f"models are trained on the training rows; learning rates and epochs are chosen on {answer.selection_rows:,} "
        f"selection rows; the final models are scored once on {answer.rows:,} reported rows, which influence no choice"
    )
    return [
        ("Asked", asked),
        ("Rows", rows),
        ("Cost of the search", f"{answer.runs:,} runs, {terms.duration(answer.seconds)}"),
        ("Model", f"{answer.model}, {answer.num_layers} layers"),
        ("Task", f"{terms.data(answer.task)}, scored by {terms.metric(answer.metric)}"),
    ]
