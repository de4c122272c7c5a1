"""GLUE's metrics, by scikit-learn and SciPy (Wang et al. 2019, table 1)."""

from collections.abc import Sequence

import numpy as np


def compute(names: Sequence[str], prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Named metrics of predicted labels [E] against true ones [E] (class ids, or scores), as fractions.

    A correlation of constant predictions is 0.0, as scikit-learn's Matthews correlation has it.
    """
    return {name: _METRICS[name](prediction, label) for name in names}


LOWER_IS_BETTER = ("mae", "mse", "rmse", "log_loss", "hamming_loss")


def is_better(name: str, new: float, old: float) -> bool:
    """Whether a value of a metric is better than another one: not only as good."""
    return new < old if name in LOWER_IS_BETTER else new > old


def _accuracy(prediction: np.ndarray, label: np.ndarray) -> float:
    return float(np.mean(prediction == label))


def _f1(prediction: np.ndarray, label: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(label, prediction, zero_division=0.0))


def _matthews_correlation(prediction: np.ndarray, label: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    if np.ptp(prediction) == 0 or np.ptp(label) == 0:  # 0.0 there too, but with a warning where both are one class
        return 0.0
    return float(matthews_corrcoef(label, prediction))


def _correlation(name: str, prediction: np.ndarray, label: np.ndarray) -> float:
    import scipy.stats

    if np.ptp(prediction) == 0 or np.ptp(label) == 0:
        return 0.0
    return float(getattr(scipy.stats, name)(prediction, label).statistic)


_METRICS = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews_correlation,
    "pearson": lambda prediction, label: _correlation("pearsonr", prediction, label),
    "spearman": lambda prediction, label: _correlation("spearmanr", prediction, label),
}
