"""Texts and labels of one split, as every reader returns them."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one split, in file order; E examples."""

    name: str
    """'train', 'validation', 'validation_matched', 'validation_mismatched', 'test', 'test_matched', ..., 'ax'."""
    texts: tuple[tuple[str, ...], ...]
    """One entry per text column, E strings each."""
    labels: np.ndarray | None
    """int32[E] class ids, or float32[E] for regression; None when the split has no labels."""
    skipped: int = 0
    """Rows left out because the published file is damaged there (QQP only)."""
