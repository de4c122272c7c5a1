"""Read a split of text and labels: classic GLUE TSV files, the hub's GLUE, the demo, or a person's own files."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze.data.demo import demo_split
from jaxfreeze.data.split import Split
from jaxfreeze.data.tables import FILE_KINDS, Record, check_file, checked_text, cut, no_rows, records, tsv_rows
from jaxfreeze.data.tasks import ClassIds, Task, read_score, read_stsb_score
from jaxfreeze.errors import InputError, one_of

HUB_DATASET = "nyu-mll/glue"
HUB_TIMEOUT_SECONDS = 2.0  # of one request without retries; load_dataset itself tries for 24 s
COLA_HEADER = ["source", "label", "star", "sentence"]  # CoLA's train and dev files come without one


def read_split(task: Task, split: str, data_dir: Path | None) -> Split:
    """One split of a GLUE task (from `data_dir`, in the classic layout, or else from the hub) or of the demo.

    Raises InputError when the split or its file is not there or not well formed, or the hub cannot be reached.
    """
    if task.name == "demo":
        return demo_split(split)
    if split not in task.splits:
        raise InputError(f"task '{task.name}' has no split '{split}'; expected {one_of(task.splits, split)}")
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
    name: str,
    path: Path,
    rows: Iterable[Record],
    columns: Sequence[str],
    read_label: Callable[[object], float] | None,
    regression: bool,
    empty_texts: bool = False,
) -> Split:
    """Read every record; `columns` are the text columns, the label is the cell after them."""
    texts: list[list[str]] = [[] for _ in columns]
    labels: list[float] = []
    skipped = 0
    for record in rows:
        if record is None:
            skipped += 1
            continue
        place, cells = record
        try:
            for store, column in zip(texts, columns, strict=True):
                store.append(checked_text(cells.pop(column), column, empty_texts))
            if read_label is not None:
                labels.append(read_label(*cells.values()))
        except InputError as reason:
            raise InputError(f"{place}: {reason}") from None
    if not texts[0]:
        raise no_rows(path)
    kind = np.float32 if regression else np.int32
    return Split(name, tuple(map(tuple, texts)), np.array(labels, kind) if read_label else None, skipped)


def read_glue_tsv(path: Path, task: Task, split: str) -> Split:
    """One file in the classic GLUE layout.

    Labels are read for 'train' and 'validation*', where they have to be. For any other split they are ignored, there
    or not, and `labels` is None. QQP: damaged rows are left out and counted, and an empty text is let through
    (the published training file holds two). Raises InputError for anything else that is not well formed.
    """
    check_file(path)
    labelled = split == "train" or split.startswith("validation")
    columns = [*task.tsv_columns, task.tsv_label] if labelled else task.tsv_columns
    read_label = (read_stsb_score if task.regression else ClassIds(task.tsv_codes)) if labelled else None
    damaged = task.name == "qqp"
    rows = tsv_rows(path)
    if task.name == "cola":
        first = list(itertools.islice(rows, 1))
        headed = first == [(1, ["index", "sentence"])]
        rows = itertools.chain([] if headed else [(1, COLA_HEADER)], first, rows)
    found = records(path, rows, [columns], damaged)
    return _collect(split, path, found, task.tsv_columns, read_label, task.regression, empty_texts=damaged)


def _read_hub(task: Task, split: str) -> Split:
    config, hub_split = ("ax", "test") if split == "ax" else (task.hub_config, split)
    try:
        dataset = _hub_dataset(config, hub_split)
    except Exception as reason:  # what a network raises depends on the HTTP library that is installed
        raise InputError(
            f"cannot load '{config}' of {HUB_DATASET} from the Hugging Face hub or its local cache "
            f"({type(reason).__name__}: {cut(str(reason))}); "
            "give --data_dir FOLDER in the classic GLUE layout, or try --task demo"
        ) from reason
    texts = tuple(tuple(dataset[column][:]) for column in task.text_columns)
    labels = np.asarray(dataset["label"][:])
    if (labels == -1).any():  # how the hub marks a split without labels
        return Split(split, texts, None)
    if task.regression:
        return Split(split, texts, labels.astype(np.float32))
    names = dataset.features["label"].names
    if sorted(names) != sorted(task.labels):
        raise InputError(f"{HUB_DATASET} {config}: expected the labels {list(task.labels)}, found {names}")
    ids = np.array([task.labels.index(name) for name in names], np.int32)
    return Split(split, texts, ids[labels])


def _hub_dataset(config: str, split: str) -> Any:
    """The data set from the hub, or from the local cache when the hub is out of reach."""
    import huggingface_hub  # here, because --data_dir and own files need none of this
    from datasets import load_dataset

    try:
        huggingface_hub.HfApi().dataset_info(HUB_DATASET, timeout=HUB_TIMEOUT_SECONDS)
    except Exception:
        cached = _cached_dataset(config, split)
        if cached is None:
            raise
        return cached
    return load_dataset(HUB_DATASET, config, split=split)


def _cached_dataset(config: str, split: str) -> Any | None:
    from datasets.packaged_modules.cache.cache import Cache

    try:
        cache = Cache(repo_id=HUB_DATASET, dataset_name="glue", config_name=config, version="auto", hash="auto")
        return cache.as_dataset(split=split)
    except (ValueError, OSError):
        return None


def read_file(
    path: Path,
    text_columns: Sequence[str],
    label_column: str | None,
    task_labels: Sequence[str] | None,
    regression: bool,
) -> tuple[Split, tuple[str, ...]]:
    """A person's own CSV, TSV, JSON lines or Parquet file, and the class names in id order (() for regression).

    `task_labels` None means the training file: its labels are found, whole numbers sorted by value; else every label
    has to be one of them. `label_column` None means a file without labels. Raises InputError for anything that is
    not well formed, with file and line (Parquet: row, from 1).
    """
    columns = [*text_columns, *([] if label_column is None else [label_column])]
    if not 1 <= len(text_columns) <= 2 or len(set(columns)) < len(columns):
        raise InputError(f"--text_columns takes one or two columns, apart from --label_column; found {columns}")
    check_file(path)
    kind = path.suffix.lower()
    if kind not in FILE_KINDS:
        raise InputError(f"{path}: the ending '{kind}' is not {one_of(FILE_KINDS, kind)}")
    rows = FILE_KINDS[kind](path, [columns])
    name = "test" if label_column is None else "train" if task_labels is None else "validation"
    classes = ClassIds(task_labels)
    read_label = None if label_column is None else read_score if regression else classes
    split = _collect(name, path, rows, text_columns, read_label, regression)
    if regression or split.labels is None or task_labels is not None:
        return split, tuple(task_labels or ())
    labels = classes.in_order()
    if len(labels) == 1:
        raise InputError(f"{path}: expected two classes or more in column '{label_column}', found only '{labels[0]}'")
    ids = np.array([labels.index(name) for name in classes.ids], np.int32)
    return dataclasses.replace(split, labels=ids[split.labels]), labels
