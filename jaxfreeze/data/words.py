"""Words with a label each: what a cell of them has to be, and which piece of a text is the first of which word."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxfreeze.data.split import Split
from jaxfreeze.data.tables import BadRowError, checked_text
from jaxfreeze.errors import shorten

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def checked_words(cell: object, column: str, may_be_text: bool = False) -> tuple[str, ...]:
    """A cell that is a list of words which can be tokenised and written. Raises BadRowError.

    may_be_text: a text will do too, and is split at blanks.
    """
    if may_be_text and isinstance(cell, str):
        return tuple(checked_text(cell, column, False).split())
    if not isinstance(cell, list | tuple):
        wanted = "a list of words" + (" or a text" if may_be_text else "")
        raise BadRowError(f"expected {wanted} in column '{column}', found {type(cell).__name__} {shorten(repr(cell))}")
    if not cell:
        raise BadRowError(f"the list of words in column '{column}' is empty; leave the row out")
    for number, word in enumerate(cell, 1):
        if not isinstance(word, str):
            raise BadRowError(f"expected words in column '{column}', found {shorten(repr(word))} as word {number}")
        if not word.strip():
            raise BadRowError(f"word {number} in column '{column}' is empty; leave it out, and its label")
        checked_text(word, column, False)
    return tuple(cell)


def check_labels(words: Sequence[str], cell: object, column: str) -> None:
    """Raise BadRowError unless a cell is a list with a label for each of the words."""
    if not isinstance(cell, list | tuple):
        raise BadRowError(
            f"expected a list with a label for each word in column '{column}', found {type(cell).__name__} "
            f"{shorten(repr(cell))}"
        )
    if len(cell) != len(words):
        raise BadRowError(
            f"{len(words)} words, but {len(cell)} labels in column '{column}'; expected one for each word"
        )


def prepare_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Have a tokenizer treat every word as one with a blank before it, as if the words were in a text.

    Byte-level BPE (GPT-2's, RoBERTa's, ModernBERT's) marks a blank at the beginning of a piece, and SentencePiece does
    at that of a word; transformers calls it add_prefix_space. Raises ValueError for a tokenizer that does not number
    the words of its pieces.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} does not say to which word a piece belongs")
    for part in _parts(tokenizer.backend_tokenizer.pre_tokenizer):
        if hasattr(part, "add_prefix_space"):  # ByteLevel
            part.add_prefix_space = True
        if hasattr(part, "prepend_scheme"):  # Metaspace
            part.prepend_scheme = "always"


def write_prepared(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Have a folder's tokenizer files make the tokenizer that `prepare_tokenizer` made; the others are left alone."""
    names = [type(part).__name__ for part in _parts(tokenizer.backend_tokenizer.pre_tokenizer)]
    if not {"ByteLevel", "Metaspace"} & set(names):
        return
    file, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    prepared = json.loads(tokenizer.backend_tokenizer.pre_tokenizer.__getstate__())
    if file.is_file():
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["pre_tokenizer"] != prepared:
            file.write_text(json.dumps(raw | {"pre_tokenizer": prepared}, ensure_ascii=False), encoding="utf-8")
    raw = json.loads(config.read_text(encoding="utf-8")) | {"add_prefix_space": True}
    config.write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


def _parts(pre_tokenizer: Any) -> Iterator[Any]:
    """The steps of a pre-tokenizer of the library `tokenizers`."""
    if type(pre_tokenizer).__name__ != "Sequence":
        yield pre_tokenizer
        return
    for number in itertools.count():  # it has no length
        try:
            part = pre_tokenizer[number]
        except IndexError:
            return
        yield from _parts(part)


def first_pieces(word_ids: Sequence[int | None]) -> np.ndarray:
    """The word of each piece of one example -> its number at its first piece, -1 elsewhere: int32 [tokens]."""
    word = np.array([-1 if number is None else number for number in word_ids], np.int32)
    before = np.concatenate([[-1], word[:-1]])
    return np.where(word != before, word, -1).astype(np.int32)


def labels_of(split: Split, word: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The label of a word at its first piece, 0 where a split has none; -1 at all other tokens: int32 [T].

    word: int32 [T] as `first_pieces` gives it. start: int64 [E + 1] where each example's tokens begin.
    """
    if split.labels is None:
        return np.where(word >= 0, 0, -1).astype(np.int32)
    before = np.cumsum(split.counts) - split.counts  # labels of the examples before each one
    place = np.repeat(before, np.diff(start)) + np.maximum(word, 0)
    return np.where(word >= 0, split.labels[place], -1).astype(np.int32)


def unread(split: Split, word: np.ndarray, start: np.ndarray, max_length: int) -> Iterator[str]:
    """Lines about the words that are not read: those beyond max_length, and those that make no token."""
    lengths, counts = np.diff(start), split.counts
    last = np.full(len(lengths), -1)
    np.maximum.at(last, np.repeat(np.arange(len(lengths)), lengths), word)
    beyond = int(np.where(lengths == max_length, counts - 1 - last, 0).sum())
    nothing = int(counts.sum() - np.count_nonzero(word >= 0)) - beyond
    if beyond:
        yield (
            f"{split.name}: {beyond:,} of {counts.sum():,} words lie beyond --max_length {max_length} and are not read"
        )
    if nothing:
        yield f"{split.name}: {nothing:,} of {counts.sum():,} words make no token and are not read"
