"""Settings as fields of dataclasses: one place judges a value, whether it comes from a flag, from YAML or from Python.

The annotation of a field says what it takes, the docstring under it what it is for, and `Takes` the rest.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import os
import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from jaxfreeze.errors import InputError, same_word
from jaxfreeze.strict_yaml import from_text

T = TypeVar("T")

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text (a number, or a word like yes, in quotes)",
}
"""What a type takes, in an error line."""


@dataclasses.dataclass(frozen=True)
class Takes:
    """What a type alone does not say about a setting: `Annotated[int, Takes("STEPS", low=1)]`."""

    metavar: str = ""
    """What stands for the value in --help."""
    low: float = -math.inf
    """The smallest value; `check_limits` refuses others."""
    high: float = math.inf
    """The largest value."""
    expected: str = ""
    """What an error line says is expected, in place of the type's words."""
    repeated: bool = False
    """A list whose flag is given once for each item."""
    positional: bool = False
    """Given without a flag."""
    path: bool = False
    """A file or a folder: `~` and environment variables are what they stand for."""


class Setting(NamedTuple):
    """One field of a dataclass."""

    name: str
    kind: Any
    """Its annotation."""
    default: Any
    """dataclasses.MISSING where it has none."""
    owner: type

    @property
    def takes(self) -> Takes:
        """What its annotation does not say by its type."""
        return takes_of(self.kind)

    @property
    def required(self) -> bool:
        """Whether nothing works without it."""
        return self.default is dataclasses.MISSING

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return get_origin(bare(self.kind)) is tuple

    @property
    def flag(self) -> str:
        """How the command line names it."""
        return (self.takes.expected or self.takes.metavar) if self.takes.positional else f"--{self.name}"


class MissingError(InputError):
    """A required flag is missing; the command adds an example."""


def settings_of(owner: type) -> dict[str, Setting]:
    """The fields of a dataclass by name, in their order."""
    fields = dataclasses.fields(owner)
    return {field.name: Setting(field.name, field.type, field.default, owner) for field in fields}


@functools.cache
def docstrings(owner: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    body: Any = ast.parse(inspect.getsource(owner)).body[0]
    found = {}
    for field, text in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(text.value))
    return found


def make(owner: type[T], given: Mapping[str, Any]) -> T:
    """A dataclass from those of the given values that are its own. Raises MissingError."""
    settings = settings_of(owner)
    missing = [setting.flag for setting in settings.values() if setting.required and setting.name not in given]
    if missing:
        raise MissingError(f"{', '.join(missing)} {'are' if len(missing) > 1 else 'is'} required")
    return owner(**{name: given[name] for name in settings if name in given})


def bare(kind: Any) -> Any:
    """An annotation without `Annotated` and without `| None`."""
    if get_origin(kind) is Annotated:
        return bare(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        kinds = [one for one in get_args(kind) if one is not NoneType]
        return bare(kinds[0]) if len(kinds) == 1 else kind
    return kind


def takes_of(kind: Any) -> Takes:
    """The `Takes` in an annotation; a metavar at least."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin is Annotated:
        takes: Takes = kinds[1]
        return takes if takes.metavar else dataclasses.replace(takes, metavar=takes_of(kinds[0]).metavar)
    if origin in (Union, UnionType):
        return takes_of(kinds[0])
    if origin is Literal:
        return Takes(f"{{{','.join(kinds)}}}")
    if origin is tuple:
        item = takes_of(kinds[0]).metavar
        return Takes(f"{item} [{item} ...]")
    return Takes({int: "N", float: "X", bool: ""}.get(kind, "TEXT"))


def convert(kind: Any, value: Any) -> Any:
    """The value as its annotation has it; a text also as YAML reads it. Raises ValueError if it is none of the kind.

    Where a list of texts is wanted, a text that YAML does not read as a list is a list of one, and nothing is one of
    none.
    """
    try:
        return _convert(kind, value)
    except ValueError:
        if _is_texts(kind) and value is None:
            return ()
        if not isinstance(value, str) or not value.strip():
            raise
        read = from_text(value)
        return _convert(kind, [value] if _is_texts(kind) and not isinstance(read, list) else read)


def _is_texts(kind: Any) -> bool:
    return get_origin(bare(kind)) is tuple and bare(get_args(bare(kind))[0]) is str


def expanded(path: str) -> str:
    """A path with `~` and $VARIABLE replaced by what they stand for; a `$` in the name of what is there stays.

    Raises InputError for a variable that is not set or empty, and for the home folder of an unknown user.
    """
    found = os.path.expanduser(path)  # noqa: PTH111  # Path would change a hub's address
    if re.match(r"~\w*(/|$)", found):
        raise InputError(f"{path}: this machine has no user {found.partition('/')[0][1:]}")
    if os.path.lexists(found):
        return found
    names = ["".join(name) for name in re.findall(r"\$(?:\{(\w+)\}|(\w+))", found)]
    unset = [name for name in names if not os.environ.get(name)]
    if unset:
        raise InputError(f"{path}: the environment variable {unset[0]} is not set")
    return os.path.expandvars(found)


def _convert(kind: Any, value: Any) -> Any:
    origin, kinds = get_origin(kind), get_args(kind)
    if origin is Annotated:
        converted = _convert(kinds[0], value)
        return expanded(converted) if kinds[1].path and isinstance(converted, str) else converted
    if origin in (Union, UnionType):
        return _first(kinds, value)
    if origin is Literal and isinstance(value, str) and value in kinds:
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(convert(kinds[0], item) for item in value)
    numbers = {int: (int, str), float: (int, float, str)}.get(kind, ())
    if isinstance(value, numbers) and not isinstance(value, bool):
        try:
            return kind(value)
        except OverflowError:
            raise ValueError(value) from None
    if kind in (bool, str, NoneType) and isinstance(value, kind):
        return value
    raise ValueError(value)


def _first(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _convert(kind, value)
        except ValueError:
            continue
    raise ValueError(value)


def expected(kind: Any, found: Any = None) -> str:
    """What an annotation takes, in words; with the name that was meant if it takes one of several names."""
    names = get_args(bare(kind)) if get_origin(bare(kind)) is Literal else ()
    return _words(kind) + (same_word(names, found) if isinstance(found, str) else "")


def _words(kind: Any) -> str:
    origin, kinds = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return kinds[1].expected or _words(kinds[0])
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in kinds if one is not NoneType)
    if origin is Literal:
        return " or ".join(kinds)
    if origin is tuple:
        text = bare(kinds[0]) is str
        return "a list of texts (numbers, and words like yes, in quotes)" if text else f"a list of {_words(kinds[0])}"
    return WORDS[kind]


def within(kind: Any, value: Any) -> bool:
    """Whether a number is in the limits of its annotation, which nan never is."""
    takes = takes_of(kind)
    return not isinstance(value, (int, float)) or takes.low <= value <= takes.high


def check_limits(config: Any) -> None:
    """Raise InputError for a field of a dataclass that is out of its limits."""
    for setting in settings_of(type(config)).values():
        value, takes = getattr(config, setting.name), setting.takes
        if not within(setting.kind, value):
            bounds = f"at least {takes.low:g}" if takes.high == math.inf else f"{takes.low:g} to {takes.high:g}"
            raise InputError(f"--{setting.name} {value}: expected {takes.expected or bounds}")
