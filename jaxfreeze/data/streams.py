"""Texts to predict for, chunk by chunk: the rows of a file or of standard input, however many, in bounded memory."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxfreeze.data.conll import COLUMNS as CONLL_COLUMNS
from jaxfreeze.data.formats import FILE_KINDS, SEPARATORS, kind_of
from jaxfreeze.data.readers import COLA_HEADER
from jaxfreeze.data.split import CHUNK, Split, Text
from jaxfreeze.data.tables import (
    STANDARD_INPUT,
    BadRowError,
    Layouts,
    Place,
    Record,
    check_file,
    checked_text,
    headless_rows,
    no_rows,
    tsv_rows,
)
from jaxfreeze.data.tables import records as records_of
from jaxfreeze.data.tasks import Task
from jaxfreeze.data.words import checked_words
from jaxfreeze.errors import InputError, one_of_names

LINES = "lines"
CONLL = "conll"
FORMATS = ("tsv", "csv", "jsonl", "parquet", CONLL, LINES)


def format_of(path: Path, asked: str | None, task: Task) -> str:
    """The format of an input: the one asked for, else by the file's ending; standard input is plain lines.

    A file without a known ending is GLUE's TSV for a task of GLUE's, and an InputError for any other.
    """
    if asked is not None:
        if asked not in FORMATS:
            raise InputError(f"--format {asked}: expected {one_of_names(FORMATS, asked)}")
        return asked
    if path == STANDARD_INPUT:
        return LINES
    ending = kind_of(path).removeprefix(".")
    found = {"txt": LINES, "json": "jsonl"}.get(ending, ending)
    if found not in FORMATS and task.tsv_columns:
        return "tsv"
    if found not in FORMATS:
        raise InputError(f"--input {path}: its ending names no format; give --format {', '.join(FORMATS)}")
    return found


def read_chunks(path: Path, format_: str, tasks: Sequence[Task], size: int = CHUNK) -> Iterator[Split]:
    """The rows of an input, at most `size` in a split, without labels; a path of `-` is standard input.

    A table has the text columns of one of the tasks, by their names in GLUE's files or on the hub; the first task that
    fits counts. A TSV is unquoted if the first task is one of GLUE's, as its files are, and columns have numbers if its
    own had no names. Plain lines are one text each, or two with a tab between, as the first task has. Where a task
    labels words, a cell may be a list of them; then all texts of its split are words. Raises InputError for what is not
    well formed, with file and line, and for no row at all.
    """
    check_file(path)
    if path == STANDARD_INPUT and format_ == "parquet":
        raise InputError("--format parquet: not from standard input; give --input a file")
    rows, begun = _records(path, format_, tasks), False
    empty_texts = any(task.name == "qqp" for task in tasks)  # its published files hold some
    words = format_ == CONLL or any(task.objective.by_token for task in tasks)
    while chunk := list(itertools.islice(rows, size)):
        begun = True
        texts: list[list[Text]] = []
        for record in chunk:
            try:
                cells = record.sound().items()
                texts.append(
                    [
                        checked_words(cell, column)
                        if words and isinstance(cell, list)
                        else checked_text(cell, column, empty_texts)
                        for column, cell in cells
                    ]
                )
            except BadRowError as reason:
                raise InputError(f"{record.place}: {reason}") from None
        split = Split("test", tuple(zip(*texts, strict=True)), None)
        yield split.as_words() if any(isinstance(text, tuple) for row in texts for text in row) else split
    if not begun:
        raise no_rows(path)


def _records(path: Path, format_: str, tasks: Sequence[Task]) -> Iterator[Record]:
    if format_ == LINES:
        return _lines(path, len(tasks[0].text_columns))
    if format_ == CONLL:
        return FILE_KINDS[".conll"](path, [CONLL_COLUMNS[:1]], True)
    layouts: Layouts = [columns for task in tasks for columns in (task.tsv_columns, task.text_columns) if columns]
    if format_ == "tsv" and tasks[0].tsv_columns:
        rows = tsv_rows(path)
        first = list(itertools.islice(rows, 1))
        headless = any(len(row) == len(COLA_HEADER) and row[1] in ("0", "1") for _, row in first)  # CoLA's dev file
        return records_of(path, itertools.chain([(1, COLA_HEADER)] if headless else [], first, rows), layouts)
    kind = f".{format_}"
    if tasks[0].no_header and kind in SEPARATORS:
        return records_of(path, headless_rows(path, SEPARATORS[kind]), layouts)
    return FILE_KINDS[kind](path, layouts, True)


def _lines(path: Path, columns: int) -> Iterator[Record]:
    for number, fields in tsv_rows(path):
        place = Place(path, "line", number)
        if len(fields) != columns:
            expected = "one text" if columns == 1 else "two texts with a tab between"
            raise InputError(f"{place}: expected {expected}, found {len(fields)}; or give another --format")
        yield Record(place, dict(zip(("text", "second text"), fields, strict=False)))
