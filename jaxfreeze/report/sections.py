"""Composes a report from its curves: sections, figures and tables in their order."""

import re
from collections.abc import Callable, Iterable, Sequence

from jaxfreeze.report import cost_tables, protocol, tables, words
from jaxfreeze.report.document import Block, Document, Heading, Items, Notice, Paragraph, Picture
from jaxfreeze.report.figures import difference_figure, score_figure
from jaxfreeze.report.reference import LATER, authors_model, authors_scores
from jaxfreeze.search.terms import TASKS, listed, short
from jaxfreeze.sweep.curves import Curve, curves, differing_settings
from jaxfreeze.sweep.results import Results, RunResult, counted_runs
from jaxfreeze.sweep.statistics import RESAMPLES

Title = Callable[[Curve], str]

INTERVALS = (
    ("Score", "Student's t interval of the mean over seeds, for 95%."),
    (
        "Difference to the full model",
        "Student's t interval of the differences by seed, over the seeds that both have. Runs of one seed share "
        "the order of the examples and the start of the head.",
    ),
    (
        "Relative quality and smallest k",
        f"{RESAMPLES:,} resamples of the means over seeds, one draw for all k together, so that runs stay paired "
        "by seed. Each seed's residual gets a random normal weight (multiplier bootstrap), with the tails of "
        "Student's t, because plain resampling of a few seeds gives intervals that are too narrow: those of "
        "three seeds would cover the mean in 75% of all cases, not 95%.",
    ),
    ("One run", "has no spread, so it has no interval, and no conclusion is drawn from it."),
    (
        "Several intervals",
        "Each interval alone has a level of 95%: of 20 comparisons without a real difference, about one "
        "will seem to show one.",
    ),
)
AUTHORS_FIGURES = (
    "Lee, Tang, Lin: What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning, arXiv:1911.03090. "
    "Computed from the per-run result files in the first author's public repository, ljj7975/transformers, at "
    "two dates: 2019-11-07, the eve of the paper, and 2020-05, with more seeds."
)


class Names:
    """File names of figures: short, plain and unique."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, *parts: str) -> str:
        """A name that no figure has yet, made of these parts."""
        base = "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")[-32:].strip("-") or "x" for part in parts)
        name, number = base, 2
        while name in self._taken:
            name, number = f"{base}-{number}", number + 1
        self._taken.add(name)
        return name


def compose(results: Results) -> Document:
    """The whole report."""
    found = results.runs
    by_model: dict[str, list[Curve]] = {}
    for curve in curves(found):
        by_model.setdefault(curve.model, []).append(curve)
    by_model = {model: sorted(own, key=_position) for model, own in by_model.items()}
    names = Names()
    blocks: list[Block] = [Heading(2, "The answer")]
    for model, own in by_model.items():
        blocks += [Heading(3, model)] * (len(by_model) > 1)
        blocks.append(Items([(title(curve), words.answer(curve)) for title in [_title(own)] for curve in own]))
    blocks += _notices(results, by_model.values())
    for model, own in by_model.items():
        blocks += _model(model, own, names)
    blocks += _method(found)
    return Document("How many layers have to be fine-tuned?", _subtitle(found, by_model), blocks)


def _position(curve: Curve) -> tuple[int, str, float]:
    """Sort key: GLUE's order, then other tasks by name; then the learning rate."""
    known = list(TASKS)
    return known.index(curve.task) if curve.task in known else len(known), curve.task, curve.learning_rate


def _title(own: Sequence[Curve]) -> Title:
    """A function that names a curve of one model; with its learning rate where the task has several."""
    several = {curve.task for curve in own if sum(other.task == curve.task for other in own) > 1}
    return lambda curve: words.title(curve, curve.task in several)


def _subtitle(found: Sequence[RunResult], by_model: dict[str, list[Curve]]) -> str:
    names = dict.fromkeys(words.task(curve) for own in by_model.values() for curve in own)
    dates = dict(protocol.versions(found)).get("Dates")
    when = f", {dates}" if dates else ""
    return (
        f"{counted_runs(len(found))} of {listed(list(by_model))} on {listed(list(names))}{when}. "
        f"Scores are {words.TIMES} 100. k is how many of the last layers train, beside the head; all is the full "
        "model, embeddings included."
    )


def _notices(results: Results, models: Iterable[Sequence[Curve]]) -> list[Block]:
    lines = list(results.notes)
    for own in models:
        title = _title(own)
        several = dict.fromkeys(words.task(curve) for curve in own if title(curve) != words.task(curve))
        if several:
            lines.append(
                f"{own[0].model}: {listed(list(several))} ran at several learning rates; each is a curve of its own, "
                "compared with the full model at the same rate."
            )
        for curve in own:
            if others := differing_settings(curve):
                lines.append(
                    f"{curve.model}, {title(curve)}: runs of this curve differ in more than k and seed "
                    f"({'; '.join(others)}); its comparisons mix the two."
                )
    return [Notice(lines)] if lines else []


