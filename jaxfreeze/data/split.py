"""Texts and labels of one split, as every reader returns them."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator

import numpy as np

CHUNK = 1024  # examples that are tokenised, and predicted for, together


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one split, in file order; E examples."""

    name: str
    """'train', 'validation', 'validation_matched', 'validation_mismatched', 'test', 'test_matched', ..., 'ax'."""
    texts: tuple[tuple[str, ...], ...]
    """One entry per text column, E strings each."""
    labels: np.ndarray | None
    """[E, ...] as the task's objective has them; None when the split has no labels."""
    skipped: int = 0
    """Rows left out: those of the published QQP that are damaged; with --on_bad_row skip, those that cannot be used."""
    first_skipped: str = ""
    """Where the first of them stands, and why it was left out."""

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the texts and labels."""
        sha = hashlib.sha256()
        for column in self.texts:
            sha.update(f"{len(column)}\0".encode())
            sha.update("\0".join(column).encode())
        if self.labels is not None:
            sha.update(self.labels.dtype.str.encode() + self.labels.tobytes())
        return sha.hexdigest()

    def chunks(self) -> Iterator["Split"]:
        """The texts alone, CHUNK examples at a time; nothing if there are none."""
        for begin in range(0, len(self.texts[0]) if self.texts else 0, CHUNK):
            yield Split(self.name, tuple(column[begin : begin + CHUNK] for column in self.texts), None)
