"""The best step is the result, --patience ends a run, and a run that was killed ends as one that was not."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from jaxfreeze import finetune, freezing
from jaxfreeze.cli import main
from jaxfreeze.errors import InputError
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training import checkpoint, hooks, loop
from jaxfreeze.training import experiment as experiments
from jaxfreeze.training.best import Best
from jaxfreeze.training.evaluation import Scored
from jaxfreeze.training.experiment import Experiment, TrainState
from tests.folders import make_folder, tiny_rte
from tests.training.test_resume import STEPS, Killed, assert_same, config, stop_after

MIDDLE = {2: 0.5, 4: 0.7, 6: 0.7, 8: 0.6, 10: 0.65, STEPS: 0.1}
"""Accuracy after each step that is scored: step 4 is the best, and step 6 no better."""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_rte(tmp_path_factory.mktemp("data") / "glue")


class Scores:
    """Stands for the validation rows: a step's score is what a table says, known by its trained leaves."""

    def __init__(self, table: Mapping[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.table, self.steps = table, {}
        self._now = 0
        self._honest = experiments.evaluate
        honest = hooks.EvaluationHook.__call__

        def call(hook: hooks.EvaluationHook, state: TrainState) -> None:
            self._now = state.progress.steps
            honest(hook, state)

        monkeypatch.setattr(hooks.EvaluationHook, "__call__", call)
        monkeypatch.setattr(hooks, "evaluate", self._within)
        monkeypatch.setattr(experiments, "evaluate", self._at_the_end)

    def _within(self, _: object, trained: Mapping[str, jax.Array]) -> dict[str, float]:
        self.steps[bits(trained)] = self._now
        return {"accuracy": self.table[self._now]}

    def _at_the_end(
        self, experiment: Experiment, trained: Mapping[str, jax.Array], answers: list[Scored]
    ) -> dict[str, float]:
        self._honest(experiment, trained, answers)  # what it answers is kept
        return {"accuracy": self.table[self.steps.setdefault(bits(trained), STEPS)]}

    def step_of(self, run: FinishedRun) -> int:
        """The step whose leaves a finished run has."""
        return self.steps[bits({path: run.params[path] for path in run.model.pretrained})]


def bits(trained: Mapping[str, Any]) -> str:
    return freezing.digest_of(freezing.digests({path: np.asarray(leaf) for path, leaf in trained.items()}))


def train(model: Path, data: Path, out: Path, **more: object) -> dict[str, Any]:
    return loop.finetune(config(model, data, out, **{"eval_every": 2} | more))


def lines_of(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def killed(model: Path, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, file: str, **more: object) -> None:
    """The process ends when it is about to write this file of the run folder."""
    honest = loop.write_json

    def write_json(path: Path, value: Any) -> None:
        if path.name == file:
            raise Killed
        honest(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_json", write_json)
        with pytest.raises(Killed):
            train(model, data, out, **more)


@pytest.mark.parametrize(
    ("metric", "scores", "best"),
    [
        ("accuracy", [0.5, 0.7, 0.7, 0.6], Best(2, 0.7, 2)),
        ("f1:up", [0.0, 0.0], Best(1, 0.0, 1)),
        ("mae", [0.5, 0.3, 0.3, 0.4], Best(2, 0.3, 2)),
        ("log_loss", [0.5, 0.6, 0.4], Best(3, 0.4, 0)),
        ("spearman", [float("nan"), -0.5, float("nan"), -0.6], Best(2, -0.5, 2)),
        ("spearman", [float("nan")], Best(None, None, 1)),
    ],
)
def test_which_evaluation_is_the_best(metric: str, scores: list[float], best: Best) -> None:
    found = Best()
    for step, score in enumerate(scores, 1):
        found = found.after(step, score, metric)
    assert found == best
    assert Best.from_json(json.loads(json.dumps(found.as_json()))) == best


def test_the_best_step_is_the_result(
    bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path, capsys
) -> None:
    """Scored, exported, predicted with and served; the optimizer's state of that step takes no disk."""
    scores, out = Scores(MIDDLE, monkeypatch), tmp_path / "run"
    result = train(bert, data, out, keep_best=True)
    assert (result["best_step"], result["steps"], result["stopped_early"]) == (4, STEPS, False)
    assert (result["metrics"], result["last_metrics"]) == ({"accuracy": 0.7}, {"accuracy": 0.1})
    assert json.loads(json.dumps(result)) == json.loads((out / "metrics.json").read_text())
    assert "step 4 counts, with the best accuracy, 0.7000 (after the last step 0.1000)" in capsys.readouterr().out
    assert checkpoint.steps_in(out / "checkpoints") == [4, STEPS]
    assert not any((out / "checkpoints" / str(step) / "state").exists() for step in (4, STEPS))
    run = FinishedRun(out)
    assert (scores.step_of(run), run.step, run.scores) == (4, 4, {"accuracy": 0.7})
    for flags in ([], ["--best"]):  # which changes nothing
        assert main(["export", "--run", str(out), "--output", str(tmp_path / f"exported{len(flags)}"), *flags]) == 0
        exported = load_file(tmp_path / f"exported{len(flags)}" / "model.safetensors")
        np.testing.assert_array_equal(exported["classifier.bias"], run.params["head.classifier.bias"])
    rows, predictions = data / "RTE" / "test.tsv", tmp_path / "out.jsonl"
    assert main(["predict", "--run", str(out), "--input", str(rows), "--output", str(predictions)]) == 0
    trunk = SharedTrunk([out])
    assert [scores.step_of(one) for one in trunk.runs.values()] == [4]  # what the server answers with
    assert trunk.about()[0]["score"] == {"accuracy": 0.7}
    assert len(predictions.read_text().splitlines()) == 11
    loop.finetune(config(bert, data, out, eval_every=2, keep_best=True))
    assert "this run is finished" in capsys.readouterr().out


def test_the_score_is_that_of_the_best_step(bert: Path, tmp_path: Path, capsys) -> None:
    """Real evaluations: the more it learns, the lower its score on rows with the classes swapped."""
    data, out = tiny_rte(tmp_path / "glue"), tmp_path / "run"
    dev = data / "RTE" / "dev.tsv"
    swapped = dev.read_text().replace("not_entailment", "?").replace("entailment", "not_entailment")
    dev.write_text(swapped.replace("?", "entailment"))
    settings = config(bert, data, out, keep_best=True, eval_every=2, max_steps=30, epochs=10)
    result = loop.finetune(dataclasses.replace(settings, learning_rate=1e-2))
    best = max(lines_of(out, "validation"), key=lambda line: line["accuracy"])  # the first of equals
    assert result["best_step"] == best["step"] < 30
    assert result["metrics"]["accuracy"] == best["accuracy"] > result["last_metrics"]["accuracy"] + 0.2
    capsys.readouterr()
    assert main(["evaluate", "--run", str(out)]) == 0
    assert "the same score as in metrics.json" in capsys.readouterr().out


def test_test_rows_and_kept_predictions_are_those_of_the_best_step(bert: Path, tmp_path: Path) -> None:
    """Validation and test rows are the same file, with the classes swapped."""
    texts = [(f"{('tools', 'clothes')[n % 2]} made {n}", ("work", "home")[n % 2]) for n in range(32)]
    for name, rows in (("train", texts), ("dev", [(t, {"work": "home", "home": "work"}[c]) for t, c in texts])):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{t},{c}\n" for t, c in rows))
    files = {"validation_file": tmp_path / "dev.csv", "test_file": tmp_path / "dev.csv"}
    sizes = {"max_steps": 24, "batch_size": 8, "max_length": 32, "learning_rate": 1e-2, "patience": 3, "eval_every": 2}
    run = finetune(
        "files", train_file=tmp_path / "train.csv", **files, **sizes, model=bert, trainable_layers=1,
        metric="log_loss", output_dir=tmp_path / "run",
    )  # fmt: skip
    result = run.record
    assert result["best_step"] < result["steps"] < 24
    assert result["metrics"]["log_loss"] < result["last_metrics"]["log_loss"] - 0.02
    assert result["test_metrics"] == {name: result["metrics"][name] for name in result["test_metrics"]}
    for split in ("validation", "test"):
        table = pq.read_table(tmp_path / "run" / f"predictions-{split}.parquet").to_pylist()
        assert np.mean([row["loss"] for row in table]) == pytest.approx(result["metrics"]["log_loss"], abs=1e-5)


def test_the_last_step_may_be_the_best(bert: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    Scores(MIDDLE | {STEPS: 0.71}, monkeypatch)
    result = train(bert, data, tmp_path / "run", patience=4)
    assert (result["best_step"], result["metrics"], result["stopped_early"]) == (STEPS, {"accuracy": 0.71}, False)
    assert result["last_metrics"] == result["metrics"]
    assert checkpoint.steps_in(tmp_path / "run" / "checkpoints") == [STEPS]


def test_without_either_flag_the_last_step_counts(bert: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    Scores(MIDDLE, monkeypatch)
    result = train(bert, data, tmp_path / "run")
    assert (result["best_step"], result["metrics"], result["stopped_early"]) == (STEPS, {"accuracy": 0.1}, False)
    assert result["last_metrics"] == result["metrics"]
    assert checkpoint.steps_in(tmp_path / "run" / "checkpoints") == [STEPS]


def test_patience(bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Two evaluations after the best of step 4 are no better. Until then it is the run without --patience."""
    scores = Scores(MIDDLE, monkeypatch)
    result = train(bert, data, tmp_path / "run", patience=2, epochs=4)
    assert (result["steps"], result["best_step"], result["stopped_early"]) == (8, 4, True)
    assert (result["metrics"], result["last_metrics"]) == ({"accuracy": 0.7}, {"accuracy": 0.6})
    line = "stopped after step 8 of 11: 2 evaluations in a row without a better accuracy; step 4 counts, with the best"
    assert f"{line} accuracy, 0.7000" in capsys.readouterr().out
    assert checkpoint.steps_in(tmp_path / "run" / "checkpoints") == [4, 8]
    assert scores.step_of(FinishedRun(tmp_path / "run")) == 4
    train(bert, data, tmp_path / "whole")
    short, whole = (lines_of(tmp_path / name, "train") for name in ("run", "whole"))
    assert [line["step"] for line in short] == [3, 6, 8]
    assert [line["step"] for line in lines_of(tmp_path / "run", "validation")] == [2, 4, 6, 8]
    for name in ("loss", "learning_rate", "grad_norm"):
        assert [line[name] for line in short[:2]] == [line[name] for line in whole[:2]]


def test_once_an_epoch(bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three steps, if nothing else is said; which config.yaml does not say either."""
    Scores({3: 0.6, 6: 0.5, 9: 0.6, STEPS: 0.6}, monkeypatch)
    result = train(bert, data, tmp_path / "run", eval_every=None, keep_best=True)
    assert [line["step"] for line in lines_of(tmp_path / "run", "validation")] == [3, 6, 9, STEPS]
    assert result["best_step"] == 3
    assert "eval_every: null" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("more", "last"),
    [
        ({"keep_best": True, "checkpoint_every": 7}, 7),  # two evaluations after the best step
        ({"keep_best": True}, 5),  # it goes on from the best step
        ({"patience": 3, "checkpoint_every": 7}, 7),  # one evaluation of three was in vain
        ({"patience": 3, "checkpoint_every": 9, "log_every": 4}, 9),
        ({"patience": 3, "checkpoint_every": 1}, 3),  # before the best step
    ],
)
def test_killed_and_gone_on_with(
    more: dict, last: int, bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = Scores(MIDDLE, monkeypatch)
    result = train(bert, data, tmp_path / "whole", **more)
    with monkeypatch.context() as patch:
        stop_after(last, patch)
        with pytest.raises(Killed):
            train(bert, data, tmp_path / "parts", **more)
    assert train(bert, data, tmp_path / "parts", **more)["best_step"] == result["best_step"] == 4
    assert result["steps"] == (10 if "patience" in more else STEPS)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert scores.step_of(FinishedRun(tmp_path / "parts")) == 4
    assert checkpoint.steps_in(tmp_path / "parts" / "checkpoints") == [4, result["steps"]]


@pytest.mark.parametrize("file", ["freeze.json", "metrics.json"])
@pytest.mark.parametrize("patience", [None, 2])
def test_killed_after_the_last_step(
    patience: int | None, file: str, bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that step is saved, or the result written: then nothing is trained again."""
    more = {"keep_best": True, "patience": patience}
    scores = Scores(MIDDLE, monkeypatch)
    train(bert, data, tmp_path / "whole", **more)
    killed(bert, data, tmp_path / "parts", monkeypatch, file, **more)
    if file == "metrics.json":
        monkeypatch.setattr(loop, "fit", lambda *_: pytest.fail("trained again"))
    train(bert, data, tmp_path / "parts", **more)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    for out in (tmp_path / "whole", tmp_path / "parts"):
        result = json.loads((out / "metrics.json").read_text())
        assert (result["best_step"], result["stopped_early"]) == (4, patience is not None)
        assert scores.step_of(FinishedRun(out)) == 4


@pytest.mark.parametrize(("damage", "line"), [("bit", "4: damaged, "), ("gone", "holds no checkpoint of step 4")])
def test_a_damaged_best_step_is_an_error(
    damage: str, line: str, bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the run ends, and when it is used; the last step never stands in for it."""
    Scores(MIDDLE, monkeypatch)

    def spoil(out: Path) -> None:
        best = out / "checkpoints" / "4"
        if damage == "gone":
            best.rename(out / "elsewhere")
            return
        file = max((p for p in best.glob("trained/d/*") if p.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)

    killed(bert, data, tmp_path / "parts", monkeypatch, "metrics.json", keep_best=True)
    spoil(tmp_path / "parts")
    with pytest.raises(InputError, match=line):
        train(bert, data, tmp_path / "parts", keep_best=True)
    assert not (tmp_path / "parts" / "metrics.json").exists()
    train(bert, data, tmp_path / "run", keep_best=True)
    spoil(tmp_path / "run")
    with pytest.raises(InputError, match=line):
        FinishedRun(tmp_path / "run")


def test_a_best_step_that_cannot_be_saved(bert: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    """The run stops: what it is after would be lost. With room it goes on from the last checkpoint."""
    scores = Scores(MIDDLE, monkeypatch)
    honest = checkpoint.ocp.CheckpointManager.save

    def full(manager: Any, step: int, **how: Any) -> bool:
        if step == 4:
            raise OSError(28, "No space left on device")
        return honest(manager, step, **how)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.CheckpointManager, "save", full)
        with pytest.raises(InputError, match="step 4, the best so far, could not be saved; make room and run the same"):
            train(bert, data, tmp_path / "run", keep_best=True)
    assert checkpoint.steps_in(tmp_path / "run" / "checkpoints") == [2]
    assert train(bert, data, tmp_path / "run", keep_best=True)["best_step"] == 4
    assert scores.step_of(FinishedRun(tmp_path / "run")) == 4


def test_folders_of_an_earlier_version(
    bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Their result is the last step; --best takes the one that was kept."""
    scores = Scores(MIDDLE, monkeypatch)
    for name, keep_best in (("kept", True), ("last", False)):
        train(bert, data, tmp_path / name, keep_best=keep_best)
        file = RunFolder(tmp_path / name).metrics
        result = json.loads(file.read_text())
        result["metrics"] = result["last_metrics"]
        for entry in ("best_step", "last_metrics", "stopped_early"):
            del result[entry]
        file.write_text(json.dumps(result))
    run = FinishedRun(tmp_path / "kept")
    assert (scores.step_of(run), run.scores) == (STEPS, {"accuracy": 0.1})
    run = FinishedRun(tmp_path / "kept", best=True)
    assert (scores.step_of(run), run.scores) == (4, {"accuracy": 0.7})
    assert main(["evaluate", "--run", str(tmp_path / "kept"), "--best"]) == 0
    assert "the best of its evaluations was after step 4" in capsys.readouterr().out
    assert main(["export", "--run", str(tmp_path / "last"), "--output", str(tmp_path / "x"), "--best"]) == 2
    assert f"--best: {tmp_path / 'last'} kept no best checkpoint" in capsys.readouterr().err


def test_another_rule_is_another_run(bert: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    Scores(MIDDLE, monkeypatch)
    train(bert, data, tmp_path / "run", patience=2)
    for more, line in (({"patience": 3}, "--patience was 2, is 3"), ({}, "--patience was 2, is None")):
        with pytest.raises(InputError, match=line):
            train(bert, data, tmp_path / "run", **more)
    with pytest.raises(InputError, match="--keep_best was False, is True"):
        train(bert, data, tmp_path / "run", patience=2, keep_best=True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--task rte --patience 0", "--patience 0: expected at least 1"),
        ("--task rte --patience soon", "--patience soon: expected a whole number"),
        ("--task rte --patience", "--patience: expected a value"),
        ("--task rte --find_layers 0.9 --patience 2", "--patience: not with --find_layers"),
        ("--task rte --find_layers 0.9 --keep_best", "--keep_best: not with --find_layers"),
        ("sweep --tasks rte --output_dir x --patience 2", "--patience: "),
        ("sweep --tasks rte --output_dir x --keep_best", "--keep_best: "),
    ],
)
def test_wrong_flags(arguments: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {line}")
    assert not list(tmp_path.iterdir())
