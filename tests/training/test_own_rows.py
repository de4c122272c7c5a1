"""Rows held out of one file, test rows that choose nothing, and runs of before that are read today."""

import gzip
import io
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jaxfreeze import finetune
from jaxfreeze.api import FineTuned
from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig, as_json, from_yaml
from jaxfreeze.errors import InputError
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.predict import evaluate
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.sweep import results
from jaxfreeze.sweep.results_file import ResultsFile
from jaxfreeze.training.dataset import read_rows
from tests.folders import make_folder, tiny_rte

WORDS = ("the", "bowl", "crate", "picture", "from", "holds", "owner", "town", "tools", "made")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"), "bert")


def rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    random = np.random.default_rng(seed)
    kinds = [("tools", "work"), ("clothes", "home")]
    return [
        (" ".join([kinds[number % 2][0], *random.choice(WORDS, 5), str(number)]), kinds[number % 2][1])
        for number in range(count)
    ]


def write(path: Path, table: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{text},{label}\n" for text, label in [("text", "label"), *table]))
    return path


def train(folder: Path, model: Path, **settings: Any) -> FineTuned:
    some = {"trainable_layers": 1, "max_steps": 3, "batch_size": 8, "max_length": 32, "learning_rate": 1e-3}
    some["metric"] = "log_loss"  # no two sets of rows have the same one
    return finetune("files", **some | {"model": model, "output_dir": folder} | settings)


def trained_bits(run: FineTuned) -> dict[str, bytes]:
    return {path: np.asarray(leaf).tobytes() for path, leaf in FinishedRun(run.path).params.items()}


def test_one_file_is_enough(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "all.csv", rows(40))
    run = train(tmp_path / "run", model, train_file=file)
    said = " ".join(capsys.readouterr().out.split())
    assert "4 of 40 training rows held out for validation, by --split_seed 0" in said
    assert run.record["text_columns"] == ["text"]
    assert (run.record["label_column"], run.record["test_metrics"]) == (["label"], {})
    assert evaluate(run.path) == run.metrics
    assert "the same score as in metrics.json" in " ".join(capsys.readouterr().out.split())
    assert main(["evaluate", "--run", str(run.path), "--input", str(file)]) == 0
    assert "these are not the run's own validation rows" in " ".join(capsys.readouterr().out.split())


def test_the_same_rows_for_every_k_and_seed(tmp_path: Path) -> None:
    file = write(tmp_path / "all.csv", rows(60))

    def held(**settings: Any) -> tuple[str, ...]:
        found = read_rows(TrainConfig("files", train_file=str(file), **settings))
        assert not {*found.train.texts[0]} & {*found.validations[0].texts[0]}
        return found.validations[0].texts[0]  # type: ignore[return-value]

    assert held() == held(seed=7, trainable_layers=0) == held(trainable_layers="all", learning_rate=1e-4)
    assert len(held()) == 6
    assert held() != held(split_seed=1)
    assert len(held(validation_share=0.5)) == 30


def test_rows_of_every_kind_of_label_are_held_out(tmp_path: Path) -> None:
    number = [(text, f"{place / 7:.3f}") for place, (text, _) in enumerate(rows(50))]
    found = read_rows(TrainConfig("files", train_file=str(write(tmp_path / "a.csv", number))))
    assert (found.task.objective.kind, len(found.validations[0].texts[0])) == ("regression", 5)
    several = [(text, "a|b" if place % 3 else "c") for place, (text, _) in enumerate(rows(50))]
    file = write(tmp_path / "b.csv", several)
    found = read_rows(TrainConfig("files", train_file=str(file), label_separator="|"))
    label = found.validations[0].labels
    assert label is not None
    assert (found.task.objective.labels, len(label)) == (("a", "b", "c"), 5)
    assert abs(label[:, 2].sum() - 1.7) < 1


def test_glues_dev_rows_are_the_test_rows_where_some_are_held_out(tmp_path: Path) -> None:
    glue = str(tiny_rte(tmp_path))
    before = read_rows(TrainConfig("rte", data_dir=glue))
    assert (before.tests, before.validations[0].name) == ((), "validation")
    found = read_rows(TrainConfig("rte", data_dir=glue, validation_share=0.2))
    assert [len(split.texts[0]) for split in (found.train, *found.validations, *found.tests)] == [32, 8, 11]
    assert (found.tests[0].name, found.tests[0].digest) == ("test", before.validations[0].digest)
    assert {*found.train.texts[0], *found.validations[0].texts[0]} == {*before.train.texts[0]}
    demo = read_rows(TrainConfig("demo", validation_share=0.01))
    assert demo.tests[0].digest == read_rows(TrainConfig("demo")).validations[0].digest


def test_test_rows_choose_nothing(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "all.csv", rows(40))
    table = rows(12, seed=5)
    plain = train(tmp_path / "plain", model, train_file=file)
    tested = train(tmp_path / "tested", model, train_file=file, test_file=write(tmp_path / "test.csv", table))
    labels = [label for _, label in table]
    swapped = [(text, labels[number - 1]) for number, (text, _) in enumerate(table)]
    permuted = train(tmp_path / "permuted", model, train_file=file, test_file=write(tmp_path / "other.csv", swapped))
    assert "files test: log_loss" in " ".join(capsys.readouterr().out.split())
    assert trained_bits(plain) == trained_bits(tested) == trained_bits(permuted)
    assert plain.metrics == tested.metrics == permuted.metrics
    assert set(tested.record["test_metrics"]) == set(tested.metrics)
    found = tested.record["test_metrics"]["log_loss"], permuted.record["test_metrics"]["log_loss"]
    assert found[0] != found[1]
    assert evaluate(tested.path) == tested.metrics
    assert main(["evaluate", "--run", str(tested.path), "--input", str(tmp_path / "other.csv")]) == 0
    assert f"log_loss {found[1]:.4f}" in " ".join(capsys.readouterr().out.split())


def test_other_test_rows_make_another_run(tmp_path: Path, model: Path) -> None:
    file, test = write(tmp_path / "all.csv", rows(40)), write(tmp_path / "test.csv", rows(12, seed=5))
    train(tmp_path / "run", model, train_file=file, test_file=test)
    write(test, rows(12, seed=6))
    with pytest.raises(InputError, match=r"holds a run with different test rows \(.*test.csv was modified"):
        train(tmp_path / "run", model, train_file=file, test_file=test)


def test_rows_from_standard_input(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows(40)).encode()

    def give(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))

    give(lines)
    run = train(tmp_path / "run", model, train_file="-")
    file = write(tmp_path / "all.csv", rows(40))
    assert train(tmp_path / "file", model, train_file=file).metrics == run.metrics
    give(lines)
    assert (
        train(tmp_path / "run", model, train_file="-").record["seconds"] == run.record["seconds"]
    )  # found again, by its rows
    give(lines.replace(b"bowl", b"town"))
    with pytest.raises(InputError, match="holds a run with different training rows"):
        train(tmp_path / "run", model, train_file="-")
    with pytest.raises(InputError, match="rows came from standard input and are gone; give labelled rows by --input"):
        evaluate(run.path)
    assert set(evaluate(run.path, input_file=file)) == set(run.metrics)


