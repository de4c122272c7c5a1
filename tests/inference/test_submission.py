"""The files that GLUE's leaderboard takes: names, headers, labels and rows, checked by GLUE's own figures."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxfreeze.cli import main
from jaxfreeze.data.tasks import get_task
from jaxfreeze.inference.submission import as_tsv
from tests.folders import make_folder
from tests.inference.runs import train, write_glue

NLI, TWO_WAY, BINARY = ("entailment", "neutral", "contradiction"), ("entailment", "not_entailment"), ("0", "1")
# Of GLUE's test sets, and of the sample submission on gluebenchmark.com.
EXPECTED = {
    "AX.tsv": (1104, NLI), "CoLA.tsv": (1063, BINARY), "MNLI-m.tsv": (9796, NLI), "MNLI-mm.tsv": (9847, NLI),
    "MRPC.tsv": (1725, BINARY), "QNLI.tsv": (5463, TWO_WAY), "QQP.tsv": (390965, BINARY), "RTE.tsv": (3000, TWO_WAY),
    "SST-2.tsv": (1821, BINARY), "STS-B.tsv": (1379, None), "WNLI.tsv": (146, BINARY),
}  # fmt: skip


def validate(archive: Path) -> set[str]:
    """Check a submission -> the names of its files."""
    with zipfile.ZipFile(archive) as files:
        assert files.testzip() is None
        for name in files.namelist():
            rows, labels = EXPECTED[name]
            header, *lines = files.read(name).decode().splitlines()
            assert header == "index\tprediction"
            assert len(lines) == rows, name
            for number, line in enumerate(lines):
                index, prediction = line.split("\t")
                assert index == str(number)
                assert 0 <= float(prediction) <= 5 if labels is None else prediction in labels
        return set(files.namelist())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three tasks; the test sets have GLUE's numbers of rows where a run is there."""
    folder = tmp_path_factory.mktemp("runs")
    model = make_folder(folder / "model", "bert", num_hidden_layers=1)
    for task, rows in (("wnli", 146), ("stsb", 1379)):
        write_glue(folder / "glue", task, test_rows=rows)
        train(folder, model, task, trainable_layers=0)
    write_glue(folder / "glue", "mnli")
    for name, rows in (("test_matched", 9796), ("test_mismatched", 9847)):
        lines = (folder / "glue" / "MNLI" / f"{name}.tsv").read_text().splitlines()
        (folder / "glue" / "MNLI" / f"{name}.tsv").write_text("\n".join([lines[0], *([lines[1]] * rows)]) + "\n")
    ax = folder / "glue" / "diagnostic" / "diagnostic.tsv"
    lines = ax.read_text().splitlines()
    ax.write_text("\n".join([lines[0], *([lines[1]] * 1104)]) + "\n")
    train(folder, model, "mnli", trainable_layers=0)
    return folder


def submit(folder: Path, output: Path, *tasks: str) -> int:
    runs = [word for task in tasks for word in ("--run", str(folder / task))]
    return main(["predict", *runs, "--glue_submission", str(output)])


def test_a_submission(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(folder, tmp_path / "out", "wnli", "mnli", "stsb") == 0
    assert validate(tmp_path / "out" / "submission.zip") == {
        "WNLI.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv", "STS-B.tsv"
    }  # fmt: skip
    out = capsys.readouterr().out
    for name, task in (("CoLA", "cola"), ("SST-2", "sst2"), ("QQP", "qqp"), ("RTE", "rte")):
        assert f"missing: {name}: no run; give one by --run; train: `python run.py --task {task}`" in out
    assert "5 of the 11 files; the server wants all" in out
    assert submit(folder, tmp_path / "out", "wnli") == 2
    assert "the folder is not empty; give another name" in capsys.readouterr().err


def test_what_cannot_be_submitted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(folder, tmp_path / "out", "wnli", "wnli") == 2
    assert "a second run of wnli" in capsys.readouterr().err
    short = tmp_path / "glue"
    write_glue(short, "wnli", test_rows=145)
    arguments = ["predict", "--run", str(folder / "wnli"), "--glue_submission", str(tmp_path / "out")]
    assert main([*arguments, "--data_dir", str(short)]) == 2
    assert "WNLI has 145 rows; GLUE's test set has 146" in capsys.readouterr().err
    (short / "WNLI" / "test.tsv").unlink()
    assert main([*arguments, "--data_dir", str(short)]) == 2
    assert "nothing to write; " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_scores_keep_to_the_scale() -> None:
    lines = as_tsv(get_task("stsb"), np.array([[-0.2], [5.3], [2.34567]], np.float32)).splitlines()
    assert lines == ["index\tprediction", "0\t0.000", "1\t5.000", "2\t2.346"]


def test_labels_are_spelled_as_glue_spells_them() -> None:
    logits = np.eye(2, dtype=np.float32)
    assert as_tsv(get_task("mrpc"), logits).splitlines()[1:] == ["0\t0", "1\t1"]
    assert as_tsv(get_task("qnli"), logits).splitlines()[1:] == ["0\tentailment", "1\tnot_entailment"]
    assert as_tsv(get_task("wnli"), logits).splitlines()[1:] == ["0\t0", "1\t1"]


@pytest.mark.skipif("JAXFREEZE_GLUE_DIR" not in os.environ, reason="JAXFREEZE_GLUE_DIR is not set")
def test_real_test_files(tmp_path: Path) -> None:
    """Every real test file that is there, with a model of one layer."""
    model = make_folder(tmp_path / "model", "bert", num_hidden_layers=1)
    tasks, real = ("rte", "cola", "mrpc", "stsb", "qnli", "wnli"), os.environ["JAXFREEZE_GLUE_DIR"]
    for task in tasks:
        train(tmp_path, model, task, trainable_layers=0)
    runs = [word for task in tasks for word in ("--run", str(tmp_path / task))]
    assert main(["predict", *runs, "--glue_submission", str(tmp_path / "out"), "--data_dir", real]) == 0
    assert validate(tmp_path / "out" / "submission.zip") == {
        "RTE.tsv", "CoLA.tsv", "MRPC.tsv", "STS-B.tsv", "QNLI.tsv", "WNLI.tsv"
    }  # fmt: skip
