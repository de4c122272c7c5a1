"""Scores a finished run again, and predicts for the rows of a file of any size."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxfreeze import console
from jaxfreeze.atomic import new_file
from jaxfreeze.data.sources import read_labelled
from jaxfreeze.data.split import Split
from jaxfreeze.data.streams import format_of, read_chunks
from jaxfreeze.data.tables import STANDARD_INPUT
from jaxfreeze.errors import InputError
from jaxfreeze.inference.ensemble import Ensemble, open_runs
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.outputs import Outputs
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.training import evaluation

SAY_EVERY = 10  # seconds
STANDARD_OUTPUT = STANDARD_INPUT
REQUIRED = {"prediction", "logits"}
FIELDS = REQUIRED | {"probabilities"}
"""Of a prediction in a line of the output."""
OF_WORDS = {"words", "prediction", "probabilities", "entities"}
"""Of a prediction for words."""


def evaluate(path: Path, best: bool = False, input_file: Path | None = None) -> dict[str, float]:
    """Score a finished run on its validation rows again -> {metric: value}; says whether it is the score of the run.

    The run's test rows, if it has any, are scored and printed too. input_file: labelled rows to score instead.
    """
    run = FinishedRun(path, best)
    if input_file is not None:
        return _score_file(run, input_file)
    validations, tests = run.own_rows()
    differences = run.other_rows([*validations, *tests])
    metrics = _scores(run, validations)
    console.say(f"pretrained weights: the same ones, by digest of {len(run.model.frozen)} frozen arrays")
    console.say(f"{run.config.task} validation: {console.metrics_line(metrics)}")
    if tests:
        console.say(f"{run.config.task} test: {console.metrics_line(_scores(run, tests))}")
    recorded = run.metrics["metrics"]
    if differences:
        console.say(f"scored on {differences} than those of metrics.json, which says: {console.metrics_line(recorded)}")
        return metrics
    if not run.has_recorded_scores:
        return metrics
    if metrics == recorded:
        console.say("the same score as in metrics.json")
    else:
        console.say(f"metrics.json says: {console.metrics_line(recorded)} (on {run.metrics['devices']})")
    return metrics


def _scores(run: FinishedRun, splits: Sequence[Split]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for split in splits:
        metrics |= evaluation.score(run.task, *run.logits(split))
    return {name: value for name, value in metrics.items() if name not in run.task.objective.kept()}


def _score_file(run: FinishedRun, file: Path) -> dict[str, float]:
    """Metrics on the labelled rows of a file; says that they are not the run's own."""
    split = read_labelled(file, run.task, run.config)
    metrics = _scores(run, [split])
    console.say(f"{file}: {len(split.texts[0]):,} rows: {console.metrics_line(metrics)}")
    own = [name for name, digest in (run.origin.identity.rows if run.origin else {}).items() if digest == split.digest]
    rows = f"the run's own {own[0]} rows" if own else "not the run's own validation rows"
    console.say(f"these are {rows}; on its validation rows: {console.metrics_line(run.metrics['metrics'])}")
    return metrics


def predict(
    paths: Sequence[Path],
    input_file: Path,
    output_file: Path,
    format_: str | None = None,
    best: bool = False,
    ensemble: bool = False,
    calibrated: bool = False,
) -> int:
    """Write a JSON line for every row of a table or of plain lines, in its order -> their number.

    With one run, or with several as an ensemble, a line is {"index", "prediction", "probabilities", "logits"}; with
    several it is {"index"} and for each run, by the name of its task, an object of the other three. A prediction is a
    class name, a list of them (multi-label), or a number without probabilities (regression). Of a run that labels
    words, the object is {"words", "prediction", "probabilities", "entities"}: a class and its probability for each
    word, null for one that was not read. Either file may be `-`. Memory does not grow with the rows. The output file is
    written atomically, once all rows are done; standard output gets each chunk as it is done.
    """
    if output_file == STANDARD_OUTPUT and not (sys.stdout and sys.stdout.writable()):
        raise InputError("--output -: standard output is closed; give a file")
    if output_file != STANDARD_OUTPUT:
        check_output(output_file, input_file)
    with console.on_stderr():
        return _predict(open_runs(paths, best, ensemble, calibrated), input_file, format_, output_file)


def check_output(output: Path, input_file: Path) -> None:
    """Raise InputError unless predictions may be written to this file: it is new, or holds earlier predictions."""
    if not output.absolute().parent.is_dir():
        raise InputError(f"--output {output}: its folder does not exist")
    if output.is_dir():
        raise InputError(f"--output {output}: expected a file, found a folder")
    if not output.exists() and not output.is_symlink():
        return
    if output.is_symlink() or not output.is_file():
        raise InputError(f"--output {output}: expected a new file or earlier predictions, found a link or a device")
    if input_file.exists() and output.samefile(input_file):
        raise InputError(f"--output {output}: is the input too; give another name")
    if output.stat().st_size and not _holds_predictions(output):
        raise InputError(f"--output {output}: holds something else than predictions; give another name")


def _holds_predictions(file: Path) -> bool:
    """Whether each line is one of `predict`'s, and nothing was added."""
    try:
        with file.open(encoding="utf-8") as lines:
            return all(_is_prediction(json.loads(line), number) for number, line in enumerate(lines))
    except (OSError, ValueError, RecursionError):
        return False


def _is_prediction(line: Any, index: int) -> bool:
    if not isinstance(line, dict) or line.pop("index", None) != index:
        return False
    runs = [line] if "prediction" in line else list(line.values())
    return bool(runs) and all(
        isinstance(run, dict) and (REQUIRED <= run.keys() <= FIELDS or run.keys() == OF_WORDS) for run in runs
    )


def _predict(trunk: SharedTrunk | Ensemble, input_file: Path, format_: str | None, output_file: Path) -> int:
    tasks = list(trunk.tasks.values())
    chunks = read_chunks(input_file, format_of(input_file, format_, tasks[0]), tasks)
    count, began, said = 0, time.monotonic(), time.monotonic()
    to_stdout = output_file == STANDARD_OUTPUT
    with nullcontext(sys.stdout) if to_stdout else new_file(output_file, "--output") as output:
        for outputs in trunk.stream(chunks):
            for fields in _rows(trunk, outputs):
                output.write(json.dumps({"index": count, **fields}) + "\n")
                count += 1
            output.flush()
            if time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                console.say(f"{count:,} predictions, {count / (said - began):,.0f} a second")
    where = "standard output" if to_stdout else output_file
    console.say(f"{count:,} predictions in {where}, {count / (time.monotonic() - began):,.0f} a second")
    return count


def _rows(trunk: SharedTrunk | Ensemble, outputs: Mapping[str, Outputs]) -> Iterator[dict[str, Any]]:
    """The fields of each example's line."""
    by_run = trunk.predictions(outputs)
    for row in zip(*by_run.values(), strict=True):
        fields = {name: one.as_json() for name, one in zip(by_run, row, strict=True)}
        yield next(iter(fields.values())) if len(fields) == 1 else fields
