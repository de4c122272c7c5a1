"""Wrong flags and files of own rows, through the real command line, and the one line that each is answered with."""

import gzip
from pathlib import Path

import pytest

from jaxfreeze import cli
from tests.folders import make_folder

ROWS = {
    "rows.csv": "text,label\na,x\nb,y\nc,x\nd,y\n",
    "rare.csv": "text,label\na,x\nb,x\nc,x\nd,only\n",
    "same.csv": "text,label\na,x\nb,x\nthis,twice\n this ,twice\n",
    "other.csv": "text,label\na,x\nb,z\n",
    "wide.csv": "id,text,label\n1,a,x\n2,b,y\n",
    "moods.csv": "text,mood\na,x\nb,y\n",
    "plain.csv": "a,x\nb,y\n",
    "rows.jsonl": '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n',
    "parts/1.csv": "text,label\na,x\nb,y\n",
    "parts/2.csv": "text,kind\na,x\nb,y\n",
    "set/train.csv": "id,text,label\n1,a,x\n2,b,y\n",
}
FILE = "--train_file {m}/rows.csv"
TABLE = [  # what is wrong, the flags, what the line has to say
    ("no rows at all", "--task files", "--task files: --train_file missing"),
    ("no data set", "--task hub", "--task hub: --dataset missing"),
    (
        "a share of given rows",
        f"{FILE} --validation_file {{m}}/rows.csv --validation_share 0.1",
        "--validation_share: ",
    ),
    ("a share of given splits", "--task hub --dataset x --validation_split dev --validation_share 0.1", "but --valid"),
    ("a share of nothing", f"{FILE} --validation_share 0", "--validation_share 0.0: expected 1e-06 to 0.9"),
    ("a share of everything", f"{FILE} --validation_share 1", "--validation_share 1.0: expected 1e-06 to 0.9"),
    ("a class of one row", "--train_file {m}/rare.csv", "--validation_share 0.1: class 'only' has 1 row of 1 text"),
    ("a class of one text", "--train_file {m}/same.csv", "--validation_share 0.1: class 'twice' has 2 rows of 1 text"),
    ("a label of the test file", f"{FILE} --test_file {{m}}/other.csv", "other.csv:3: label 'z' is not one of x, y"),
    ("a test file that is not there", f"{FILE} --test_file {{m}}/none.csv", "none.csv: expected a file, found nothing"),
    ("a test file of GLUE", "--task rte --test_file x", "--test_file: only for --task files, found --task rte"),
    ("a data set of GLUE", "--task rte --dataset x", "--dataset: only for --task hub, found --task rte"),
    ("a data set and a file", f"{FILE} --dataset x", "--dataset: only for --task hub, found --task files"),
    ("a file and a data set", "--task hub --dataset x --train_file y", "--train_file: only for --task files, found"),
    ("a pattern without files", "--train_file {m}/parts/*.tsv", "parts/*.tsv: expected files that match the pattern"),
    ("parts with other columns", "--train_file {m}/parts/*.csv", "parts/2.csv:1: no column 'label'; it has to be"),
    ("two from standard input", "--train_file - --test_file -", "two are -, but standard input can be read once"),
    (
        "standard input in a sweep",
        "sweep --tasks files --models {m}/model --train_file - --output_dir x",
        "standard input can be read once",
    ),
    ("a broken .gz", "--train_file {m}/broken.csv.gz", "broken.csv.gz: broken .gz ("),
    ("no .gz", "--train_file {m}/none.csv.gz", "none.csv.gz: broken .gz (Not a gzipped file"),
    ("a packed .parquet", "--train_file {m}/rows.parquet.gz", "the ending '.gz' is not one of"),
    (
        "which column",
        "--train_file {m}/wide.csv",
        "wide.csv:1: which column is the text? several are possible; give --te",
    ),
    ("which label", "--train_file {m}/moods.csv", "moods.csv:1: which column is the label? none is called label; give"),
    ("a header where there is none", "--train_file {m}/plain.csv", "plain.csv:1: which column is the label?"),
    ("named without names", f"{FILE} --no_header --label_column label", "--label_column label: with --no_header col"),
    ("a number too large", "--train_file {m}/plain.csv --no_header --label_column 9", "plain.csv:1: no column '9'; it"),
    ("JSON without names", "--train_file {m}/rows.jsonl --no_header", "rows.jsonl: --no_header is for .csv and .tsv"),
    ("a data set's columns", "--task hub --dataset {m}/set", "split train: which column is the text? several are poss"),
    (
        "a data set's split",
        "--task hub --dataset {m}/set --text_columns text --test_split dev",
        "has no such split; expected one of train",
    ),
    ("no such data set", "--task hub --dataset {m}/none", "--dataset {m}/none: cannot be loaded from the Hugging Face"),
    ("evaluate on nothing", "evaluate --run {m}/none --input x.csv", "--run {m}/none: there is no such folder"),
]
BY_NAME = {name: (arguments, line) for name, arguments, line in TABLE}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("material")
    for name, content in ROWS.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(content)
    packed = gzip.compress(ROWS["rows.csv"].encode())
    (top / "broken.csv.gz").write_bytes(packed[:-12])
    (top / "rows.parquet.gz").write_bytes(packed)
    (top / "none.csv.gz").write_text(ROWS["rows.csv"])
    make_folder(top / "model", "bert")
    return top


@pytest.mark.parametrize("name", BY_NAME)
def test_one_line(
    name: str, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path.parent / "cache")
    monkeypatch.chdir(tmp_path)
    arguments, line = (text.replace("{m}", str(material)) for text in BY_NAME[name])
    words = arguments.split()
    if words[0].startswith("--"):
        task = [] if "--task" in words else ["--task", "files"]
        words = [*task, "--model", str(material / "model"), "--max_length", "32", *words]
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert line in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not list(tmp_path.iterdir())
