"""What a run answers for every row that it was scored on, kept in its folder as a Parquet file for each split."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxfreeze.atomic import new_file
from jaxfreeze.data.tasks import Task
from jaxfreeze.objectives import Objective, answers
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training.calibration import calibrate
from jaxfreeze.training.evaluation import Scored

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("index", "label", "prediction", "probability", "probabilities", "error", "loss", "tokens")
"""Ours; a text column that is called like one of them has `text_` before its name in the file."""


class Answers:
    """What a run answers for its validation and its test rows."""

    def __init__(self) -> None:
        self.validation: list[Scored] = []
        self.tests: list[Scored] = []


def keep_answers(folder: RunFolder, task: Task, answers: Answers) -> dict[str, Any]:
    """Write the predictions for every row that was scored -> what metrics.json says of their probabilities."""
    keep_predictions(folder, task, [*answers.validation, *answers.tests])
    return calibrate(task.objective, answers.validation, answers.tests)


def keep_predictions(folder: RunFolder, task: Task, scored: Sequence[Scored]) -> None:
    """Write predictions-SPLIT.parquet for each split, atomically. Raises InputError if it cannot be written."""
    import pyarrow.parquet  # here, because it takes a while

    for one in scored:
        about = {"split": one.dataset.name, "objective": task.objective.kind, "classes": list(task.objective.labels)}
        table = table_of(task, one).replace_schema_metadata({"jaxfreeze": json.dumps(about)})
        with new_file(folder.predictions(one.dataset.name), "--output_dir", binary=True) as file:
            pyarrow.parquet.write_table(table, file)


def table_of(task: Task, scored: Scored) -> "pa.Table":
    """A row for each example, in the order of the split.

    index, the text columns, label and prediction (a name, a list of names, or a number; of labelled words a list with
    one for each word, null for one that was not read), probability of the prediction and probabilities of the classes
    (a list of C, in the order of the classes in the schema's metadata) where there are any, error (prediction - label)
    where labels are numbers, loss (a mean over labelled words), tokens (after cutting).
    """
    import pyarrow as pa

    objective, store = task.objective, scored.dataset.store
    columns: dict[str, Any] = {"index": pa.array(range(store.num_examples), pa.int64())}
    for name, texts in zip(text_names(task.text_columns), scored.dataset.texts, strict=True):
        columns[name] = pa.array(list(texts))
    columns |= _answers(objective, scored)
    losses = answers.losses(objective, scored.logits, scored.label)
    columns["loss"] = pa.array(answers.mean_by_example(losses, scored.counts), pa.float64())
    columns["tokens"] = pa.array(np.asarray(store.lengths), pa.int32())
    return pa.table(columns)


def text_names(columns: Sequence[str]) -> list[str]:
    """What the text columns are called in the file."""
    found: list[str] = []
    for name in columns:
        while name in (*COLUMNS, *found):
            name = f"text_{name}"
        found.append(name)
    return found


def _by_word(values: Sequence[Any], scored: Scored, read: np.ndarray) -> list[list[Any]]:
    """N values as a list for each example with a place for each of its words."""
    found: list[list[Any]] = [[None] * len(words) for words in scored.dataset.texts[0]]
    example = np.repeat(np.arange(len(found)), scored.counts)
    for value, row, place in zip(values, example.tolist(), read.tolist(), strict=True):
        found[row][place] = value
    return found


def _answers(objective: Objective, scored: Scored) -> Mapping[str, "pa.Array"]:
    import pyarrow as pa

    logits, label = scored.logits, scored.label
    kind = pa.string() if objective.labels else pa.float64()
    for nested in (bool(objective.label_shape), objective.by_token):
        kind = pa.list_(kind) if nested else kind

    def array(values: Sequence[Any], of: Any) -> "pa.Array":
        return pa.array(values if scored.read is None else _by_word(values, scored, scored.read), of)

    decided = objective.decide(logits)
    columns = {
        "label": array(answers.names(objective, label), kind),
        "prediction": array(answers.names(objective, decided), kind),
    }
    if not answers.has_probabilities(objective):
        return columns | {"error": array((decided - label.astype(np.float64)).tolist(), pa.float64())}
    shares = answers.probabilities(objective, logits).astype(np.float32)
    if answers.is_one_of_many(objective):
        number = pa.list_(pa.float32()) if objective.by_token else pa.float32()
        columns["probability"] = array(shares[np.arange(len(shares)), decided].tolist(), number)
    if not objective.by_token:
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(pa.array(shares.ravel()), shares.shape[1])
    return columns
