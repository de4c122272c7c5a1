"""A run that is stopped and goes on ends with the same bits as one that is not; damage, other inputs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.freezing import FrozenParametersMovedError
from jaxfreeze.training import checkpoint, loop, saving
from jaxfreeze.training import experiment as experiments
from jaxfreeze.training.experiment import TrainState
from tests.folders import make_folder, tiny_rte

STEPS = 11  # three epochs of three batches, and two more


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny-roberta", "roberta")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_rte(tmp_path / "glue")


Whole = Callable[..., Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The folder of a run that was not stopped, made once for all tests of it."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def run(model: Path, **more: object) -> Path:
        key = repr((model, sorted(more.items())))
        if key not in made:
            made[key] = folder / str(len(made))
            loop.finetune(config(model, tiny_rte(folder / "glue"), made[key], **more))
        return made[key]

    return run


class Killed(BaseException):
    """Stands for the end of the process."""


def config(model: Path, data: Path, out: Path, **more: object) -> TrainConfig:
    settings = {"trainable_layers": 1, "max_steps": STEPS, "epochs": 4, "max_length": 32, "log_every": 3} | more
    return TrainConfig("rte", str(data), model=str(model), learning_rate=1e-3, output_dir=str(out), **settings)


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends at the first dispatch that ends after `step` steps or more, whatever was saved by then."""
    honest = loop.fit

    def kill(state: TrainState) -> None:
        if state.progress.steps >= step:
            raise Killed

    monkeypatch.setattr(loop, "fit", lambda experiment, state, hooks: honest(experiment, state, [*hooks, kill]))


def result_of(out: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]], dict]:
    """(trained leaves as saved, log without times, metrics.json without times)."""
    metrics = json.loads((out / "metrics.json").read_text())
    from jaxfreeze.inference.finished_run import FinishedRun

    run = FinishedRun(out)
    leaves = checkpoint.read(out / "checkpoints", metrics["steps"], run.model.pretrained).trained
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds")
        line.pop("examples_per_second", None)
    kept = {name: metrics[name] for name in ("metrics", "steps", "epochs", "examples", "token_efficiency")}
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}, lines, kept


def assert_same(one: Path, other: Path) -> None:
    (leaves, log, metrics), (same_leaves, same_log, same_metrics) = result_of(one), result_of(other)
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf.view(np.uint32), same_leaves[path].view(np.uint32), err_msg=path)
    assert log == same_log
    assert metrics == same_metrics


