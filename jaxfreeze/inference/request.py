"""What a client of the server may ask: the body of a request, checked, and the limits."""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from jaxfreeze.data.json_rows import json_object
from jaxfreeze.errors import InputError, one_of, one_of_names, shorten
from jaxfreeze.inference.texts import Row, checked_rows

MOST_BYTES = 1_000_000  # of a body
MOST_TEXTS = 1024  # of a request; a pair counts as one
MOST_CHARACTERS = 100_000  # of a text
FIELDS = ("texts", "tasks")

JSON_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
"""What JSON calls the Python types that are no numbers."""


class TooLargeError(InputError):
    """A request that is well formed but over one of the limits."""


class Request(NamedTuple):
    """A checked request."""

    rows: list[Row]
    """Each example as its one or two texts; all alike."""
    tasks: list[str]
    """Which runs are asked, by name, each once."""


def read_request(body: bytes, names: Collection[str], in_words: bool = False) -> Request:
    """The request that a body of JSON makes: {"texts": a text or a list of texts or pairs, "tasks": name or names}.

    names: of the runs that can be asked; without "tasks", or with null, all of them are. in_words: a list among the
    texts is one of words, not a pair. Raises InputError for what is wrong, as TooLargeError where only the size is.
    """
    fields = _read_json(body)
    if not isinstance(fields, dict):
        raise InputError(f'expected an object {{"texts": [...]}}, found {_found(fields)}')
    unknown = next((name for name in fields if name not in FIELDS), None)
    if unknown is not None:
        raise InputError(f"field '{_shown(unknown)}': expected {one_of_names(FIELDS, shorten(unknown))}")
    if "texts" not in fields:
        raise InputError('texts: expected this field, found none, as in {"texts": ["A man plays a guitar."]}')
    return Request(_rows(fields["texts"], in_words), _tasks(fields.get("tasks"), names))


def _read_json(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), object_pairs_hook=json_object, parse_constant=_no_constant)
    except RecursionError:
        raise InputError("broken JSON (nested too deeply); expected an object of texts and tasks") from None
    except ValueError as reason:
        raise InputError(f"broken JSON ({_shown(str(reason))}); expected an object of texts and tasks") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _rows(texts: Any, in_words: bool) -> list[Row]:
    if not isinstance(texts, (str, list)):
        kinds = "lists of words" if in_words else "pairs"
        raise InputError(f"texts: expected a text, or a list of texts or of {kinds}, found {_found(texts)}")
    if not texts:
        raise InputError(f"texts: expected at least one text, found an empty {'text' if texts == '' else 'list'}")
    if isinstance(texts, list) and len(texts) > MOST_TEXTS:
        raise TooLargeError(f"texts: expected at most {MOST_TEXTS:,} in a request, found {len(texts):,}; send several")
    rows = checked_rows([texts] if isinstance(texts, str) else texts, in_words)
    longest = max(sum(map(len, text)) for row in rows for text in row)
    if longest > MOST_CHARACTERS:
        raise TooLargeError(f"texts: expected at most {MOST_CHARACTERS:,} characters in a text, found {longest:,}")
    return rows


def _tasks(asked: Any, names: Collection[str]) -> list[str]:
    if asked is None:
        return list(names)
    tasks = [asked] if isinstance(asked, str) else asked
    if not isinstance(tasks, list) or not tasks:
        found = "an empty list" if tasks == [] else _found(tasks)
        raise InputError(f"tasks: expected a name or a list of names, found {found}")
    for task in tasks:
        if not isinstance(task, str):
            raise InputError(f"tasks: expected names, found {_found(task)} among them")
        if task not in names:
            raise InputError(f"tasks: '{_shown(task)}' is not {one_of(names, shorten(task))}")
    return list(dict.fromkeys(tasks))


def _found(value: Any) -> str:
    """What a JSON value is."""
    return JSON_NAMES.get(type(value), "a number")


def _shown(text: str) -> str:
    """A client's text as an error quotes it: short, and without what cannot be written."""
    return shorten(text).encode(errors="replace").decode()
