"""Findings as the document that report.html shows."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxfreeze.failures import figures
from jaxfreeze.failures.findings import (
    CONFUSIONS,
    HIGH,
    WORST,
    Calibration,
    ClassScore,
    Doubtful,
    Findings,
    LengthGroup,
    RunScores,
    WorstRow,
)
from jaxfreeze.report.document import Block, Document, Heading, Notice, Paragraph, Picture, Table, Value


def compose(findings: Findings) -> Document:
    """The whole page; sections that do not apply are left out."""
    about = findings.about
    layers = "its own choice of layers" if about["trainable_layers"] is None else f"k = {about['trainable_layers']}"
    subtitle = (
        f"{about['task']} ({about['objective']}) on {about['model']}, {layers}, seed {about['seed']}; "
        f"{about['rows']:,} rows: {', '.join(about['splits'])}"
    )
    blocks: list[Block] = [Notice(about["notes"])] if about["notes"] else []
    for section in (
        _scores(findings.scores),
        _classes(findings.classes),
        _confusions(findings),
        _calibration(findings.calibration),
        _points(findings.points),
        _worst(findings.worst),
        _doubtful(findings.doubtful, [run.name for run in findings.scores]),
        _lengths(findings.lengths),
    ):
        blocks += section
    return Document(f"Where {about['name']} fails", subtitle, blocks)


def _scores(scores: Sequence[RunScores]) -> Iterator[Block]:
    yield Heading(2, "Scores")
    names = list(scores[0].metrics)
    rows = [[Value(run.name), *(_number(run.metrics.get(name)) for name in names)] for run in scores]
    caption = "Scores on these rows."
    if len(scores) > 1:
        caption += f" The sections below are about {scores[0].name}."
    yield Table(caption, ["run", *map(_plain, names)], rows)


def _classes(classes: Sequence[ClassScore]) -> Iterator[Block]:
    if not classes:
        return
    yield Heading(2, "Classes")
    rows = [
        [
            Value(one.name),
            *map(_number, (one.f1, one.precision, one.recall)),
            *(Value(f"{count:,}", count) for count in (one.rows, one.predicted)),
        ]
        for one in classes
    ]
    caption = "Classes by ascending F1. A dash marks an undefined value (division by zero)."
    yield Table(caption, ["class", "F1", "precision", "recall", "labels", "predictions"], rows)


def _confusions(findings: Findings) -> Iterator[Block]:
    if not findings.matrix:
        return
    yield Heading(2, "Confusions")
    matrix, names = np.array(findings.matrix), findings.names
    if len(names) <= figures.MOST:
        order = "" if len(names) <= figures.FEW else " Classes that are confused with each other are adjacent."
        caption = (
            "Rows are labels, columns are predictions. Correct predictions are green, errors are red; a darker cell "
            f"is a larger share of the label.{order}"
        )
        alt = f"Confusion matrix of {len(names)} classes; the largest confusions are in the table below."
        yield Picture(figures.confusion_figure(matrix, names), caption, alt, wide=len(names) > figures.FEW)
    if not findings.confusions:
        yield Paragraph("No class is confused with another one.")
        return
    rows = [
        [Value(one.label), Value(one.prediction), Value(f"{one.times:,}", one.times), _percent(one.share)]
        for one in findings.confusions
    ]
    caption = f"The largest confusions, at most {CONFUSIONS}."
    yield Table(caption, ["label", "predicted as", "times", "share of the label"], rows)


def _calibration(found: Calibration | None) -> Iterator[Block]:
    if found is None:
        return
    yield Heading(2, "Calibration")
    fitted = "on these very rows, so the second number is in-sample" if found.in_sample else "on other rows than these"
    yield Paragraph(
        f"Expected calibration error: {found.ece_before:.4f} uncalibrated, {found.ece_after:.4f} at temperature "
        f"{found.temperature:.3f}. The temperature was fitted {fitted}. predict --calibrated uses it."
    )
    yield Paragraph(
        "The error is the mean distance between a prediction's probability and how often such predictions are right: "
        "predictions are sorted by probability into 15 bins of equal mass, and each bin's |share that came true - mean "
        "probability| counts by its size (Naeini et al. 2015; temperature scaling: Guo et al. 2017)."
    )
    drawing = figures.calibration_figure(found.before, found.after, found.temperature)
    alt = f"Share that came true against mean probability in {len(found.before)} bins; the table below has the numbers."
    yield Picture(drawing, "Below the dotted line the run is overconfident, above it underconfident.", alt)
    rows = [
        [
            Value(f"{one.low:.4f} to {one.high:.4f}"),
            Value(f"{one.size:,}", one.size),
            _number(one.probability),
            _number(one.right),
        ]
        for one in found.before
    ]
    yield Table("The bins as it is.", ["probability", "predictions", "mean probability", "came true"], rows)


def _points(points: Sequence[tuple[float, float, int]]) -> Iterator[Block]:
    if not points:
        return
    yield Heading(2, "Predictions and labels")
    some = f"{figures.DOTS:,} of the {len(points):,} rows, drawn at random." if len(points) > figures.DOTS else ""
    alt = f"Predictions against labels of {min(len(points), figures.DOTS):,} rows."
    yield Picture(figures.points_figure(points), f"Predictions against labels. {some}".strip(), alt)
    alt = f"Errors against lengths of {min(len(points), figures.DOTS):,} rows."
    yield Picture(figures.residuals_figure(points), f"Prediction minus label, by length. {some}".strip(), alt)


def _worst(worst: Sequence[WorstRow]) -> Iterator[Block]:
    yield Heading(2, "Worst rows")
    with_top = any(one.top for one in worst)
    rows = [
        [
            Value(one.place),
            Value(one.text),
            Value(one.label),
            Value(one.prediction),
            *([Value("\n".join(f"{name} {share:.3f}" for name, share in one.top))] if with_top else []),
            Value(f"{one.loss:.3f}", one.loss),
        ]
        for one in worst
    ]
    columns = ["row", "text", "label", "prediction", *(["most probable"] if with_top else []), "loss"]
    yield Table(f"The rows with the highest loss, at most {WORST}.", columns, rows, stacked=True)


def _doubtful(doubtful: Sequence[Doubtful] | None, runs: Sequence[str]) -> Iterator[Block]:
    if doubtful is None:
        return
    yield Heading(2, "Labels that look wrong")
    several = len(runs) > 1
    who = f"all {len(runs)} runs give" if several else "the run gives"
    what = f"one and the same other class than the label with a probability of at least {HIGH:g}"
    more = (
        ""
        if several
        else " Give several --run, such as seeds on the same rows: labels that all of them doubt are stronger evidence."
    )
    if not doubtful:
        yield Paragraph(f"None: there is no row to which {who} {what}.{more}")
        return
    rows = [
        [
            Value(one.place),
            Value(one.text),
            Value(one.label),
            Value(one.prediction),
            Value("\n".join(f"{share:.3f}" for share in one.probabilities)),
        ]
        for one in doubtful
    ]
    columns = ["row", "text", "label", "prediction", "probability by run" if several else "probability"]
    caption = f"Rows to which {who} {what}, the surest first.{more}"
    yield Table(caption, columns, rows, stacked=True)


def _lengths(groups: Sequence[LengthGroup]) -> Iterator[Block]:
    yield Heading(2, "By length")
    names = list(groups[0].scores)
    rows = [
        [
            Value(f"{one.shortest}" if one.shortest == one.longest else f"{one.shortest} to {one.longest}"),
            Value(f"{one.rows:,}", one.rows),
            *(_number(one.scores[name]) for name in names),
            _number(one.loss),
        ]
        for one in groups
    ]
    caption = "Groups of about equal size, by length in tokens after truncation."
    yield Table(caption, ["tokens", "rows", *map(_plain, names), "mean loss"], rows)


def _number(value: float | None) -> Value:
    return Value("\N{EN DASH}") if value is None else Value(f"{value:.3f}", value)


def _percent(share: float) -> Value:
    return Value(f"{100 * share:.1f}%", share)


def _plain(name: str) -> str:
    return name.replace("_", " ")
