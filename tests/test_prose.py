"""Habits of translated English, none of which is in pages, docstrings, --help or messages."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
MODULES = sorted((ROOT / "jaxfreeze").rglob("*.py"))

_UNIT = (
    "(?:batch|row|line|step|run|token|text|device|task|word|class|file|seed|second|minute|hour|day|epoch|layer|example|"
    "process|chip|host|split|request|folder|trial|page|cell|object)"
)
_COUNTED = rf"(?:(?:one|an?|\d+) {_UNIT}(?:e?s)?|bytes?|[kMG]B|[MGT]?FLOPs?|times?|once|twice)"
HABITS = {
    r"that\b(?:[^.;:,()]*\bthat\b){2}": "two sentences, or fewer of `that`",
    r"who(?:m|se)?(?:so)?ever": "the person or part that is meant",
    r"of it all": "leave it out",
    r"(?:goes|go|going|went|gone) on": "continues",
    r"(?:is|are|was|were) not (?:there|here)|or not there": "is missing, does not exist",
    r"should (?:an?|one|it|they|you|the|this) [^.;:?]*,": "if ...",
    rf"{_COUNTED} an? {_UNIT}(?! time)": "one per ...",
    r"nobody": "no user, no one, or the active voice",
    r"by (?:itself|themselves)": "alone, separately, automatically",
    r"(?:told|tells?) (?:the two )?apart": "distinguish",
    r"(?:stands?|stood) (?:there|here|twice|in|beside|below|above|at)": "is in, appears",
    r"mend(?:s|ed|ing)?": "fix",
    r"taken for": "treated as, read as",
    r"(?:is|are) sure to": "reliably",
    r"seeds? (?:do|does) not decide|seeds? decides? nothing": "inconclusive with these seeds",
}
"""What is searched for, as a regular expression between word boundaries in any case, and what to write instead."""
SEARCHED = {re.compile(rf"\b(?:{habit})(?!\w)", re.IGNORECASE): better for habit, better in HABITS.items()}


def habits(text: str) -> list[str]:
    """The habits in a paragraph, each with what to write instead."""
    text = re.sub(r"`[^`]*`", "`...`", " ".join(text.split()))
    return [f"'{found[0]}': {better}" for habit, better in SEARCHED.items() if (found := habit.search(text))]


def paragraphs(page: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of a page's paragraphs and of the cells of its tables, without code."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^( *)```.*?^\1```$", lambda code: "\n" * code[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.finditer(r"^(?:\|.*|(?:(?!\|).+\n?)+)", text, re.MULTILINE):
        line = text.count("\n", 0, paragraph.start()) + 1
        yield from ((line, part) for part in paragraph[0].split("|" if paragraph[0].startswith("|") else "\0"))


def strings(module: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of a module's docstrings and of its other strings; braces stand for the values in an f-string."""
    parts: set[int] = set()  # of f-strings
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):  # an f-string comes before its parts
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            texts = (value.value if isinstance(value, ast.Constant) else "{}" for value in node.values)
            yield node.lineno, "".join(map(str, texts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            for paragraph in node.value.split("\n\n"):
                yield node.lineno, paragraph


@pytest.mark.parametrize("kind", ["pages", "package"])
def test_prose(kind: str) -> None:
    texts = paragraphs if kind == "pages" else strings
    found = [
        f"{file.relative_to(ROOT)}:{line}: {habit}"
        for file in (PAGES if kind == "pages" else MODULES)
        for line, text in texts(file)
        for habit in habits(text)
    ]
    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("now", "better"),
    [
        ("a name that says that the file that it has is old", "the name says that its file is old"),
        ("whoever can write to it", "anyone with write access"),
        ("the run goes on without it", "the run continues without it"),
        ("the output is whole or not there", "the output file is written atomically"),
        ("a text a line, of pairs with a tab between", "one text per line; separate pairs with a tab"),
        ("1,536 bytes a token", "1,536 bytes per token"),
        ("it evaluates once an epoch", "it evaluates once per epoch"),
        ("it asks nobody who they are", "it has no authentication"),
        ("an input to mend", "an input error"),
        ("Should one draw a larger batch, its shape grows", "If a seed produces a larger batch, it is enlarged"),
        ("the head alone is not told apart from it", "training only the head is indistinguishable from it"),
        ("none up to 3 is sure to keep 90%", "no k up to 3 reliably retains 90%"),
        ("the seeds do not decide", "inconclusive with these seeds"),
        ("a name stands twice in one object", "an object repeats a name"),
    ],
)
def test_the_list_finds_the_habit(now: str, better: str) -> None:
    assert habits(now)
    assert habits(better) == []
