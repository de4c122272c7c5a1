"""The command line: help, flags and files of flags, and one clear line for everything that is wrong."""

import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from jaxfreeze import cli
from jaxfreeze.config import TrainConfig
from jaxfreeze.training import loop
from tests.folders import make_folder

ROOT = Path(cli.__file__).parent.parent
HEADER = "index\tsentence1\tsentence2\tlabel\n"
ROWS = "".join(f"{i}\tthe bowl holds tools {i}\tit is a bowl\t{('', 'not_')[i % 2]}entailment\n" for i in range(12))
GLUE = {  # folder: its RTE/train.tsv; RTE/dev.tsv is sound everywhere
    "glue": HEADER + ROWS,
    "no_train": None,
    "no_column": HEADER.replace("sentence2", "sentence_2") + ROWS,
    "bad_label": HEADER + ROWS + "12\ta\tb\tentailed\n",
    "ragged": HEADER + ROWS + "12\ta\tb\n",
    "no_rows": "",
}
YAML = {
    "rte": "task: rte\nepochs: 7\nseed: 3\nfrozen_dropout: true\ntrainable_layers: 1\n",
    "not_yaml": "task: [rte\n",
    "not_settings": "just a text\n",
    "unknown_key": "task: rte\nepoch: 3\n",
    "wrong_type": "task: rte\nepochs: many\n",
    "wrong_value": "task: rte\nepochs: 0\n",
    "twice": "task: rte\nseed: 1\nseed: 2\n",
    "tag": 'task: !!python/object/apply:os.system ["touch owned"]\n',
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the table below names: models, data, runs and YAML files."""
    top = tmp_path_factory.mktemp("material")
    make_folder(top / "model", "bert")
    make_folder(top / "model6", "bert", num_hidden_layers=6)
    for name, train in GLUE.items():
        (top / name / "RTE").mkdir(parents=True)
        (top / name / "RTE" / "dev.tsv").write_text(HEADER + ROWS)
        if train is not None:
            (top / name / "RTE" / "train.tsv").write_text(train)
    for name, text in YAML.items():
        (top / f"{name}.yaml").write_text(text)
    (top / "rows.csv").write_text("text,label\n" + "".join(f"the bowl {i},{i % 2}\n" for i in range(8)))
    (top / "rows.pdf").write_text("")
    (top / "empty").mkdir()
    flags = f"--task rte --data_dir {top}/glue --model {top}/model --max_steps 1 --max_length 32 --trainable_layers 0"
    assert cli.main([*flags.split(), "--output_dir", str(top / "run")]) == 0
    shutil.copytree(top / "run", top / "no_checkpoints")
    shutil.rmtree(top / "no_checkpoints" / "checkpoints")
    shutil.copytree(top / "run", top / "unfinished")
    (top / "unfinished" / "metrics.json").unlink()
    return top


SOUND = "--task rte --data_dir {m}/glue --model {m}/model6 --max_length 32"
RTE = "--task rte --model {m}/model --data_dir {m}"
FILES = "--task files --model {m}/model --train_file {m}/rows.csv --validation_file {m}/rows.csv"
PREDICT = "predict --run {m}/run --input {m}/glue/RTE/dev.tsv --output"
TABLE = [  # what is wrong, the arguments, what the line has to say
    ("no arguments", "", "--task is required, as in: python run.py --task demo"),
    ("no task", "--epochs 3", "--task is required"),
    ("inspect without task", "inspect", "--task is required, as in: python run.py inspect"),
    ("unknown task", "--task mlni", "did you mean 'mnli'?"),
    ("unknown flag", "--task rte --epoch 3", "--epoch: no such flag; did you mean '--epochs'?"),
    ("unknown flag with =", "--task rte --epoch=3", "--epoch: no such flag; did you mean '--epochs'?"),
    ("unknown flag of predict", "predict --imput x", "--imput: no such flag; did you mean '--input'?"),
    ("print_config", "--task rte --print_config", "--print_config: no such flag"),
    ("unknown command", "evalute", "report, evaluate, predict, cache, inspect; did you mean 'evaluate'?"),
    ("value without flag", "--task rte mnli", "mnli: expected a flag"),
    ("two values", "--task rte --epochs 3 4", "4: expected a flag"),
    ("layers -1", f"{SOUND} --trainable_layers -1", "--trainable_layers -1: expected 0 to 6"),
    ("layers 7 of 6", f"{SOUND} --trainable_layers 7", "--trainable_layers 7: expected 0 to 6"),
    ("layers x", f"{SOUND} --trainable_layers x", "--trainable_layers x: expected a whole number or all"),
    ("two policies", f"{SOUND} --trainable a --trainable_layers 1", "expected one policy, found two"),
    ("pattern of nothing", f"{SOUND} --trainable a", "--trainable 'a': matches no parameter"),
    ("pattern that is none", f"{SOUND} --trainable [a", "--trainable '[a': not a regular expression"),
    ("epochs 0", f"{SOUND} --epochs 0", "--epochs 0: expected at least 1"),
    ("epochs -1", f"{SOUND} --epochs -1", "--epochs -1: expected at least 1"),
    ("epochs 1.5", f"{SOUND} --epochs 1.5", "--epochs 1.5: expected a whole number"),
    ("epochs x", f"{SOUND} --epochs x", "--epochs x: expected a whole number"),
    ("learning rate 0", f"{SOUND} --learning_rate 0", "--learning_rate 0.0: expected 1e-12 to"),
    ("learning rate nan", f"{SOUND} --learning_rate nan", "--learning_rate nan: expected"),
    ("learning rate .nan", f"{SOUND} --learning_rate .nan", "--learning_rate nan: expected"),
    ("learning rate inf", f"{SOUND} --learning_rate inf", "--learning_rate inf: expected"),
    ("learning rate .inf", f"{SOUND} --learning_rate .inf", "--learning_rate inf: expected"),
    ("learning rate -1", f"{SOUND} --learning_rate -1", "--learning_rate -1.0: expected"),
    ("learning rate x", f"{SOUND} --learning_rate x", "--learning_rate x: expected a number"),
    ("batch size 0", f"{SOUND} --batch_size 0", "--batch_size 0: expected at least 1"),
    ("max length 3", f"{SOUND} --max_length 3", "--max_length 3: expected at least 4"),
    ("max length of the model", f"{SOUND} --max_length 71", "--max_length 71: {m}/model6 holds at most 70 tokens"),
    ("dtype", f"{SOUND} --dtype float16", "--dtype float16: expected float32 or bfloat16"),
    ("seed -1", f"{SOUND} --seed -1", "--seed -1: expected 0 to"),
    ("switch with a word", f"{SOUND} --overwrite=maybe", "--overwrite maybe: expected true or false"),
    ("no value at the end", "--task", "--task: expected a value"),
    ("no value in between", "--task --epochs 3", "--task: expected a value"),
    ("empty list", "--task rte --trainable", "--trainable: expected a value"),
    ("no config file", "--config {m}/none.yaml", "{m}/none.yaml: expected a YAML file of settings"),
    ("config without value", "--task rte --config", "--config: expected a value"),
    ("config is a folder", "--config {m}", "{m}: expected a YAML file of settings"),
    ("config is not YAML", "--config {m}/not_yaml.yaml", "{m}/not_yaml.yaml: expected a YAML file of settings"),
    ("config is a text", "--config {m}/not_settings.yaml", "found 'just a text'"),
    ("config, unknown key", "--config {m}/unknown_key.yaml", "no setting 'epoch'; expected one of task,"),
    ("config, wrong type", "--config {m}/wrong_type.yaml", "epochs is 'many'; expected a whole number"),
    ("config, wrong value", "--config {m}/wrong_value.yaml", "--epochs 0: expected at least 1"),
    ("config, twice", "--config {m}/twice.yaml", "'seed' stands there twice"),
    ("config, tag", "--config {m}/tag.yaml", "could not determine a constructor for the tag"),
    ("output is a file", f"{SOUND} --output_dir {{m}}/rows.csv", "expected a folder, found a file"),
    ("output is no run", f"{SOUND} --output_dir {{m}}/glue", "the folder is not empty and holds no run"),
    ("output below a file", f"{SOUND} --output_dir {{m}}/rows.csv/x/run", "rows.csv is not a folder that can be"),
    ("output is another run", f"{SOUND} --output_dir {{m}}/run", "holds another run (--model was"),
    ("no data_dir", f"{RTE}/none", "{m}/none"),
    ("data_dir is empty", f"{RTE}/empty", "expected the file {m}/empty/RTE/train.tsv"),
    ("no train.tsv", f"{RTE}/no_train", "expected the file {m}/no_train/RTE/train.tsv"),
    ("no column", f"{RTE}/no_column", "train.tsv:1: no column 'sentence2'"),
    ("bad label", f"{RTE}/bad_label", "train.tsv:14: label 'entailed' is not one of"),
    ("ragged row", f"{RTE}/ragged", "train.tsv:14: expected 4 fields"),
    ("empty file", f"{RTE}/no_rows", "train.tsv: expected at least one example"),
    ("files without flags", "--task files", "--train_file, --validation_file, --text_columns, --label_column missing"),
    ("files with data_dir", f"{FILES} --text_columns text --label_column label --data_dir x", "--data_dir is for GLUE"),
    ("three text columns", f"{FILES} --text_columns a b c --label_column label", "--text_columns: expected one or two"),
    ("files, no column", f"{FILES} --text_columns txt --label_column label", "rows.csv:1: no column 'txt'"),
    ("files, ending", f"{FILES} --train_file {{m}}/rows.pdf --text_columns text --label_column label", "ending '.pdf'"),
    ("GLUE with own files", "--task rte --train_file x --regression", "--train_file, --regression: only for"),
    ("no model", "--task demo --model {m}/none", "--model {m}/none: there is no such folder"),
    ("model is a file", "--task demo --model {m}/rows.csv", "found a file"),
    ("model is another folder", "--task demo --model {m}/empty", "{m}/empty/config.json: no such file"),
    ("no hub for data", "--task wnli --model {m}/model", "in the classic GLUE layout, or try --task demo"),
    ("no hub for the model", "--task demo --model nobody/no-such-model", "and the hub cannot be reached"),
    ("inspect, layers", f"inspect {SOUND} --trainable_layers 7", "--trainable_layers 7: expected 0 to 6"),
    ("evaluate nothing", "evaluate", "--run is required, as in: python run.py evaluate --run"),
    ("evaluate, no folder", "evaluate --run {m}/none", "--run {m}/none: there is no such folder"),
    ("evaluate, no run", "evaluate --run {m}/glue", "--run {m}/glue: holds no run"),
    ("evaluate, unfinished", "evaluate --run {m}/unfinished", "--run {m}/unfinished: holds an unfinished run"),
    ("evaluate, no checkpoint", "evaluate --run {m}/no_checkpoints", "its folder checkpoints is gone"),
    ("predict nothing", "predict", "--run, --input, --output are required"),
    ("predict, no run", "predict --run {m}/glue --input x --output y", "--run {m}/glue: holds no run"),
    ("predict, unfinished", "predict --run {m}/unfinished --input x --output y", "holds an unfinished run"),
    ("predict, no input", "predict --run {m}/run --input {m}/none.tsv --output y", "{m}/none.tsv: expected a file"),
    ("predict, other layout", "predict --run {m}/run --input {m}/rows.csv --output y", "rows.csv:1: no column"),
    ("predict, output nowhere", f"{PREDICT} {{m}}/none/y", "--output {m}/none/y: its folder does not exist"),
    ("predict, output a folder", f"{PREDICT} {{m}}/empty", "--output {m}/empty: expected a file, found a folder"),
]  # fmt: skip
BY_NAME = {name: (arguments, line) for name, arguments, line in TABLE}


def contents(*folders: Path) -> dict[Path, bytes | None]:
    """Every file with its bytes, and every folder."""
    return {p: p.read_bytes() if p.is_file() else None for folder in folders for p in folder.rglob("*")}


@pytest.mark.parametrize("name", BY_NAME)
def test_wrong_input(
    name: str, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, line = (text.replace("{m}", str(material)) for text in BY_NAME[name])
    monkeypatch.chdir(tmp_path)
    before = contents(material, tmp_path)
    assert cli.main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert line in printed.err
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    assert printed.out == ""
    assert contents(material, tmp_path) == before


def run_py(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python run.py ...` in another folder, as a person has it: without the tests' own settings."""
    keep = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PYTHONWARNINGS")}
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=keep | environment, timeout=300)


