"""Every command, flag and Python call in README and in docs/ exists; the site has every page and every public name."""

import ast
import importlib
import importlib.util
import inspect
import itertools
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from jaxfreeze import api
from jaxfreeze.cli import COMMANDS
from jaxfreeze.command_config import SearchConfig
from jaxfreeze.config import TrainConfig
from jaxfreeze.settings import docstrings

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")), *DOCS]
PAGES += [ROOT / "benchmarks" / "RESULTS.md"]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
OURS = ("run.py", "jaxfreeze")


def code_of(page: Path, language: str = "") -> list[str]:
    """The blocks of code between fences; all of them, or those in one language."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [inspect.cleandoc(code) if indent else code for indent, of, code in found if language in ("", of)]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(script, what follows it) of each command in a page's code; `\\` at the end of a line joins it with the next."""
    text = re.sub(r"\\\n[ #]*", " ", page.read_text(encoding="utf-8"))
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith(("    ", "#"))]
    if page.suffix == ".md":
        lines += [line for _, _, code in FENCED.findall(text) for line in code.splitlines()]
        lines += re.findall("`([^`\n]+)`", FENCED.sub("", re.sub("^    .*$", "", text, flags=re.MULTILINE)))
    found = []
    for line in lines:
        for script, rest in re.findall(
            r"(run\.py|benchmarks/\w+\.py|(?<![\w.-])jaxfreeze(?= ))((?:(?![;|]|  +#|&&).)*)", line
        ):
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
    assert {words[0] if words[0] in COMMANDS else "train" for script, words in shown if script in OURS} == {
        *COMMANDS
    } - {"cache", "compare"}  # which have no flags


@pytest.mark.parametrize(("script", "words"), SHOWN)
def test_every_flag_exists(script: str, words: list[str], help_of: dict[str, str]) -> None:
    if script in OURS:
        command = "train" if words[0].startswith("-") else words[0]
        if command.isupper():  # COMMAND --help
            return
        assert command in COMMANDS
        known = set(re.findall(r"^  (?:-h, )?(--\w+)", help_of[command], re.MULTILINE))
    else:
        known = set(re.findall(r"--\w+", (ROOT / script).read_text(encoding="utf-8")))
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [flag for flag in flags if flag not in known] == []
    if script in OURS:
        for word, value in itertools.pairwise(words):
            if word == "--config" and value.startswith("configs/"):
                assert (ROOT / value).is_file()


def test_every_page_that_is_linked_is_there() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


PYTHON = [(page, code) for page in PAGES for code in code_of(page, "python")]
SETTINGS = {field.name for field in fields(TrainConfig)}
OF_CALLS = {"finetune": SETTINGS, "find_layers": {"share", *SETTINGS, *(field.name for field in fields(SearchConfig))}}


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page.name}-{n}" for n, (page, _) in enumerate(PYTHON)])
def test_python_names_what_there_is(page: Path, code: str) -> None:
    """What is imported exists, and calls take settings that exist; tests/test_api.py runs the blocks that train."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OF_CALLS:
            assert {word.arg for word in node.keywords} <= OF_CALLS[node.func.id]


def test_every_page_is_on_the_site(hooks: ModuleType) -> None:
    """In the navigation, once; what `make docs` would say of it needs no mkdocs here."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = re.findall(r"^ +- (?:[\w, ]+: )?([\w/]+\.md)$", text, re.MULTILINE)
    here = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(shown) == sorted([*here, *hooks.INCLUDED.values()])
    assert all((ROOT / source).is_file() for source in hooks.INCLUDED)


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """docs/hooks.py."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_documented(hooks: ModuleType) -> None:
    """On the site's page, by a docstring, with a docstring for each public member."""
    shown = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.split(".")[-1] for name in shown} >= hooks.public_names() == {*api.__all__}
    for name in shown:
        module, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        assert inspect.getdoc(value), name
        if isinstance(value, type):
            members = {key: inspect.getdoc(one) for key, one in vars(value).items() if not key.startswith("_")}
            if hasattr(value, "__dataclass_fields__"):
                members |= {field.name: docstrings(value).get(field.name) for field in fields(value)}
            assert [f"{name}.{key}" for key, text in members.items() if not text] == []


def test_flags_on_the_site(hooks: ModuleType, help_of: dict[str, str]) -> None:
    """The page has the flags that --help has, for every command."""
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8").count("<!-- flags -->") == 1
    for name, command in COMMANDS.items():
        section = hooks.flags_of(command)
        flags = re.findall(r"^\| `(--\w+)", section, re.MULTILINE)
        assert [*flags, "--help"] == [*dict.fromkeys(flags), "--help"]
        assert {*flags, "--help", "--version"} >= {*re.findall(r"^  (?:-h, )?(--\w+)", help_of[name], re.MULTILINE)}
        assert all(re.search(r"\| `[^`]+` \| \S.* \|$", line) for line in section.splitlines() if line[:3] == "| `")


LINKS = [
    ("[a](../benchmarks/RESULTS.md#x)", "docs/design.md", "design.md", "[a](results.md#x)"),
    ("[a](docs/design.md)", "CONTRIBUTING.md", "contributing.md", "[a](design.md)"),
    ("[a](../flags.md)", "docs/example_report/report.md", "example_report/report.md", "[a](../flags.md)"),
    ("[a](../configs/mnli.yaml)", "docs/runs.md", "runs.md", "[a](https://host/a/b/blob/main/configs/mnli.yaml)"),
    ("[a](README.md)", "CONTRIBUTING.md", "contributing.md", "[a](index.md)"),
]


@pytest.mark.parametrize(("link", "source", "page", "expected"), LINKS)
def test_links_of_the_repository_are_links_of_the_site(
    link: str, source: str, page: str, expected: str, hooks: ModuleType
) -> None:
    found = hooks.LINK.search(link)
    assert hooks.site_link(found, source, page, "https://host/a/b") == expected
    if "host" in expected:
        assert hooks.site_link(found, source, page, "") == "a"
