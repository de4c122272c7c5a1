"""Predictions and reports of runs on labels of every other kind: sets of classes, words, numbers; and of test rows."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from jaxfreeze.cli import main
from tests import tagged
from tests.folders import make_folder

CONTROL = "\x01"  # of which BERT's normalizer makes no token
NAMES = ("house", "shop", "work")


def result(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def kept(run: Path, split: str) -> list[dict]:
    return pyarrow.parquet.read_table(run / f"predictions-{split}.parquet").to_pylist()


def reported(run: Path, out: Path, *flags: str) -> dict:
    assert main(["evaluate", "--run", str(run), "--report", str(out), *flags]) == 0
    return json.loads((out / "report.json").read_text())


def predicted(run: Path, file: Path, out: Path, *flags: str) -> list[dict]:
    assert main(["predict", "--run", str(run), "--input", str(file), "--output", str(out), *flags]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def write_sets(file: Path, count: int) -> Path:
    """Texts with a word for each of their labels, and some with none."""
    random = np.random.default_rng(count)
    lines = []
    for _ in range(count):
        names = [name for name in NAMES if random.random() < 0.4]
        words = [("tools", "clothes", "money")[NAMES.index(name)] for name in names] + ["the", "bowl"]
        lines.append(json.dumps({"text": " ".join(words), "topics": names}))
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on sets of classes, with a chosen threshold and test rows; one on words, some of which are not read."""
    folder = tmp_path_factory.mktemp("kinds")
    model = make_folder(folder / "model", "bert")
    files = [f"--{name}_file {write_sets(folder / f'{name}.jsonl', count)}" for name, count in
             (("train", 48), ("validation", 20), ("test", 12))]  # fmt: skip
    shared = f"--task files --model {model} --trainable_layers 1 --max_length 24 --max_steps 4 --learning_rate 1e-3"
    columns = "--text_columns text --label_column topics --threshold tuned"
    assert main(f"{shared} {' '.join(files)} {columns} --output_dir {folder / 'sets'}".split()) == 0
    tagged.write_rows(folder)
    odd = (("tools", CONTROL, "crates", "holds"), ("O", "O", "B-PER", "O"))
    long = (("bowl",) * 40, ("O",) * 40)
    tagged.write_jsonl(folder / "dev.jsonl", [odd, long, *tagged.sentences(6, seed=2)])
    tagged.train(model, folder, folder / "tags", validation_file=str(folder / "dev.jsonl"))
    return folder


def test_sets_of_classes(top: Path, tmp_path: Path) -> None:
    run = top / "sets"
    record = result(run)
    for split in ("validation", "test"):
        lines = predicted(run, top / f"{split}.jsonl", tmp_path / f"{split}.jsonl")
        given = [json.loads(line) for line in (top / f"{split}.jsonl").read_text().splitlines()]
        rows = kept(run, split)
        names = ["index", "text", "label", "prediction", "probabilities", "loss", "tokens"]
        assert list(rows[0]) == names
        for row, line, one in zip(rows, lines, given, strict=True):
            assert (row["text"], row["label"], row["prediction"]) == (one["text"], one["topics"], line["prediction"])
            shares = np.array([line["probabilities"][name] for name in NAMES])
            assert row["probabilities"] == pytest.approx(shares, abs=1e-5)
            true = np.array([name in one["topics"] for name in NAMES])
            assert row["loss"] == pytest.approx(-np.log(np.where(true, shares, 1 - shares)).mean(), abs=1e-4)
    assert any(row["label"] == [] for row in rows)
    assert record["calibration"]["rows"] == 20
    assert record["calibration"]["test"]["rows"] == 12
    found = reported(run, tmp_path / "out")
    assert {one["name"] for one in found["classes"]} == set(NAMES)
    assert found["scores"][0]["metrics"] == pytest.approx(record["metrics"])
    assert found["calibration"]["ece_after"] == pytest.approx(record["calibration"]["ece_after"])
    assert (found["confusions"], found["doubtful"]) == ([], None)


def test_labelled_rows_of_a_file(top: Path, tmp_path: Path) -> None:
    found = reported(top / "sets", tmp_path / "out", "--input", str(top / "test.jsonl"))
    record = result(top / "sets")
    assert found["about"]["splits"] == [str(top / "test.jsonl")]
    assert found["scores"][0]["metrics"] == pytest.approx(record["test_metrics"])
    assert not found["calibration"]["in_sample"]
    for name in ("ece_before", "ece_after"):
        assert found["calibration"][name] == pytest.approx(record["calibration"]["test"][name])


def test_words(top: Path, tmp_path: Path) -> None:
    run = top / "tags"
    lines = predicted(run, top / "dev.jsonl", tmp_path / "out.jsonl")
    given = [json.loads(line) for line in (top / "dev.jsonl").read_text().splitlines()]
    rows = kept(run, "validation")
    assert list(rows[0]) == ["index", "words", "label", "prediction", "probability", "loss", "tokens"]
    for row, line, one in zip(rows, lines, given, strict=True):
        assert row["words"] == one["words"]
        assert row["prediction"] == line["prediction"]
        read = [tag is not None for tag in line["prediction"]]
        assert row["label"] == [tag if was_read else None for tag, was_read in zip(one["labels"], read, strict=True)]
        for share, other in zip(row["probability"], line["probabilities"], strict=True):
            assert (share is None) == (other is None)
            assert share is None or share == pytest.approx(other, abs=1e-5)
    assert [place for place, tag in enumerate(rows[0]["label"]) if tag is None] == [1]
    assert rows[1]["label"][-1] is None
    assert result(run)["calibration"]["rows"] == sum(tag is not None for row in rows for tag in row["label"])
    found = reported(run, tmp_path / "out")
    assert found["scores"][0]["metrics"].items() >= result(run)["metrics"].items()
    worst = {one["place"]: one for one in found["worst"]}
    for row in rows:
        pairs = zip(row["words"], row["label"], row["prediction"], strict=True)
        wrong = [(word, true, other) for word, true, other in pairs if true != other]
        one = worst[f"validation {row['index']}"]
        assert one["loss"] == pytest.approx(row["loss"])
        assert one["label"][:300] == ", ".join(f"{word} {true}" for word, true, _ in wrong)[:300]
        assert one["prediction"][:300] == ", ".join(f"{word} {other}" for word, _, other in wrong)[:300]


def test_calibrated_words_and_sets_keep_their_predictions(top: Path, tmp_path: Path) -> None:
    for run, file in (("sets", "validation.jsonl"), ("tags", "dev.jsonl")):
        plain = predicted(top / run, top / file, tmp_path / f"{run}.jsonl")
        calibrated = predicted(top / run, top / file, tmp_path / f"{run}-calibrated.jsonl", "--calibrated")
        assert [one["prediction"] for one in plain] == [one["prediction"] for one in calibrated]
        assert [one["probabilities"] for one in plain] != [one["probabilities"] for one in calibrated]
        assert [one.get("logits") for one in plain] == [one.get("logits") for one in calibrated]
