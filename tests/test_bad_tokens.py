"""Wrong labels of words through the command line: one line that names the file and the line, and exit code 2."""

import json
from pathlib import Path

import pytest

from jaxfreeze.cli import main
from tests import tagged
from tests.folders import make_folder

GOOD = '{"words": ["the", "town"], "labels": ["O", "B-LOC"]}\n'
FLAGS = "--task files --objective tokens --text_columns words --label_column labels --max_steps 1 --max_length 16"


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    make_folder(folder / "model", "bert")
    tagged.write_rows(folder)
    return folder


CASES = {  # name of the file, its content, what the line has to say
    "numbers differ": (
        "x.jsonl",
        GOOD + '{"words": ["a"], "labels": ["O", "O"]}\n',
        "x.jsonl:2: 1 words, but 2 labels",
    ),
    "a sentence of no word": (
        "x.jsonl",
        GOOD + '{"words": [], "labels": []}\n',
        "x.jsonl:2: the list of words in column",
    ),
    "a word that is empty": (
        "x.jsonl",
        '{"words": ["a", " "], "labels": ["O", "O"]}',
        "x.jsonl:1: word 2 in column 'words'",
    ),
    "a text for words": ("x.jsonl", '{"words": "a b", "labels": ["O", "O"]}', "x.jsonl:1: expected a list of words in"),
    "one label for all": ("x.jsonl", '{"words": ["a"], "labels": "O"}', "x.jsonl:1: expected a list with a label for"),
    "no label": ("x.jsonl", '{"words": ["a", "b"], "labels": ["O", null]}', "x.jsonl:1: expected a label (text or"),
    "a word alone": (
        "x.conll",
        "a O\nb B-LOC\n\nc\nd O\n",
        "x.conll:4: expected a word and its label, found 'c' alone",
    ),
    "another number of columns": (
        "x.conll",
        "a X O\nb B-LOC\n",
        "x.conll:2: expected 3 columns as in the lines before",
    ),
    "a label without its word": ("x.conll", "a\tO\n\tB-LOC\n", "x.conll:2: the word is empty"),
    "one class": ("x.conll", "a O\nb O\n", "x.conll: expected two classes or more in column 'labels', found only 'O'"),
    "no sentence": ("x.conll", "-DOCSTART- O\n\n", "x.conll: expected at least one example"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_rows(case: str, top: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, content, line = CASES[case]
    (tmp_path / name).write_text(content)
    files = f"--train_file {tmp_path / name} --validation_file {top / 'dev.conll'} --model {top / 'model'}"
    assert main(f"{FLAGS} {files} --output_dir {tmp_path / 'run'}".split()) == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path}/{line}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--text_columns a b", "--text_columns a b: labels of words belong to one text; give one column"),
        (
            "--label_column x y",
            "--label_column with several names: only for labels of the kind multi_label, found tokens",
        ),
        ("--metric f1:B-ORG", "--metric f1:B-ORG: no class 'B-ORG'; expected one of B-LOC, B-PER, I-LOC, O"),
        ("--class_weights B-ORG=2", "--class_weights B-ORG=2: no class 'B-ORG'"),
        ("--threshold 0.4", "--threshold 0.4: only for --objective multi_label, found tokens"),
    ],
)
def test_wrong_flags(flags: str, line: str, top: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = f"--train_file {top / 'train.conll'} --validation_file {top / 'dev.conll'} --model {top / 'model'}"
    words = f"--task files --objective tokens {files} --max_length 16 --output_dir {tmp_path / 'run'} {flags}"
    assert main(words.split()) == 2
    assert f"error: {line}" in capsys.readouterr().err


def test_a_label_that_the_training_rows_do_not_have(
    top: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = tagged.write_conll(tmp_path / "dev.conll", [(("the", "town"), ("O", "B-ORG"))])
    with pytest.raises(AssertionError):
        tagged.train(top / "model", top, tmp_path / "run", validation_file=str(dev))
    assert f"error: {dev}:1: label 'B-ORG' is not one of B-LOC, B-PER, I-LOC, O\n" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(top: Path) -> Path:
    return tagged.train(top / "model", top, top / "run", max_steps=1)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("x.jsonl", json.dumps({"words": ["a", ""]}), "x.jsonl:1: word 2 in column 'words' is empty"),
        ("x.jsonl", json.dumps({"words": {"a": 1}}), "x.jsonl:1: expected text in column 'words', found an object"),
        ("x.jsonl", json.dumps({"text": ["a"]}), "x.jsonl:1: no column 'words'"),
        ("x.txt", "a b\tc\n", "x.txt:1: expected one text, found 2"),
        ("x.conll", "a\n\nb O\n", "x.conll:3: expected 1 columns as in the lines before, found 2"),
    ],
)
def test_wrong_rows_to_predict_for(
    name: str, content: str, line: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    out = tmp_path / "out.jsonl"
    assert main(f"predict --run {run} --input {tmp_path / name} --output {out}".split()) == 2
    assert f"error: {tmp_path}/{line}" in capsys.readouterr().err
    assert not out.exists()