def test_evaluate_scores_a_file_of_any_kind(
    tmp_path: Path, tiny_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, dev = tiny_runs / "rte", tiny_runs / "glue" / "RTE" / "dev.tsv"
    scores = evaluate(run)
    lines = [line.split("\t") for line in dev.read_text().splitlines()]
    objects = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    with gzip.open(tmp_path / "dev.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in objects)
    assert evaluate(run, input_file=dev) == evaluate(run, input_file=tmp_path / "dev.jsonl.gz") == scores
    assert "these are the run's own validation rows" in " ".join(capsys.readouterr().out.split())


def test_a_run_of_before_is_read_as_before(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "all.csv", rows(40))
    run = train(tmp_path / "run", model, train_file=file, validation_file=file, text_columns="text")
    folder = RunFolder(run.path)
    config = yaml.safe_load(folder.config.read_text())
    new = ("test_file", "validation_share", "split_seed", "dataset", "dataset_config", "no_header", "objective")
    old = {name: value for name, value in config.items() if name not in new} | {"label_column": "label"}
    folder.config.write_text(yaml.safe_dump(old))
    folder.metrics.write_text(json.dumps({n: v for n, v in run.record.items() if n not in NEW_KEYS}))
    assert from_yaml(folder.config).label_column == ("label",)
    assert evaluate(run.path) == run.metrics
    assert main(["--config", str(folder.config)]) == 0  # the finished run, found
    folder.config.write_text(yaml.safe_dump(old | {"label_column": None}))
    assert from_yaml(folder.config).label_column == ()


NEW_KEYS = ("objective", "text_columns", "label_column", "test_metrics", "best_step", "last_metrics")


def test_results_of_before_are_those_of_today(tmp_path: Path) -> None:
    config = TrainConfig("files", train_file="a", validation_file="b", text_columns=("t",), label_column=("l",))
    glue = TrainConfig("rte")
    lines = []
    for now, label in ((config, "l"), (glue, None)):
        record = {
            **{"task": now.task, "model": now.model, "labels": ["0", "1"], "num_layers": 12, "trainable_layers": 3},
            **{"trainable": [], "seed": now.seed, "metrics": {"accuracy": 0.5}, "primary_metric": "accuracy"},
            **{"seconds": {"total": 1, "train": 1}, "parameters": {"total": 2, "trainable": 1, "frozen": 1}},
            **{"learning_rate": now.learning_rate, "versions": {}, "devices": "1 cpu"},
        }
        new = ("test_file", "validation_share", "split_seed", "dataset", "dataset_config", "train_split", "no_header")
        old = {name: value for name, value in as_json(now).items() if name not in new} | {"label_column": label}
        lines.append(json.dumps({**record, "config": old}) + "\n")
    (tmp_path / results.RESULTS_FILE).write_text("".join(lines))
    file = ResultsFile(tmp_path)
    file.read()
    assert file.has(config)
    assert file.has(glue)
    other = TrainConfig("files", train_file="a", validation_file="b", text_columns=("t",), label_column=("m",))
    with pytest.raises(InputError, match=r"label_column was \['l'\], is \['m'\]"):
        file.has(other)
