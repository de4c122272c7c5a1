"""The error for a user's mistake, and how its line is worded."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """A user's mistake in flags, settings or files: printed as one line, exit code 2, no traceback.

    The message says what was expected, what was found, where (file and line, or flag) and how to fix it.
    Everything else that goes wrong is an ordinary exception with its traceback, exit code 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def one_of(allowed: Iterable[str], found: str) -> str:
    """The end of an error line: every allowed value, and the one that was meant if it is the same word.

    Case and punctuation apart: another word means something else, and a near one most of all. `gelu_python` is not the
    approximation `gelu_pytorch_tanh`, SNLI is not MNLI, and `not_entailment` is not `entailment`.
    """
    values = list(allowed)
    return f"one of {', '.join(values)}{same_word(values, found)}"


def one_of_names(allowed: Iterable[str], found: str) -> str:
    """The end of an error line: every allowed name of a flag, a column or the like, and the one nearest to the typo."""
    names = list(allowed)
    return f"one of {', '.join(names)}{did_you_mean(names, found)}"


def same_word(allowed: Iterable[str], found: str) -> str:
    """The end of an error line: the allowed value that is the same word, or nothing."""
    return _meant([value for value in allowed if _word(value) == _word(found)])


def did_you_mean(names: Iterable[str], found: str) -> str:
    """The end of an error line: the name nearest to what was found, or nothing if none is near."""
    return _meant(difflib.get_close_matches(found, list(names), n=1, cutoff=0.6))


def _meant(values: list[str]) -> str:
    return f"; did you mean '{values[0]}'?" if len(values) == 1 else ""


def _word(value: str) -> str:
    return "".join(filter(str.isalnum, value.casefold()))


def listed(names: Iterable[str], most: int = 3) -> str:
    """Names for an error line: the first few, and how many more there are."""
    values = list(names)
    return ", ".join(values[:most]) + (f" and {len(values) - most:,} more" if len(values) > most else "")


def shorten(text: str, most: int = 60) -> str:
    """The beginning of a text that may be long."""
    return text if len(text) <= most else f"{text[:most]}..."


def in_words(error: BaseException, text: str | None = None) -> str:
    """'ConnectError: connection refused': the kind of a library's error, and its text or another one, on one line."""
    words = " ".join((str(error) if text is None else text).split())
    return f"{type(error).__name__}: {shorten(words, 200)}" if words else type(error).__name__


class Stopped(Exception):  # noqa: N818  # not an error: somebody asked for it
    """A signal ended the work: printed as one line, exit code 128 + its number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
