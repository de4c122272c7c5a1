"""What TensorBoard, wandb and MLflow are told of a run: by one interface, with stand-ins for the two packages."""

import json
import struct
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training import trackers
from tests.inference.runs import train

Calls = list[tuple[str, tuple, dict]]


class Recorder(types.ModuleType):
    """A module, or a thing of it, that writes down how it is called; `answers` holds what some calls return."""

    def __init__(self, name: str, calls: Calls, answers: dict[str, Any]) -> None:
        super().__init__(name)
        self._calls, self._answers = calls, answers

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            self._calls.append((name, given, more))
            answer = self._answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls: Calls = []
    run = Recorder("run", calls, {})
    run.summary = Recorder("summary", calls, {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", Recorder("wandb", calls, {"init": run}))
    monkeypatch.setenv("WANDB_SILENT", "false")
    return calls


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> tuple[Calls, dict[str, Any]]:
    calls: Calls = []
    answers: dict[str, Any] = {"search_runs": []}
    monkeypatch.setitem(sys.modules, "mlflow", Recorder("mlflow", calls, answers))
    return calls, answers


def make(tiny_runs: Path, folder: Path, **settings: Any) -> Path:
    """A run of 4 steps, logged after each two, in folder/runs/first."""
    (folder / "glue").symlink_to(tiny_runs / "glue")
    made = train(folder, tiny_runs / "model", "rte", "runs/first", log_every=2, **settings)
    assert made == folder / "runs" / "first"
    return made


def told_by_log(run: Path) -> list[tuple[int, dict[str, float]]]:
    """(step, figures) of each line of log.jsonl, by the names that trackers have for them."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    found = []
    for line in lines:
        kind, step = line.pop("kind"), line.pop("step")
        del line["seconds"]
        found.append((step, {f"{kind}/{name}": value for name, value in line.items()}))
    return found


def final(run: Path) -> dict[str, float]:
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    return {f"final/{name}": value for name, value in metrics.items()}


def test_both_are_told_what_the_log_holds(
    tiny_runs: Path, tmp_path: Path, wandb: Calls, mlflow: tuple[Calls, dict[str, Any]]
) -> None:
    run = make(tiny_runs, tmp_path, wandb=True, mlflow=True)
    (start, *middle, summary, finish) = wandb
    assert start[0] == "init"
    settings = start[2]["config"]
    assert (start[2]["project"], start[2]["name"]) == ("runs", "first")
    assert (settings["task"], settings["trainable_layers"], settings["learning_rate"]) == ("rte", 1, 1e-3)
    assert not settings.keys() & {"output_dir", "overwrite", "wandb"}
    expected = told_by_log(run)
    assert len(expected) == 3  # two lines of training, one of scores
    assert [(more["step"], *given) for _, given, more in middle] == expected
    assert (summary[0], summary[1], finish) == ("update", (final(run),), ("finish", (), {"exit_code": 0}))

    experiment, search, start, params, *middle, scores, end = mlflow[0]
    assert (experiment[1], start[2]["run_name"]) == (("runs",), "first")
    assert search[2]["filter_string"] == f"tags.jaxfreeze = '{start[2]['tags']['jaxfreeze']}'"
    assert params == ("log_params", (settings,), {})
    assert [(more["step"], *given) for _, given, more in middle] == expected
    assert (scores[1], end) == ((final(run),), ("end_run", ("FINISHED",), {}))


def test_they_change_nothing_in_the_run(tiny_runs: Path, tmp_path: Path, wandb: Calls) -> None:
    run = make(tiny_runs, tmp_path, wandb=True)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    count = len(wandb)
    (tmp_path / "glue").unlink()
    assert make(tiny_runs, tmp_path) == run  # without the flag it is the same run, and finished
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert len(wandb) == count


def test_a_run_that_continues_is_the_same_one_there(
    tiny_runs: Path, tmp_path: Path, wandb: Calls, mlflow: tuple[Calls, dict[str, Any]]
) -> None:
    calls, answers = mlflow
    run = RunFolder(make(tiny_runs, tmp_path))
    config = TrainConfig("rte", wandb=True, mlflow=True)
    for step in (0, 2):
        trackers.trackers_of(config, run, step)
        answers["search_runs"] = [types.SimpleNamespace(info=types.SimpleNamespace(run_id="there"))]
    first, second = (more["id"] for name, _, more in wandb if name == "init")
    assert first == second
    assert [more for name, _, more in calls if name == "start_run"][1] == {"run_id": "there"}
    run.config.write_text(run.config.read_text())  # begun again, as --overwrite does
    trackers.trackers_of(config, run, 0)
    assert wandb[-1][2]["id"] != first


def test_an_outage_ends_the_record_and_not_the_run(
    tiny_runs: Path, tmp_path: Path, mlflow: tuple[Calls, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow[1]["log_metrics"] = ConnectionError("no\nroute")
    run = make(tiny_runs, tmp_path, mlflow=True)
    assert (run / "metrics.json").is_file()
    said = capsys.readouterr().out
    assert said.count("--mlflow: ConnectionError: no route; the run continues without it") == 1
    assert [name for name, _, _ in mlflow[0]].count("log_metrics") == 1


def test_one_that_does_not_start_is_one_line(
    tiny_runs: Path, tmp_path: Path, mlflow: tuple[Calls, dict[str, Any]]
) -> None:
    mlflow[1]["set_experiment"] = RuntimeError("no server")
    with pytest.raises(InputError, match=r"--mlflow: it does not start \(RuntimeError: no server\)"):
        make(tiny_runs, tmp_path, mlflow=True)


@pytest.mark.parametrize("name", trackers.PACKAGES)
def test_a_missing_package_is_one_line_before_anything_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["--task", "demo", "--model", "demo", f"--{name}", "--output_dir", str(tmp_path / "run")]) == 2
    line = f"error: --{name}: the package {name} is not installed; run: pip install 'jaxfreeze[{name}]'\n"
    assert capsys.readouterr().err == line
    assert not (tmp_path / "run").exists()


def test_a_search_takes_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--task", "demo", "--model", "demo", "--find_layers", "0.9", "--wandb"]) == 2
    assert capsys.readouterr().err.startswith("error: --wandb: not with --find_layers")


def events(run: Path) -> list[Event]:
    """What the event files of a run hold: records of a length, its checksum, the bytes, their checksum."""
    found = []
    for file in sorted((run / "events").iterdir()):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (size,) = struct.unpack_from("<Q", content, place)
            found.append(Event.FromString(content[place + 12 : place + 12 + size]))
            place += size + 16
    return found


def test_tensorboard_has_the_settings_as_hyperparameters_and_the_final_scores(tiny_runs: Path) -> None:
    run = tiny_runs / "rte"
    values = [value for event in events(run) for value in event.summary.value]
    scalars = {value.tag: value.simple_value for value in values if value.HasField("simple_value")}
    for name, score in final(run).items():
        assert scalars[name] == pytest.approx(score)
    (start,) = [value for value in values if value.tag.endswith("session_start_info")]
    about = HParamsPluginData.FromString(start.metadata.plugin_data.content).session_start_info.hparams
    assert about["learning_rate"].number_value == pytest.approx(1e-3)
    assert (about["task"].string_value, about["trainable_layers"].number_value) == ("rte", 1)
    assert len(list((run / "events").iterdir())) == 1
