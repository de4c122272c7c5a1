"""The primary metric of a run with weights on the examples, for many sets of weights at once.

Resampling examples with replacement is giving each of them a weight: how often it was drawn. Nearly every metric is a
function of sums over examples, so thousands of resamples are one matrix product; Spearman's correlation and areas under
curves need ranks among the rows that were drawn, which are cumulative sums of the weights. All are exact: with the
weights of a resample they are what `Objective.score` says of the resampled rows.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxfreeze.objectives import Tokens
from jaxfreeze.objectives.entities import METRICS as ENTITIES
from jaxfreeze.search.outcomes import Run

Weighted = Callable[[np.ndarray], np.ndarray]
"""Weights float64 [E, B], whole numbers, to values float64 [B], or [R, B] of R runs, in the metric's own sign."""


class Sums(NamedTuple):
    """A metric that is a function of sums over examples."""

    terms: np.ndarray | sparse.csr_array
    """[K, E]."""
    finish: Callable[[np.ndarray], np.ndarray]
    """From weighted sums of the terms, [K, B], to [B]."""


def weighted_metrics(runs: Sequence[Run], label: np.ndarray, counts: np.ndarray) -> Weighted | None:
    """The primary metric of R runs as a function of the examples' weights; None where it is no such function here.

    runs: with one primary metric. label: [N, *label_shape]; counts: int64 [E], how many of the labels belong to each
    example.
    """
    if runs[0].objective.primary_metric == "spearman":
        return _spearman([run.objective.decide(run.logits) for run in runs], label)
    found = [_weighted_metric(run, label, counts) for run in runs]
    sums = [some for some in found if isinstance(some, Sums)]
    functions = [some for some in found if some is not None and not isinstance(some, Sums)]
    if functions:
        return lambda weights: np.stack([value(weights) for value in functions])
    if not sums:
        return None
    dense = np.stack([some.terms for some in sums]) if isinstance(sums[0].terms, np.ndarray) else None  # [R, K, E]

    def value(weights: np.ndarray) -> np.ndarray:
        if dense is None:
            return np.stack([some.finish(some.terms @ weights) for some in sums])
        products = (dense.reshape(-1, len(weights)) @ weights).reshape(*dense.shape[:2], -1)  # all runs at once
        return np.stack([some.finish(product) for some, product in zip(sums, products, strict=True)])

    return value


def _weighted_metric(run: Run, label: np.ndarray, counts: np.ndarray) -> Sums | Weighted | None:
    metric = run.objective.primary_metric
    kind, _, of_class = metric.partition(":")
    example = np.repeat(np.arange(len(counts)), counts)  # [N]
    if isinstance(run.objective, Tokens) and metric in ENTITIES:
        found = run.objective.entity_matches(run.objective.decide(run.logits), label, counts)
        return Sums(found.T, _ENTITIES[metric])
    decided = run.objective.decide(run.logits)
    if metric in _CURVES and not run.objective.by_token:
        return _over_classes(_CURVES[metric], run.objective.probabilities(run.logits), label)
    if metric in _MOMENTS:
        return Sums(_moments(decided, label), _MOMENTS[metric])
    values = _row_values(metric, run, decided, label)
    if values is not None:
        total = np.bincount(example, values, minlength=len(counts))
        finish = np.sqrt if metric == "rmse" else np.asarray
        return Sums(np.stack([total, counts]), lambda sums: finish(_divide(sums[0], sums[1])))
    if kind not in _CLASSES:
        return None
    classes = len(run.objective.labels)
    one = run.objective.labels.index(of_class) if of_class else 1 if kind == "f1" else None
    function = _CLASSES[kind]

    def finish_classes(sums: np.ndarray) -> np.ndarray:
        right, predicted, true = sums.reshape(3, classes, -1)
        if one is not None:
            right, predicted, true = right[[one]], predicted[[one]], true[[one]]
        return function(right, predicted, true, label.ndim == 1 and one is None)

    return Sums(_class_terms(decided, label, example, (classes, len(counts))), finish_classes)


