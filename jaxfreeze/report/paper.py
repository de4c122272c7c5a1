"""The paper's figure and tables, made of the runs that a search did by the paper's protocol."""

from jaxfreeze.freezing import ALL
from jaxfreeze.report import tables, words
from jaxfreeze.report.document import Block, Heading, Items, Paragraph
from jaxfreeze.report.sections import Names, differences
from jaxfreeze.search import terms
from jaxfreeze.search.answer import Answer, Point
from jaxfreeze.sweep.curves import Curve, curves
from jaxfreeze.sweep.results import RunResult


def blocks(answer: Answer, names: Names, level: int) -> list[Block]:
    """What the paper would have shown of this task; nothing without the full model, or where lower is better."""
    curve = None if terms.lower_is_better(answer.metric) else curve_of(answer)
    if curve is None or curve.full is None:
        return []
    full = next(point for point in answer.paper if point.candidate.layers == ALL).candidate
    text = (
        f"Every k at the full model's learning rate ({terms.rate(full.learning_rate)}) and epochs ({full.epochs}), "
        "compared by the ratio of raw scores, with intervals over seeds alone. A k that needs another rate than the "
        "full model looks worse here than it is."
    )

    def title(curve: Curve) -> str:
        return words.task(curve)

    found: list[Block] = [
        Heading(level, f"By the paper's protocol{f', {terms.data(answer.task)}' if level > 2 else ''}"),
        Paragraph(text),
        Items([("Its answer for 90%", words.plain_answer(curve))]),
        differences(answer.model, [curve], title, names),
        tables.none_some_all([curve], title),
    ]
    if curve.qualities:
        found += [tables.relative_quality([curve], title), tables.smallest([curve], title)]
    return [*found, tables.scores(curve)]


def curve_of(answer: Answer) -> Curve | None:
    """Score against k of the paper's runs; None where there are none. Their seeds are numbered in their order."""
    runs = [_run(answer, point, seed, score) for point in answer.paper for seed, score in enumerate(point.scores, 1)]
    return curves(runs)[0] if runs else None


def _run(answer: Answer, point: Point, seed: int, score: float) -> RunResult:
    """A run, as far as an answer knows it."""
    return RunResult(
        model=answer.model,
        task=answer.task,
        trainable_layers=point.candidate.layers,
        seed=seed,
        learning_rate=point.candidate.learning_rate,
        num_layers=answer.num_layers,
        metrics={answer.metric: score},
        primary_metric=answer.metric,
        seconds={"train": point.seconds, "total": point.seconds},
        parameters={},
        flops_per_step=None,
        side_by_side=1,
        config={},
        versions={},
        devices="",
        date="",
        place="",
        origin=None,
    )