@pytest.mark.parametrize(
    ("family", "more", "every", "last"),
    [
        ("bert", {}, 3, 3),  # between two epochs
        ("bert", {}, 2, 5),  # within one; the step after the checkpoint is lost
        ("bert", {}, 5, 10),
        ("roberta", {}, 4, 4),
        ("bert", {"cache": "off"}, 4, 5),
        ("bert", {"trainable_layers": "all"}, 4, 4),
        ("roberta", {"trainable_layers": 0}, 4, 5),
        ("bert", {"dtype": "bfloat16"}, 5, 5),
        ("bert", {"frozen_dropout": True}, 4, 4),
        ("roberta", {"cache": "disk", "eval_every": 4}, 2, 7),
        ("bert", {"cache": "host", "keep_best": True, "eval_every": 2}, 5, 7),
    ],
)
def test_to_the_bit(
    family: str, more: dict, every: int, last: int, request: pytest.FixtureRequest, data: Path, whole: Whole,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Dropout on; the state is that of step `every`, or its multiple below the step after which the process ended."""
    folder, parts = request.getfixturevalue(family), tmp_path / "parts"
    with monkeypatch.context() as patch:
        stop_after(last, patch)
        with pytest.raises(Killed):
            loop.finetune(config(folder, data, parts, checkpoint_every=every, **more))
    with (parts / "log.jsonl").open("a") as log:
        log.write('{"kind": "train", "st')  # and a line was torn
    loop.finetune(config(folder, data, parts, checkpoint_every=every, **more))
    assert_same(whole(folder, **more), parts)
    if not more.get("keep_best"):
        assert [path.name for path in (parts / "checkpoints").iterdir()] == [str(STEPS)]


def test_stopped_at_every_step(
    bert: Path, data: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, STEPS):
        with monkeypatch.context() as patch:
            stop_after(step, patch)
            with pytest.raises(Killed):
                loop.finetune(config(bert, data, tmp_path / "parts", checkpoint_every=1))
    loop.finetune(config(bert, data, tmp_path / "parts", checkpoint_every=1))
    assert_same(whole(bert), tmp_path / "parts")


def test_stopped_after_the_last_step(
    bert: Path, data: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The top is saved, the score is not yet written."""
    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_json", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            loop.finetune(config(bert, data, tmp_path / "parts"))
    loop.finetune(config(bert, data, tmp_path / "parts"))
    assert_same(whole(bert), tmp_path / "parts")


@pytest.fixture
def stopped(bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with checkpoints of steps 4 and 6."""
    with monkeypatch.context() as patch:
        stop_after(6, patch)
        with pytest.raises(Killed):
            loop.finetune(config(bert, data, tmp_path / "parts", checkpoint_every=2))
    assert checkpoint.steps_in(tmp_path / "parts" / "checkpoints") == [4, 6]
    return tmp_path / "parts"


def go_on(model: Path, data: Path, out: Path, **more: object) -> None:
    loop.finetune(config(model, data, out, checkpoint_every=2, **more))


@pytest.mark.parametrize("damage", ["empty", "half", "bit", "other"])
def test_a_damaged_step_is_skipped(damage: str, stopped: Path, bert: Path, data: Path, whole: Whole, capsys) -> None:
    last = stopped / "checkpoints" / "6"
    if damage == "empty":
        shutil.rmtree(last)
        last.mkdir()
    elif damage == "half":
        shutil.rmtree(last / "state")
    elif damage == "bit":
        file = max((p for p in last.glob("trained/d/*") if p.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    else:
        shutil.copyfile(stopped / "config.yaml", last / "trained" / "_METADATA")
    go_on(bert, data, stopped)
    out = capsys.readouterr().out
    assert f"{last}: damaged, " in out
    assert "continuing after step 4 of 11" in out
    assert_same(whole(bert), stopped)


def test_no_step_is_good(stopped: Path, bert: Path, data: Path, whole: Whole, capsys) -> None:
    for step in ("4", "6"):
        shutil.rmtree(stopped / "checkpoints" / step / "description")
    go_on(bert, data, stopped)
    out = capsys.readouterr().out
    assert out.count("; skipped") == 2
    assert "--overwrite" not in out
    assert "continuing" not in out
    assert_same(whole(bert), stopped)


def test_a_run_that_another_version_began_is_refused(
    bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its optimizer's state has other leaves. It is not begun anew, and its checkpoints stay."""
    out, by_path = tmp_path / "parts", saving.by_path
    with monkeypatch.context() as patch:
        patch.setattr(
            saving, "by_path", lambda state: {f"before.{name}": leaf for name, leaf in by_path(state).items()}
        )
        stop_after(6, patch)
        with pytest.raises(Killed):
            loop.finetune(config(bert, data, out, checkpoint_every=2))
    before = {path: path.read_bytes() for path in (out / "checkpoints").rglob("*") if path.is_file()}
    with pytest.raises(
        InputError, match=r"6: holds other .* more; another version of jaxfreeze began this run"
    ) as error:
        go_on(bert, data, out)
    assert len(str(error.value)) < 500 + len(str(out))
    assert {path: path.read_bytes() for path in (out / "checkpoints").rglob("*") if path.is_file()} == before


def test_another_base_is_refused(stopped: Path, bert: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bert, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    name = next(name for name in tensors if "word_embeddings" in name)
    tensors[name][5, 0] += 1
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    moved = bert.rename(bert.with_name("away"))
    try:
        shutil.copytree(other, bert)
        with pytest.raises(InputError, match=r"holds a run with different pretrained weights .*restore them"):
            go_on(bert, data, stopped)
    finally:
        shutil.rmtree(bert, ignore_errors=True)
        moved.rename(bert)


def test_other_rows_are_refused(stopped: Path, bert: Path, data: Path) -> None:
    file = data / "RTE" / "train.tsv"
    file.write_text(file.read_text().replace("bowl", "crate", 1))
    with pytest.raises(InputError, match=r"holds a run with different training rows"):
        go_on(bert, data, stopped)


@pytest.mark.parametrize(
    ("more", "line"),
    [({"seed": 7}, "--seed was 42, is 7"), ({"batch_size": 8}, "--batch_size was 16, is 8"),
     ({"trainable_layers": 2}, "--trainable_layers was 1, is 2"),
     ({"resume": False}, "holds this run, unfinished; --overwrite starts it again")],
)  # fmt: skip
def test_another_run_is_refused(more: dict, line: str, stopped: Path, bert: Path, data: Path) -> None:
    with pytest.raises(InputError, match=line):
        go_on(bert, data, stopped, **more)


def test_the_command_that_a_signal_prints_goes_on_whatever_the_flags_were(
    bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    with monkeypatch.context() as patch:
        stop_after(6, patch)
        with pytest.raises(Killed):
            go_on(bert, data, tmp_path / "parts", resume=False)
    assert main(["--config", str(tmp_path / "parts" / "config.yaml")]) == 0
    assert "continuing after step 6 of 11" in capsys.readouterr().out


def test_overwrite_starts_again(stopped: Path, bert: Path, data: Path, tmp_path: Path, capsys) -> None:
    go_on(bert, data, stopped, overwrite=True)
    assert "continuing" not in capsys.readouterr().out


def test_other_versions_are_told(stopped: Path, bert: Path, data: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(saving, "versions", lambda: {"jax": "0.0.1"})
    go_on(bert, data, stopped)
    assert "the last digits may differ from those of a run without a stop: " in capsys.readouterr().out


def test_a_frozen_leaf_that_moves_is_found_before_it_is_saved(
    bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, path = loop.fit, "embeddings.layer_norm.bias"

    def fit(experiment: experiments.Experiment, state: TrainState, hooks: list) -> TrainState:
        def move(state: TrainState) -> None:
            if state.progress.steps == 4:
                frozen = experiment.model.frozen
                frozen[path] = frozen[path].at[3].add(1e-7)

        return honest(experiment, state, [move, *hooks])

    monkeypatch.setattr(loop, "fit", fit)
    with pytest.raises(FrozenParametersMovedError, match=r"embeddings\.layer_norm\.bias"):
        go_on(bert, data, tmp_path / "run")
    assert checkpoint.steps_in(tmp_path / "run" / "checkpoints") == [2]


def test_a_disk_that_is_full(bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Training goes on while it is; the last step must be saved."""
    with monkeypatch.context() as patch:
        full = OSError(28, "No space left on device")
        patch.setattr(checkpoint.ocp.CheckpointManager, "save", lambda *_, **__: (_ for _ in ()).throw(full))
        with pytest.raises(InputError, match="the last step could not be saved; make room and run the same command"):
            go_on(bert, data, tmp_path / "run")
    assert capsys.readouterr().out.count("could not be written ([Errno 28] No space left on device)") == 6
    go_on(bert, data, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").is_file()
