"""`evaluate --report OUT`: one page about where a run fails, and the same numbers as JSON."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxfreeze import console
from jaxfreeze.data.sources import read_labelled
from jaxfreeze.data.split import Split
from jaxfreeze.errors import InputError
from jaxfreeze.failures import findings
from jaxfreeze.failures.findings import Findings, RunScores
from jaxfreeze.failures.rows import Rows
from jaxfreeze.failures.sections import compose
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.objectives import answers
from jaxfreeze.report import page
from jaxfreeze.report.folder import LIST, ReportFolder
from jaxfreeze.training import evaluation
from jaxfreeze.training.calibration import fit_temperature

PAGE = "report.html"
MARK = '<meta name="generator" content="jaxfreeze evaluate">'


class RunAnswers(NamedTuple):
    """What one run answers for its rows."""

    about: dict[str, Any]
    """Of the run, as the report has it: name, task, model, trainable_layers, seed, objective, step."""
    rows: Rows
    digests: dict[str, str]
    """Of each split's texts and labels."""
    logits: np.ndarray  # float32 [N, C]
    metrics: dict[str, float]
    temperature: float | None
    """Fitted on the validation rows when the run ended; None: an earlier jaxfreeze made it."""
    in_sample: bool
    """Whether the rows are those that the temperature was fitted on."""
    note: str
    """What a reader must know of the rows."""

    @property
    def name(self) -> str:
        """How the report calls the run."""
        return self.about["name"]


def report(paths: Sequence[Path], output: Path, best: bool = False, input_file: Path | None = None) -> Findings:
    """Write report.html and report.json about the first of some finished runs; the others judge its labels.

    It is about their validation rows, or about the labelled rows of a file. Raises InputError for a folder that holds
    anything but such a report, for runs whose rows are gone, and for runs that were not scored on the same rows.
    """
    folder = ReportFolder(output, "--report", "failures", re.compile(re.escape(PAGE)))
    earlier = folder.earlier()
    folder.check_unchanged(earlier, [PAGE])
    runs: list[RunAnswers] = []
    for path in paths:
        runs.append(_answers(path, best, input_file))
        _check_same_rows(runs[0], runs[-1])
        console.say(f"{path}: {console.metrics_line(runs[-1].metrics)}")
    found = find(runs)
    files = {PAGE: page.to_html(compose(found), MARK, sortable=False).encode()}
    folder.check_unchanged(earlier, files)
    folder.write(files, earlier, findings.as_json(found))
    for name in (PAGE, LIST):
        console.say(str(output / name))
    return found


def _answers(path: Path, best: bool, input_file: Path | None) -> RunAnswers:
    """Score a run again."""
    run = FinishedRun(path, best)
    splits, differences = _read(run, input_file)
    scored = [evaluation.Scored(*run.logits(split)) for split in splits.values()]
    read = [one.read for one in scored if one.read is not None]
    metrics: dict[str, float] = {}
    for one in scored:
        metrics |= evaluation.score(run.task, one.dataset, one.logits)
    rows = Rows(
        run.task.objective,
        run.task.text_columns,
        [f"{name} {number}" for name, split in splits.items() for number in range(len(split.texts[0]))],
        [row for split in splits.values() for row in zip(*split.texts, strict=True)],
        np.concatenate([one.dataset.store.lengths for one in scored]),
        np.concatenate([one.label for one in scored]),
        np.concatenate([one.counts for one in scored]),
        np.concatenate(read) if read else None,
    )
    return RunAnswers(
        _about(path, run),
        rows,
        {name: split.digest for name, split in splits.items()},
        np.concatenate([one.logits for one in scored]),
        {name: value for name, value in metrics.items() if name not in run.task.objective.kept()},
        run.metrics.get("temperature"),
        not differences and input_file is None,
        f"{path}: scored on {differences} than those of metrics.json." if differences else "",
    )


def _read(run: FinishedRun, input_file: Path | None) -> tuple[dict[str, Split], str]:
    """The validation rows of a run, or those of a file, by name; and in what the run's own differ now, in words."""
    if input_file is not None:
        return {str(input_file): read_labelled(input_file, run.task, run.config)}, ""
    splits = run.own_rows()[0]
    return {split.name: split for split in splits}, run.other_rows(splits)


def _about(path: Path, run: FinishedRun) -> dict[str, Any]:
    settings = {name: getattr(run.config, name) for name in ("task", "model", "trainable_layers", "seed")}
    return {"name": str(path), **settings, "objective": run.task.objective.kind, "step": run.step}


def _check_same_rows(first: RunAnswers, other: RunAnswers) -> None:
    """Raise InputError unless two runs answer for the same rows with the same classes."""
    kinds = [(one.rows.objective.kind, one.rows.objective.labels) for one in (first, other)]
    if kinds[0] != kinds[1] or first.digests != other.digests:
        what = "classes" if kinds[0] != kinds[1] else "rows"
        raise InputError(
            f"--run {other.name}: was scored on other {what} than --run {first.name}; --report compares runs on the "
            "same rows: give those that differ in their seed or settings alone"
        )


def find(runs: Sequence[RunAnswers]) -> Findings:
    """All that the report says."""
    first = runs[0]
    rows, logits, names = first.rows, first.logits, list(first.rows.objective.labels)
    matrix = findings.confusion_matrix(rows, logits)
    counted = {"rows": len(rows.places), "splits": list(first.digests), "runs": [one.name for one in runs]}
    by_run = [findings.class_scores(rows, one.logits) for one in runs]
    return Findings(
        {**first.about, **counted, "notes": [one.note for one in runs if one.note]},
        [
            RunScores(one.name, {**one.metrics, **findings.macro_f1(classes), **one.metrics})
            for one, classes in zip(runs, by_run, strict=True)
        ],
        by_run[0],
        matrix.tolist(),
        names,
        findings.confusions(matrix, names),
        _calibration(first),
        findings.points(rows, logits),
        findings.worst_rows(rows, logits),
        findings.doubtful_labels(rows, [one.logits for one in runs]),
        findings.length_groups(rows, logits),
    )


def _calibration(run: RunAnswers) -> findings.Calibration | None:
    """At the run's own temperature; one of an earlier jaxfreeze has none, so it is fitted on these rows."""
    objective = run.rows.objective
    if not answers.has_probabilities(objective):
        return None
    fitted = run.temperature is None
    temperature = run.temperature or fit_temperature(objective, run.logits, run.rows.label)
    return findings.calibration(run.rows, run.logits, temperature, in_sample=fitted or run.in_sample)
