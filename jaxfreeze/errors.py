"""The one kind of error that a person can mend, and how its line is worded."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Something the person at the keyboard can mend: printed as one line, exit code 2, no traceback.

    The message says what was expected, what was found, where (file and line, or flag) and how to mend it.
    Everything else that goes wrong is an ordinary exception with its traceback, exit code 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def one_of(allowed: Iterable[str], found: str) -> str:
    """The end of an error line: every allowed value, and the one nearest to what was found."""
    values = list(allowed)
    return f"one of {', '.join(values)}{did_you_mean(values, found)}"


def did_you_mean(allowed: Iterable[str], found: str) -> str:
    """The end of an error line: the allowed value nearest to what was found, or nothing if none is near."""
    near = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def shorten(text: str, most: int = 60) -> str:
    """The beginning of a text that may be long."""
    return text if len(text) <= most else f"{text[:most]}..."


class Stopped(Exception):  # noqa: N818  # not an error: somebody asked for it
    """A signal ended the work: printed as one line, exit code 128 + its number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