@pytest.mark.parametrize("name", ["no arguments", "config, tag", "no hub for data"])
def test_wrong_input_for_real(name: str, material: Path, tmp_path: Path) -> None:
    arguments, line = (text.replace("{m}", str(material)) for text in BY_NAME[name])
    (tmp_path / "here").mkdir()
    before = contents(material)
    done = run_py(*arguments.split(), folder=tmp_path / "here", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert contents(material) == before
    assert not contents(tmp_path / "here")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The configs that would have been trained."""
    configs: list[TrainConfig] = []
    monkeypatch.setattr(loop, "finetune", configs.append)
    return configs


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ("--task rte", TrainConfig(task="rte")),
        ("train --task rte", TrainConfig(task="rte")),
        ("--task=rte --epochs=2 --learning_rate=1e-3", TrainConfig(task="rte", epochs=2, learning_rate=1e-3)),
        ("--task rte --epochs 2 --task sst2 --epochs 4", TrainConfig(task="sst2", epochs=4)),
        ("--task rte --overwrite --seed 0", TrainConfig(task="rte", overwrite=True, seed=0)),
        ("--task rte --seed 0 --overwrite", TrainConfig(task="rte", overwrite=True, seed=0)),
        ("--task rte --trainable_layers all", TrainConfig(task="rte", trainable_layers="all")),
        ("--task rte --trainable [a-z]+ x=y", TrainConfig(task="rte", trainable=("[a-z]+", "x=y"))),
        ("--task rte --trainable=[a-z]+", TrainConfig(task="rte", trainable=("[a-z]+",))),
        (
            "--task files --train_file 1 --validation_file 2 --text_columns 3 no --label_column 1e3 --label_names 0 1",
            TrainConfig(
                task="files",
                train_file="1",
                validation_file="2",
                text_columns=("3", "no"),
                label_column="1e3",
                label_names=("0", "1"),
            ),
        ),
    ],
)
def test_flags(arguments: str, expected: TrainConfig, told: list[TrainConfig]) -> None:
    assert cli.main(arguments.split()) == 0
    assert told == [expected]


FILE = {"task": "rte", "epochs": 7, "seed": 3, "frozen_dropout": True, "trainable_layers": 1}


@pytest.mark.parametrize(
    "flags, changes",
    [
        ("", {}),
        ("--epochs 2 --task sst2", {"epochs": 2, "task": "sst2"}),
        ("--epochs 3", {"epochs": 3}),  # the default wins too, once it is typed
        ("--frozen_dropout false", {"frozen_dropout": False}),
        ("--trainable .*", {"trainable": (".*",), "trainable_layers": None}),  # a policy replaces the file's policy
    ],
)
def test_flags_win_over_the_file(flags: str, changes: dict, told: list[TrainConfig], tmp_path: Path) -> None:
    (tmp_path / "rte.yaml").write_text(YAML["rte"])
    config = f"--config {tmp_path}/rte.yaml"
    assert cli.main(f"{config} {flags}".split()) == 0
    assert cli.main(f"{flags} {config}".split()) == 0
    assert cli.main(f"{flags} --config={tmp_path}/rte.yaml".split()) == 0
    assert told == [TrainConfig(**(FILE | changes))] * 3


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: TrainConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "finetune", interrupt)
    assert cli.main(["--task", "rte"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: TrainConfig) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(loop, "finetune", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["--task", "rte"])


def help_of(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        cli.main([*command.split(), "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0].startswith("usage: python run.py ")
    assert len(lines) <= 70
    assert max(map(len, lines)) <= 100
    for noise in ("type:", "Union", "null", "ITEM", "{true,false}", "--print_config", "()"):
        assert noise not in printed.out
    return lines


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = help_of("", monkeypatch, capsys)
    assert "\n".join(lines).count(cli.DESCRIPTION.strip()) == 1
    flags = {line.split()[0]: line for line in lines if line.startswith("  -")}
    assert set(flags) == {"-h,", "--config", *(f"--{field.name}" for field in fields(TrainConfig))}
    for field in fields(TrainConfig):
        if field.type is bool:
            assert flags[f"--{field.name}"].startswith(f"  --{field.name}  "), "a switch takes no value"
    for start in (
        "  --config FILE ",
        "  --task TASK ",
        "  --text_columns NAME [NAME] ",
        "  --label_names NAME [NAME ...]",
        "  --trainable REGEX [REGEX ...]",
        "  --trainable_layers K ",
        "  --max_steps N ",
        "  --dtype {float32,bfloat16} ",
    ):
        assert any(f"{line} ".startswith(start) for line in lines), start
    words = " ".join(" ".join(lines).split())
    for default in ("AdamW (default: 5e-05)", "(default: bert-base-uncased)", "left out (default: 0.01)"):
        assert default in words
    assert "files (your own) (required)" in words


@pytest.mark.parametrize(
    "command, flags",
    [
        ("evaluate", ["--run DIR"]),
        ("predict", ["--run DIR", "--input FILE", "--output FILE"]),
        ("inspect", ["--task TASK"]),
    ],
)
def test_help_of_a_command(
    command: str, flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = help_of(command, monkeypatch, capsys)
    for flag in flags:
        assert any(line.startswith(f"  {flag} ") for line in lines)
    assert lines[-1] == f"example: {cli.EXAMPLES[command]}"


def test_help_and_wrong_flags_load_nothing_heavy(tmp_path: Path) -> None:
    """What makes them quick: they answer before any of the numerical libraries is loaded."""
    code = """
import sys
from jaxfreeze.cli import main
for command in ([], ["evaluate"], ["predict"], ["inspect"]):
    try:
        main([*command, "--help"])
    except SystemExit:
        pass
for wrong in ([], ["--task", "rte", "--epochs", "x"], ["--task", "rte", "--nothing"], ["x"]):
    assert main(wrong) == 2
heavy = {"jax", "numpy", "flax", "optax", "orbax", "transformers", "datasets", "pyarrow", "torch", "huggingface_hub",
         "scipy", "sklearn", "safetensors", "tensorboardX", "matplotlib", "rich"}
print("loaded:", sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
