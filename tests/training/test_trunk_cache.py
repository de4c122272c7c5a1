"""The trunk cache: training from it is the same training, it is found again, and half of one is never used."""

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxfreeze import cache_folder, cpu_products, devices
from jaxfreeze.cache_folder import cache_root
from jaxfreeze.cli import main
from jaxfreeze.data import hidden_store
from jaxfreeze.training import trunk_cache
from tests.folders import empty_cache, make_folder, tiny_rte

Folders = Callable[[str], Path]
POLICIES = {
    "k0": ["--trainable_layers", "0"], "k1": ["--trainable_layers", "1"], "k2": ["--trainable_layers", "2"],
    "custom": ["--trainable", r"layers\.1\..*bias", r"head\..*"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The folder of a family's model, made once."""
    return functools.cache(lambda family: make_folder(tmp_path_factory.mktemp("model") / family, family))


@pytest.fixture(scope="module")
def bert(folders: Folders) -> Path:
    return folders("bert")


@pytest.fixture(autouse=True)
def own_trunk_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder for each test."""
    monkeypatch.setenv("JAXFREEZE_CACHE", str(empty_cache(tmp_path / "cache")))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_rte(tmp_path / "glue")


def train(model: Path, data: Path, out: Path, *flags: str) -> int:
    """Nine steps of batch 16 on 40 examples: three epochs."""
    arguments = ["--task", "rte", "--data_dir", str(data), "--model", str(model), "--output_dir", str(out)]
    defaults = ["--max_steps", "9", "--log_every", "2", "--eval_every", "5", "--max_length", "32", "--overwrite"]
    return main([*arguments, *defaults, *flags])


def losses(out: Path) -> list[float]:
    """Loss and gradient norm of every logged step."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if line["kind"] == "train" for name in ("loss", "grad_norm")]


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("family", "policy"), [("bert", "k0"), ("roberta", "k1"), ("bert", "k2"), ("roberta", "custom")]
)
def test_cache_on_is_cache_off(family: str, policy: str, folders: Folders, data: Path, tmp_path: Path) -> None:
    family_folder = folders(family)
    runs = {}
    for place in ("off", "device", "host", "disk"):
        out = tmp_path / place
        assert train(family_folder, data, out, *POLICIES[policy], "--cache", place, "--learning_rate", "1e-3") == 0
        runs[place] = losses(out)
        assert metrics(out)["cache"] == place
        assert (metrics(out)["cache_bytes"] > 0) == (place != "off")
        assert metrics(out)["metrics"] == metrics(tmp_path / "off")["metrics"]
    assert len(runs["off"]) == 2 * 5
    for place in ("device", "host", "disk"):
        np.testing.assert_allclose(runs[place], runs["off"], rtol=1e-4, atol=1e-5, err_msg=place)
    assert runs["host"] == runs["disk"]


def test_the_trunk_runs_once(bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    honest = trunk_cache.compiled_trunk_step
    monkeypatch.setattr(trunk_cache, "compiled_trunk_step", lambda *inputs: calls.append(1) or honest(*inputs))
    assert train(bert, data, tmp_path / "first", "--trainable_layers", "1") == 0
    assert metrics(tmp_path / "first")["cache"] == "device"
    passes = len(calls)
    assert passes == 3  # 40 examples are two batches, 11 are one
    for flags in (["--seed", "7"], ["--learning_rate", "1e-3"], ["--cache", "disk"], ["--cache", "host"]):
        assert train(bert, data, tmp_path / "again", "--trainable_layers", "1", *flags) == 0
    assert len(calls) == passes
    for k, *flags in (["0"], ["1", "--max_length", "12"], ["1", "--dtype", "bfloat16"]):
        assert train(bert, data, tmp_path / "other", "--trainable_layers", k, *flags) == 0
        assert len(calls) == passes + 3, flags
        passes = len(calls)


@pytest.mark.parametrize(("family", "dtype"), [("bert", "float32"), ("roberta", "bfloat16")])
def test_a_higher_cut_starts_from_a_lower_ones_cache(
    family: str, dtype: str, folders: Folders, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    family_folder = folders(family)
    flags = ["--trainable_layers", "0", "--dtype", dtype]
    assert train(family_folder, data, tmp_path / "from-tokens", *flags) == 0
    shutil.rmtree(cache_root() / "trunk")
    assert train(family_folder, data, tmp_path / "below", "--trainable_layers", "1", "--dtype", dtype) == 0
    starts = []
    honest = trunk_cache.compiled_trunk_step
    monkeypatch.setattr(trunk_cache, "compiled_trunk_step", lambda *inputs: starts.append(inputs[1]) or honest(*inputs))
    capsys.readouterr()
    assert train(family_folder, data, tmp_path / "from-below", *flags) == 0
    assert "made from a lower cut's" in capsys.readouterr().out
    assert starts == [2] * 3  # above the embeddings and layer 0, for two batches of training rows and one of validation
    np.testing.assert_allclose(losses(tmp_path / "from-below"), losses(tmp_path / "from-tokens"), rtol=1e-5)
    assert metrics(tmp_path / "from-below")["metrics"] == metrics(tmp_path / "from-tokens")["metrics"]
    # Found again, it is read and not made.
    assert train(family_folder, data, tmp_path / "again", *flags) == 0
    assert "found on disk" in capsys.readouterr().out
    assert losses(tmp_path / "again") == losses(tmp_path / "from-below")


def test_other_weights_are_another_cache(bert: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bert, tmp_path / "other")  # the same tokenizer, bit for bit
    tensors = load_file(bert / "model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in tensors.items()}, other / "model.safetensors")
    for number, model in enumerate((bert, other)):
        assert train(model, data, tmp_path / f"run-{number}", "--trainable_layers", "1") == 0
    assert len([entry for entry in cache_folder.entries() if entry.kind == "trunk"]) == 4
    assert losses(tmp_path / "run-0") != losses(tmp_path / "run-1")


def test_for_the_head_alone_one_row_an_example_is_kept(
    bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert train(bert, data, tmp_path / "run", "--trainable_layers", "0") == 0
    width = json.loads((bert / "config.json").read_text())["hidden_size"]
    assert metrics(tmp_path / "run")["cache_bytes"] == (40 + 11) * width * 4
    monkeypatch.setattr(cpu_products, "speeds", lambda: cpu_products.Speeds(1.0, 1.0))
    assert train(bert, data, tmp_path / "cpu", "--trainable_layers", "0", "--dtype", "bfloat16") == 0
    assert metrics(tmp_path / "cpu")["cache_bytes"] == (40 + 11) * width * 4  # activations are float32 there
    request.getfixturevalue("as_on_an_accelerator")
    assert train(bert, data, tmp_path / "half", "--trainable_layers", "0", "--dtype", "bfloat16") == 0
    assert metrics(tmp_path / "half")["cache_bytes"] == (40 + 11) * width * 2
    assert len([entry for entry in cache_folder.entries() if entry.kind == "trunk"]) == 6  # none took another's place


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        (["--trainable_layers", "all"], "off"),
        (["--trainable_layers", "2"], "off"),  # embeddings alone below the cut
        (["--trainable_layers", "1", "--frozen_dropout"], "off"),
        (["--trainable_layers", "1", "--max_steps", "2"], "off"),  # sees 32 of 40 examples
        (["--trainable_layers", "1", "--max_steps", "3"], "device"),
    ],
)
def test_auto_is_off_where_it_saves_nothing(flags, place, bert: Path, data: Path, tmp_path: Path) -> None:
    assert train(bert, data, tmp_path / "run", *flags) == 0
    assert metrics(tmp_path / "run")["cache"] == place


def test_auto_takes_the_fastest_place_that_fits(
    bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device, host, place in ((10**9, 10**9, "device"), (10, 10**9, "host"), (10, 10, "disk")):
        monkeypatch.setattr(devices, "free_bytes", lambda mesh, free=device: free)
        monkeypatch.setattr(devices, "free_host_bytes", lambda free=host: free)
        assert train(bert, data, tmp_path / "run", "--trainable_layers", "1", "--max_steps", "4") == 0
        assert metrics(tmp_path / "run")["cache"] == place
    shutil.rmtree(cache_root() / "trunk")
    assert train(bert, data, tmp_path / "run", "--trainable_layers", "1", "--cache_budget", "0.000001") == 0
    assert metrics(tmp_path / "run")["cache"] == "off"  # too large for every place


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--trainable_layers", "all", "--cache", "device"], "with the embeddings trained"),
        (["--trainable_layers", "1", "--cache", "host", "--frozen_dropout"], "with --frozen_dropout"),
        (["--trainable_layers", "1", "--cache", "disk", "--cache_budget", "0.00001"], "--cache_budget is 1e-05 GB"),
        (["--trainable_layers", "1", "--cache", "memory"], "--cache memory"),
    ],
)
def test_a_place_that_cannot_be(flags, line, bert: Path, data: Path, tmp_path: Path, capsys) -> None:
    assert train(bert, data, tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_without_room_on_disk_memory_serves(bert: Path, data: Path, tmp_path: Path) -> None:
    assert train(bert, data, tmp_path / "run", "--trainable_layers", "1", "--cache_budget", "0.00001") == 0
    assert metrics(tmp_path / "run")["cache"] == "device"
    assert not [entry for entry in cache_folder.entries() if entry.kind == "trunk"]


def test_what_is_there_is_used_whatever_the_budget(bert: Path, data: Path, tmp_path: Path, capsys) -> None:
    """Nothing has to be written, so nothing is removed either."""
    for budget in ("50", "0.00001"):
        assert train(bert, data, tmp_path / budget, "--trainable_layers", "1", "--cache_budget", budget) == 0
    assert "found on disk" in capsys.readouterr().out
    assert len([entry for entry in cache_folder.entries() if entry.kind == "trunk"]) == 2
    assert losses(tmp_path / "50") == losses(tmp_path / "0.00001")


def test_a_full_disk_ends_in_one_line(bert, data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert train(bert, data, tmp_path / "run", "--trainable_layers", "1", "--cache", "disk") == 2
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert error.count("\n") == 1
    assert not list((cache_root() / "trunk").iterdir())
    assert train(bert, data, tmp_path / "run", "--trainable_layers", "1", "--cache", "disk") == 0


def test_an_interrupted_pass_is_not_taken_for_whole(bert, data, tmp_path: Path, monkeypatch, capsys) -> None:
    honest, calls = trunk_cache.compiled_trunk_step, iter(range(100))

    def interrupted(*inputs: object):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return honest(*inputs)

    with monkeypatch.context() as patch:
        patch.setattr(trunk_cache, "compiled_trunk_step", interrupted)
        assert train(bert, data, tmp_path / "run", "--trainable_layers", "1") == 130
    assert not list((cache_root() / "trunk").iterdir())
    assert train(bert, data, tmp_path / "run", "--trainable_layers", "1") == 0
    layouts = [entry for entry in cache_folder.entries() if entry.kind == "trunk"]
    assert len(layouts) == 2
    # A file that lost its end is not used either.
    reference = losses(tmp_path / "run")
    for entry in layouts:
        os.truncate(entry.path / hidden_store.FILE, 100)
    assert train(bert, data, tmp_path / "run", "--trainable_layers", "1") == 0
    assert losses(tmp_path / "run") == reference
