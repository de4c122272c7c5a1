"""Whole runs through the command line, in this process, on tiny folders: what is written, printed and refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from jaxfreeze import devices, freezing
from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.tasks import get_task
from jaxfreeze.training import loop
from jaxfreeze.training.experiment import Experiment, TrainState
from jaxfreeze.training.hooks import NonFiniteLossError
from jaxfreeze.training.platform_choices import Arithmetic
from jaxfreeze.training.pretrained import load_model
from tests.folders import make_folder, tiny_rte
from tests.model import hub_server

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", params=["bert", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / request.param, request.param)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")


Command = Callable[..., int]


@pytest.fixture
def train(tmp_path: Path) -> Command:
    data = tiny_rte(tmp_path / "glue")

    def run(model: Path, *flags: str, out: str = "run") -> int:
        arguments = [
            "--task",
            "rte",
            "--data_dir",
            str(data),
            "--model",
            str(model),
            "--output_dir",
            str(tmp_path / out),
        ]
        return main([*arguments, "--max_steps", "6", "--log_every", "2", "--max_length", "32", *flags])

    return run


def test_no_hub_token_is_written_or_printed(
    bert: Path, train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a whole run, and in the line of one whose token the hub does not accept."""
    token = "hf_" + "q7Zk" * 8
    monkeypatch.setenv("HF_TOKEN", token)
    assert train(bert, "--trainable_layers", "1") == 0
    printed = capsys.readouterr()
    with hub_server.running() as hub:
        hub.status = lambda path: 401
        done = subprocess.run(
            [sys.executable, "run.py", "--task", "demo", "--model", "owner/model"],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")},
        )  # fmt: skip
    assert done.returncode == 2
    assert f"Bearer {token}" in hub.credentials  # it was read, and sent where it belongs
    assert done.stderr.count("\n") == 1
    assert token not in printed.out + printed.err + done.stdout + done.stderr
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or token.encode() not in file.read_bytes(), file


def test_a_run_and_what_follows(
    folder: Path, train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, "--trainable_layers", "1", "--eval_every", "4") == 0
    out = capsys.readouterr().out
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"frozen parameters: {metrics['parameters']['frozen']:,}, bits unchanged" in out
    assert f"accuracy {metrics['metrics']['accuracy']:.4f}" in out
    assert {"embeddings", "layer 0", "layer 1", "head"} <= {word.strip() for word in out.replace("│", "\n").split("\n")}
    assert metrics["steps"] == 6
    assert metrics["examples"] == 6 * 16 - 2 * 8  # two epochs of 40: their last batches hold 8
    assert metrics["trainable_layers"] == 1
    assert metrics["num_layers"] == 2
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in log] == [
        ("train", 2), ("train", 4), ("validation", 4), ("train", 6), ("validation", 6)
    ]  # fmt: skip
    assert log[-1]["accuracy"] == metrics["metrics"]["accuracy"]
    assert [line["learning_rate"] for line in log if line["kind"] == "train"] == pytest.approx([5e-5, 3e-5, 1e-5])
    assert list((run / "events").iterdir())
    assert yaml.safe_load((run / "config.yaml").read_text())["trainable_layers"] == 1
    audit = json.loads((run / "freeze.json").read_text())
    assert audit["unchanged"]
    assert audit["frozen"] == metrics["parameters"]["frozen"]
    frozen = [leaf for leaf in audit["parameters"] if leaf["label"] == "frozen"]
    assert all(leaf["digest_before"] == leaf["digest_after"] for leaf in frozen)
    assert sum(int(np.prod(leaf["shape"])) for leaf in frozen) == audit["frozen"]
    # The same command again does nothing; another one is refused.
    assert train(folder, "--trainable_layers", "1", "--eval_every", "4") == 0
    assert "this run is finished" in capsys.readouterr().out
    assert train(folder, "--trainable_layers", "2", "--eval_every", "4") == 2
    assert "--trainable_layers was 1, is 2" in capsys.readouterr().err
    # Evaluate and predict.
    assert main(["evaluate", "--run", str(run)]) == 0
    assert "the same score as in metrics.json" in capsys.readouterr().out
    check_predictions(run, tmp_path, metrics)


def check_predictions(run: Path, tmp_path: Path, metrics: dict) -> None:
    dev, test = tmp_path / "glue" / "RTE" / "dev.tsv", tmp_path / "glue" / "RTE" / "test.tsv"
    for file in (dev, test):
        out = tmp_path / "predictions.jsonl"
        assert main(["predict", "--run", str(run), "--input", str(file), "--output", str(out)]) == 0
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert [line["index"] for line in lines] == list(range(11))
        assert all(len(line["logits"]) == 2 for line in lines)
        if file == dev:
            labels = [line.split("\t")[3] for line in dev.read_text().splitlines()[1:]]
            right = np.mean([line["prediction"] == label for line, label in zip(lines, labels, strict=True)])
            assert right == pytest.approx(metrics["metrics"]["accuracy"])


