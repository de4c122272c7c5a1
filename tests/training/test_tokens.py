"""Training on labels of words: PyTorch's steps, and the same training packed, cached, sharded and resumed."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import datasets
import numpy as np
import pytest

from jaxfreeze import devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batch import Shape
from jaxfreeze.data.split import Split
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import read_config
from jaxfreeze.objectives import Tokens
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training import cost, loop
from tests import reference, tagged
from tests.conftest import MESH
from tests.folders import make_folder
from tests.training.test_resume import Killed, assert_same, stop_after
from tests.training.test_step import Setting, assert_fifty_steps_are_pytorchs
from tests.training.trained import train

Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return cache(lambda family: make_folder(tmp_path_factory.mktemp("model") / family, family))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tagged.write_rows(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(("family", "policy"), [("bert", "all"), ("bert", "k1"), ("modernbert", "all"), ("esm", "k0")])
def test_fifty_steps_are_pytorchs(family: str, policy: str, tmp_path: Path) -> None:
    assert_fifty_steps_are_pytorchs(Setting(family, policy, tmp_path, by_token=True), tmp_path)


@pytest.mark.parametrize("policy", ["k0", "k1"])
def test_one_device_and_eight_and_no_packing_give_the_same_losses(policy: str, tmp_path: Path) -> None:
    one = Setting("bert", policy, tmp_path, dropout=0.1, by_token=True)
    losses = one.run(8, reference.packed(one.store, rows=8))
    other = Setting("bert", policy, tmp_path, dropout=0.1, num_devices=8, by_token=True)
    batch = reference.unpacked(one.store, rows=16)
    got = other.run(8, batch)
    np.testing.assert_allclose(got, losses, atol=1e-5, rtol=0)
    other.restart()
    assert other.run(8, batch) == got


@pytest.mark.parametrize(("family", "k"), [("bert", 0), ("bert", 1), ("roberta", 0), ("deberta-v2", 1), ("bert", 2)])
def test_cache_on_is_cache_off(family: str, k: int, folders: Folders, data: Path, tmp_path: Path) -> None:
    places = ("off", "device", "host", "disk") if (family, k) == ("bert", 0) else ("off", "device")
    runs = {}
    for place in places:
        out = tagged.train(folders(family), data, tmp_path / place, trainable_layers=k, cache=place)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        runs[place] = [line[name] for line in lines if line["kind"] == "train" for name in ("loss", "grad_norm")]
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["cache"] == place
        run = FinishedRun(out)
        split = Split("dev", (tuple(words for words, _ in tagged.sentences(11, seed=1)),), None)
        _, logits = run.logits(split)
        if place == "off":
            expected, scores = logits, metrics["metrics"]
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)
        assert metrics["metrics"] == scores
        assert list(scores) == ["entity_f1", "entity_precision", "entity_recall", "accuracy"]
        audit = json.loads((out / "freeze.json").read_text())
        assert audit["unchanged"]
        assert audit["frozen"] > 0
        if place != "off":  # a state for every token, also below the head alone
            tokens = sum(int(run.encoder.encode(_split(name)).num_tokens) for name in ("train", "dev"))
            width = run.model.encoder.hidden_size
            assert metrics["cache_bytes"] == tokens * width * 4
    for place in places[1:]:
        np.testing.assert_allclose(runs[place], runs["off"], rtol=1e-4, atol=1e-5, err_msg=place)


def rows_of(out: Path) -> dict[str, str]:
    """The digests of a run's rows."""
    return RunFolder(out).origin().identity.rows


def _split(name: str) -> Split:
    some = tagged.sentences(40) if name == "train" else tagged.sentences(11, seed=1)
    return Split(name, (tuple(words for words, _ in some),), None)


def test_everything_trained_and_no_cache(folders: Folders, data: Path, tmp_path: Path) -> None:
    out = tagged.train(folders("bert"), data, tmp_path / "run", trainable_layers="all")
    assert json.loads((out / "metrics.json").read_text())["cache"] == "off"


