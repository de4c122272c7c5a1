"""Wrong flags and cells of labels, through the real command line, and the one line that each is answered with."""

from pathlib import Path

import pytest

from jaxfreeze import cli
from tests.folders import make_folder

ROWS = {
    "kinds.csv": "text,label\na,x\nb,y\nc,z\nd,x\n",
    "joined.csv": 'text,label\na,"x,y"\nb,\nc,z\n',
    "flags.csv": "text,x,y\na,0,1\nb,1,0\nc,1,1\n",
    "two.csv": "text,x,y\na,0,1\nb,2,0\nc,1,1\n",
    "scores.csv": "text,label\na,0.5\nb,1.5\nc,2\n",
    "words.jsonl": '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": ["x", 2.5]}\n',
    "plain.jsonl": '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": "x"}\n',
    "null.jsonl": '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": null}\n',
}


def own(name: str, flags: str) -> str:
    """The arguments of a run on one of the files."""
    column = "" if "--label_column" in flags else "--label_column label"
    files = f"--train_file {{m}}/{name} --validation_file {{m}}/{name} --text_columns text {column}"
    return f"--task files --model {{m}}/model --max_length 32 {files} {flags}"


TABLE = [  # the file, the flags, what the line has to say
    ("kinds.csv", "--class_weights gold=2", "--class_weights gold=2: no class 'gold'; expected one of x, y, z"),
    ("kinds.csv", "--class_weights x=0", "--class_weights x=0: expected a weight from 1e-06 to 1e+06, found '0'"),
    ("kinds.csv", "--class_weights x=nan", "--class_weights x=nan: expected a weight from 1e-06 to 1e+06, found 'nan'"),
    ("kinds.csv", "--class_weights x=2 x=3", "--class_weights: 'x' appears twice; expected each class once"),
    ("kinds.csv", "--class_weights heavy", "--class_weights heavy: expected balanced alone, or NAME=W for classes by"),
    ("kinds.csv", "--label_names x y z w --class_weights balanced", "no training row has the class 'w'"),
    ("scores.csv", "--class_weights balanced", "--class_weights: expected labels that are classes, found regression"),
    ("scores.csv", "--label_smoothing 0.1", "--label_smoothing: expected labels that are classes, found regression"),
    ("kinds.csv", "--label_smoothing 1", "--label_smoothing 1.0: expected 0 to 0.999"),
    (
        "kinds.csv",
        "--metric acuracy",
        "classification; expected one of accuracy, balanced_accuracy, f1, macro_f1,",
    ),
    ("kinds.csv", "--metric acuracy", "did you mean 'accuracy'?"),
    ("kinds.csv", "--metric f1:gold", "--metric f1:gold: no class 'gold'; expected one of x, y, z"),
    ("kinds.csv", "--metric f1", "--metric f1: of 3 classes; expected macro_f1, or f1:NAME for one of them"),
    ("scores.csv", "--metric lrap", "--metric lrap: not a metric of regression; expected one of spearman, pearson,"),
    ("kinds.csv", "--threshold 0.3", "--threshold 0.3: only for --objective multi_label, found classification"),
    ("kinds.csv", "--threshold tuned", "--threshold tuned: only for --objective multi_label, found classification"),
    ("joined.csv", "--label_separator , --threshold 1", "--threshold 1.0: expected a number between 0 and 1, or tuned"),
    (
        "joined.csv",
        "--label_separator ;",
        "--label_separator ';': appears in no row of column 'label'; expected what is",
    ),
    (
        "joined.csv",
        "--label_separator , --regression",
        "--label_separator: only for labels of the kind multi_label, fo",
    ),
    ("joined.csv", "--objective multi_label", "joined.csv:2: expected a list of labels, found 'x,y'; give --label_sep"),
    ("joined.csv", "--label_separator , --label_names x y", "joined.csv:4: label 'z' is not one of x, y"),
    ("joined.csv", "--label_separator , --label_names up down", "joined.csv:2: label 'x' is not one of up, down"),
    (
        "two.csv",
        "--label_column x y",
        "two.csv:3: label '2' in column 'x': expected 0 or 1, as of several label columns",
    ),
    ("flags.csv", "--label_column x y --label_names a b", "--label_names: not with several label columns, whose names"),
    ("flags.csv", "--label_column x x", "--label_column: 'x' appears twice; expected each column once"),
    ("flags.csv", "--label_column x y --objective classification", "multi_label, found classification; leave it out"),
    ("words.jsonl", "", "words.jsonl:2: label '2.5' is neither a whole number nor a name"),
    ("plain.jsonl", "", "plain.jsonl:2: expected a list of labels, found 'x'; give --label_separator for names in one"),
    (
        "null.jsonl",
        "",
        "null.jsonl:2: expected a list of labels, found none; an empty list stands for no label; --on_bad",
    ),
    ("kinds.csv", "--regression --objective classification", "expected one kind of label, found two"),
    ("kinds.csv", "--objective tokens", "kinds.csv has plain texts; expected .conll, .jsonl, .json or .parquet with"),
    ("kinds.csv", "--objective classes", "--objective classes: expected classification or multi_label or regression"),
    (
        "scores.csv",
        "--metric mae --find_layers 0.9 --protocol paper",
        "--metric mae: lower is better; --find_layers keeps",
    ),
]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files and a model."""
    top = tmp_path_factory.mktemp("labels")
    make_folder(top / "model", "bert")
    for name, text in ROWS.items():
        (top / name).write_text(text)
    return top


@pytest.mark.parametrize(("name", "flags", "expected"), TABLE, ids=[f"{name} {flags}" for name, flags, _ in TABLE])
def test_a_wrong_input_is_one_line(
    name: str, flags: str, expected: str, material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [part.format(m=material) for part in own(name, flags).split()]
    assert cli.main([*arguments, "--output_dir", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err
    assert expected in line
    assert line.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_task_of_glue_takes_what_fits_it(tmp_path: Path, material: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, expected in {
        "--metric mae": "--metric mae: not a metric of classification; expected one of accuracy,",
        "--metric f1:neutrl": "no class 'neutrl'; expected one of entailment, neutral, contradiction; did you mean",
        "--threshold tuned": "--threshold tuned: only for --objective multi_label, found classification",
        "--label_separator ;": "--label_separator: only for --task files or hub, found --task demo",
        "--objective tokens": "--objective: only for --task files or hub, found --task demo",
        "--class_weights other=1": "--class_weights other=1: no class 'other'",
    }.items():
        arguments = f"--task demo --model {material / 'model'} --max_length 32 {flags}".split()
        assert cli.main([*arguments, "--output_dir", str(tmp_path / "run")]) == 2
        assert expected in capsys.readouterr().err


def test_a_sweep_takes_no_metric_of_which_less_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", "--tasks", "rte", "--metric", "log_loss", "--output_dir", str(tmp_path)]
    assert cli.main(arguments) == 2
    assert "--metric: lower is better; a sweep compares shares of a score, such as r2" in capsys.readouterr().err
