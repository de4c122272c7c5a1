"""Read a split of text and labels: classic GLUE TSV files, the hub's GLUE, the demo, or a person's own files."""

import csv
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze.data.demo import demo_split
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import ClassIds, Task, read_score, read_stsb_score
from jaxfreeze.errors import InputError, one_of

MAX_LINE_BYTES = 10_000_000
HUB_DATASET = "nyu-mll/glue"
HUB_TIMEOUT_SECONDS = 2.0  # of one request without retries; load_dataset itself tries for 24 s
_COLA_HEADER = ["source", "label", "star", "sentence"]  # CoLA's train and dev files come without one

Row = tuple[int, list[str]]  # line, every field
Record = tuple[str, list[Any]] | None  # place as an error names it, cells of the wanted columns; None: left out


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


def _check_file(path: Path) -> None:
    if not path.is_file():
        found = "found a folder; give the file itself" if path.is_dir() else "found nothing there; check the path"
        raise InputError(f"{path}: expected a file, {found}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: the file cannot be read; check its permissions")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their endings, without a byte-order mark and without blank lines at the end.

    Only \\n ends a line: str.splitlines would cut at \\x85 and \\u2028 inside a sentence.
    """
    blank: list[str] = []
    with path.open("rb") as file:
        for number in itertools.count(1):
            raw = file.readline(MAX_LINE_BYTES + 1)
            if not raw:
                return
            if len(raw) > MAX_LINE_BYTES:
                raise InputError(f"{path}:{number}: the line is over 10 MB; expected one example a line")
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as reason:
                found = f"byte 0x{reason.object[reason.start]:02x}"
                raise InputError(f"{path}:{number}: expected UTF-8, found {found}; save the file as UTF-8") from None
            if "\0" in line:
                raise InputError(f"{path}:{number}: expected UTF-8 text, found a NUL byte; save the file as UTF-8")
            if line in ("\n", "\r\n"):
                blank.append(line)
            else:
                yield from [*blank, line]
                blank.clear()


def _tsv_rows(path: Path) -> Iterator[Row]:
    """Rows of a tab-separated file in which a quote is a character like any other."""
    for number, line in enumerate(_lines(path), 1):
        yield number, line.removesuffix("\n").removesuffix("\r").split("\t")


def _csv_rows(path: Path) -> Iterator[Row]:
    """Rows of a comma-separated file, quoted as in RFC 4180, each with its first line."""
    csv.field_size_limit(MAX_LINE_BYTES)  # the module's own limit of 131,072 is short for a document
    reader = csv.reader(_lines(path), strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as reason:
        mend = 'a field with a comma or a line break stands in "...", and a quote inside it is written ""'
        raise InputError(f"{path}:{line}: broken CSV ({reason}); {mend}") from None


def _positions(header: Sequence[str], columns: Sequence[str], place: str) -> list[int]:
    """Where each of `columns` stands in `header`."""
    if not any(header):
        raise InputError(f"{place}: expected the names of the columns, found a blank line")
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise InputError(f"{place}: two columns are called '{_cut(twice)}'; column names have to differ")
    for column in columns:
        if column not in header:
            there = one_of([_cut(name) for name in header[:50]], column)
            raise InputError(f"{place}: no column '{column}'; it has to be {there}")
    return [header.index(column) for column in columns]


def _records(path: Path, rows: Iterator[Row], columns: Sequence[str], damaged: bool = False) -> Iterator[Record]:
    """The wanted columns of rows that begin with a header; `damaged`: rows of another width are left out."""
    line, header = next(rows, (1, None))
    if header is None:
        raise _no_rows(path)
    positions = _positions(header, columns, f"{path}:{line}")
    for line, fields in rows:
        if len(fields) == len(header):
            yield f"{path}:{line}", [fields[position] for position in positions]
        elif damaged:
            yield None
        else:
            raise InputError(
                f"{path}:{line}: expected {len(header)} fields as in the header, found {len(fields)}; "
                "look for a separator too many or too few, or a line break inside a text"
            )


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


def _no_rows(path: Path) -> InputError:
    return InputError(f"{path}: expected at least one example, found an empty file or nothing but a header")


def _text(cell: object, column: str, may_be_empty: bool) -> str:
    if not isinstance(cell, str):
        found = "none" if cell is None else f"{type(cell).__name__} {_cut(repr(cell))}"
        raise InputError(f"expected text in column '{column}', found {found}")
    if not (may_be_empty or cell.strip()):
        raise InputError(f"the text in column '{column}' is empty; fill it in or leave the row out")
    if "\0" in cell:
        raise InputError(f"the text in column '{column}' has a NUL character; remove it")
    try:
        cell.encode()
    except UnicodeEncodeError:
        raise InputError(f"the text in column '{column}' has half a surrogate pair, which is no character") from None
    return cell


def _collect(
    name: str,
    path: Path,
    records: Iterable[Record],
    columns: Sequence[str],
    read_label: Callable[[object], float] | None,
    regression: bool,
    empty_texts: bool = False,
) -> Split:
    """Read every record; `columns` are the text columns, the label is the cell after them."""
    texts: list[list[str]] = [[] for _ in columns]
    labels: list[float] = []
    skipped = 0
    for record in records:
        if record is None:
            skipped += 1
            continue
        place, cells = record
        try:
            for store, column, cell in zip(texts, columns, cells, strict=False):
                store.append(_text(cell, column, empty_texts))
            if read_label is not None:
                labels.append(read_label(cells[-1]))
        except InputError as reason:
            raise InputError(f"{place}: {reason}") from None
    if not texts[0]:
        raise _no_rows(path)
    kind = np.float32 if regression else np.int32
    return Split(name, tuple(map(tuple, texts)), np.array(labels, kind) if read_label else None, skipped)


def read_glue_tsv(path: Path, task: Task, split: str) -> Split:
    """One file in the classic GLUE layout.

    Labels are read for 'train' and 'validation*', where they have to be. For any other split they are ignored, there
    or not, and `labels` is None. QQP: damaged rows are left out and counted, and an empty text is let through
    (the published training file holds two). Raises InputError for anything else that is not well formed.
    """
    _check_file(path)
    rows = _tsv_rows(path)
    if task.name == "cola":
        first = list(itertools.islice(rows, 1))
        headed = first == [(1, ["index", "sentence"])]
        rows = itertools.chain([] if headed else [(1, _COLA_HEADER)], first, rows)
    labelled = split == "train" or split.startswith("validation")
    columns = [*task.tsv_columns, task.tsv_label] if labelled else task.tsv_columns
    read_label = (read_stsb_score if task.regression else ClassIds(task.tsv_codes)) if labelled else None
    damaged = task.name == "qqp"
    records = _records(path, rows, columns, damaged)
    return _collect(split, path, records, task.tsv_columns, read_label, task.regression, empty_texts=damaged)


def _read_hub(task: Task, split: str) -> Split:
    config, hub_split = ("ax", "test") if split == "ax" else (task.hub_config, split)
    try:
        dataset = _hub_dataset(config, hub_split)
    except Exception as reason:  # what a network raises depends on the HTTP library that is installed
        raise InputError(
            f"cannot load '{config}' of {HUB_DATASET} from the Hugging Face hub or its local cache "
            f"({type(reason).__name__}: {_cut(str(reason))}); "
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
    _check_file(path)
    kind = path.suffix.lower()
    if kind not in _FILE_KINDS:
        raise InputError(f"{path}: the ending '{kind}' is not {one_of(_FILE_KINDS, kind)}")
    records = _FILE_KINDS[kind](path, columns)
    name = "test" if label_column is None else "train" if task_labels is None else "validation"
    classes = ClassIds(task_labels)
    read_label = None if label_column is None else read_score if regression else classes
    split = _collect(name, path, records, text_columns, read_label, regression)
    if regression or split.labels is None or task_labels is not None:
        return split, tuple(task_labels or ())
    labels = classes.in_order()
    if len(labels) == 1:
        raise InputError(f"{path}: expected two classes or more in column '{label_column}', found only '{labels[0]}'")
    ids = np.array([labels.index(name) for name in classes.ids], np.int32)
    return dataclasses.replace(split, labels=ids[split.labels]), labels


def _json_records(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    for number, line in enumerate(_lines(path), 1):
        place = f"{path}:{number}"
        try:
            row = json.loads(line, object_pairs_hook=_json_object)
        except (ValueError, RecursionError) as reason:
            raise InputError(f"{place}: broken JSON ({reason}); expected one object a line") from None
        if not isinstance(row, dict):
            raise InputError(f'{place}: expected an object {{"column": value}} a line, found a {type(row).__name__}')
        if not row.keys() >= set(columns):
            _positions(list(row), columns, place)
        yield place, [row[column] for column in columns]


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return row


def _parquet_records(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    import pyarrow.parquet  # here, because it takes a while and the other kinds do without

    row = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _positions(file.schema_arrow.names, columns, str(path))
            for batch in file.iter_batches(columns=list(columns)):
                for cells in zip(*(batch.column(name) for name in columns), strict=True):
                    row += 1
                    yield f"{path}: row {row}", [cell.as_py() for cell in cells]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as reason:
        raise InputError(f"{path}: broken Parquet file near row {row} ({_cut(str(reason))}); write it anew") from None


_FILE_KINDS: dict[str, Callable[[Path, Sequence[str]], Iterator[Record]]] = {
    ".csv": lambda path, columns: _records(path, _csv_rows(path), columns),
    ".tsv": lambda path, columns: _records(path, _tsv_rows(path), columns),
    ".jsonl": _json_records,
    ".json": _json_records,
    ".parquet": _parquet_records,
}
