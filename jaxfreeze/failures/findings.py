"""What is found in the answers of a run: classes, confusions, calibration, the worst rows, doubtful labels, lengths."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxfreeze.errors import InputError
from jaxfreeze.failures.rows import Rows, shown
from jaxfreeze.objectives import answers
from jaxfreeze.training.calibration import Bin, bins_of, calibration_error

WORST = 50
DOUBTFUL = 50
CONFUSIONS = 30
HIGH = 0.9  # the probability from which a label is doubted
GROUPS = 5  # by length


class ClassScore(NamedTuple):
    """One class; None where there is nothing to divide by."""

    name: str
    f1: float | None
    precision: float | None
    recall: float | None
    rows: int
    """How many have it as label."""
    predicted: int
    """How many have it as prediction."""


class Confusion(NamedTuple):
    """One class predicted as another."""

    label: str
    prediction: str
    times: int
    share: float
    """Of the rows with this label."""


class Calibration(NamedTuple):
    """Probabilities against what came true, before and after temperature scaling."""

    temperature: float
    in_sample: bool
    """Whether the temperature was fitted on these rows."""
    ece_before: float
    ece_after: float
    before: list[Bin]
    after: list[Bin]


class WorstRow(NamedTuple):
    """A row with a high loss."""

    place: str
    text: str
    label: str
    prediction: str
    top: list[tuple[str, float]]
    """The classes of the three highest probabilities."""
    loss: float


class Doubtful(NamedTuple):
    """A row for which every run is sure of one and the same class that is not its label."""

    place: str
    text: str
    label: str
    prediction: str
    probabilities: list[float]
    """Of the prediction, by run."""


class LengthGroup(NamedTuple):
    """Rows of about the same length in tokens."""

    shortest: int
    longest: int
    rows: int
    scores: dict[str, float | None]
    loss: float
    """Mean over the rows."""


class RunScores(NamedTuple):
    """The metrics of one run on the rows."""

    name: str
    metrics: dict[str, float]


class Findings(NamedTuple):
    """All that a report says; what does not apply to a kind of label is empty or None."""

    about: dict[str, Any]
    """Of the run: name, task, model, trainable_layers, seed, objective, rows, splits, notes."""
    scores: list[RunScores]
    classes: list[ClassScore]
    matrix: list[list[int]]
    """Rows with label i and prediction j, in the order of `names`."""
    names: list[str]
    confusions: list[Confusion]
    calibration: Calibration | None
    points: list[tuple[float, float, int]]
    """Of numbers: label, prediction, tokens."""
    worst: list[WorstRow]
    doubtful: list[Doubtful] | None
    lengths: list[LengthGroup]


def class_scores(rows: Rows, logits: np.ndarray) -> list[ClassScore]:
    """Every class, the lowest F1 first; those that are neither in the labels nor in the predictions last."""
    from sklearn.metrics import precision_recall_fscore_support

    objective = rows.objective
    if not answers.has_probabilities(objective):
        return []
    true, predicted = (answers.indicators(objective, label) for label in (rows.label, objective.decide(logits)))
    values = precision_recall_fscore_support(true, predicted, average=None, zero_division=np.nan)
    columns = [[None if math.isnan(value) else float(value) for value in column] for column in values[:3]]
    found = [
        ClassScore(name, f1, precision, recall, int(support), int(count))
        for name, precision, recall, f1, support, count in zip(
            objective.labels, *columns, true.sum(axis=0), predicted.sum(axis=0), strict=True
        )
    ]
    return sorted(found, key=lambda one: (one.f1 is None, one.f1 or 0.0, -one.rows))


def confusion_matrix(rows: Rows, logits: np.ndarray) -> np.ndarray:
    """Rows by label and prediction: int64 [C, C]; [0, 0] where a label is not one class."""
    count = len(rows.objective.labels) if answers.is_one_of_many(rows.objective) else 0
    matrix = np.zeros((count, count), np.int64)
    if count:
        np.add.at(matrix, (rows.label, rows.objective.decide(logits)), 1)
    return matrix


def confusions(matrix: np.ndarray, names: Sequence[str], most: int = CONFUSIONS) -> list[Confusion]:
    """The largest cells beside the diagonal."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    total = np.maximum(matrix.sum(axis=1), 1)
    pairs = [(int(i), int(j)) for i, j in zip(*np.nonzero(wrong), strict=True)]
    pairs.sort(key=lambda pair: (-wrong[pair], -wrong[pair] / total[pair[0]], pair))
    return [Confusion(names[i], names[j], int(wrong[i, j]), float(wrong[i, j] / total[i])) for i, j in pairs[:most]]


def calibration(rows: Rows, logits: np.ndarray, temperature: float, in_sample: bool) -> Calibration | None:
    """The bins at temperature 1 and at this one; None for a kind of label without probabilities."""
    if not answers.has_probabilities(rows.objective):
        return None
    before, after = (
        bins_of(*answers.decisions(rows.objective, logits, rows.label, degree)) for degree in (1.0, temperature)
    )
    return Calibration(temperature, in_sample, calibration_error(before), calibration_error(after), before, after)


