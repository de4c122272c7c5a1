"""Metrics by name, computed by scikit-learn and SciPy. GLUE's are those of Wang et al. 2019, table 1.

A name is one of a class, as in `f1:NAME`, or of all. No metric is ever nan: where the rows leave one undefined it has
the value of a prediction that knows nothing. A correlation with a constant is 0, as scikit-learn's Matthews correlation
has it, and so is Cohen's kappa; the ROC AUC of a class that no row or every row has is 0.5; F1, precision, recall and
average precision of a class that no row has are 0. A mean over classes leaves out those that it is undefined for.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

LOWER_IS_BETTER = ("mae", "mse", "rmse", "log_loss", "hamming_loss")
RANKINGS = ("lrap", "roc_auc", "average_precision", "log_loss")
"""Metrics of probabilities, whatever is predicted with them."""


class Scored(NamedTuple):
    """Predicted labels beside the true ones: N of them, C classes."""

    prediction: np.ndarray
    """Class ids [N], 0 or 1 for each class [N, C], or numbers [N]."""
    label: np.ndarray
    """The same of the true ones."""
    probability: np.ndarray
    """float64 [N, C]; [N, 0] of numbers."""


def compute(
    names: Sequence[str],
    prediction: np.ndarray,
    label: np.ndarray,
    probability: np.ndarray | None = None,
    classes: Sequence[str] = (),
) -> dict[str, float]:
    """Named metrics of predicted labels against true ones, as fractions.

    prediction, label: class ids [N], 0 or 1 for each class [N, C], or numbers [N]. probability: float64 [N, C], for the
    metrics that look at more than the predicted labels. classes: their names in id order, for `f1:NAME` and the like.
    """
    scored = Scored(prediction, label, np.empty((len(label), 0)) if probability is None else probability)
    return {name: _value(name, scored, classes) for name in names}


def is_better(name: str, new: float, old: float) -> bool:
    """Whether a value of a metric is better than another one: not only as good."""
    return new < old if name in LOWER_IS_BETTER else new > old


def _value(name: str, scored: Scored, classes: Sequence[str]) -> float:
    kind, _, of_class = name.partition(":")
    return float(_by_class(kind, scored, classes.index(of_class)) if of_class else _METRICS[kind](scored))


def _by_class(kind: str, scored: Scored, number: int) -> float:
    from sklearn import metrics

    function = getattr(metrics, f"{kind}_score")
    return function(scored.label, scored.prediction, labels=[number], average=None, zero_division=0.0)[0]


def _accuracy(scored: Scored) -> float:
    """Of rows with several labels: the share in which every one is right."""
    right = scored.prediction == scored.label
    return np.mean(right if right.ndim == 1 else right.all(axis=1))


def _f1(average: str) -> Callable[[Scored], float]:
    def value(scored: Scored) -> float:
        from sklearn.metrics import f1_score

        return f1_score(scored.label, scored.prediction, average=average, zero_division=0.0)

    return value


def _balanced_accuracy(scored: Scored) -> float:
    """The mean recall of the classes that some row has, as scikit-learn's, which warns of other predictions."""
    from sklearn.metrics import recall_score

    present = np.unique(scored.label)
    return recall_score(scored.label, scored.prediction, labels=present, average="macro", zero_division=0.0)


def _matthews_correlation(scored: Scored) -> float:
    from sklearn.metrics import matthews_corrcoef

    if np.ptp(scored.prediction) == 0 or np.ptp(scored.label) == 0:  # 0.0 there too, with a warning if both are
        return 0.0
    return matthews_corrcoef(scored.label, scored.prediction)


def _cohen_kappa(scored: Scored) -> float:
    from sklearn.metrics import cohen_kappa_score

    if np.ptp(scored.prediction) == 0 or np.ptp(scored.label) == 0:  # nan if both are the same constant
        return 0.0
    return cohen_kappa_score(scored.label, scored.prediction)


def _log_loss(scored: Scored) -> float:
    from sklearn.metrics import log_loss

    return log_loss(scored.label, scored.probability, labels=np.arange(scored.probability.shape[1]))


def _over_classes(name: str, otherwise: float) -> Callable[[Scored], float]:
    """A metric of two classes, of the second; of more, a mean over each against the rest, as scikit-learn's "ovr"."""

    def value(scored: Scored) -> float:
        from sklearn import metrics

        function, count = getattr(metrics, f"{name}_score"), scored.probability.shape[1]
        one_hot = scored.label if scored.label.ndim == 2 else scored.label[:, None] == np.arange(count)
        if scored.label.ndim == 1 and count == 2:
            one_hot, scored = one_hot[:, 1:], scored._replace(probability=scored.probability[:, 1:])
        found = [
            function(truth, probability)
            for truth, probability in zip(one_hot.T, scored.probability.T, strict=True)
            if truth.any() and not (truth.all() and name == "roc_auc")
        ]
        return np.mean(found) if found else otherwise

    return value


def _lrap(scored: Scored) -> float:
    from sklearn.metrics import label_ranking_average_precision_score

    return label_ranking_average_precision_score(scored.label, scored.probability)


def _correlation(name: str) -> Callable[[Scored], float]:
    def value(scored: Scored) -> float:
        import scipy.stats

        if np.ptp(scored.prediction) == 0 or np.ptp(scored.label) == 0:
            return 0.0
        return getattr(scipy.stats, name)(scored.prediction, scored.label).statistic

    return value


def _explained(name: str) -> Callable[[Scored], float]:
    """A share of the labels' variance; scikit-learn says what it is where they have none."""

    def value(scored: Scored) -> float:
        from sklearn import metrics

        function = getattr(metrics, f"{name}_score")
        return function(scored.label, scored.prediction) if len(scored.label) > 1 else 0.0

    return value


def _mean_squared_error(scored: Scored) -> float:
    return np.mean(np.square(scored.prediction - scored.label))


_METRICS: dict[str, Callable[[Scored], float]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1("binary"),
    "macro_f1": _f1("macro"),
    "micro_f1": _f1("micro"),
    "weighted_f1": _f1("weighted"),
    "matthews_correlation": _matthews_correlation,
    "cohen_kappa": _cohen_kappa,
    "roc_auc": _over_classes("roc_auc", otherwise=0.5),
    "average_precision": _over_classes("average_precision", otherwise=0.0),
    "log_loss": _log_loss,
    "lrap": _lrap,
    "hamming_loss": lambda scored: np.mean(scored.prediction != scored.label),
    "spearman": _correlation("spearmanr"),
    "pearson": _correlation("pearsonr"),
    "kendall": _correlation("kendalltau"),
    "r2": _explained("r2"),
    "explained_variance": _explained("explained_variance"),
    "mae": lambda scored: np.mean(np.abs(scored.prediction - scored.label)),
    "mse": _mean_squared_error,
    "rmse": lambda scored: np.sqrt(_mean_squared_error(scored)),
}