def _model(model: str, own: Sequence[Curve], names: Names) -> list[Block]:
    title, several = _title(own), len(own) > 1
    blocks: list[Block] = [Heading(2, model), Paragraph(_about(model, own))]
    with_differences = [curve for curve in own if curve.differences]
    if with_differences:
        blocks.append(differences(model, with_differences, title, names))
    blocks.append(tables.none_some_all(own, title))
    with_quality = [curve for curve in own if curve.qualities]
    if with_quality:
        blocks += [tables.relative_quality(with_quality, title), tables.smallest(with_quality, title)]
    for task in dict.fromkeys(curve.task for curve in own):
        of_task = [curve for curve in own if curve.task == task]
        blocks += _task(of_task, title, names)
    suffix = f", {model}" if several else ""
    blocks += [Heading(3, f"Collapsed runs{suffix}"), *_collapsed(own, title)]
    blocks += [Heading(3, f"Cost{suffix}"), cost_tables.costs(own, title)]
    return [*blocks, Heading(3, f"Parameters{suffix}"), cost_tables.parameters(own)]


def _about(model: str, own: Sequence[Curve]) -> str:
    layers = own[0].num_layers
    if authors_model(model, layers) is None:
        return f"{layers} layers. The paper's authors have no results for such a model."
    missing = [words.task(curve) for curve in own if authors_scores(model, curve.task, layers) is None]
    text = f"{layers} layers. The authors' own runs (up to {LATER}) are listed with ours where task and k are the same"
    return f"{text}; they have none on {listed(list(dict.fromkeys(missing)))}." if missing else f"{text}."


def differences(model: str, own: Sequence[Curve], title: Title, names: Names) -> Picture:
    """The paper's figure for the curves of one model."""
    name = names.new("difference", short(model))
    drawing = difference_figure(name, f"{short(model)}: cost of freezing", own, [title(curve) for curve in own])
    caption = (
        "The paper's figure: difference to the full model, in points, by the number of frozen layers, with 95% "
        "intervals over seeds (paired). Where an interval crosses the line at 0, the difference is inconclusive "
        "with these seeds."
    )
    if any(authors_scores(curve.model, curve.task, curve.num_layers) for curve in own):
        caption += f" Dashed: the authors' runs up to {LATER}."
    said = (
        f"{title(curve)}: "
        + ", ".join(f"{words.hundred(paired.mean, sign=True)} at k = {k}" for k, paired in curve.differences.items())
        for curve in own
    )
    return Picture(drawing, caption, f"Difference to the full model, {model}. {'; '.join(said)}.")


def _task(own: Sequence[Curve], title: Title, names: Names) -> list[Block]:
    first = own[0]
    drawing = score_figure(
        names.new("score", short(first.model), first.task),
        f"{words.task(first)}, {short(first.model)}",
        words.metric(first),
        own,
    )
    caption = f"Score ({words.metric(first)}) by k: means with 95% intervals over seeds, and single runs as dots."
    theirs = authors_scores(first.model, first.task, first.num_layers)
    if theirs is not None:
        caption += f" Diamonds: the authors' means up to {LATER}."
    said = "; ".join(
        f"{title(curve)}: "
        + ", ".join(f"{words.with_span(cell.mean, cell.interval)} at k = {cell.layers}" for cell in curve.cells)
        for curve in own
    )
    blocks: list[Block] = [
        Heading(3, f"{words.task(first)} ({words.metric(first)})"),
        Picture(drawing, caption, f"Score by k, {first.model}. {said}."),
    ]
    for curve in own:
        if len(own) > 1:
            blocks.append(Paragraph(f"Learning rate {curve.learning_rate:g}:"))
        blocks.append(tables.scores(curve))
    return blocks


def _collapsed(own: Sequence[Curve], title: Title) -> list[Block]:
    items = [
        (
            f"{title(curve)}, k = {cell.layers}",
            f"{len(cell.collapsed)} of {counted_runs(cell.n)}: "
            + ", ".join(f"seed {seed} ({words.hundred(score)})" for seed, score in cell.collapsed),
        )
        for curve in own
        for cell in curve.cells
        if cell.collapsed
    ]
    count = sum(len(cell.collapsed) for curve in own for cell in curve.cells)
    total = sum(cell.n for curve in own for cell in curve.cells)
    text = (
        f"{count or 'None'} of {total} scores collapsed by the authors' rule: 0, or at most 0.9 {words.TIMES} the best "
        "of its cell."
    )
    return [Paragraph(text), *([Items(items)] if items else []), tables.filtered(own, title)]


def _method(found: Sequence[RunResult]) -> list[Block]:
    return [
        Heading(2, "How it was run"),
        Items(protocol.versions(found)),
        protocol.settings(found),
        Heading(3, "Where this differs from the paper's protocol"),
        Items(protocol.deviations(found)),
        Heading(3, "How the intervals are made"),
        Items(INTERVALS),
        Heading(3, "Where the data came from"),
        Items([*protocol.sources(found), ("Authors' figures", AUTHORS_FIGURES)]),
    ]
