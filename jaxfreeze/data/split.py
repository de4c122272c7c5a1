"""Texts and labels of one split, as every reader returns them."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

CHUNK = 1024  # examples that are tokenised, and predicted for, together

Text: TypeAlias = str | tuple[str, ...]
"""A text, or a text as its words."""


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one split, in file order; E examples."""

    name: str
    """'train', 'validation', 'validation_matched', 'validation_mismatched', 'test', 'test_matched', ..., 'ax'."""
    texts: tuple[tuple[Text, ...], ...]
    """One entry per text column, E texts each; where words are labelled, one column of texts as words."""
    labels: np.ndarray | None
    """[E, ...] as the task's objective has them, or one for every word, of all examples end to end; None: no labels."""
    skipped: int = 0
    """Rows left out: those of the published QQP that are damaged; with --on_bad_row skip, those that cannot be used."""
    first_skipped: str = ""
    """Where the first of them stands, and why it was left out."""

    @property
    def in_words(self) -> bool:
        """Whether the texts are words."""
        return any(isinstance(text, tuple) for column in self.texts for text in column[:1])

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """How many labels each example has: int64 [E]; its number of words, or one."""
        column = self.texts[0] if self.texts else ()
        return np.array([len(text) if isinstance(text, tuple) else 1 for text in column], np.int64)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the texts and labels."""
        sha = hashlib.sha256()
        for column in self.texts:
            if self.in_words:
                sha.update(f"words {len(column)} {' '.join(map(str, self.counts))}\0".encode())
                sha.update("\0".join(word for words in column for word in words).encode())
            else:
                sha.update(f"{len(column)}\0".encode())
                sha.update("\0".join(map(str, column)).encode())
        if self.labels is not None:
            sha.update(self.labels.dtype.str.encode() + self.labels.tobytes())
        return sha.hexdigest()

    def take(self, examples: np.ndarray) -> "Split":
        """The split of these examples [n], by number, in that order, with the labels that are theirs."""
        texts = tuple(tuple(column[number] for number in examples) for column in self.texts)
        if self.labels is None:
            return dataclasses.replace(self, texts=texts)
        start = np.cumsum(self.counts) - self.counts
        places = [np.arange(start[number], start[number] + self.counts[number]) for number in examples]
        labels = self.labels[np.concatenate([np.zeros(0, np.int64), *places])]
        return dataclasses.replace(self, texts=texts, labels=labels)

    def chunks(self) -> Iterator["Split"]:
        """The texts alone, CHUNK examples at a time; nothing if there are none."""
        for begin in range(0, len(self.texts[0]) if self.texts else 0, CHUNK):
            yield Split(self.name, tuple(column[begin : begin + CHUNK] for column in self.texts), None)

    def as_words(self) -> "Split":
        """The same with one column of texts as words: a text is split at blanks, and two are read as one."""
        if self.texts and all(isinstance(text, tuple) for text in self.texts[0]):
            return self
        rows = zip(*self.texts, strict=True)
        column = tuple(tuple(word for text in row for word in _words(text)) for row in rows)
        return dataclasses.replace(self, texts=(column,))

    def as_texts(self) -> "Split":
        """The same with every text in one piece, a blank between its words."""
        if not self.in_words:
            return self
        texts = tuple(tuple(" ".join(text) if isinstance(text, tuple) else text for text in column)
                      for column in self.texts)  # fmt: skip
        return dataclasses.replace(self, texts=texts)


def _words(text: Text) -> tuple[str, ...]:
    return text if isinstance(text, tuple) else tuple(text.split())