def _divide(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """A quotient that is 0 where there is nothing to divide by."""
    return np.divide(over, under, out=np.zeros(np.broadcast(over, under).shape), where=under > 0)


def _row_values(metric: str, run: Run, decided: np.ndarray, label: np.ndarray) -> np.ndarray | None:
    """What a metric that is a mean over labels is the mean of: float64 [N]; None for another metric."""
    if metric == "mae":
        return np.abs(decided - label)
    if metric in ("mse", "rmse"):
        return np.square(decided - label)
    if metric == "accuracy":
        right = decided == label
        return (right if right.ndim == 1 else right.all(axis=1)).astype(np.float64)
    if metric == "hamming_loss":
        wrong = (decided != label).astype(np.float64)
        return wrong if wrong.ndim == 1 else wrong.mean(axis=1)
    if metric == "log_loss" and label.ndim == 1:
        probability = run.objective.probabilities(run.logits)[np.arange(len(label)), label]
        tiny = np.finfo(np.float64).eps  # as scikit-learn
        return -np.log(np.clip(probability, tiny, 1 - tiny))
    return None


# Classes: how often each is right, predicted and true, [C, B] each


def _class_terms(
    decided: np.ndarray, label: np.ndarray, example: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_array:
    """Of each class and example, how often it is right, predicted and true: [3 C, E]."""
    right = decided == label
    both = [np.flatnonzero(right), label[right]] if label.ndim == 1 else np.nonzero(label * decided)
    places = (both, *(_named(some) for some in (decided, label)))
    return sparse.vstack(
        [
            sparse.csr_array((np.ones(len(row)), (number, example[row])), shape)  # equal places are added up
            for row, number in places
        ],
        format="csr",
    )


def _named(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows and the classes that labels name."""
    if values.ndim == 1:
        return np.arange(len(values)), values
    row, number = np.nonzero(values)
    return row, number


def _f1(right: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _divide(2 * right, predicted + true)


def _macro_f1(right: np.ndarray, predicted: np.ndarray, true: np.ndarray, by_presence: bool) -> np.ndarray:
    """The mean over the classes; by_presence: over those that are a label or a prediction, as scikit-learn's."""
    present = predicted + true > 0 if by_presence else np.ones(true.shape, bool)
    return _divide(_f1(right, predicted, true).sum(axis=0), present.sum(axis=0))


def _matthews(right: np.ndarray, predicted: np.ndarray, true: np.ndarray, _: bool) -> np.ndarray:
    """Gorodkin 2004, of any number of classes."""
    rows = true.sum(axis=0)
    under = (rows**2 - np.square(predicted).sum(axis=0)) * (rows**2 - np.square(true).sum(axis=0))
    return _divide(rows * right.sum(axis=0) - (predicted * true).sum(axis=0), np.sqrt(under))


def _kappa(right: np.ndarray, predicted: np.ndarray, true: np.ndarray, _: bool) -> np.ndarray:
    rows, chance = true.sum(axis=0), (predicted * true).sum(axis=0)
    return _divide(rows * right.sum(axis=0) - chance, rows**2 - chance)


def _balanced_accuracy(right: np.ndarray, predicted: np.ndarray, true: np.ndarray, _: bool) -> np.ndarray:
    return _divide(_divide(right, true).sum(axis=0), (true > 0).sum(axis=0))


_CLASSES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, bool], np.ndarray]] = {
    "f1": lambda right, predicted, true, _: _f1(right, predicted, true)[0],
    "precision": lambda right, predicted, true, _: _divide(right, predicted)[0],
    "recall": lambda right, predicted, true, _: _divide(right, true)[0],
    "macro_f1": _macro_f1,
    "micro_f1": lambda right, predicted, true, _: _f1(right.sum(0), predicted.sum(0), true.sum(0)),
    "weighted_f1": lambda right, predicted, true, _: _divide(
        (true * _f1(right, predicted, true)).sum(axis=0), true.sum(axis=0)
    ),
    "balanced_accuracy": _balanced_accuracy,
    "matthews_correlation": _matthews,
    "cohen_kappa": _kappa,
}

_ENTITIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of how many are right, predicted and true
    "entity_f1": lambda sums: _divide(2 * sums[0], sums[1] + sums[2]),
    "entity_precision": lambda sums: _divide(sums[0], sums[1]),
    "entity_recall": lambda sums: _divide(sums[0], sums[2]),
}

# Numbers: sums of squares and products about the means


def _moments(decided: np.ndarray, label: np.ndarray) -> np.ndarray:
    """1, prediction, label, their squares and product, error and its square of each example: [8, E]."""
    x, y = decided - decided.mean(), label - label.mean(dtype=np.float64)
    error = decided - label.astype(np.float64)
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y, error, error * error])


