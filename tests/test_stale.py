"""A result that is found is that of today's rows, tokenizer and weights, or is refused in one line; nothing is lost."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxfreeze import load
from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig
from jaxfreeze.identity import Identity, Origin
from jaxfreeze.removal import foreign
from jaxfreeze.run_folder import RUN_FILES
from jaxfreeze.sweep import results_file
from jaxfreeze.sweep.results_file import ResultsFile
from jaxfreeze.training import loop, preparation
from jaxfreeze.training.experiment import Experiment, TrainState
from jaxfreeze.training.hooks import Hook
from jaxfreeze.training.saving import SavingHook
from tests.folders import make_folder

Change = Callable[[], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, rows, a finished run, one that keeps two checkpoints, a sweep and predictions."""
    folder = tmp_path_factory.mktemp("made")
    with contextlib.chdir(folder):
        make_folder(Path("model"), "bert")
        write_rows()
        assert train("run") == 0
        assert sweep() == 0
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(made, tmp_path / "place")
    with contextlib.chdir(tmp_path / "place"):
        assert train("run") == 0  # looked up by digest here: every file is a copy
        yield Path()


def write_rows(classes: tuple[str, ...] = ("0", "1"), word: str = "bowl") -> None:
    for name, count in (("t.csv", 12), ("v.csv", 6)):
        rows = [f"the {word} {n} made,{classes[n % len(classes)]}" for n in range(count)]
        Path(name).write_text("\n".join(["text,label", *rows, ""]))


FILES = ["--train_file", "t.csv", "--validation_file", "v.csv", "--text_columns", "text", "--label_column", "label"]
SETTINGS = [*FILES, "--max_length", "32", "--max_steps", "2", "--batch_size", "8"]


def train(folder: str, *more: str) -> int:
    words = ["--task", "files", "--model", "model", *SETTINGS, "--trainable_layers", "1", "--output_dir", folder, *more]
    return main(words)


def sweep(*more: str) -> int:
    axes = ["--models", "model", "--tasks", "files", "--trainable_layers", "0", "--seeds", "1", "2"]
    return main(["sweep", *axes, *SETTINGS, "--output_dir", "sweep", *more])


def evaluate() -> int:
    return main(["evaluate", "--run", "run"])


def predict() -> int:
    return main(["predict", "--run", "run", "--input", "v.csv", "--output", "p.jsonl"])


def export() -> int:
    return main(["export", "--run", "run", "--output", "exported"])


def other_rows() -> None:
    write_rows(word="town")


def other_validation_rows() -> None:
    rows = Path("v.csv").read_text()
    Path("v.csv").write_text(rows.replace("bowl 3", "town 3"))


def other_labels() -> None:
    rows = Path("t.csv").read_text()
    Path("t.csv").write_text(rows.replace("3 made,1", "3 made,0"))


def other_class_names() -> None:
    write_rows(("no", "yes"))


def other_weights() -> None:
    file = Path("model/model.safetensors")
    tensors = {name: np.ascontiguousarray(leaf * 1.5) for name, leaf in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})


def other_tokenizer() -> None:
    file = Path("model/tokenizer.json")
    file.write_text(
        file.read_text()
        .replace('"lowercase":true', '"lowercase": false')
        .replace('"lowercase": true', '"lowercase":false')
    )


def other_architecture() -> None:
    file = Path("model/config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"layer_norm_eps": 1e-3}))


MODEL = [(other_weights, "pretrained weights"), (other_tokenizer, "tokenizer"), (other_architecture, "architecture")]
ROWS = [
    (other_rows, "training rows"), (other_labels, "training rows"), (other_validation_rows, "validation rows"),
    (other_class_names, "classes"),
]  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], what: str) -> None:
    """The last command wrote one line, which names what is other."""
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "different " in error
    assert what in error
    assert " was modified 20" in error  # which file, since when


@pytest.mark.parametrize(("change", "what"), [*ROWS, *MODEL])
def test_a_finished_run_is_not_reported_as_that_of_other_inputs(
    place: Path, capsys: pytest.CaptureFixture[str], change: Change, what: str
) -> None:
    before = Path("run/metrics.json").read_bytes()
    capsys.readouterr()
    change()
    assert train("run") == 2
    refused(capsys, what)
    assert Path("run/metrics.json").read_bytes() == before
    assert train("run", "--overwrite") == 0
    assert train("run") == 0


