"""`compare`: what it says of finished runs side by side, how wide that is, and the line for any other folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxfreeze import console
from jaxfreeze.cli import main

IDENTITY = {
    "rows": {"train": "t", "validation": "v"}, "classes": ["no", "yes"], "tokenizer": "k", "weights": "w",
    "encoder": "e", "format": 1,
}  # fmt: skip
SETTINGS = {"task": "rte", "model": "some/model", "trainable_layers": 2, "seed": 1}
METRICS = {
    "metrics": {"accuracy": 0.75}, "test_metrics": {}, "steps": 12, "examples_per_second": 1234.5,
    "seconds": {"total": 61.25}, "parameters": {"trainable": 1000, "total": 4000}, "devices": "1 cpu",
}  # fmt: skip

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def run(name: str, settings: dict[str, Any] = {}, metrics: dict[str, Any] = {}, **identity: Any) -> str:  # noqa: B006
        folder = tmp_path / name
        folder.mkdir()
        chosen = SETTINGS | settings
        (folder / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in chosen.items()))
        (folder / "metrics.json").write_text(json.dumps(METRICS | metrics))
        origin = {"identity": IDENTITY | identity, "inputs": {}}
        (folder / "identity.json").write_text(json.dumps({"made_by": "jaxfreeze", "kind": "run", **origin}))
        return str(folder)

    return run


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def compare(*runs: str) -> list[str]:
        assert main(["compare", *runs]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return [" ".join(line.split()) for line in captured.out.splitlines()]

    return compare


def test_what_differs_stands_side_by_side(write: Write, told: Callable[..., list[str]]) -> None:
    other = {"trainable_layers": "all", "output_dir": "elsewhere", "keep_last": 5}
    more = {"metrics": {"f1": 0.5}, "test_metrics": {"f1": 0.25}, "parameters": {"trainable": 4000, "total": 4000}}
    lines = told(write("a"), write("b", other, more))
    start = lines.index("settings that differ")
    assert lines[start + 1 : start + 3] == ["trainable_layers 2 all", "scores, validation"]  # not the folder's flags
    expected = ["accuracy 0.7500 -", "f1 - 0.5000", "trainable 1,000 4,000", "total 61.2 61.2", "steps 12 12"]
    assert [line for line in lines if line in expected] == expected
    assert "f1 - 0.2500" in lines[lines.index("scores, test") :]
    assert lines[-1] == "the same rows, classes, tokenizer and pretrained weights in all runs"


@pytest.mark.parametrize(
    "identity, line",
    [
        ({"weights": "x"}, "run 2 had other pretrained weights than run 1"),
        ({"rows": {"train": "x", "validation": "v"}}, "run 2 had other training rows than run 1"),
        ({"rows": {"train": "t", "validation": "x"}},
         "run 2 had other validation rows than run 1: do not compare their scores"),
        ({"classes": ["yes", "no"]}, "run 2 had other classes than run 1: do not compare their scores"),
    ],
)  # fmt: skip
def test_other_data_is_one_line(
    identity: dict[str, Any], line: str, write: Write, told: Callable[..., list[str]]
) -> None:
    assert told(write("a"), write("b", {}, {}, **identity), write("c"))[-1] == line


def test_a_run_of_an_earlier_version_is_not_compared_by_its_data(write: Write, told: Callable[..., list[str]]) -> None:
    old = write("b")
    (Path(old) / "identity.json").unlink()
    assert told(write("a"), old)[-1].startswith("run 2: an earlier jaxfreeze made it; its rows and weights")


def test_many_runs_fit_80_columns(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long names are folded, and runs that do not fit beside each other stand below: every value is there."""
    monkeypatch.setattr(console.console, "_width", 80)
    names = [f"a-model-with-a-very-long-name-{'x' * number}" for number in range(9)]
    runs = [write(f"run{number}", {"model": name, "seed": 700 + number}) for number, name in enumerate(names)]
    assert main(["compare", *runs]) == 0
    out = capsys.readouterr().out
    table = out[out.index(" run 1") - 80 :].splitlines()
    assert max(len(line) for line in table if not line.startswith("run ")) <= 80
    assert "\x1b" not in out
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    assert out.split().count("0.7500") == 9  # no figure is folded
    assert "  examples_per_second " in out  # and no name
    for number in range(9):
        assert f" run {number + 1}" in out
        assert str(700 + number) in out.split()


def test_runs_as_they_are_made(tiny_runs: Path, tmp_path: Path, told: Callable[..., list[str]]) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(tiny_runs / "rte", twin)
    lines = told(str(tiny_runs / "rte"), str(twin))
    assert "settings that differ" not in lines
    assert lines[-1].startswith("the same rows, classes, tokenizer and pretrained weights")
    score = json.loads((twin / "metrics.json").read_text())["metrics"]["accuracy"]
    assert f"accuracy {score:.4f} {score:.4f}" in lines
    lines = told(str(tiny_runs / "rte"), str(tiny_runs / "stsb"))
    assert "task rte stsb" in lines
    assert lines[-1].endswith("than run 1: do not compare their scores")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    "file, content, line",
    [
        ("config.yaml", None, "/bad: holds no run; expected the --output_dir of a finished run"),
        ("metrics.json", None, "/bad: holds an unfinished run"),
        ("config.yaml", "seed: 1\n", "/bad/config.yaml: not the config.yaml of a run"),
        ("config.yaml", "task: rte\nsead: 1\n", "/bad/config.yaml: no setting 'sead'"),
        ("metrics.json", "{", "/bad/metrics.json: not a file of a finished run"),
        ("metrics.json", "[1]", "/bad/metrics.json: expected the scores of a finished run"),
        ("metrics.json", "{}", "/bad/metrics.json: expected the scores of a finished run"),
        ("metrics.json", '{"metrics": {"f1": "high"}}', "/bad/metrics.json: expected the scores of a finished run"),
        ("metrics.json", '{"metrics": {}, "steps": "x"}', "/bad/metrics.json: expected the scores of a finished run"),
        ("identity.json", "{}", "/bad/identity.json: damaged"),
    ],
)
def test_any_other_folder_is_one_line(
    file: str, content: str | None, line: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    sound, bad = write("good"), write("bad")
    (Path(bad) / file).unlink()
    if content is not None:
        (Path(bad) / file).write_text(content)
    assert line in refused(capsys, sound, bad)


def test_wrong_arguments_are_one_line(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "as in: python run.py compare runs/first runs/second" in refused(capsys)
    run = write("only")
    assert refused(capsys, run) == f"error: {run}: expected two run folders or more, found one\n"
    assert "nowhere: there is no such folder" in refused(capsys, run, str(tmp_path / "nowhere"))
