"""Labelled rows and what one run answers for them, as a report looks at them."""

import dataclasses

import numpy as np

from jaxfreeze.data.split import Text
from jaxfreeze.objectives import Objective

SHOWN = 400  # characters of a text


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """E examples with N labels (N = E, or one for every word that was read), of C classes."""

    objective: Objective
    columns: tuple[str, ...]
    """The names of the text columns."""
    places: list[str]
    """Where each example stands, such as 'validation 17', counted from 0 as in the predictions file."""
    texts: list[tuple[Text, ...]]
    """By example."""
    lengths: np.ndarray  # int64 [E] tokens
    label: np.ndarray  # [N, *label_shape]
    counts: np.ndarray  # int64 [E] labels of each example
    read: np.ndarray | None = None  # int32 [N] the number in its example of the word that a label is of

    @property
    def first(self) -> np.ndarray:
        """Where the labels of each example begin: int64 [E]."""
        return np.cumsum(self.counts) - self.counts

    def labels_of(self, examples: np.ndarray) -> np.ndarray:
        """The numbers of the labels of some examples, in order: bool [E] -> int64 [n]."""
        return np.flatnonzero(np.repeat(examples, self.counts))

    def score(self, logits: np.ndarray, examples: np.ndarray) -> dict[str, float]:
        """The metrics on some examples: bool [E]. Raises ValueError where there are none for such rows."""
        some = self.labels_of(examples)
        return self.objective.score(logits[some], self.label[some], self.counts[examples])

    def text(self, example: int) -> str:
        """What an example says, shortened: its text; of a pair each with its column's name, on lines of their own."""
        texts = [shown(" ".join(text) if isinstance(text, tuple) else text) for text in self.texts[example]]
        if len(texts) == 1:
            return texts[0]
        return "\n".join(f"{name}: {text}" for name, text in zip(self.columns, texts, strict=True))


def shown(text: str, most: int = SHOWN) -> str:
    """A text on one line, without control characters; of a long one the beginning."""
    line = " ".join("".join(" " if c < " " or "\x7f" <= c <= "\x9f" else c for c in text).split())
    return line if len(line) <= most else f"{line[:most]} ... ({len(line):,} characters)"
