"""What a run's head gives for some examples, and how that becomes predictions; for words, a class for each of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import numpy as np

from jaxfreeze.data.split import Text
from jaxfreeze.objectives import Objective, Prediction
from jaxfreeze.objectives.entities import Entity, entities_of, is_scheme


class TaggedText(NamedTuple):
    """What a run predicts for the words of one example."""

    words: tuple[str, ...]
    prediction: list[str | None]
    """The class of each word; None for one that was not read: beyond max_length, or without a token."""
    probabilities: list[float | None]
    """Of these classes."""
    entities: list[Entity]
    """Empty where the classes are no tags of entities. The numbers are those of the words."""
    logits: np.ndarray
    """float32 [n, C] of the n words that were read, in id order."""

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values, without the logits; an entity has its text too."""
        texts = [" ".join(self.words[entity.start : entity.end]) for entity in self.entities]
        return {
            "words": list(self.words),
            "prediction": self.prediction,
            "probabilities": self.probabilities,
            "entities": [entity._asdict() | {"text": text} for entity, text in zip(self.entities, texts, strict=True)],
        }


AnyPrediction = Union[Prediction, TaggedText]  # noqa: UP007  # a NamedTuple is no operand of | for mypy here


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """Of one run, for E examples."""

    logits: np.ndarray
    """float32 [N, C], example after example."""
    counts: np.ndarray
    """int64 [E], how many of the N belong to each example: one, or its words that were read."""
    words: tuple[Text, ...] = ()
    """E texts as words, where a label belongs to a word."""
    read: np.ndarray | None = None
    """int32 [N], the number in its example of the word that the logits are about."""

    def part(self, begin: int, end: int) -> "Outputs":
        """Those of the examples begin .. end - 1."""
        first, last = int(self.counts[:begin].sum()), int(self.counts[:end].sum())
        read = None if self.read is None else self.read[first:last]
        return Outputs(self.logits[first:last], self.counts[begin:end], self.words[begin:end], read)

    def predictions(self, objective: Objective, temperature: float = 1.0) -> list[AnyPrediction]:
        """One for each example; probabilities are those of logits divided by the temperature, all else is not."""
        found = objective.predictions(self.logits, self.counts)
        if self.read is None and temperature != 1.0:
            scaled = objective.predictions((self.logits / temperature).astype(np.float32), self.counts)
            return [one._replace(probabilities=other.probabilities) for one, other in zip(found, scaled, strict=True)]
        if self.read is None:
            return list(found)
        stops = np.cumsum(self.counts)
        return [
            _tagged(words, one, self.read[start:stop], objective, temperature)
            for words, one, start, stop in zip(self.words, found, stops - self.counts, stops, strict=True)
        ]


def nothing_of(objective: Objective) -> Outputs:
    """The outputs for no examples."""
    read = np.zeros(0, np.int32) if objective.by_token else None
    return Outputs(np.empty((0, objective.num_outputs), np.float32), np.zeros(0, np.int64), (), read)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of all parts, at least one, in order."""
    read = [part.read for part in parts if part.read is not None]
    return Outputs(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.counts for part in parts]),
        tuple(words for part in parts for words in part.words),
        np.concatenate(read) if read else None,
    )


def _tagged(
    words: Text, prediction: Prediction, read: np.ndarray, objective: Objective, temperature: float
) -> TaggedText:
    tags = prediction.prediction
    assert isinstance(tags, list)
    places = read.tolist()
    best = objective.probabilities(prediction.logits / temperature).max(axis=-1, initial=0.0).tolist()
    by_word: dict[int, tuple[str, float]] = dict(zip(places, zip(tags, best, strict=True), strict=True))
    found = [
        entity._replace(start=places[entity.start], end=places[entity.end - 1] + 1)
        for entity in (entities_of(tags) if is_scheme(objective.labels) else [])
    ]
    nothing = (None, None)
    classes, shares = zip(*(by_word.get(number, nothing) for number in range(len(words))), strict=True)
    return TaggedText(tuple(words), list(classes), list(shares), found, prediction.logits)
