"""Rows to predict for: every format, the columns of one of the tasks, chunk by chunk."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxfreeze.data import tables
from jaxfreeze.data.streams import format_of, read_chunks
from jaxfreeze.data.tasks import OWN_FILES, Task, get_task
from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Classification

RTE, MRPC, COLA, QQP = map(get_task, ("rte", "mrpc", "cola", "qqp"))
OWN = Task(OWN_FILES, ("question", "answer"), Classification(("no", "yes")))
PAIRS = (("a b", "d"), ("c", "e f"))


def texts_of(*arguments, **more) -> tuple[tuple[str, ...], ...]:
    """All rows, column by column."""
    rows = [row for split in read_chunks(*arguments, **more) for row in zip(*split.texts, strict=True)]
    return tuple(zip(*rows, strict=True))


def write(path: Path, columns: tuple[str, ...], kind: str) -> Path:
    """Both pairs in a file of this kind, with a column more."""
    rows = [dict(zip((*columns, "label"), (*row, "?"), strict=True)) for row in zip(*PAIRS, strict=True)]
    path = path / f"rows.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        separator = {"csv": ",", "tsv": "\t"}[kind]
        path.write_text(
            "".join(separator.join(line) + "\n" for line in [(*columns, "label"), *(r.values() for r in rows)])
        )
    return path


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("columns", "tasks"),
    [
        (RTE.tsv_columns, [RTE]),
        (MRPC.tsv_columns, [MRPC]),
        (MRPC.text_columns, [MRPC]),
        (MRPC.tsv_columns, [RTE, MRPC]),
        (RTE.tsv_columns, [COLA, MRPC, RTE]),
        (OWN.text_columns, [OWN]),
    ],
)
def test_tables(kind: str, columns: tuple[str, ...], tasks: list, tmp_path: Path) -> None:
    file = write(tmp_path, columns, kind)
    assert format_of(file, None, tasks[0]) == kind
    assert texts_of(file, kind, tasks) == PAIRS


def test_an_own_tsv_is_quoted_and_glues_is_not(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text('question\tanswer\n"He said ""no"""\t"two\nlines"\n', encoding="utf-8-sig")
    assert texts_of(file, "tsv", [OWN]) == (('He said "no"',), ("two\nlines",))
    file.write_text('question\tsentence\n"He said ""no"""\t"one\n', encoding="utf-8-sig")
    assert texts_of(file, "tsv", [get_task("qnli")]) == (('"He said ""no"""',), ('"one',))


def test_a_json_array(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([dict(zip(OWN.text_columns, row, strict=True)) for row in zip(*PAIRS, strict=True)]))
    assert texts_of(file, format_of(file, None, OWN), [OWN]) == PAIRS


def test_predictions_keep_the_number_of_their_row(tmp_path: Path) -> None:
    """A blank line is no row to pandas either; a row of empty cells is one, and left out only at the end."""
    file = tmp_path / "rows.csv"
    file.write_text("question,answer\n\na,b\n \nc,d\n,\n\n,\n")
    assert texts_of(file, "csv", [OWN]) == (("a", "c"), ("b", "d"))
    file.write_text("question,answer\na,b\n,\n,\nc,d\n")
    with pytest.raises(InputError, match=r"rows.csv:3: the text in column 'question' is empty; fill it in"):
        texts_of(file, "csv", [OWN])


def test_glue_files_of_cola(tmp_path: Path) -> None:
    """The dev file has no header, the test file has one."""
    dev, test = tmp_path / "dev.tsv", tmp_path / "test.tsv"
    dev.write_text("gj04\t1\t\tOne sentence.\ngj04\t0\t*\tAn other.\n")
    test.write_text("index\tsentence\n0\tOne sentence.\n1\tAn other.\n")
    assert texts_of(dev, "tsv", [COLA]) == texts_of(test, "tsv", [COLA]) == (("One sentence.", "An other."),)


def test_plain_lines(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("a b\tc\nd\te f\n\n")  # blank lines at the end are none
    assert format_of(file, None, RTE) == "lines"
    assert texts_of(file, "lines", [RTE, COLA]) == (("a b", "d"), ("c", "e f"))
    with pytest.raises(InputError, match=r"lines.txt:1: expected one text, found 2; or give another --format"):
        texts_of(file, "lines", [COLA, RTE])


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Ünï.\nTwo.\n".encode())))
    assert format_of(tables.STANDARD_INPUT, None, COLA) == "lines"
    assert texts_of(tables.STANDARD_INPUT, "lines", [COLA]) == (("Ünï.", "Two."),)


def test_no_more_is_read_than_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("".join(f"row {number}\n" for number in range(100)))
    read = 0

    def counted(path: Path) -> Iterator[tuple[int, list[str]]]:
        nonlocal read
        for row in tables.tsv_rows(path):
            read += 1
            yield row

    monkeypatch.setattr("jaxfreeze.data.streams.tsv_rows", counted)
    chunks = read_chunks(file, "lines", [COLA], size=7)
    assert next(chunks).texts == (tuple(f"row {number}" for number in range(7)),)
    assert read == 7
    sizes = [7, *(len(split.texts[0]) for split in chunks)]
    assert sizes == [7] * 14 + [2]


@pytest.mark.parametrize(
    ("content", "format_", "task", "line"),
    [
        ("", "tsv", RTE, "expected at least one example"),
        ("sentence1\tsentence2\n", "tsv", RTE, "expected at least one example"),
        ("sentence1\tother\na\tb\n", "tsv", RTE, ":1: no column 'sentence2'; it has to be one of sentence1, other"),
        ("sentence1\tsentence2\na\tb\tc\n", "tsv", RTE, ":2: expected 2 fields as in the header, found 3"),
        ("sentence1\tsentence2\na\t \n", "tsv", RTE, ":2: the text in column 'sentence2' is empty"),
        ("one\n\ntwo\n", "lines", COLA, ":2: the text in column 'text' is empty"),
        ('{"sentence": "a"}\n{"sentence": 3}\n', "jsonl", COLA, ":2: expected text in column 'sentence', found int 3"),
        ('{"sentence": "a"}\n{"other": "b"}\n', "jsonl", COLA, ":2: no column 'sentence'"),
        ('sentence\n"a\n', "csv", COLA, "broken CSV"),
        ("sentence\n\x00\n", "csv", COLA, "NUL byte"),
    ],
)
def test_wrong_rows(content: str, format_: str, task, line: str, tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_text(content)
    with pytest.raises(InputError) as error:
        texts_of(file, format_, [task])
    assert line in str(error.value)
    assert str(file) in str(error.value)


def test_an_empty_question_of_qqp(tmp_path: Path) -> None:
    file = tmp_path / "test.tsv"
    file.write_text("id\tquestion1\tquestion2\n0\ta\t\n")
    assert texts_of(file, "tsv", [QQP]) == (("a",), ("",))


def test_formats() -> None:
    assert format_of(Path("a.JSON"), None, RTE) == "jsonl"
    assert format_of(Path("a"), None, RTE) == "tsv"  # GLUE's own files
    assert format_of(Path("a.txt"), "csv", RTE) == "csv"
    with pytest.raises(InputError, match=r"--input a.xls: its ending names no format; give --format tsv, csv"):
        format_of(Path("a.xls"), None, OWN)
    with pytest.raises(InputError, match=r"--format tvs: expected one of tsv, .*did you mean 'tsv'"):
        format_of(Path("a.txt"), "tvs", RTE)
    with pytest.raises(InputError, match="--format parquet: not from standard input"):
        next(read_chunks(tables.STANDARD_INPUT, "parquet", [RTE]))
