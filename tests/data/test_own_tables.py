"""Own tables as people have them: packed, in parts, from standard input, without a header, without named columns."""

import gzip
import io
import json
import types
from collections.abc import Sequence
from pathlib import Path

import pandas
import pytest

from jaxfreeze.data.readers import read_file
from jaxfreeze.data.split import Split
from jaxfreeze.data.streams import format_of, read_chunks
from jaxfreeze.data.tasks import OWN_FILES, Task
from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Classification

ROWS = [('one, "two"', "x"), ("three", "y"), ("fo\u00fcr", "x")]
TEXTS = (tuple(text for text, _ in ROWS),)


def read(
    path: Path, text: Sequence[str] = (), label: Sequence[str] = (), no_header: bool = False, on_bad_row: str = "error"
) -> tuple[Split, Task]:
    """The split and the task of an own file."""
    task = Task(OWN_FILES, tuple(text), Classification(), label_column=tuple(label), no_header=no_header)
    return read_file(path, task, "train", on_bad_row)  # type: ignore[arg-type]


def error_of(path: Path, *arguments: Sequence[str], **more: bool) -> str:
    with pytest.raises(InputError) as error:
        read(path, *arguments, **more)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def content(kind: str, rows: Sequence[tuple[str, str]] = ROWS) -> str:
    frame = pandas.DataFrame(rows, columns=["text", "label"])
    if kind in (".csv", ".tsv"):
        return str(frame.to_csv(index=False, sep="," if kind == ".csv" else "\t"))
    return str(frame.to_json(orient="records", lines=kind == ".jsonl"))


KINDS = [".csv", ".tsv", ".jsonl", ".json"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_file_is_the_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a{kind}").write_text(content(kind))
    with gzip.open(tmp_path / f"a{kind}.gz", "wt") as file:
        file.write(content(kind))
    plain, packed = (read(tmp_path / f"a{kind}{end}")[0] for end in ("", ".gz"))
    assert plain.texts == TEXTS
    assert plain.digest == packed.digest
    task = read(tmp_path / f"a{kind}")[1]
    format_ = format_of(tmp_path / f"a{kind}.gz", None, task)
    assert next(read_chunks(tmp_path / f"a{kind}.gz", format_, [task])).texts == TEXTS


@pytest.mark.parametrize("cut", [5, 12, 40, -4])
@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_a_broken_packed_file_is_one_line(tmp_path: Path, cut: int, kind: str) -> None:
    path = tmp_path / f"a{kind}.gz"
    path.write_bytes(gzip.compress(content(kind).encode())[:cut])
    assert error_of(path).startswith(f"{path}: broken .gz (")
    path.write_bytes(b"no gzip at all")
    assert error_of(path).startswith(f"{path}: broken .gz (Not a gzipped file")


def test_the_files_of_a_pattern_are_one_file(tmp_path: Path) -> None:
    frame = pandas.DataFrame(ROWS * 3, columns=["text", "label"])
    whole = tmp_path / "whole.csv"
    frame.to_csv(whole, index=False)
    parts = tmp_path / "parts"
    parts.mkdir()
    frame[:2].to_csv(parts / "part-00.csv", index=False)
    frame[2:5][["label", "text"]].to_csv(parts / "part-01.csv.gz", index=False)  # columns in any order
    frame[5:].assign(more=1).to_parquet(parts / "part-02.parquet")
    (parts / "sub").mkdir()
    assert read(parts / "part-*")[0].digest == read(whole)[0].digest
    assert error_of(parts / "*.jsonl").startswith(f"{parts}/*.jsonl: expected files that match the pattern, found none")


def test_an_error_names_the_part(tmp_path: Path) -> None:
    for number, rows in enumerate([ROWS, [("a", "x"), ("", "y"), ("b", "")], ROWS]):
        (tmp_path / f"{number}.csv").write_text(content(".csv", rows))
    assert error_of(tmp_path / "*.csv").startswith(f"{tmp_path}/1.csv:3: the text in column 'text' is empty")
    split, _ = read(tmp_path / "*.csv", on_bad_row="skip")
    assert (len(split.texts[0]), split.skipped) == (7, 2)
    assert split.first_skipped == f"{tmp_path}/1.csv:3: the text in column 'text' is empty"
    (tmp_path / "3.csv").write_text("sentence,label\na,x\n")
    assert error_of(tmp_path / "[023].csv").startswith(f"{tmp_path}/3.csv:1: no column 'text'; it has to be one of")


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "a[1].csv"
    path.write_text(content(".csv"))
    assert read(path)[0].texts == TEXTS


def test_rows_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(content(".jsonl").encode())))
    split, task = read(Path("-"))
    assert (split.texts, task.text_columns, task.label_column) == (TEXTS, ("text",), ("label",))


