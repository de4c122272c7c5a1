"""Read a split of text and labels: classic GLUE TSV files, the hub's GLUE, the demo, or a user's own files."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from jaxfreeze.data.columns import Columns
from jaxfreeze.data.demo import demo_split
from jaxfreeze.data.formats import kind_of, readable_files_of, table_records
from jaxfreeze.data.hub_rows import load
from jaxfreeze.data.parquet_rows import PARQUET, declared_classes
from jaxfreeze.data.split import Split, Text
from jaxfreeze.data.tables import (
    BadRowError,
    RaggedRowError,
    Record,
    check_file,
    checked_text,
    no_rows,
    records,
    tsv_rows,
)
from jaxfreeze.data.tasks import Task
from jaxfreeze.data.words import check_labels, checked_words
from jaxfreeze.errors import InputError, one_of_names
from jaxfreeze.hub_client import reason
from jaxfreeze.objectives import Classification, LabelReader, MissingLabelError, Regression
from jaxfreeze.objectives.kinds import kind_of as kind_of_labels

HUB_DATASET = "nyu-mll/glue"
ROWS_FOR_A_KIND = 1000  # of a training file, whose cells say which kind of label they have
BAD_ROWS = (BadRowError, MissingLabelError)
OnBadRow = Literal["error", "skip"]
COLA_HEADER = ["source", "label", "star", "sentence"]  # CoLA's train and dev files come without one


def read_split(task: Task, split: str, data_dir: Path | None) -> Split:
    """One split of a GLUE task (from `data_dir`, in the classic layout, or else from the hub) or of the demo.

    Raises InputError when the split or its file is missing or malformed, or the hub cannot be reached.
    """
    if task.name == "demo":
        return demo_split(split)
    if split not in task.splits:
        raise InputError(f"task '{task.name}' has no split '{split}'; expected {one_of_names(task.splits, split)}")
    if data_dir is None:
        return _read_hub(task, split)
    return read_glue_tsv(task.tsv_file(split, data_dir), task, split)


def splits_for_evaluation(task: Task, data_dir: Path | None) -> tuple[list[str], list[str]]:
    """Names of the splits to evaluate on, and of those left out because `data_dir` lacks their file."""
    if task.name != "mnli":
        return ["validation"], []
    if data_dir is None or task.tsv_places("validation_mismatched", data_dir)[0].is_file():
        return ["validation_matched", "validation_mismatched"], []
    return ["validation_matched"], ["validation_mismatched"]


def _collect(
    split: str,
    path: Path,
    rows: Iterable[Record],
    columns: Sequence[str],
    labels: LabelReader | None,
    empty_texts: bool = False,
    skip: tuple[type[InputError], ...] = (),
    words: bool = False,
) -> Split:
    """Read every record; `columns` are the text columns, the cells after them go to `labels` if it is given.

    skip: the errors whose rows are left out and counted. words: texts are words, with a label each.
    """
    texts: list[list[Text]] = [[] for _ in columns]
    skipped, first = 0, ""
    for record in rows:
        try:
            cells = record.sound()
            row = [
                checked_words(cells.pop(column), column)
                if words
                else checked_text(cells.pop(column), column, empty_texts)
                for column in columns
            ]
            if words:
                check_labels(row[0], *cells.values(), *cells)
            if labels is not None:
                label, *more = cells.values()
                labels.read((label, *more) if more else label)
        except skip as reason:
            skipped += 1
            where = record.place.within(path)
            first = first or f"{where}: {reason}".split("; ")[0]
        except InputError as reason:
            raise type(reason)(f"{record.place}: {reason}") from None
        else:
            for store, text in zip(texts, row, strict=True):
                store.append(text)
    if not texts or not texts[0]:
        none = InputError(f"{path}: none of its {skipped:,} rows can be used; the first at {first}")
        raise none if skipped else no_rows(path)
    return Split(split, tuple(map(tuple, texts)), None, skipped, first)


def read_glue_tsv(path: Path, task: Task, split: str) -> Split:
    """One file in the classic GLUE layout.

    Labels are read for 'train' and 'validation*', where they have to be. For any other split they are ignored, there
    or not, and `labels` is None. QQP: damaged rows are left out and counted, and an empty text is let through
    (the published training file holds two). Raises InputError for anything else that is not well formed.
    """
    check_file(path)
    labelled = split == "train" or split.startswith("validation")
    columns = [*task.tsv_columns, task.tsv_label] if labelled else task.tsv_columns
    labels = task.objective.reader(task.tsv_label) if labelled else None
    damaged = task.name == "qqp"
    rows = tsv_rows(path)
    if task.name == "cola":
        first = list(itertools.islice(rows, 1))
        headed = first == [(1, ["index", "sentence"])]
        rows = itertools.chain([] if headed else [(1, COLA_HEADER)], first, rows)
    found = records(path, rows, [columns])
    texts = _collect(split, path, found, task.tsv_columns, labels, damaged, (RaggedRowError,) if damaged else ())
    return texts if labels is None else dataclasses.replace(texts, labels=labels.finish()[0])


def _read_hub(task: Task, split: str) -> Split:
    config, hub_split = ("ax", "test") if split == "ax" else (task.hub_config, split)
    try:
        dataset = load(HUB_DATASET, config, hub_split)
    except Exception as error:  # what a network raises depends on the HTTP library that is installed
        raise InputError(
            f"cannot load '{config}' of {HUB_DATASET} from the Hugging Face hub or its local cache "
            f"({reason(error)}); give --data_dir FOLDER in the classic GLUE layout, or try --task demo"
        ) from error
    texts = tuple(tuple(dataset[column][:]) for column in task.text_columns)
    (label_column,) = task.label_column
    labels = np.asarray(dataset[label_column][:])
    if (labels == -1).any():  # how the hub marks a split without labels
        return Split(split, texts, None)
    names = getattr(dataset.features[label_column], "names", ())
    try:
        return Split(split, texts, task.objective.renumber(labels, names))
    except InputError as error:
        raise InputError(f"{HUB_DATASET} {config}: {error}") from None


def read_file(path: Path, task: Task, split: str, on_bad_row: OnBadRow = "error") -> tuple[Split, Task]:
    """One split of a user's own tables, and the task with its classes and columns known.

    path: a file, a pattern that stands for several, which are read one after the other, or - for standard input. Raises
    InputError for what is not well formed, with file and line (JSON array: item, Parquet: row, from 1).
    """
    columns = Columns(task.text_columns, task.label_column)
    files = readable_files_of(path)
    found = itertools.chain.from_iterable(table_records(file, columns, task.no_header) for file in files)

    def declared(label: str) -> tuple[str, ...]:
        named = (declared_classes(file, label) for file in files if kind_of(file) == PARQUET)
        return next(filter(None, named), ())

    return read_records(path, found, columns, declared, task, split, on_bad_row)


def read_records(
    path: Path,
    found: Iterator[Record],
    columns: Columns,
    declared: Callable[[str], Sequence[str]],
    task: Task,
    split: str,
    on_bad_row: OnBadRow,
) -> tuple[Split, Task]:
    """One split of a user's own rows, and the task with its classes and columns known.

    A task whose kind of label is not known yet takes the one that fits the first rows. One whose classes are not known
    yet takes those that are declared for the label column, or else those found in it, whole numbers sorted by value;
    otherwise every label has to be one of the task's, by name. Raises InputError.

    path: how an error names the whole. found: the rows; columns: how theirs were chosen, known once one was read.
    on_bad_row: 'skip' leaves out and counts the rows without text or label, or with fields too many or too few, unless
    they are more than the others. A label of another class is an error anyway: leaving out what the run does not
    know would flatter its score.
    """
    first = list(itertools.islice(found, ROWS_FOR_A_KIND))  # the columns are known once one was read
    known = declared(columns.label[0]) if columns.label else ()
    if task.of_kind is not None:
        task = task.of_kind(_kind_of(first, columns, named=bool(known or task.objective.labels)))
    task = dataclasses.replace(task, text_columns=columns.text, label_column=columns.label)
    if task.objective.by_token and len(columns.text) > 1:
        raise InputError(
            f"--text_columns {' '.join(columns.text)}: labels of words belong to one text; give one column"
        )
    reader = task.objective.reader((*columns.label, "")[0], known)
    found = itertools.chain(first, found)
    try:
        skip, words = BAD_ROWS if on_bad_row == "skip" else (), task.objective.by_token
        texts = _collect(split, path, found, columns.text, reader, skip=skip, words=words)
    except BAD_ROWS as reason:
        raise InputError(f"{reason}; --on_bad_row skip leaves out such rows") from None
    if texts.skipped > len(texts.texts[0]):
        count = f"{texts.skipped:,} of {texts.skipped + len(texts.texts[0]):,} rows"
        raise InputError(f"{path}: {count} cannot be used, more than the rest; the first at {texts.first_skipped}")
    try:
        labels, objective = reader.finish()
    except InputError as reason:
        raise InputError(f"{path}: {reason}") from None
    return dataclasses.replace(texts, labels=labels), dataclasses.replace(task, objective=objective)


def _kind_of(rows: Sequence[Record], columns: Columns, named: bool) -> str:
    """The kind of label of the first rows of a file; named: the classes are, so no number is a score."""
    cells = [row.cells for row in rows if not isinstance(row.cells, BadRowError)]
    texts, labels = (
        ([row[name] for row in cells] for name in (columns.text[0], columns.label[0])) if cells else ([], [])
    )
    kind = kind_of_labels(texts, labels)
    return Classification.kind if kind == Regression.kind and named else kind
