"""Every command in the README and in docs/ exists, with every flag that it is shown with."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxfreeze.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "RESULTS.md"]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(script, what follows it) of each command in a page's code; `\\` at the end of a line joins it with the next."""
    text = re.sub(r"\\\n[ #]*", " ", page.read_text(encoding="utf-8"))
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith(("    ", "#"))]
    if page.suffix == ".md":
        lines += [
            span for line in text.splitlines() if not line.startswith("    ") for span in re.findall("`([^`]+)`", line)
        ]
    found = []
    for line in lines:
        for script, rest in re.findall(r"(run\.py|benchmarks/\w+\.py)((?:(?![;|]|  +#|&&).)*)", line):
            found.append((script, rest.strip(" '\")").split()))
    return found


SHOWN = [
    pytest.param(script, words, id=f"{page.name}: {script} {' '.join(words)}")
    for page in (*PAGES, *CONFIGS)
    for script, words in commands(page)
    if any(word.startswith("--") for word in words)
]


@pytest.fixture(scope="module")
def help_of() -> dict[str, str]:
    """--help of every command, and of a benchmark its source, by first words."""
    return {
        command: subprocess.run(
            [sys.executable, "run.py", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for command in COMMANDS
    }


def test_every_command_is_shown() -> None:
    shown = [parameter.values for parameter in SHOWN]
    assert {words[0] if words[0] in COMMANDS else "train" for script, words in shown if script == "run.py"} == {
        *COMMANDS
    } - {"cache", "compare"}  # which have no flags


@pytest.mark.parametrize(("script", "words"), SHOWN)
def test_every_flag_exists(script: str, words: list[str], help_of: dict[str, str]) -> None:
    if script == "run.py":
        command = words[0] if words[0] in COMMANDS else "train"
        known = set(re.findall(r"^  (?:-h, )?(--\w+)", help_of[command], re.MULTILINE))
    else:
        known = set(re.findall(r"--\w+", (ROOT / script).read_text(encoding="utf-8")))
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [flag for flag in flags if flag not in known] == []
    if script == "run.py":
        for word, value in itertools.pairwise(words):
            if word == "--config" and value.startswith("configs/"):
                assert (ROOT / value).is_file()


def test_every_page_that_is_linked_is_there() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