def test_it_learns(folders: Folders, data: Path, tmp_path: Path) -> None:
    rows = {"validation_file": str(data / "train.conll"), "trainable_layers": 2}
    out = tagged.train(folders("bert"), data, tmp_path / "run", max_steps=80, learning_rate=1e-2, **rows)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["metrics"]["entity_f1"] > 0.9
    assert metrics["primary_metric"] == "entity_f1"
    assert metrics["labels"] == list(tagged.TAGS)


def test_a_cache_of_pooled_states_is_another(folders: Folders, data: Path, tmp_path: Path) -> None:
    """A run on the same texts that labels examples leaves nothing that a run of words takes for its own."""
    rows = [{"text": " ".join(words), "kind": str(len(words) % 2)} for words, _ in tagged.sentences(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = dict.fromkeys(("train_file", "validation_file"), str(tmp_path / "rows.jsonl"))
    columns = {"text_columns": ("text",), "label_column": ("kind",), "objective": "classification"}
    tagged.train(folders("bert"), data, tmp_path / "texts", trainable_layers=0, **files, **columns)
    alone = tagged.train(folders("bert"), data, tmp_path / "words", trainable_layers=0, cache="device")
    off = tagged.train(folders("bert"), data, tmp_path / "off", trainable_layers=0, cache="off")
    scores = [json.loads((out / "metrics.json").read_text())["metrics"] for out in (alone, off)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("more", [{}, {"trainable_layers": 0, "cache": "host"}, {"accumulate": 2}])
def test_stopped_and_gone_on_with_are_the_same_bits(
    more: dict, folders: Folders, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"max_steps": 9, "log_every": 3, **more}
    loop.finetune(tagged.config(folders("bert"), data, tmp_path / "whole", **more))
    parts = tagged.config(folders("bert"), data, tmp_path / "parts", checkpoint_every=4, **more)
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        with pytest.raises(Killed):
            loop.finetune(parts)
    loop.finetune(parts)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_bfloat16(folders: Folders, data: Path, tmp_path: Path) -> None:
    out = tagged.train(folders("roberta"), data, tmp_path / "run", dtype="bfloat16", trainable_layers=1)
    assert json.loads((out / "freeze.json").read_text())["unchanged"]


def test_parts_of_a_batch_are_the_batch(folders: Folders, data: Path, tmp_path: Path) -> None:
    """The mean is over the words of the whole batch, however many each part has."""
    losses = []
    for accumulate in (1, 4):
        config: TrainConfig = tagged.config(folders("bert"), data, tmp_path / "run", accumulate=accumulate)
        losses.append(train([config]).losses)
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5, rtol=0)


def test_a_batch_without_a_word_that_was_read(folders: Folders, tmp_path: Path) -> None:
    """Of a control character the tokenizer makes nothing: its sentence has no loss, and leaves no NaN."""
    some = [(("\x01",), ("O",)), *tagged.sentences(7)]
    tagged.write_rows(tmp_path)
    tagged.write_conll(tmp_path / "train.conll", some)
    out = tagged.train(folders("bert"), tmp_path, tmp_path / "run", batch_size=1, max_steps=8, log_every=1)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert sorted(losses)[0] == 0.0
    assert sorted(losses)[1] > 0.0


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_other_formats_are_the_same_run(kind: str, folders: Folders, data: Path, tmp_path: Path) -> None:
    for name, count, seed in (("train", 40, 0), ("dev", 11, 1)):
        some = tagged.sentences(count, seed)
        file = tagged.write_jsonl(tmp_path / f"{name}.jsonl", some, ("tokens", "ner_tags"))
        if kind == "json":
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            file.with_suffix(".json").write_text(json.dumps(rows))
        if kind == "parquet":  # class ids, whose names the file declares
            names = datasets.ClassLabel(names=list(tagged.TAGS))
            columns = datasets.Features(
                {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(names)}
            )
            rows = {
                "tokens": [words for words, _ in some],
                "ner_tags": [list(map(names.str2int, tags)) for _, tags in some],
            }
            datasets.Dataset.from_dict(rows, columns).to_parquet(file.with_suffix(".parquet"))
    files = {"train_file": str(tmp_path / f"train.{kind}"), "validation_file": str(tmp_path / f"dev.{kind}")}
    columns = {"text_columns": ("tokens",), "label_column": ("ner_tags",)}
    ours = tagged.train(folders("bert"), data, tmp_path / "ours", **files, **columns)
    conll = tagged.train(folders("bert"), data, tmp_path / "conll")
    rows = [rows_of(out) for out in (ours, conll)]
    assert rows[0] == rows[1]


def test_a_conll_file_says_all_by_itself(folders: Folders, data: Path, tmp_path: Path) -> None:
    """Which kind of label it has, what its columns are called; and a tenth of its sentences is held out."""
    config = TrainConfig(
        "files", train_file=str(data / "train.conll"), model=str(folders("bert")), output_dir=str(tmp_path / "run"),
        max_steps=1, trainable_layers=1, max_length=tagged.MAX_LENGTH,
    )  # fmt: skip
    loop.finetune(config)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["objective"], metrics["text_columns"], metrics["label_column"]) == ("tokens", ["words"], ["labels"])
    run = FinishedRun(tmp_path / "run")
    assert run.task.objective.labels == tagged.TAGS
    assert set(rows_of(tmp_path / "run")) == {"train", "validation"}


def test_eight_devices_score_as_one(
    folders: Folders, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tagged.config(folders("bert"), data, tmp_path / "run", max_steps=4)
    one = train([config])
    with monkeypatch.context() as patch:
        patch.setattr(devices, "data_mesh", MESH)
        eight = train([config])
        assert eight.experiment.mesh.size == 8
        assert eight.score() == pytest.approx(one.score(), abs=1e-6)
    np.testing.assert_allclose(eight.losses, one.losses, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cut", [0, 2, 3])
def test_what_is_priced_is_a_label_and_a_state_for_every_token(cut: int, folders: Folders) -> None:
    encoder, shape = read_config(folders("bert")), Shape(2, 32, 4)
    column = Column(encoder, len(tagged.TAGS), cut=cut, by_token=True)
    data = cost.abstract_data(column, Tokens(tagged.TAGS), shape, cached=True)
    assert data.label.shape == (shape.slots,)
    assert data.pooled is None
    assert (data.hidden is None) if cut == 0 else (data.hidden.shape == (shape.slots, encoder.hidden_size))


def test_bad_sentences_are_left_out(folders: Folders, data: Path, tmp_path: Path, capsys) -> None:
    tagged.write_rows(tmp_path)
    file = tmp_path / "train.conll"
    file.write_text("crates\nbowls X O\n\n" + file.read_text() + "\nthe X \n")
    out = tagged.train(folders("bert"), tmp_path, tmp_path / "run", on_bad_row="skip")
    assert f"{file}: 2 rows left out, first at line 1: expected a word and its label, found 'crates' alone" in (
        capsys.readouterr().out
    )
    clean = tagged.train(folders("bert"), data, tmp_path / "clean")
    rows = [rows_of(one)["train"] for one in (out, clean)]
    assert rows[0] == rows[1]


def test_parts_of_speech(folders: Folders, tmp_path: Path) -> None:
    some = [(words, tuple("NOUN" if word != "the" else "DET" for word in words)) for words, _ in tagged.sentences(20)]
    for name in ("train", "dev"):
        tagged.write_conll(tmp_path / f"{name}.conll", some)
    out = tagged.train(folders("bert"), tmp_path, tmp_path / "run")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["primary_metric"] == "accuracy"
    assert list(metrics["metrics"]) == ["accuracy"]
