"""Several runs, one trunk: the logits of each by itself, at little more than the cost of one."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxfreeze import devices
from jaxfreeze.data.batch import Tokens
from jaxfreeze.data.request_batches import request_batches
from jaxfreeze.data.split import Split
from jaxfreeze.data.token_store import TextEncoder
from jaxfreeze.errors import InputError
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.shared_trunk import SharedTrunk, shared_step
from tests.folders import make_folder
from tests.inference.runs import WORDS, train

LAYERS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return make_folder(folder / "model", "roberta", num_hidden_layers=LAYERS)


@pytest.fixture(scope="module")
def runs(folder: Path, model: Path) -> list[Path]:
    """Other tasks, cuts and kinds of head."""
    return [
        train(folder, model, "rte", trainable_layers=1),
        train(folder, model, "mrpc", trainable_layers=2),
        train(folder, model, "stsb", trainable_layers=0),
        train(folder, model, "cola", trainable=(r"layers\.1\..*\.bias", r"head\..*")),
    ]


def pairs(count: int, seed: int = 0) -> Split:
    random = np.random.default_rng(seed)
    texts = [[" ".join(random.choice(WORDS, random.integers(1, 25))) for _ in range(count)] for _ in range(2)]
    return Split("test", tuple(map(tuple, texts)), None)


def test_the_logits_of_each_by_itself(runs: list[Path]) -> None:
    split = pairs(300)
    together = SharedTrunk(runs).logits(split)
    assert list(together) == ["rte", "mrpc", "stsb", "cola"]
    for path in runs:
        alone = SharedTrunk([path]).logits(split)[path.name]
        np.testing.assert_allclose(together[path.name], alone, atol=1e-5, rtol=0)
        _, evaluated = FinishedRun(path).logits(split)
        np.testing.assert_allclose(together[path.name], evaluated, atol=1e-5, rtol=0)
    assert np.ptp(together["rte"][:, 0]) > 1e-3  # the texts matter
    for number, text in enumerate(zip(*split.texts, strict=True)):
        if number < 3:  # and an example by itself has the same logits as among others
            one = SharedTrunk(runs[:1]).logits(Split("test", tuple((t,) for t in text), None))["rte"]
            np.testing.assert_allclose(one[0], together["rte"][number], atol=1e-5, rtol=0)


def test_answers_come_in_order(runs: list[Path]) -> None:
    splits = [pairs(count, seed) for seed, count in enumerate((1, 50, 7, 120))]
    answers = list(SharedTrunk(runs[:2]).stream(splits))
    alone = SharedTrunk(runs[1:2])
    for split, answer in zip(splits, answers, strict=True):
        np.testing.assert_allclose(answer["mrpc"].logits, alone.logits(split)["mrpc"], atol=1e-5, rtol=0)


def test_what_the_pretrained_model_gave_is_in_memory_once(runs: list[Path]) -> None:
    trunk = SharedTrunk(runs)
    rte, mrpc, stsb, _ = trunk.groups[0].params
    for path in ("embeddings.word.embedding", "layers.0.attention.query.kernel", "layers.0.feed_forward.output.bias"):
        assert rte[path] is mrpc[path] is stsb[path]
        for run in trunk.runs.values():  # nor do the opened runs hold another
            assert run.params[path] is run.model.frozen[path] is rte[path]
    assert rte["layers.2.attention.query.kernel"] is not stsb["layers.2.attention.query.kernel"]
    assert rte["head.out_proj.bias"] is not None


def test_a_long_split_is_worked_through_in_chunks(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """QQP's test set has 390,965 rows: neither their tokens nor a packing of all of them at once would do."""
    sizes, honest = [], TextEncoder.encode
    monkeypatch.setattr(
        TextEncoder, "encode", lambda self, split: sizes.append(len(split.texts[0])) or honest(self, split)
    )
    texts = pairs(7).texts
    trunk = SharedTrunk(runs[:1])
    found = trunk.logits(Split("test", tuple(column * 300 for column in texts), None))["rte"]
    assert sizes == [1024, 1024, 52]
    few = trunk.logits(Split("test", texts, None))["rte"]
    np.testing.assert_allclose(found, np.tile(few, (300, 1)), atol=1e-5, rtol=0)
    assert trunk.logits(Split("none", (), None))["rte"].shape == (0, 2)


def test_eight_tasks_cost_little_more_than_one(tmp_path: Path) -> None:
    """By the compiler's own account, k = 1 of 6: at most 1.5 times the FLOPs of one. Each has arrays of its own."""
    model = make_folder(tmp_path / "model", "bert", num_hidden_layers=6)
    trunk = SharedTrunk([train(tmp_path, model, "rte", trainable_layers=1, max_steps=1)])
    (group,) = trunk.groups
    store = group.encoder.encode(pairs(200))
    batch = next(iter(request_batches(store, trunk.most_rows, trunk.mesh.size)))
    tokens = Tokens(*(c[batch.index].astype(np.int32) for c in (store.token_id, store.token_type, store.position)))

    def flops(count: int) -> float:
        step = jax.jit(shared_step, static_argnums=0, compiler_options=devices.compiler_options())
        lowered = step.lower(group.columns * count, group.params * count, tokens, batch)
        return lowered.compile().cost_analysis()["flops"]

    assert flops(3) < 1.2 * flops(1)
    assert 1.1 * flops(1) < flops(8) < 1.5 * flops(1)


def test_one_base_and_one_way_of_reading_texts(runs: list[Path], folder: Path) -> None:
    other = shutil.copytree(folder / "model", folder / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["roberta.encoder.layer.0.output.dense.bias"][2] += 1e-6
    save_file(tensors, other / "model.safetensors")
    wrong = {
        "was trained on another pretrained model than --run": train(folder, other, "wnli", "other_base"),
        "--max_length is 16, that of --run": train(folder, folder / "model", "wnli", "short", max_length=16),
        "--dtype is bfloat16, that of --run": train(folder, folder / "model", "wnli", "half", dtype="bfloat16"),
    }
    for line, path in wrong.items():
        with pytest.raises(InputError) as error:
            SharedTrunk([runs[0], path])
        assert line in str(error.value)
        assert str(path) in str(error.value)
    with pytest.raises(InputError, match="two runs are called 'rte'"):
        SharedTrunk([runs[0], runs[0]])


def test_two_runs_of_one_task_are_called_as_their_folders(runs: list[Path], folder: Path, model: Path) -> None:
    second = train(folder, model, "rte", "again", seed=7)
    assert list(SharedTrunk([runs[0], second, runs[1]]).tasks) == ["rte", "again", "mrpc"]
