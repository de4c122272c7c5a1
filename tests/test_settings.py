"""What a setting takes: one judge for flags, YAML and Python; and every flag of every command is documented."""

import dataclasses
import math
from typing import Annotated, Any, Literal

import pytest

from jaxfreeze.cli import COMMANDS
from jaxfreeze.errors import InputError
from jaxfreeze.flags import Command, help_text, read
from jaxfreeze.settings import Takes, bare, check_limits, convert, docstrings, expected, make

Layers = int | Literal["all"]
Part = Literal["local", "ray"]


@pytest.mark.parametrize(
    ("kind", "value", "converted"),
    [
        (int, "3", 3),
        (int, 3, 3),
        (int, "010", 10),  # not octal, as YAML would have it
        (int, " +3 ", 3),
        (float, "5e-5", 5e-5),  # text in YAML
        (float, 3, 3.0),
        (float, ".inf", math.inf),
        (bool, "no", False),
        (bool, True, True),
        (str, "null", "null"),
        (str | None, "null", "null"),
        (str | None, None, None),
        (int | None, "null", None),
        (Layers, "all", "all"),
        (Layers | None, "2", 2),
        (Annotated[Layers, Takes("K")] | None, "2", 2),
        (int | float, "2", 2),
        (int | float, "2.5", 2.5),
        (Part, "ray", "ray"),
        (tuple[str, ...], ["1", "no"], ("1", "no")),
        (tuple[str, ...], "a b", ("a b",)),
        (tuple[str, ...], "a: b", ("a: b",)),
        (tuple[str, ...], "[a, b]", ("a", "b")),
        (tuple[str, ...], None, ()),
        (tuple[int, ...], ["1", 2], (1, 2)),
        (tuple[Layers, ...], [0, "all"], (0, "all")),
    ],
)
def test_converted(kind: Any, value: Any, converted: Any) -> None:
    found = convert(kind, value)
    assert found == converted
    assert type(found) is type(converted)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "1.5", "a whole number"),
        (int, True, "a whole number"),
        (int, 3.0, "a whole number"),
        (int, None, "a whole number"),
        (int | None, "", "a whole number"),
        (int, "9" * 5000, "a whole number"),
        (float, 10**400, "a number"),
        (float, "no", "a number"),
        (bool, 1, "true or false"),
        (str, 3, "text (a number, or a word like yes, in quotes)"),
        (Layers, "al", "a whole number or all"),
        (Part, "Ray", "local or ray; did you mean 'ray'?"),
        (Annotated[Part, Takes(expected="one of two")], "RAY", "one of two; did you mean 'ray'?"),
        (tuple[str, ...], [1], "a list of texts (numbers, and words like yes, in quotes)"),
        (tuple[int, ...], ["x"], "a list of a whole number"),
    ],
)
def test_refused(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # it carries no message: the words are made from the annotation
        convert(kind, value)
    assert expected(kind, value) == words


@dataclasses.dataclass(frozen=True)
class Example:
    """An example.

    With flags of each kind.
    """

    place: Annotated[str, Takes("PLACE", positional=True)]
    """Where it is."""
    must: Annotated[int, Takes("N", low=1, high=9)]
    """How many there are, in words
    that go on."""
    runs: Annotated[tuple[str, ...], Takes("DIR", repeated=True)] = ()
    """Each given by itself."""
    names: tuple[Annotated[str, Takes("NAME")], ...] = ("a", "b")
    """Given together."""
    share: Annotated[float, Takes("SHARE", expected="a share")] = 0.5
    """A share."""
    switch: bool = False
    """On or off."""
    on: bool = True
    """On."""

    def __post_init__(self) -> None:
        check_limits(self)


COMMAND = Command("example", lambda given: None, (Example,), "example here --must 1")


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("", {}),
        ("here", {"place": "here"}),
        ("--must 3 here --switch", {"must": 3, "place": "here", "switch": True}),
        ("--runs a --runs=b here", {"runs": ("a", "b"), "place": "here"}),
        ("--names a b --names c -d -1", {"names": ("c", "-d", "-1")}),
        ("--must -1 --must=-2", {"must": -2}),
        ("--on false --switch=yes", {"on": False, "switch": True}),
        ("--names=a=b", {"names": ("a=b",)}),
    ],
)
def test_read(line: str, given: dict[str, Any]) -> None:
    assert read(COMMAND, line.split()) == given


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--mist 1", "--mist: no such flag; did you mean '--must'? (`python run.py example --help` lists them)"),
        ("--must", "--must: expected a value, found none"),
        ("--must=", "--must : expected a whole number"),
        ("--must x", "--must x: expected a whole number"),
        (
            "--must 1 here there",
            "there: expected a flag, found a value that belongs to none (`python run.py example --help` lists them)",
        ),
        ("--place here", "--place: no such flag (`python run.py example --help` lists them)"),
        ("--share", "--share : expected a share"),
        ("--share 0.1 0.2", "--share 0.1 0.2: expected a share"),
        ("--runs", "--runs: expected a value, found none"),
        ("--switch maybe", "--switch maybe: expected true or false"),
        ("here", "--must is required"),
        ("", "PLACE, --must are required"),
        ("here --must 10", "--must 10: expected 1 to 9"),
    ],
)
def test_not_read(line: str, error: str) -> None:
    with pytest.raises(InputError) as caught:
        make(Example, read(COMMAND, line.split()))
    assert str(caught.value) == error


def test_help_of_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert help_text(COMMAND).splitlines() == [
        "usage: python run.py example PLACE --must N [flags]",
        "",
        "An example.",
        "",
        "With flags of each kind.",
        "",
        "flags:",
        "  -h, --help                    Show this text and exit",
        "  PLACE                         Where it is (required)",
        "  --must N                      How many there are, in words",
        "                                that go on (required)",
        "  --runs DIR                    Each given by itself",
        "  --names NAME [NAME ...]       Given together (default: a",
        "                                b)",
        "  --share SHARE                 A share (default: 0.5)",
        "  --switch                      On or off",
        "  --on                          On (default: true)",
        "",
        "example: python run.py example here --must 1",
    ]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_flag_is_documented(command: Command) -> None:
    assert command.summary
    names = [name for group in command.groups.values() for name in group]
    assert len(names) == len(set(names)), "a name in two groups would have two meanings"
    for setting in command.settings.values():
        assert docstrings(setting.owner)[setting.name].strip(), setting.name
        assert setting.takes.metavar or bare(setting.kind) is bool, setting.name
        if not setting.required and setting.default not in (None, ()):
            assert convert(setting.kind, setting.default) == setting.default
