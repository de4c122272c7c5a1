"""The command line: help, flags and files of flags. What is wrong with them is in test_bad_input.py."""

import gc
import os
import re
import subprocess
import sys
import types
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from jaxfreeze import cli
from jaxfreeze.command_config import ClusterConfig, SearchConfig
from jaxfreeze.config import TrainConfig
from jaxfreeze.training import loop

ROOT = Path(cli.__file__).parent.parent
RTE_YAML = "task: rte\nepochs: 7\nseed: 3\nfrozen_dropout: true\ntrainable_layers: 1\n"


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
                label_column=("1e3",),
                label_names=("0", "1"),
            ),
        ),
    ],
)
def test_flags(arguments: str, expected: TrainConfig, told: list[TrainConfig]) -> None:
    assert cli.main(arguments.split()) == 0
    assert told == [expected]


@pytest.mark.parametrize("first", [True, False], ids=["first", "again"])
def test_the_first_imports_are_not_looked_through_for_garbage(first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    collects: list[bool] = []
    frozen: list[bool] = []

    class Loop(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name != "finetune":
                raise AttributeError(name)
            collects.append(gc.isenabled())
            return lambda config: collects.append(gc.isenabled())

    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    monkeypatch.setitem(sys.modules, loop.__name__, Loop(loop.__name__))
    if first:
        monkeypatch.delitem(sys.modules, "jax")
    assert cli.main(["--task", "rte"]) == 0
    assert collects == [not first, True]
    assert frozen == [False] * first


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
    (tmp_path / "rte.yaml").write_text(RTE_YAML)
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


END = "(stopped|not everything was printed)\n"
CLOSED = f"standard output is closed: {END}"
FULL = rf"error: standard output cannot be written to \(No space left on device\), make room .*: {END}"


@pytest.mark.parametrize("command", ["--help", "sweep --help", "cache list"])
def test_an_output_that_nobody_reads(command: str) -> None:
    """Nor does Python itself complain when it ends."""
    with Path("/dev/full").open("w") as full:
        done = run(command, stdout=full)
    assert done.returncode == 2
    assert re.fullmatch(FULL, done.stderr)
    reading, writing = os.pipe()
    os.close(reading)
    done = run(command, stdout=writing)
    os.close(writing)
    assert done.returncode == 141
    assert re.fullmatch(CLOSED, done.stderr)


def test_streams_that_are_closed_from_the_beginning() -> None:
    """Their numbers do not go to the next files, in which C++'s log would be written."""
    code = """
import sys
from jaxfreeze import cli
assert cli.main(["--help"]) == 0
with open("/dev/null") as file:
    sys.exit(file.fileno())
"""
    command = ["sh", "-c", f"{sys.executable} -c '{code}' >&- 2>&-"]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == 3


def run(command: str, **how: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "run.py", *command.split()]
    how = {"env": {**os.environ, "PYTHONUNBUFFERED": ""}, "stderr": subprocess.PIPE, "text": True} | how
    return subprocess.run(words, cwd=ROOT, check=False, timeout=300, **how)


@pytest.mark.parametrize(
    "variable, value, words",
    [
        ("JAX_PLATFORMS", "cuda", "no such device can be used here; this machine has cpu; name one of those"),
        ("JAX_PLATFORMS", "gpux", "no such device can be used here (Unable to initialize backend 'gpux'"),
        ("JAX_PLATFORM_NAME", "gpux", "no such device can be used here (Unknown backend gpux"),
        ("JAX_NUM_CPU_DEVICES", "many", "JAX does not start with"),
    ],
)
def test_a_device_that_is_not_there(variable: str, value: str, words: str, tmp_path: Path) -> None:
    others = {name: text for name, text in os.environ.items() if not name.startswith(("JAX_PLATFORM", "XLA_"))}
    done = run(f"--task rte --output_dir {tmp_path}/run", env={**others, variable: value}, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert f"{variable}={value}" in done.stderr
    assert words in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: TrainConfig) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(loop, "finetune", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["--task", "rte"])


def help_of(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main([*command.split(), "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0].startswith("usage: python run.py ")
    assert len(lines) <= max(90, 2 * sum(line.startswith("  -") for line in lines))  # two a flag: 90 of 45 flags
    assert max(map(len, lines)) <= 100
    for noise in ("type:", "Union", "null", "ITEM", "{true,false}", "--print_config", "()"):
        assert noise not in printed.out
    return lines


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = help_of("", monkeypatch, capsys)
    assert "\n".join(lines).count(cli.DESCRIPTION.strip()) == 1
    flags = {line.split()[0]: line for line in lines if line.startswith("  -")}
    taken = [field.name for config in (TrainConfig, SearchConfig, ClusterConfig) for field in fields(config)]
    assert sorted(flags) == sorted(["-h,", "--version", "--config", *(f"--{name}" for name in taken)])
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
        "  --dtype {auto,float32,bfloat16} ",
    ):
        assert any(f"{line} ".startswith(start) for line in lines), start
    words = " ".join(" ".join(lines).split())
    for default in ("AdamW (default: 5e-05)", "(default: bert-base-uncased)", "left out (default: 0.01)"):
        assert default in words
    assert "hub (see --dataset) (required)" in words


@pytest.mark.parametrize(
    "command, flags",
    [
        ("evaluate", ["--run DIR"]),
        ("predict", ["--run DIR", "--input FILE", "--output FILE", "--ensemble"]),
        ("export", ["--run DIR", "--output DIR", "--best", "--top_only", "--format {safetensors,stablehlo}"]),
        ("inspect", ["--task TASK"]),
        ("serve", ["--run DIR", "--best", "--ensemble", "--host HOST", "--port PORT"]),
        ("report", ["DIR [DIR ...]", "--output DIR"]),
        ("cache", ["{list,clear}"]),
        (
            "sweep",
            [
                "--config FILE",
                "--output_dir DIR",
                "--dry_run",
                "--part I/N",
                "--engine {local,ray}",
                "--models MODEL [MODEL ...]",
                "--tasks TASK [TASK ...]",
                "--trainable_layers K [K ...]",
                "--learning_rates RATE [RATE ...]",
                "--seeds N [N ...]",
                "--epochs N",
                "--data_dir DIR",
            ],
        ),
    ],
)
def test_help_of_a_command(
    command: str, flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = help_of(command, monkeypatch, capsys)
    for flag in flags:
        assert any(f"{line} ".startswith(f"  {flag} ") for line in lines)
    assert lines[-1] == f"example: python run.py {cli.COMMANDS[command].example}"


def test_help_and_wrong_flags_load_nothing_heavy(tmp_path: Path) -> None:
    """What makes them quick: they answer before any of the numerical libraries is loaded."""
    code = """
import sys
from jaxfreeze.cli import COMMANDS, main
for command in COMMANDS:
    assert main([command, "--help"]) == 0
for wrong in ([], ["--task", "rte", "--epochs", "x"], ["--task", "rte", "--nothing"], ["x"],
              ["sweep"], ["sweep", "--output_dir", "x", "--seeds", "one"]):
    assert main(wrong) == 2
heavy = {"jax", "numpy", "flax", "optax", "orbax", "transformers", "datasets", "pyarrow", "torch", "huggingface_hub",
         "scipy", "sklearn", "safetensors", "tensorboardX", "matplotlib", "rich"}
print("loaded:", sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
