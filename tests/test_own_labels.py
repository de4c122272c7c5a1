"""Own rows of each kind of label, from the file to the answers."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import transformers

from jaxfreeze import devices, load
from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.readers import read_file
from jaxfreeze.data.tasks import Task, own_task
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.objectives import MultiLabel
from jaxfreeze.objectives.kinds import asked_kind
from jaxfreeze.training import evaluation
from jaxfreeze.training.dataset import Dataset
from tests.conftest import MESH
from tests.folders import make_folder
from tests.reference import pytorch, random_store
from tests.training import trained

WORDS = ("tools", "clothes", "money")
TOPICS = ("house", "shop", "work")
LENGTH = 24


def rows(count: int) -> list[tuple[str, list[str]]]:
    """Texts and their labels: a word for each."""
    random = np.random.default_rng(count)
    found = []
    for _ in range(count):
        has = random.random(3) < (0.6, 0.3, 0.2)
        words = [word for word, one in zip(WORDS, has, strict=True) if one]
        words += list(random.choice(["the", "bowl", "crate"], 1))
        found.append((" ".join(words), [t for t, one in zip(TOPICS, has, strict=True) if one]))
    return found


def train(folder: Path, name: str, flags: str) -> Path:
    """A run on train.* and dev.* of a folder with its model -> its folder."""
    shared = f"--task files --model {folder}/model --trainable_layers 1 --max_length {LENGTH} --batch_size 16"
    assert main([*shared.split(), "--output_dir", str(folder / name), *flags.replace("@", f"{folder}/").split()]) == 0
    return folder / name


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and files of rows in several forms."""
    top = tmp_path_factory.mktemp("labels")
    make_folder(top / "model", "bert")
    for name, count in (("train", 96), ("dev", 32)):
        found = rows(count)
        (top / f"{name}.jsonl").write_text("".join(json.dumps({"text": t, "topics": s}) + "\n" for t, s in found))
        (top / f"{name}.csv").write_text("text,topics\n" + "".join(f"{t},{';'.join(s)}\n" for t, s in found))
        flags = "".join(f"{t},{','.join(str(int(topic in s)) for topic in TOPICS)}\n" for t, s in found)
        (top / f"{name}_flags.csv").write_text(f"text,{','.join(TOPICS)}\n{flags}")
        ids = pa.array([[TOPICS.index(topic) for topic in s] for _, s in found], pa.list_(pa.int64()))
        about = {"_type": "List", "feature": {"_type": "ClassLabel", "names": list(TOPICS)}}
        note = json.dumps({"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "topics": about}}})
        table = pa.table({"text": [t for t, _ in found], "topics": ids}).replace_schema_metadata({"huggingface": note})
        pyarrow.parquet.write_table(table, top / f"{name}.parquet")
        scores = "".join(f"{t},{len(s) + 0.25 * ('house' in s)}\n" for t, s in found)
        (top / f"{name}_scores.csv").write_text(f"text,score\n{scores}")
        (top / f"{name}_first.csv").write_text(
            "text,first\n" + "".join(f"{t},{(s or ['none'])[0]}\n" for t, s in found)
        )
    return top


@pytest.fixture(scope="module")
def tagged(folder: Path) -> Path:
    """A run with any number of topics for a text, and a threshold chosen on the validation rows."""
    files = "--train_file @train.jsonl --validation_file @dev.jsonl --text_columns text --label_column topics"
    return train(
        folder, "tagged", f"{files} --threshold tuned --max_steps 120 --learning_rate 2e-2 --trainable_layers all"
    )


@pytest.mark.parametrize(("family", "k", "weights"), [("bert", 0, ()), ("roberta", 1, ("balanced",))])
def test_any_number_of_labels_from_the_cache_in_parts_and_on_eight_devices(
    family: str, k: int, weights: tuple[str, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same training as without a cache, in one piece, on one device."""
    plain = TrainConfig(
        "files", train_file=f"{folder}/train.jsonl", validation_file=f"{folder}/dev.jsonl", text_columns=("text",),
        label_column=("topics",), class_weights=weights, model=str(make_folder(tmp_path / family, family)),
        trainable_layers=k, batch_size=16, max_length=LENGTH, learning_rate=1e-3, cache="off",
        max_steps=6, log_every=1,
    )  # fmt: skip
    one = trained.train([plain])
    cached = trained.train([dataclasses.replace(plain, cache="device")])
    parts = trained.train([dataclasses.replace(plain, accumulate=3)])
    monkeypatch.setattr(devices, "data_mesh", MESH)
    eight = trained.train([dataclasses.replace(plain, cache="device")])
    assert eight.experiment.mesh.size == 8
    for other in (cached, parts, eight):
        np.testing.assert_allclose(other.losses, one.losses, atol=1e-5, rtol=0)
        assert other.score() == pytest.approx(one.score(), abs=1e-6)
    assert len(set(one.losses)) == 6


FORMS = {
    "train.jsonl": {"label_column": "topics"},
    "train.csv": {"label_column": "topics", "label_separator": ";"},
    "train_flags.csv": {"label_column": TOPICS},
    "train.parquet": {"label_column": "topics"},
}


@pytest.mark.parametrize("name", FORMS)
def test_labels_are_the_same_in_every_form(name: str, folder: Path) -> None:
    path = folder / name
    files = {"train_file": str(path), "validation_file": str(path), "text_columns": ("text",)}
    config = TrainConfig("files", **files | FORMS[name])  # type: ignore[arg-type]
    split, task = read_file(path, own_task(config, (), asked_kind(config)), "train")
    assert isinstance(task.objective, MultiLabel)
    assert task.objective.labels == TOPICS
    expected = [[int(topic in topics) for topic in TOPICS] for _, topics in rows(96)]
    assert split.labels is not None
    assert (split.labels.dtype, split.labels.tolist()) == (np.uint8, expected)
    assert split.texts[0] == tuple(text for text, _ in rows(96))


def test_a_run_with_any_number_of_labels(tagged: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = metrics_of(tagged)
    assert (result["objective"], result["labels"]) == ("multi_label", list(TOPICS))
    assert list(result["metrics"]) == ["micro_f1", "macro_f1", "lrap", "accuracy"]
    assert result["metrics"]["micro_f1"] > 0.8  # the words say it; 0.57 for one answer to all
    assert 0 < result["threshold"] < 1
    assert main(["evaluate", "--run", str(tagged)]) == 0
    assert "the same score as in metrics.json" in capsys.readouterr().out


def test_the_threshold_decides_in_every_answer(tagged: Path, folder: Path, tmp_path: Path) -> None:
    threshold, texts = metrics_of(tagged)["threshold"], [text for text, _ in rows(32)]
    found = load(tagged)(texts)
    for one in found:
        assert one.prediction == [topic for topic in TOPICS if one.probabilities[topic] > threshold]
    assert {len(one.prediction) for one in found if isinstance(one.prediction, list)} >= {0, 1, 3}
    shutil.copytree(tagged, tmp_path / "low")
    changed = metrics_of(tagged) | {"threshold": 1e-6}
    (tmp_path / "low" / "metrics.json").write_text(json.dumps(changed))
    assert all(one.prediction == list(TOPICS) for one in load(tmp_path / "low")(texts))
    output = tmp_path / "predictions.jsonl"
    arguments = ["predict", "--run", str(tagged), "--input", f"{folder}/dev.jsonl", "--output", str(output)]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["prediction"] for line in lines] == [one.prediction for one in found]
    assert main(arguments) == 0  # earlier predictions may be replaced
    (about,) = SharedTrunk([tagged]).about()
    assert about["labels"] == list(TOPICS)


def test_only_validation_rows_choose_a_threshold() -> None:
    random = np.random.default_rng(0)
    label, logits = random.integers(0, 2, (40, 3), np.uint8), random.normal(-1, 1, (40, 3)).astype(np.float32)
    store = dataclasses.replace(random_store("bert", num_examples=40), label=label)
    data: Any = None  # what training needs of a split
    task = Task("files", ("text",), MultiLabel(TOPICS, threshold=None))
    found = evaluation.score(task, Dataset("validation", store, data), logits)
    assert 0 < found["threshold"] < 0.5
    with pytest.raises(ValueError, match="still to be chosen on the validation rows"):
        evaluation.score(task, Dataset("test", store, data), logits)
    settled = dataclasses.replace(task, objective=task.objective.settled(found))
    assert evaluation.score(settled, Dataset("test", store, data), logits) == {
        name: value for name, value in found.items() if name != "threshold"
    }


def test_an_exported_run_answers_the_same_in_transformers(tagged: Path, tmp_path: Path) -> None:
    pytorch()
    assert main(["export", "--run", str(tagged), "--output", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["threshold"] == metrics_of(tagged)["threshold"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'classifier("...", top_k=None)' in card
    assert "any number of 3 classes, named in config.json; one is predicted where its probability (sigmoid)" in card
    texts = [text for text, _ in rows(8)]
    classifier = transformers.pipeline("text-classification", str(tmp_path / "out"), truncation=True)
    for ours, theirs in zip(load(tagged)(texts), classifier(texts, top_k=None), strict=True):
        assert {one["label"]: pytest.approx(one["score"], abs=1e-5) for one in theirs} == ours.probabilities


def test_a_number_decides_whether_labels_are_scores(folder: Path) -> None:
    files = "--train_file @train_scores.csv --validation_file @dev_scores.csv --text_columns text --label_column score"
    run = train(folder, "scores", f"{files} --metric mae --max_steps 2")
    result = metrics_of(run)
    assert (result["objective"], result["primary_metric"]) == ("regression", "mae")
    assert list(result["metrics"]) == ["mae", "spearman", "pearson"]
    assert "threshold" not in result
    del result["objective"]  # as earlier versions wrote it, which asked for --regression
    (run / "metrics.json").write_text(json.dumps(result))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("regression: false", "regression: true"))
    assert isinstance(load(run)(["the bowl"])[0].prediction, float)


def test_weights_change_the_training_and_not_the_evaluation(folder: Path) -> None:
    files = "--train_file @train_first.csv --validation_file @dev_first.csv --text_columns text --label_column first"
    plain = train(folder, "plain", f"{files} --max_steps 4 --metric recall:work")
    heavy = train(folder, "heavy", f"{files} --max_steps 4 --metric recall:work --class_weights work=50")
    runs = FinishedRun(plain), FinishedRun(heavy)
    assert runs[0].task == runs[1].task  # the weights are the training's
    assert [run.task.objective.primary_metric for run in runs] == ["recall:work"] * 2
    shares = [[one.probabilities["work"] for one in load(run)([text for text, _ in rows(8)])] for run in (plain, heavy)]
    assert np.mean(shares[1]) > np.mean(shares[0])
    assert metrics_of(plain)["metrics"].keys() == {"recall:work", "accuracy", "macro_f1"}