def worst_rows(rows: Rows, logits: np.ndarray, most: int = WORST) -> list[WorstRow]:
    """The rows with the highest loss, the worst first."""
    objective = rows.objective
    losses = answers.mean_by_example(answers.losses(objective, logits, rows.label), rows.counts)
    worst = np.argsort(-losses, kind="stable")[:most].tolist()
    return [_worst_row(rows, logits, number, float(losses[number])) for number in worst]


def _worst_row(rows: Rows, logits: np.ndarray, number: int, loss: float) -> WorstRow:
    objective = rows.objective
    own = slice(rows.first[number], rows.first[number] + rows.counts[number])
    label, prediction = (answers.names(objective, some) for some in (rows.label[own], objective.decide(logits[own])))
    if rows.read is not None:  # the words that are wrong
        words = [rows.texts[number][0][place] for place in rows.read[own].tolist()]
        wrong = [place for place in range(len(words)) if label[place] != prediction[place]]
        told = [", ".join(f"{words[place]} {tags[place]}" for place in wrong) for tags in (label, prediction)]
        return WorstRow(rows.places[number], rows.text(number), shown(told[0]), shown(told[1]), [], loss)
    top: list[tuple[str, float]] = []
    if answers.has_probabilities(objective):
        shares = answers.probabilities(objective, logits[own])[0]
        best = np.argsort(-shares, kind="stable")[:3].tolist()
        top = [(objective.labels[place], float(shares[place])) for place in best]
    return WorstRow(rows.places[number], rows.text(number), _spelled(label[0]), _spelled(prediction[0]), top, loss)


def _spelled(label: Any) -> str:
    if isinstance(label, list):
        return ", ".join(label) or "(none)"
    return label if isinstance(label, str) else f"{label:.4g}"


def doubtful_labels(rows: Rows, by_run: Sequence[np.ndarray], most: int = DOUBTFUL) -> list[Doubtful] | None:
    """Rows that every run gives one other class than their label, with a probability of at least HIGH.

    by_run: each run's logits, float32 [N, C]. The surest first. None where a label is not one class of an example.
    """
    objective = rows.objective
    if not answers.is_one_of_many(objective) or objective.by_token:
        return None
    shares = np.stack([answers.probabilities(objective, logits) for logits in by_run])  # [runs, E, C]
    best = shares.argmax(axis=-1)  # [runs, E]
    sure = np.take_along_axis(shares, best[..., None], axis=-1)[..., 0]  # [runs, E]
    alike = (best == best[0]).all(axis=0) & (best[0] != rows.label)
    found = np.flatnonzero(alike & (sure.min(axis=0) >= HIGH))
    found = found[np.argsort(-sure.min(axis=0)[found], kind="stable")][:most]
    return [
        Doubtful(
            rows.places[number],
            rows.text(number),
            objective.labels[rows.label[number]],
            objective.labels[best[0, number]],
            sure[:, number].tolist(),
        )
        for number in found.tolist()
    ]


def length_groups(rows: Rows, logits: np.ndarray, most: int = GROUPS) -> list[LengthGroup]:
    """Groups of about as many rows each, by length; rows of one length stay together."""
    losses = answers.mean_by_example(answers.losses(rows.objective, logits, rows.label), rows.counts)
    ranked = np.sort(rows.lengths)
    cuts = np.unique(ranked[np.linspace(0, len(ranked), most + 1).astype(int)[1:-1]])
    group = np.searchsorted(cuts, rows.lengths, side="right")
    found = []
    for number in np.unique(group):
        some = group == number
        lengths = rows.lengths[some]
        scores = _scores(rows, logits, some)
        found.append(
            LengthGroup(int(lengths.min()), int(lengths.max()), int(some.sum()), scores, float(losses[some].mean()))
        )
    return found


def _scores(rows: Rows, logits: np.ndarray, some: np.ndarray) -> dict[str, float | None]:
    """The metrics on some rows, and the mean error of numbers; None: such rows have no such metric."""
    names = rows.objective.metrics
    try:
        scores: dict[str, float | None] = dict(rows.score(logits, some))
    except (InputError, ValueError):  # one class alone, for instance
        scores = dict.fromkeys(names)
    if not answers.has_probabilities(rows.objective):
        scores["mean_error"] = float((rows.objective.decide(logits) - rows.label)[some].mean())
    return scores


def points(rows: Rows, logits: np.ndarray) -> list[tuple[float, float, int]]:
    """Label, prediction and length of every row with a number as label."""
    if answers.has_probabilities(rows.objective):
        return []
    values = zip(rows.label, rows.objective.decide(logits), rows.lengths, strict=True)
    return [(float(true), float(predicted), int(length)) for true, predicted, length in values]


def macro_f1(classes: Sequence[ClassScore]) -> Mapping[str, float]:
    """The mean F1 of the classes in labels or predictions, as scikit-learn has it; {} without classes."""
    values = [one.f1 for one in classes if one.f1 is not None]
    return {"macro_f1": sum(values) / len(values)} if values else {}


def as_json(value: Any) -> Any:
    """Findings as JSON values: named tuples as objects."""
    if hasattr(value, "_asdict"):
        return {name: as_json(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, (list, tuple)) else value
