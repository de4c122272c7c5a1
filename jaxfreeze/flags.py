"""The command line: arguments to settings, --help, and a mistake as one line that names the flag.

Not argparse: it takes a value such as -1e-3 or -x for a flag, and its messages would have to be read back.
"""

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from jaxfreeze.errors import InputError, did_you_mean
from jaxfreeze.program import program
from jaxfreeze.settings import Setting, bare, convert, docstrings, expected, settings_of

HELP = ("-h", "--help")
VERSION = "--version"
COLUMN = 32
"""Where the texts begin in --help."""


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command takes, and what it calls."""

    name: str
    run: Callable[[dict[str, Any]], None]
    """Called with what the command line gives, by name."""
    configs: tuple[type, ...]
    """The dataclasses of its flags."""
    example: str
    """What follows the program's name."""
    more: Mapping[str, Mapping[str, Setting]] = dataclasses.field(default_factory=dict)
    """Further flags, by their heading in --help."""
    about: str = ""
    """What it does, in place of the docstring of the last dataclass."""
    refuse: Callable[[str], None] | None = None
    """Raises InputError for the name of an unknown flag if there is more to say than that it is unknown."""

    @property
    def groups(self) -> dict[str, Mapping[str, Setting]]:
        """Its flags, by their heading in --help."""
        groups: dict[str, dict[str, Setting]] = {"flags": {}}
        for config in self.configs:
            headings, heading = getattr(config, "HEADINGS", {}), "flags"
            for name, setting in settings_of(config).items():
                heading = headings.get(name, heading)
                groups.setdefault(heading, {})[name] = setting
        return {**groups, **self.more}

    @property
    def settings(self) -> dict[str, Setting]:
        """All its flags, by name."""
        return {name: setting for group in self.groups.values() for name, setting in group.items()}

    @property
    def description(self) -> str:
        """What it does."""
        return self.about or inspect.getdoc(self.configs[-1]) or ""

    @property
    def summary(self) -> str:
        """What it does, on one line."""
        return self.description.partition("\n")[0]


def by_flag(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """`w --a 1 --b x y --c=2` -> [("", [w]), (--a, [1]), (--b, [x, y]), (--c, [2])]."""
    result: list[tuple[str, list[str]]] = [("", [])]
    for argument in arguments:
        if argument.startswith("--") or argument in HELP:
            flag, equals, value = argument.partition("=")
            result.append((flag, [value] if equals else []))
        else:
            result[-1][1].append(argument)
    return result


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether -h or --help is among the arguments."""
    return any(flag in HELP for flag, _ in by_flag(arguments))


def read(command: Command, arguments: Sequence[str]) -> dict[str, Any]:
    """What the arguments give, by name; the last one counts of a flag that is given twice. Raises InputError."""
    settings = command.settings.values()
    flags = {setting.flag: setting for setting in settings if not setting.takes.positional}
    given: dict[str, Any] = {}
    (_, loose), *rest = by_flag(arguments)  # loose: values that follow no flag, or more than their flag takes
    for flag, texts in rest:
        if flag not in flags:
            raise _unknown(command, flag)
        setting = flags[flag]
        count = _count(setting, texts)
        value = _value(setting, texts[:count])
        given[setting.name] = (*given.get(setting.name, ()), *value) if setting.takes.repeated else value
        loose += texts[count:]
    for setting in settings:
        if setting.takes.positional and loose:
            count = _count(setting, loose)
            given[setting.name] = _value(setting, loose[:count])
            del loose[:count]
    if loose:
        raise _unknown(command, loose[0])
    return given


def _count(setting: Setting, texts: list[str]) -> int:
    """How many of the texts after a flag are its own; all of them where a setting has its own words for too many."""
    several = setting.is_list and not setting.takes.repeated
    return len(texts) if several or setting.takes.expected else 1


def _value(setting: Setting, texts: list[str]) -> Any:
    """The value of a flag, from the texts after it."""
    kind = bare(setting.kind)
    if kind is bool and not texts:
        return True
    if not texts and not setting.takes.expected:
        raise InputError(f"{setting.flag}: expected a value, found none")
    if setting.is_list and not setting.takes.expected:
        return tuple(_item(setting.flag, get_args(kind)[0], text) for text in texts)
    try:
        [value] = [texts] if setting.is_list and texts else texts  # ValueError if it is not one
        return convert(setting.kind, value)
    except ValueError:
        words = texts if setting.takes.positional else [setting.flag, *texts]
        found = texts[0] if len(texts) == 1 else None
        raise InputError(f"{' '.join(words)}{'' if texts else ' '}: expected {expected(setting.kind, found)}") from None


def _item(flag: str, kind: Any, text: str) -> Any:
    try:
        return convert(kind, text)
    except ValueError:
        raise InputError(f"{flag}: expected {expected(kind, text)}, found {text!r}") from None


def _unknown(command: Command, found: str) -> InputError:
    """The error for a flag or a value that the command does not take."""
    if not found.startswith("-"):
        what = "expected a flag, found a value that belongs to none"
    else:
        if command.refuse is not None:
            command.refuse(found.removeprefix("--"))
        flags = [setting.flag for setting in command.settings.values() if not setting.takes.positional]
        what = f"no such flag{did_you_mean(flags, found)}"
    return InputError(f"{found}: {what} (`{program()} {command.name} --help` lists them)")


def help_text(command: Command) -> str:
    """What --help prints, as wide as the terminal."""
    name = "[train]" if command.name == "train" else command.name
    required = [shown(setting) for setting in command.settings.values() if setting.required]
    width = shutil.get_terminal_size().columns
    paragraphs = command.description.strip().split("\n\n")
    about = [text if "\n  " in text else textwrap.fill(text, width) for text in paragraphs]  # a table stays as it is
    lines = [f"usage: {' '.join([program(), name, *required, '[flags]'])}\n", "\n\n".join(about)]
    for heading, group in command.groups.items():
        lines.append(f"\n{heading}:")
        if heading == "flags":
            lines += _entry("-h, --help", "Show this text and exit", width)
            lines += _entry(VERSION, "Show the version and exit", width) if command.name == "train" else []
        for setting in group.values():
            lines += _entry(shown(setting), described(setting), width)
    return "\n".join([*lines, f"\nexample: {program()} {command.example}"])


def shown(setting: Setting) -> str:
    """A flag and what stands for its value."""
    return f"{'' if setting.takes.positional else setting.flag} {setting.takes.metavar}".strip()


def described(setting: Setting) -> str:
    """What a flag is for, with its default."""
    return docstrings(setting.owner)[setting.name].removesuffix(".") + _note(setting)


def _note(setting: Setting) -> str:
    """The default of a flag, or that it has to be given."""
    if setting.required:
        return " (required)"
    default = setting.default
    if default is None or default is False or default == ():
        return ""
    words = default if isinstance(default, tuple) else [str(default).lower() if default is True else default]
    return f" (default: {' '.join(map(str, words))})"


def _entry(flag: str, text: str, width: int) -> list[str]:
    """The lines of one flag."""
    texts = textwrap.wrap(text, max(width - COLUMN, 20), break_on_hyphens=False)
    first = f"  {flag} "
    begin = [f"{first:<{COLUMN}}{texts.pop(0)}"] if len(first) <= COLUMN else [first.rstrip()]
    return begin + [" " * COLUMN + line for line in texts]