@pytest.mark.parametrize(("change", "what"), [ROWS[0], ROWS[-1], MODEL[0]])
def test_a_sweep_does_not_mix(place: Path, capsys: pytest.CaptureFixture[str], change: Change, what: str) -> None:
    change()
    capsys.readouterr()
    assert sweep() == 2
    refused(
        capsys,
        "classes"
        if change is other_class_names
        else "pretrained weights"
        if change is other_weights
        else "training rows",
    )
    assert sweep("--seeds", "3") == 2  # none of these is there, but others of the same sweep are
    assert len(Path("sweep/results.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(("change", "what"), MODEL)
@pytest.mark.parametrize("command", [evaluate, predict, export])
def test_a_run_on_another_model(
    place: Path, capsys: pytest.CaptureFixture[str], command: Callable[[], int], change: Change, what: str
) -> None:
    change()
    capsys.readouterr()
    assert command() == 2
    refused(capsys, what)
    assert not Path("exported").exists()
    assert not Path("p.jsonl").exists()


def test_files_that_were_touched_and_are_the_same(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (*Path("model").iterdir(), Path("t.csv"), Path("v.csv")):
        os.utime(file)
    before = Path("run/metrics.json").read_bytes()
    assert train("run") == 0
    assert "this run is finished" in capsys.readouterr().out
    assert Path("run/metrics.json").read_bytes() == before
    assert sweep() == evaluate() == predict() == 0


def test_evaluate_says_that_rows_are_others(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other_validation_rows()
    assert evaluate() == 0
    out = capsys.readouterr().out
    assert "scored on different validation rows (v.csv was modified 20" in out
    assert "the same score" not in out


def test_evaluate_needs_no_training_file_and_has_its_own_classes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("t.csv").open("a") as file:
        file.write("the town,-1\n")  # sorts before the classes of the run
    assert evaluate() == 0
    assert "the same score as in metrics.json" in capsys.readouterr().out
    Path("t.csv").unlink()
    assert evaluate() == predict() == 0


def test_a_label_that_is_no_class_of_the_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Path("v.csv").open("a") as file:
        file.write("the town,2\n")
    capsys.readouterr()
    assert evaluate() == 2
    assert capsys.readouterr().err == "error: v.csv:8: label '2' is not one of 0, 1\n"


def test_a_folder_that_moved(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("run/metrics.json").read_bytes()
    Path("run").rename("moved")
    assert main(["--config", "moved/config.yaml"]) == 0
    out = capsys.readouterr().out
    assert "moved: this run's folder was run before; it continues where it is now" in out
    assert "moved: this run is finished" in out
    assert not Path("run").exists()
    assert Path("moved/metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["notes.md", "exported/config.json", "checkpoints/mine.txt", "checkpoints/2/notes.txt", "events/plan.txt"]
)
def test_overwriting_leaves_a_folder_that_holds_more(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mine = Path("run", name)
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    assert train("run", "--overwrite", "--seed", "3") == 2
    assert f"holds files that jaxfreeze did not write ({name})" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()} == before


def test_everything_in_a_run_folder_is_known(place: Path) -> None:
    assert not foreign(Path("run"), RUN_FILES)


@pytest.mark.parametrize("wrong", [["--max_length", "9999"], ["--learning_rate", "x"], ["--label_column", "class"]])
def test_nothing_is_deleted_before_the_new_run_is_known_to_be_right(place: Path, wrong: list[str]) -> None:
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    assert train("run", "--overwrite", *wrong) == 2
    assert {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "checkpoints/2/x", ".hidden"])
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_folder_that_is_no_run(place: Path, name: str, more: tuple[str, ...]) -> None:
    mine = Path("project", name)
    mine.parent.mkdir(parents=True)
    mine.write_text("mine: 1")
    assert train("project", *more) == 2
    assert [file for file in Path("project").rglob("*") if file.is_file()] == [mine]


def test_rows_within_the_folder_that_is_overwritten(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("t.csv", "run/log.jsonl")
    assert train("run", "--overwrite", "--train_file", "run/log.jsonl") == 2
    assert "run/log.jsonl, which is an input" in capsys.readouterr().err
    assert Path("run/log.jsonl").read_bytes() == Path("t.csv").read_bytes()


def test_a_folder_that_another_process_trains_in(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = os.open("run/.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    for more in ([], ["--overwrite"]):
        assert train("run", *more) == 2
        assert "another process is training in it" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()} == before
    os.close(lock)
    assert train("run") == 0
    assert not Path("run/.lock").exists()


@pytest.mark.parametrize("name", ["t.csv", "run/metrics.json", "model/config.json", "notes.txt", "link"])
def test_predictions_replace_predictions_alone(place: Path, name: str) -> None:
    assert predict() == predict() == 0
    Path("notes.txt").write_text("mine")
    Path("link").symlink_to("notes.txt")
    before = Path(name).read_bytes()
    assert main(["predict", "--run", "run", "--input", "v.csv", "--output", name]) == 2
    assert Path(name).read_bytes() == before


def test_the_input_is_not_the_output(place: Path) -> None:
    Path("p.jsonl").write_text('{"index": 0, "prediction": "0", "logits": [1]}\n')
    assert main(["predict", "--run", "run", "--input", "p.jsonl", "--output", "p.jsonl"]) == 2
    assert "[1]" in Path("p.jsonl").read_text()


def test_paths_with_home_and_variables(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("DATA", str(Path.cwd()))
    Path("c.yaml").write_text("train_file: ~/t.csv\nvalidation_file: $DATA/v.csv\nmodel: ~/model\n")
    words = ["--task", "files", *SETTINGS[4:], "--trainable_layers", "0", "--output_dir=~/deep/run"]
    assert main(["--config", "$DATA/c.yaml", *words]) == 0
    assert Path("deep/run/metrics.json").is_file()
    assert load("~/deep/run")(["the bowl"])
    assert main(["evaluate", "--run", "${DATA}/deep/run"]) == 0
    assert not Path("~").exists()


def test_a_variable_that_is_not_set(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("$NO_SUCH_VARIABLE/run") == 2
    assert (
        capsys.readouterr().err
        == "error: $NO_SUCH_VARIABLE/run: the environment variable NO_SUCH_VARIABLE is not set\n"
    )


@pytest.mark.parametrize("content", ["my own notes", "my own notes\n", '{"task": "rte"}\nmy notes', '{"index": 0'])
def test_results_of_somebody_else(place: Path, content: str) -> None:
    Path("sweep/results.jsonl").write_text(content)
    assert sweep() == 2
    assert Path("sweep/results.jsonl").read_text() == content


def test_a_folder_that_moves_while_the_run_trains(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = loop.fit

    def moved(experiment: Experiment, state: TrainState, hooks: Sequence[Hook]) -> TrainState:
        def move(state: TrainState) -> None:
            if state.progress.steps == 3:
                saving = hooks[-1]
                assert isinstance(saving, SavingHook)
                saving._writer.wait()  # what is being written is written where it was
                Path("long").rename("elsewhere")

        return honest(experiment, state, [*hooks, move])

    monkeypatch.setattr(loop, "fit", moved)
    words = ("long", "--max_steps", "6", "--checkpoint_every", "2", "--log_every", "1")
    assert train(*words) == 2
    error = capsys.readouterr().err
    said = "error: --output_dir long: was moved or deleted while the run trained; stopped after step 4; "
    assert error.startswith(said)
    assert error.count("\n") == 1
    assert not Path("long").exists()
    monkeypatch.undo()
    assert main(["--config", "elsewhere/config.yaml"]) == 0
    assert "continuing after step 2 of 6" in capsys.readouterr().out


def test_a_line_begins_as_one_that_is_cut_off_is_known_by(place: Path) -> None:
    for line in Path("sweep/results.jsonl").read_bytes().splitlines():
        assert line.startswith(results_file.BEGIN)


def test_rows_from_the_hub_are_always_read_again(place: Path) -> None:
    config = TrainConfig("rte", model="model", max_length=32)
    origin = Origin(Identity({}, (), "", "", ""), preparation.inputs_of(config))
    assert not preparation.untouched(origin, config)
    assert preparation.untouched(origin, TrainConfig("demo", model="model", max_length=32))


def test_rows_that_only_other_machines_have(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").unlink()
    assert sweep() == 2
    assert capsys.readouterr().err == "error: t.csv: expected a file, found nothing there; check the path\n"
    results = ResultsFile(Path("sweep"))
    results.read()
    configs = [TrainConfig(**run.config) for run in results.done.values()]
    results.check_origins(configs, elsewhere=True)
    assert "results of files are not compared with what is read now (t.csv: " in capsys.readouterr().out
