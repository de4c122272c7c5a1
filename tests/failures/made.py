"""Answers of runs that never were: random but structured logits of any kind of label."""

import dataclasses
from typing import ClassVar

import numpy as np

from jaxfreeze.failures.report import RunAnswers
from jaxfreeze.failures.rows import Rows
from jaxfreeze.objectives import Classification, Objective, Regression
from jaxfreeze.objectives.multi_label import MultiLabel

WORDS = ("card", "lost", "my", "transfer", "cash", "why", "was", "the", "top-up", "declined", "when", "will", "it")


@dataclasses.dataclass(frozen=True)
class Tags(Classification):
    """A class for every word."""

    kind: ClassVar[str] = "tags"
    by_token: ClassVar[bool] = True
    labels: tuple[str, ...] = ("O", "B-LOC", "I-LOC")
    metrics: tuple[str, ...] = ("accuracy",)


def classes(count: int) -> Classification:
    return Classification(tuple(f"class_{number:02}" for number in range(count)), ("accuracy",))


def logits_of(label: np.ndarray, count: int, strength: float = 3.0, seed: int = 0) -> np.ndarray:
    """Logits that know the label, and take each class for its neighbour now and then: float32 [N, count]."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(label), count)) * 1.5
    logits[np.arange(len(label)), label] += strength
    near = (label + random.integers(1, 3, len(label))) % count
    logits[np.arange(len(label)), near] += 0.7 * strength
    return logits.astype(np.float32)


def rows_of(
    objective: Objective, label: np.ndarray, texts: list | None = None, counts: np.ndarray | None = None
) -> Rows:
    """Rows with these labels, of texts of 3 to 40 words where none are given."""
    random = np.random.default_rng(1)
    counts = np.ones(len(label), np.int64) if counts is None else counts
    made = [(" ".join(WORDS[(n + k * k) % len(WORDS)] for k in range(3 + n % 37)),) for n in range(len(counts))]
    lengths = random.integers(5, 60, len(counts))
    places = [f"validation {number}" for number in range(len(counts))]
    return Rows(objective, ("text",), places, texts or made, lengths, label, counts)


def answers_of(rows: Rows, logits: np.ndarray, name: str = "runs/one", **changes: object) -> RunAnswers:
    """A run that gave these answers."""
    settings = {"task": "files", "model": "bert-base-uncased", "trainable_layers": 3, "seed": 1}
    about = {"name": name, **settings, "objective": rows.objective.kind, "step": 100}
    metrics = rows.objective.score(logits, rows.label, rows.counts)
    made = RunAnswers(about, rows, {"validation": "0"}, logits, metrics, 1.7, True, "")
    return made._replace(**changes)  # type: ignore[arg-type]


def one_of(count: int, rows: int = 400, seed: int = 0, **changes: object) -> RunAnswers:
    """A run on rows of `count` classes."""
    label = np.random.default_rng(0).integers(0, count, rows).astype(np.int32)
    return answers_of(rows_of(classes(count), label), logits_of(label, count, seed=seed), **changes)


def numbers(rows: int = 300) -> RunAnswers:
    """A run that predicts a number."""
    random = np.random.default_rng(0)
    label = random.uniform(0, 5, rows).astype(np.float32)
    logits = (label + random.normal(size=rows) / 2).astype(np.float32)[:, None]
    return answers_of(rows_of(Regression(), label), logits)


def sets(rows: int = 300) -> RunAnswers:
    """A run that predicts any number of three classes; the probabilities are those that the labels are drawn by."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(rows, 3)) * 2
    label = (random.random((rows, 3)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    return answers_of(rows_of(MultiLabel(("joy", "anger", "love")), label), logits.astype(np.float32))


def tags() -> RunAnswers:
    """A run on three sentences, of 2, 4 and 1 words; it has the first word of the second one wrong."""
    texts: list = [(("good", "day"),), (("in", "New", "York", "."),), (("Rome",),)]
    label = np.array([0, 0, 0, 1, 2, 0, 1], np.int32)
    logits = 4 * np.eye(3, dtype=np.float32)[label]
    logits[2] = (0, 5, 0)
    rows = rows_of(Tags(), label, texts, np.array([2, 4, 1]))
    return answers_of(dataclasses.replace(rows, read=np.array([0, 1, 0, 1, 2, 3, 0])), logits)
