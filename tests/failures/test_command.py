"""evaluate --report, predict --calibrated and the predictions that a run keeps, on tiny runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from scipy.special import softmax

from jaxfreeze import load, removal
from jaxfreeze.cli import main
from jaxfreeze.data.tasks import TASKS
from jaxfreeze.run_folder import RUN_FILES
from jaxfreeze.training import predictions
from tests.inference.runs import train

TEXTS = [("tools the bowl", "made the crate"), ("clothes", "from town"), ("money holds", "owner made made")]


@pytest.fixture(scope="module")
def seeds(tiny_runs: Path) -> list[Path]:
    """Two runs of rte, the second one with another seed and unsure."""
    settings = {"seed": 7, "max_steps": 1, "learning_rate": 1e-5}
    return [tiny_runs / "rte", train(tiny_runs, tiny_runs / "model", "rte", "rte-other", **settings)]


@pytest.fixture
def mnli(tiny_runs: Path) -> Path:
    """A run with two validation splits."""
    if not (tiny_runs / "mnli").is_dir():
        train(tiny_runs, tiny_runs / "model", "mnli")
    return tiny_runs / "mnli"


def result(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def predicted(run: Path, file: Path, folder: Path, *flags: str) -> list[dict]:
    out = folder / "out.jsonl"
    assert main(["predict", "--run", str(run), "--input", str(file), "--output", str(out), *flags]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_predictions_are_those_of_predict(tiny_runs: Path, tmp_path: Path) -> None:
    file = pyarrow.parquet.ParquetFile(tiny_runs / "rte" / "predictions-validation.parquet")
    about = json.loads(file.schema_arrow.metadata[b"jaxfreeze"])
    assert about == {
        "split": "validation", "objective": "classification", "classes": ["entailment", "not_entailment"],
    }  # fmt: skip
    rows = file.read().to_pylist()
    names = ["index", "sentence1", "sentence2", "label", "prediction", "probability", "probabilities", "loss", "tokens"]
    assert list(rows[0]) == names
    lines = predicted(tiny_runs / "rte", tiny_runs / "glue" / "RTE" / "dev.tsv", tmp_path)
    given = [line.split("\t") for line in (tiny_runs / "glue" / "RTE" / "dev.tsv").read_text().splitlines()[1:]]
    assert len(rows) == len(lines) == len(given)
    for number, (row, line, cells) in enumerate(zip(rows, lines, given, strict=True)):
        assert row["index"] == line["index"] == number
        assert [row["sentence1"], row["sentence2"], row["label"]] == cells[1:]
        assert row["prediction"] == line["prediction"]
        shares = list(line["probabilities"].values())
        assert row["probabilities"] == pytest.approx(shares, abs=1e-5)
        assert row["probability"] == max(row["probabilities"])
        assert row["loss"] == pytest.approx(-np.log(shares[about["classes"].index(cells[3])]), abs=1e-4)
        assert row["tokens"] > len(cells[1].split()) + len(cells[2].split())
    right = np.mean([row["label"] == row["prediction"] for row in rows])
    assert right == result(tiny_runs / "rte")["metrics"]["accuracy"]


def test_predictions_of_numbers(tiny_runs: Path) -> None:
    table = pyarrow.parquet.read_table(tiny_runs / "stsb" / "predictions-validation.parquet")
    rows = table.to_pylist()
    assert list(rows[0]) == ["index", "sentence1", "sentence2", "label", "prediction", "error", "loss", "tokens"]
    for row in rows:
        assert row["error"] == pytest.approx(row["prediction"] - row["label"])
        assert row["loss"] == pytest.approx(row["error"] ** 2)
    assert {"temperature", "calibration"} & result(tiny_runs / "stsb").keys() == set()


def test_every_split_has_its_file_and_all_are_ours(mnli: Path) -> None:
    assert {file.name for file in mnli.glob("*.parquet")} == {
        "predictions-validation_matched.parquet", "predictions-validation_mismatched.parquet",
    }  # fmt: skip
    assert removal.foreign(mnli, RUN_FILES) == []
    assert RUN_FILES.fullmatch(".predictions-test.parquet.writing")
    assert not RUN_FILES.fullmatch("predictions-../x.parquet")
    assert not RUN_FILES.fullmatch("predictions.parquet")
    assert result(mnli)["calibration"]["rows"] == 48


def test_text_columns_that_are_called_like_ours() -> None:
    assert predictions.text_names(("text", "tokens")) == ["text", "text_tokens"]
    assert predictions.text_names(("label", "text_label")) == ["text_label", "text_text_label"]


def test_a_file_that_cannot_be_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxfreeze.errors import InputError
    from jaxfreeze.run_folder import RunFolder
    from tests.failures.stored import scored

    def full(table: object, file: object) -> None:
        file.write(b"PAR1")
        raise OSError(28, "No space left on device")

    predictions.keep_predictions(RunFolder(tmp_path), TASKS["rte"], [scored()])
    before = (tmp_path / "predictions-validation.parquet").read_bytes()
    monkeypatch.setattr(pyarrow.parquet, "write_table", full)
    with pytest.raises(InputError, match=r"predictions-validation.parquet: cannot be written \(No space left"):
        predictions.keep_predictions(RunFolder(tmp_path), TASKS["rte"], [scored()])
    assert [file.name for file in tmp_path.iterdir()] == ["predictions-validation.parquet"]
    assert (tmp_path / "predictions-validation.parquet").read_bytes() == before


def test_calibrated_probabilities(seeds: list[Path], tiny_runs: Path, tmp_path: Path) -> None:
    run, file = seeds[1], tiny_runs / "glue" / "RTE" / "dev.tsv"
    degree = result(run)["temperature"]
    assert degree > 0
    assert degree != 1.0
    plain, calibrated = predicted(run, file, tmp_path), predicted(run, file, tmp_path, "--calibrated")
    for one, other in zip(plain, calibrated, strict=True):
        assert (one["logits"], one["prediction"]) == (other["logits"], other["prediction"])
        expected = softmax(np.array(one["logits"]) / degree)
        assert list(other["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
    alone, shared = load(run, calibrated=True), load([run, tiny_runs / "cola"], calibrated=True)
    for one, raw in zip(alone(TEXTS), load(run)(TEXTS), strict=True):
        np.testing.assert_array_equal(one.logits, raw.logits)
        assert list(one.probabilities.values()) == pytest.approx(softmax(raw.logits / degree), abs=1e-6)
    assert shared(TEXTS)["rte"][0].probabilities == pytest.approx(alone(TEXTS)[0].probabilities, abs=1e-5)


def test_the_report_has_the_numbers_of_the_run(seeds: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "report"
    words = [word for run in seeds for word in ("--run", str(run))]
    assert main(["evaluate", *words, "--report", str(out)]) == 0
    assert {file.name for file in out.iterdir()} == {"report.html", "report.json"}
    assert "<script" not in (out / "report.html").read_text()
    found = json.loads((out / "report.json").read_text())
    assert (found["made_by"], found["kind"]) == ("jaxfreeze", "failures")
    for run, scores in zip(seeds, found["scores"], strict=True):
        recorded = result(run)["metrics"]
        assert {name: scores["metrics"][name] for name in recorded} == recorded
    calibration = result(seeds[0])["calibration"]
    assert found["calibration"]["temperature"] == result(seeds[0])["temperature"]
    assert found["calibration"]["in_sample"]
    for name in ("ece_before", "ece_after"):
        assert found["calibration"][name] == pytest.approx(calibration[name])
    kept = pyarrow.parquet.read_table(seeds[0] / "predictions-validation.parquet").to_pylist()
    worst = max(kept, key=lambda row: row["loss"])
    assert found["worst"][0]["loss"] == pytest.approx(worst["loss"])
    assert found["worst"][0]["place"] == f"validation {worst['index']}"
    assert found["about"]["notes"] == []
    (out / "notes.txt").write_text("mine")
    assert main(["evaluate", "--run", str(seeds[1]), "--report", str(out)]) == 0
    assert json.loads((out / "report.json").read_text())["about"]["name"] == str(seeds[1])
    assert (out / "notes.txt").read_text() == "mine"


def test_a_report_on_two_splits_and_on_numbers(mnli: Path, tiny_runs: Path, tmp_path: Path) -> None:
    assert main(["evaluate", "--run", str(mnli), "--report", str(tmp_path / "mnli")]) == 0
    found = json.loads((tmp_path / "mnli" / "report.json").read_text())
    assert found["about"]["splits"] == ["validation_matched", "validation_mismatched"]
    assert found["about"]["rows"] == 48
    assert found["scores"][0]["metrics"].keys() == {"accuracy", "macro_f1", "accuracy_mismatched"}
    assert main(["evaluate", "--run", str(tiny_runs / "stsb"), "--report", str(tmp_path / "stsb")]) == 0
    found = json.loads((tmp_path / "stsb" / "report.json").read_text())
    assert len(found["points"]) == 24
    assert found["calibration"] is None


@pytest.fixture
def copy(tiny_runs: Path, tmp_path: Path) -> Path:
    """The run rte, to be changed, with rows of its own."""
    shutil.copytree(tiny_runs / "glue", tmp_path / "glue")
    run = Path(shutil.copytree(tiny_runs / "rte", tmp_path / "rte"))
    config = (run / "config.yaml").read_text().replace(str(tiny_runs / "glue"), str(tmp_path / "glue"))
    (run / "config.yaml").write_text(config)
    return run


def test_a_run_of_before_has_its_temperature_fitted_for_the_report(copy: Path, tmp_path: Path) -> None:
    metrics = result(copy)
    assert metrics["calibration"].keys() == {"ece_before", "ece_after", "rows"}
    fitted = metrics.pop("temperature"), metrics.pop("calibration")
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert main(["evaluate", "--run", str(copy), "--report", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())["calibration"]
    assert found["temperature"] == pytest.approx(fitted[0], rel=1e-3)


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_other_rows_are_said_or_refused(
    copy: Path, tiny_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = tmp_path / "glue" / "RTE" / "dev.tsv"
    dev.write_text(dev.read_text().replace("tools", "money"))
    assert main(["evaluate", "--run", str(copy), "--report", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "than those of metrics.json" in found["about"]["notes"][0]
    assert not found["calibration"]["in_sample"]
    runs = ["--run", str(tiny_runs / "rte"), "--run", str(copy)]
    line = refusal(["evaluate", *runs, "--report", str(tmp_path / "two")], capsys)
    assert f"--run {copy}: was scored on other rows than --run {tiny_runs / 'rte'}" in line
    runs = ["--run", str(tiny_runs / "rte"), "--run", str(tiny_runs / "cola")]
    assert "was scored on other classes" in refusal(["evaluate", *runs, "--report", str(tmp_path / "two")], capsys)
    dev.unlink()
    line = refusal(["evaluate", "--run", str(copy), "--report", str(tmp_path / "two")], capsys)
    assert f"expected the file {dev}" in line
    assert not (tmp_path / "two").exists()


def test_folders_of_others_are_refused(tiny_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--run", str(tiny_runs / "rte"), "--report"]
    (tmp_path / "file").write_text("mine")
    assert "expected a folder, found a file" in refusal([*command, str(tmp_path / "file")], capsys)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("mine")
    assert "expected a new folder or an earlier report" in refusal([*command, str(tmp_path / "mine")], capsys)
    (tmp_path / "sweep").mkdir()
    other = {"made_by": "jaxfreeze", "kind": "report", "files": {"report.html": []}}
    (tmp_path / "sweep" / "report.json").write_text(json.dumps(other))
    assert "is not that of such a report" in refusal([*command, str(tmp_path / "sweep")], capsys)
    assert main([*command, str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "report.html").write_text("my notes")
    assert "report.html is not as a report left it" in refusal([*command, str(tmp_path / "out")], capsys)
    assert (tmp_path / "out" / "report.html").read_text() == "my notes"
    assert refusal([*command, str(tiny_runs / "rte")], capsys)  # the run's own folder


def test_wrong_flags(copy: Path, tiny_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = ["--run", str(tiny_runs / "rte"), "--run", str(tiny_runs / "cola")]
    assert "with --report they are compared" in refusal(["evaluate", *two], capsys)
    assert "--run is required" in refusal(["evaluate", "--report", str(tmp_path / "o")], capsys)
    rows = ["--input", str(tiny_runs / "glue" / "RTE" / "dev.tsv"), "--output", str(tmp_path / "o"), "--calibrated"]
    line = refusal(["predict", "--run", str(tiny_runs / "stsb"), *rows], capsys)
    assert "is a run of kind regression, which has no probabilities; leave --calibrated out" in line
    metrics = result(copy)
    del metrics["temperature"]
    (copy / "metrics.json").write_text(json.dumps(metrics))
    line = refusal(["predict", "--run", str(copy), *rows], capsys)
    assert "expected a temperature in its metrics.json, found none" in line
    submission = ["--glue_submission", str(tmp_path / "glue-files"), "--calibrated"]
    line = refusal(["predict", "--run", str(tiny_runs / "rte"), *submission], capsys)
    assert "--calibrated: not with --glue_submission" in line
    assert not (tmp_path / "o").exists()