def _spread(rows: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """A sum of squared deviations; 0 where rounding is all that there is."""
    found = squares - total**2 / rows
    return np.where(found > 1e-12 * squares, found, 0.0)


def _pearson(sums: np.ndarray) -> np.ndarray:
    rows, x, y, xx, yy, xy, _, _ = sums
    return _divide(xy - x * y / rows, np.sqrt(_spread(rows, x, xx) * _spread(rows, y, yy)))


def _explained(sums: np.ndarray, centred: bool) -> np.ndarray:
    """A share of the labels' variance; where they have none 1 without an error and else 0, as scikit-learn's."""
    rows, _, y, _, yy, _, error, squares = sums
    left, all_of_it = _spread(rows, error, squares) if centred else squares, _spread(rows, y, yy)
    return np.where(all_of_it > 0, 1 - _divide(left, all_of_it), np.where(left > 0, 0.0, 1.0))


_MOMENTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pearson": _pearson,
    "r2": lambda sums: _explained(sums, centred=False),
    "explained_variance": lambda sums: _explained(sums, centred=True),
}


def _spearman(decided: Sequence[np.ndarray], label: np.ndarray) -> Weighted:
    """Pearson's correlation of the ranks among the rows that were drawn, equal values sharing their mean rank."""
    of_runs, of_label = [_up_to(values) for values in decided], _up_to(label)

    def value(weights: np.ndarray) -> np.ndarray:
        middle = (weights.sum(axis=0) + 1) / 2

        def deviations(up_to: Weighted, group: np.ndarray) -> np.ndarray:
            return _ranks(up_to(weights), group) - middle

        y = deviations(*of_label)
        weighted, squares = weights * y, _product(weights * y, y)
        found = []
        for run in of_runs:
            x = deviations(*run)
            found.append(_divide(_product(weighted, x), np.sqrt(_product(weights * x, x) * squares)))
        return np.stack(found)

    return value


def _product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("eb,eb->b", one, other)


def _up_to(values: np.ndarray) -> tuple[Weighted, np.ndarray]:
    """The weight of all values up to each of the G different ones, [E, B] -> [G, B]; and which one each is, [E]."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    order, last = np.argsort(group, kind="stable"), np.cumsum(size) - 1
    return lambda weights: np.cumsum(weights[order], axis=0)[last], group


def _ranks(up_to: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Mean ranks [E, B] from weights up to each value [G, B]."""
    return ((np.vstack([np.zeros((1, up_to.shape[1])), up_to[:-1]]) + up_to + 1) / 2)[group]


# Areas under curves, of each class against the others


def _over_classes(of_class: Callable[..., Weighted], probability: np.ndarray, label: np.ndarray) -> Weighted:
    """The mean over the classes that it is defined for, of two classes the second's; as jaxfreeze/metrics.py has it."""
    count = probability.shape[1]
    truth = label > 0 if label.ndim == 2 else label[:, None] == np.arange(count)
    classes = range(1, 2) if label.ndim == 1 and count == 2 else range(count)
    values = [of_class(probability[:, number], truth[:, number]) for number in classes]
    otherwise = 0.5 if of_class is _roc_auc else 0.0

    def value(weights: np.ndarray) -> np.ndarray:
        found = np.stack([one(weights) for one in values])  # [classes, B]
        known = np.isfinite(found)
        mean = _divide(np.where(known, found, 0.0).sum(axis=0), known.sum(axis=0))
        return np.where(known.any(axis=0), mean, otherwise)

    return value


def _roc_auc(score: np.ndarray, truth: np.ndarray) -> Weighted:
    """The share of pairs that are in the right order, from the sum of ranks (Mann and Whitney 1947)."""
    up_to, group = _up_to(score)

    def value(weights: np.ndarray) -> np.ndarray:
        ranks, positive = _ranks(up_to(weights), group), weights[truth].sum(axis=0)
        pairs = positive * (weights.sum(axis=0) - positive)
        above = (weights * ranks)[truth].sum(axis=0) - positive * (positive + 1) / 2
        return np.where(pairs > 0, _divide(above, pairs), np.nan)

    return value


def _average_precision(score: np.ndarray, truth: np.ndarray) -> Weighted:
    """The mean precision at the rows with the class, by falling score."""
    up_to, _ = _up_to(-score)

    def value(weights: np.ndarray) -> np.ndarray:
        rows, right = up_to(weights), up_to(weights * truth[:, None])
        steps = np.diff(right, axis=0, prepend=0.0)
        total = right[-1]
        return np.where(total > 0, _divide((steps * _divide(right, rows)).sum(axis=0), total), np.nan)

    return value


_CURVES = {"roc_auc": _roc_auc, "average_precision": _average_precision}
