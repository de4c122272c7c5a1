"""The rows of a run: what is left out of own files is said, and the classes are the same in both."""

from pathlib import Path

import pytest

from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.training.dataset import read_rows


def config(folder: Path, train: str, validation: str, **settings: object) -> TrainConfig:
    for name, rows in (("train", train), ("validation", validation)):
        (folder / f"{name}.csv").write_text(f"text,label\n{rows}")
    files = {f"{name}_file": str(folder / f"{name}.csv") for name in ("train", "validation")}
    return TrainConfig("files", **files, text_columns=("text",), label_column=("label",), **settings)  # type: ignore[arg-type]


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, train, [validation], _ = read_rows(
        config(tmp_path, "a,1\nb,\nc,2\nd,1,2\n,2\ne,2\n", "f,2\n,1\n", on_bad_row="skip")
    )
    assert (train.skipped, validation.skipped, task.objective.labels) == (3, 1, ("1", "2"))
    said = " ".join(capsys.readouterr().out.split())
    assert f"{tmp_path / 'train.csv'}: 3 rows left out, first at line 3: expected a label" in said
    assert f"{tmp_path / 'validation.csv'}: 1 row left out, first at line 3: the text in column 'text' is empty" in said


def test_a_bad_row_is_an_error_unless_it_is_to_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train.csv:3: .* found none; .*; --on_bad_row skip leaves out such rows$"):
        read_rows(config(tmp_path, "a,1\nb,\nc,2\n", "f,2\n"))


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_another_class_in_the_validation_file_is_an_error_all_the_same(tmp_path: Path, on_bad_row: str) -> None:
    with pytest.raises(InputError, match=r"validation.csv:2: label 'new' is not one of 1, 2$"):
        read_rows(config(tmp_path, "a,1\nc,2\n", "f,new\n", on_bad_row=on_bad_row))