def test_same_seed_same_bits(bert: Path, train: Command, tmp_path: Path) -> None:
    losses = []
    for out in ("one", "two"):
        assert train(bert, "--trainable_layers", "1", out=out) == 0
        lines = [json.loads(line) for line in (tmp_path / out / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["kind"] == "train"])
    assert losses[0] == losses[1]
    assert train(bert, "--trainable_layers", "1", "--seed", "7", out="three") == 0
    lines = [json.loads(line) for line in (tmp_path / "three" / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if line["kind"] == "train"] != losses[0]


def test_the_seed_reaches_the_fresh_head(bert: Path) -> None:
    """Losses alone do not show it: with another seed the order and the dropout differ too."""

    def head(seed: int) -> np.ndarray:
        config = TrainConfig(task="rte", model=str(bert), trainable_layers=0, max_length=32, seed=seed)
        model = load_model(config, get_task("rte").objective, devices.data_mesh(1), Arithmetic("float32", "cpu"))
        assert "head.classifier.kernel" in model.fresh  # the folder's is for three classes
        return model.start(seed)["head.classifier.kernel"]

    np.testing.assert_array_equal(head(7), head(7))
    assert (head(7) != head(8)).all()


def test_a_frozen_leaf_that_moves_is_found(
    bert: Path, train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, path = loop.fit, "embeddings.layer_norm.bias"

    def dishonest(experiment: Experiment, *inputs: object) -> TrainState:
        state = honest(experiment, *inputs)
        experiment.model.frozen[path] = experiment.model.frozen[path].at[3].add(1e-7)
        return state

    monkeypatch.setattr(loop, "fit", dishonest)
    with pytest.raises(
        freezing.FrozenParametersMovedError, match=r"1 frozen parameters changed.*embeddings.layer_norm.bias"
    ):
        train(bert, "--trainable_layers", "1")
    assert not json.loads((tmp_path / "run" / "freeze.json").read_text())["unchanged"]
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*"))  # nothing to go on with as if it had not happened


def test_a_loss_that_is_not_finite_stops_the_run(bert: Path, train: Command, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"step \d of 6: loss nan"):
        train(
            bert,
            "--trainable_layers",
            "all",
            "--learning_rate",
            "1e6",
            "--warmup_ratio",
            "0",
            "--max_grad_norm",
            "1e6",
            "--weight_decay",
            "1e6",
        )
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert train(bert, "--trainable_layers", "all") == 2  # the folder holds another run


@pytest.mark.parametrize("fixtures", [(), ("as_on_an_accelerator",)])
def test_bfloat16(
    fixtures: tuple[str, ...], bert: Path, train: Command, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for fixture in fixtures:
        request.getfixturevalue(fixture)
    assert train(bert, "--trainable_layers", "1", "--dtype", "bfloat16") == 0
    audit = json.loads((tmp_path / "run" / "freeze.json").read_text())
    assert {(leaf["label"], leaf["dtype"]) for leaf in audit["parameters"]} == {
        ("frozen", "bfloat16"),
        ("trained", "float32"),
    }
    assert main(["evaluate", "--run", str(tmp_path / "run")]) == 0


def test_patterns(bert: Path, train: Command, tmp_path: Path) -> None:
    assert train(bert, "--trainable", r".*\.bias", r"head\..*") == 0
    audit = json.loads((tmp_path / "run" / "freeze.json").read_text())
    trained = {leaf["path"] for leaf in audit["parameters"] if leaf["label"] == "trained"}
    assert trained == {
        p["path"] for p in audit["parameters"] if p["path"].endswith(".bias") or p["path"].startswith("head.")
    }


def test_other_pretrained_weights_are_refused(
    tmp_path: Path, train: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_folder(tmp_path / "model", "bert")
    assert train(model, "--trainable_layers", "1") == 0
    tensors = load_file(model / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.bias"
    tensors[name][0] = np.nextafter(tensors[name][0], np.float32(9))
    save_file(tensors, model / "model.safetensors")
    assert main(["evaluate", "--run", str(tmp_path / "run")]) == 2
    assert "was trained on different pretrained weights" in capsys.readouterr().err


def test_own_files(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "dev"):
        rows = [
            {
                "review": f"the bowl holds {('tools', 'clothes', 'money')[i % 3]}",
                "mood": ("up", "down", "flat")[i % 3],
                "stars": i % 5 / 2,
            }
            for i in range(24)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [
        "--task",
        "files",
        "--train_file",
        str(tmp_path / "train.jsonl"),
        "--validation_file",
        str(tmp_path / "dev.jsonl"),
    ]
    common = [
        *files,
        "--text_columns",
        "review",
        "--model",
        str(bert),
        "--max_steps",
        "2",
        "--max_length",
        "32",
        "--trainable_layers",
        "0",
    ]
    assert main([*common, "--label_column", "mood", "--output_dir", str(tmp_path / "classes")]) == 0
    metrics = json.loads((tmp_path / "classes" / "metrics.json").read_text())
    assert metrics["labels"] == ["down", "flat", "up"]
    assert set(metrics["metrics"]) == {"accuracy", "macro_f1"}
    assert main([*common, "--label_column", "stars", "--regression", "--output_dir", str(tmp_path / "scores")]) == 0
    assert set(json.loads((tmp_path / "scores" / "metrics.json").read_text())["metrics"]) == {"pearson", "spearman"}
    for run in ("classes", "scores"):
        out = tmp_path / f"{run}.jsonl"
        assert (
            main(
                ["predict", "--run", str(tmp_path / run), "--input", str(tmp_path / "dev.jsonl"), "--output", str(out)]
            )
            == 0
        )
        predictions = [json.loads(line)["prediction"] for line in out.read_text().splitlines()]
        assert len(predictions) == 24
        assert all(isinstance(p, float) if run == "scores" else p in metrics["labels"] for p in predictions)


def test_inspect(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--task",
        "rte",
        "--model",
        str(bert),
        "--trainable_layers",
        "1",
        "--max_length",
        "16",
        "--batch_size",
        "4",
    ]
    assert main(["inspect", *flags, "--output_dir", str(tmp_path / "none")]) == 0
    out = capsys.readouterr().out
    assert "cut: below layer 1: frozen below it are the embeddings and 1 layer" in out
    assert "trained  layers.1.attention.query.kernel [24, 24]" in out
    assert "GFLOP" in out
    assert not (tmp_path / "none").exists()
