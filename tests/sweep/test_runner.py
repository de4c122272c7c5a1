"""Sweeps on tiny folders: the scores of separate runs, one line for each, and nothing lost when one is stopped."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from jaxfreeze.cli import main
from jaxfreeze.identity import Identity, Origin
from jaxfreeze.sweep import results_file, runner, workshop
from jaxfreeze.training import step
from tests.folders import empty_cache, make_folder, tiny_rte

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")


@pytest.fixture
def file(bert: Path, tmp_path: Path) -> Path:
    settings = {
        "models": [str(bert)], "tasks": ["rte"], "trainable_layers": [0, 1, "all"], "seeds": [1, 2],
        "learning_rates": [1e-3], "data_dir": str(tiny_rte(tmp_path / "glue")), "max_steps": 5, "max_length": 32,
    }  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "sweep.yaml"


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def names(folder: Path) -> list[tuple[object, int]]:
    return [(line["trainable_layers"], line["seed"]) for line in lines(folder)]


WHOLE = [("all", 1), ("all", 2), (1, 1), (1, 2), (0, 1), (0, 2)]


@pytest.fixture(scope="module")
def alone(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a run by itself, made once."""
    folder = tmp_path_factory.mktemp("alone")
    data = tiny_rte(folder / "glue")

    @functools.cache
    def run(task: str, layers: int | str, seed: int) -> Path:
        out = folder / f"{task}-{layers}-{seed}"
        words = ["--task", task, "--model", str(bert), "--learning_rate", "1e-3", "--max_steps", "5"]
        words += ["--data_dir", str(data)] if task != "demo" else []
        own = ["--trainable_layers", str(layers), "--seed", str(seed), "--output_dir", str(out)]
        assert main([*words, "--max_length", "32", *own]) == 0
        return out

    return run