@pytest.mark.parametrize("kind", [".csv", ".tsv"])
def test_a_table_without_a_header(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a{kind}"
    separator = "," if kind == ".csv" else "\t"
    quoted = '"one, ""two"""' if kind == ".csv" else 'one, "two"'
    lines = [separator.join(line) for line in (("7", quoted, "x"), ("8", "three", "y"), ("9", "fo\u00fcr", "x"))]
    path.write_text("\n".join([*lines[:1], "", *lines[1:], ""]))
    split, task = read(path, ["2"], ["3"], no_header=True)
    assert (split.texts, task.text_columns, task.objective.labels) == (TEXTS, ("2",), ("x", "y"))
    assert next(read_chunks(path, kind[1:], [task])).texts == TEXTS
    assert error_of(path, ["4"], ["3"], no_header=True).startswith(f"{path}:1: no column '4'; it has to be one of 1, 2")
    path.write_text(path.read_text() + separator.join(("a", "b")))
    expected = f"{path}:5: expected 3 fields as in the first row, found 2"
    assert error_of(path, ["2"], ["3"], no_header=True).startswith(expected)
    path.write_text("\n \n")
    assert "expected at least one example" in error_of(path, ["2"], ["3"], no_header=True)


def test_quotes_that_nobody_closed_in_a_tsv_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('"begun\tx\n5" nails\ty\n""\tx\n')
    assert read(path, [], ["2"], no_header=True)[0].texts == (('"begun', '5" nails', '""'),)


def test_json_and_parquet_have_names(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content(".jsonl"))
    assert error_of(path, no_header=True) == (
        f"{path}: --no_header is for .csv and .tsv; the columns of a .jsonl have names"
    )


@pytest.mark.parametrize(
    ("columns", "text", "label", "found"),
    [
        (["text", "label"], [], [], (("text",), "label")),
        (["Category", "sentence"], [], [], (("sentence",), "Category")),
        (["id", "review", "class"], ["review"], [], (("review",), "class")),
        (["question", "answer", "score"], ["question", "answer"], [], (("question", "answer"), "score")),
        (["text", "mood"], [], ["mood"], (("text",), "mood")),
        (
            ["tags", "label", "text"],
            [],
            ["label"],
            "which column is the text? several are possible; give --text_columns",
        ),
        (
            ["tags", "label", "text"],
            [],
            [],
            "which column is the label? tags, label are possible; give --label_column one",
        ),
        (
            ["text", "mood"],
            [],
            [],
            "which column is the label? none is called label; give --label_column one of text, mood",
        ),
        (["label"], [], [], "which column is the text? there is none besides label; give --text_columns"),
        (
            ["text", "label"],
            [],
            ["labels"],
            "no column 'labels'; it has to be one of text, label; did you mean 'label'?",
        ),
        (["text", "label"], ["txt"], [], "no column 'txt'; it has to be one of text, label; did you mean 'text'?"),
    ],
)
@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_columns_that_nobody_named(
    tmp_path: Path, kind: str, columns: list[str], text: list[str], label: list[str], found: object
) -> None:
    path = tmp_path / f"a{kind}"
    frame = pandas.DataFrame([["a"] * len(columns), ["b"] * len(columns)], columns=columns)
    if kind == ".parquet":
        frame.to_parquet(path)
    elif kind == ".csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    if isinstance(found, str):
        place = {".csv": f"{path}:1: ", ".jsonl": f"{path}:1: ", ".parquet": f"{path}: "}[kind]
        assert error_of(path, text, label).startswith(place + found)
    else:
        task = read(path, text, label)[1]
        assert (task.text_columns, *task.label_column) == found


def test_the_class_names_of_the_first_part_that_names_them(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["q", "p"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    datasets.disable_progress_bars()
    rows.to_parquet(tmp_path / "1.parquet")
    rows.to_parquet(tmp_path / "2.parquet")
    split, task = read(tmp_path / "*.parquet")
    assert split.labels is not None
    assert (split.labels.tolist(), task.objective.labels) == ([0, 1, 0, 1], ("q", "p"))