@pytest.mark.parametrize(("task", "width"), [("rte", 1), ("rte", 2), ("demo", 1)])
def test_a_sweep_has_the_scores_of_separate_runs(
    task: str,
    width: int,
    file: Path,
    alone: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(workshop, "side_by_side", lambda group, runs: width)
    settings = yaml.safe_load(file.read_text()) | {"tasks": [task]}
    whole = WHOLE
    if task == "demo":
        del settings["data_dir"]
        settings |= {"trainable_layers": [1], "seeds": [1]}
        whole = [(1, 1)]
    file.write_text(yaml.safe_dump(settings))
    assert main(["sweep", "--config", str(file), "--output_dir", str(tmp_path / "sweep")]) == 0
    out = capsys.readouterr().out
    assert f"{len(whole)} runs, 0 of them finished, {len(whole)} to do" in out
    assert f"{len(whole)}/{len(whole)}" in out
    found = lines(tmp_path / "sweep")
    assert names(tmp_path / "sweep") == whole
    for line in found:
        run = alone(task, line["trainable_layers"], line["seed"])
        metrics = json.loads((run / "metrics.json").read_text())
        for name in ("metrics", "parameters", "steps", "examples", "cache", "num_layers", "primary_metric"):
            assert line[name] == metrics[name], name
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert {n: v for n, v in line["config"].items() if n not in ("output_dir", "data_dir")} == {
            n: v for n, v in config.items() if n not in ("output_dir", "data_dir")
        }
        assert line["side_by_side"] == width
        assert line["flops_per_step"] > 0
    capsys.readouterr()
    # Once more: all is there, nothing is done.
    assert main(["sweep", "--config", str(file), "--output_dir", str(tmp_path / "sweep")]) == 0
    assert f"{len(whole)} runs, {len(whole)} of them finished, 0 to do" in capsys.readouterr().out
    assert lines(tmp_path / "sweep") == found


def test_the_trunk_is_paid_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxfreeze.training import trunk_cache

    layers = []
    honest = trunk_cache.compiled_trunk_step

    def counted(column, start, params, data, batch):
        layers.append((start, column.cut))
        return honest(column, start, params, data, batch)

    monkeypatch.setattr(trunk_cache, "compiled_trunk_step", counted)
    monkeypatch.setenv("JAXFREEZE_CACHE", str(empty_cache(tmp_path / "cache")))
    assert main(["sweep", "--config", str(file), "--output_dir", str(tmp_path / "sweep")]) == 0
    assert set(layers) == {(0, 2), (2, 3)}  # k = 1 from the tokens, k = 0 from there one layer more
    assert len(layers) == 2 * 3  # 40 training examples are two batches, 11 are one


def test_a_group_is_compiled_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, honest = [], step.train_steps
    step.forget_programs()

    def traced(program: step.Program, *inputs: object, **more: object) -> object:
        compiled.append(program.column.cut)
        return honest(program, *inputs, **more)

    monkeypatch.setattr(step, "train_steps", traced)
    command = ["sweep", "--config", str(file), "--output_dir", str(tmp_path / "sweep"), "--seeds", "1", "2", "3"]
    assert main(command) == 0
    assert compiled == [0, 2, 3]  # by the cut, of two layers: all, k = 1, k = 0


def test_stopped_and_gone_on(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep"
    first = ["sweep", "--config", str(file), "--output_dir", str(sweep)]
    assert main([*first, "--seeds", "1"]) == 0
    assert names(sweep) == [("all", 1), (1, 1), (0, 1)]
    kept = (sweep / "results.jsonl").read_bytes()
    torn = kept[: kept[:-1].rfind(b"\n") + 1 + 40]  # the last line stops after 40 bytes
    (sweep / "results.jsonl").write_bytes(torn)
    capsys.readouterr()
    assert main([*first, "--seeds", "1", "2"]) == 0
    assert "cut off" in capsys.readouterr().out
    assert sorted(map(str, names(sweep))) == sorted(map(str, WHOLE))
    assert (sweep / "results.jsonl").read_bytes().startswith(torn[:-40])  # finished lines are as they were
    # The same runs with another setting are other runs.
    before = (sweep / "results.jsonl").read_bytes()
    assert main([*first, "--max_steps", "4"]) == 2
    error = capsys.readouterr().err
    assert "max_steps was 5, is 4" in error
    assert error.count("\n") == 1
    assert (sweep / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
def test_a_torn_line_goes_when_the_next_one_comes(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_file, "BLOCK", block)
    file = results_file.ResultsFile(tmp_path)

    def record(number: int) -> dict[str, object]:
        identity = Identity({"train": "a"}, ("no", "yes"), "b", "c", "d")
        return {"run": number, "config": {}, "origin": Origin(identity, {}).as_json()}

    file.append(record(1))
    file.append(record(2))
    with file.path.open("ab") as torn:
        torn.write(b'{"run": 3, "sec')
    file.append(record(4))
    assert lines(tmp_path) == [record(1), record(2), record(4)]
    file.path.write_bytes(b'{"run": 1, "sec')
    file.append(record(5))
    assert lines(tmp_path) == [record(5)]


def test_killed(file: Path, tmp_path: Path, own_cache: Path) -> None:
    """SIGKILL: at most the run in flight is lost, and the sweep goes on to the same end."""
    sweep = tmp_path / "sweep"
    command = [sys.executable, "run.py", "sweep", "--config", str(file), "--output_dir", str(sweep)]
    environment = {**os.environ, "JAXFREEZE_CACHE": str(own_cache)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (sweep / "results.jsonl").is_file() or len(lines(sweep)) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = (sweep / "results.jsonl").read_bytes()
    assert main(command[2:]) == 0
    assert names(sweep) == WHOLE
    assert (sweep / "results.jsonl").read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])


def test_the_others_of_a_run_that_diverges(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "side_by_side", lambda group, runs: 3)
    flags = ["--trainable_layers", "all", "--seeds", "1", "--learning_rates", "1e-3", "1e6", "3e-4"]
    flags += ["--max_grad_norm", "1e6", "--warmup_ratio", "0"]
    with pytest.raises(runner.DivergedError, match=r"seed 1 learning rate 1e\+06"):
        main(["sweep", "--config", str(file), "--output_dir", str(tmp_path / "sweep"), *flags])
    assert [line["learning_rate"] for line in lines(tmp_path / "sweep")] == [1e-3, 3e-4]


def test_a_dry_run_writes_nothing(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--config", str(file), "--output_dir", str(tmp_path / "sweep"), "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "6 runs" in out
    assert "TFLOP in all; the same runs one by one" in out
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--trainable_layers", "3"], "trainable_layers: 3 is more than the 2 layers of the model"),
        (["--tasks", "rte", "rte"], "--tasks: rte appears twice"),
        (["--seeds"], "--seeds: expected a value, found none"),
        (["--seeds", "one"], "--seeds: expected whole numbers"),
        (["--epochz", "2"], "--epochz: no such setting of a sweep"),
        (["--model", "demo"], "--model: one for each run of a sweep; expected the list models"),
        (["--line_search"], "has no section line_search"),
        (["stray"], "stray"),
        (["--output_dir", "sweep.yaml"], "expected a folder, found a file"),
        (["--output_dir", "glue"], "the folder is not empty and holds no sweep"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_sweeps(flags: list[str], line: str, file: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    output = [] if "--output_dir" in flags else ["--output_dir", "sweep"]
    assert main(["sweep", "--config", str(file), *output, *flags]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
