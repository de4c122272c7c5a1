"""GLUE's metrics, by scikit-learn and SciPy (Wang et al. 2019, table 1)."""

from collections.abc import Sequence

import numpy as np


def compute(names: Sequence[str], logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Named metrics of float logits [E, C] against labels [E] (classes, or scores where C is 1), as fractions.

    A correlation of constant predictions is 0.0, as scikit-learn's Matthews correlation has it. Raises ValueError for
    logits that are not finite.
    """
    if not np.isfinite(logits).all():
        raise ValueError("cannot score: some logits are not finite")
    return {name: _METRICS[name](logits, label) for name in names}


def _accuracy(logits: np.ndarray, label: np.ndarray) -> float:
    return float(np.mean(logits.argmax(axis=-1) == label))


def _f1(logits: np.ndarray, label: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(label, logits.argmax(axis=-1), zero_division=0.0))


def _matthews_correlation(logits: np.ndarray, label: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    prediction = logits.argmax(axis=-1)
    if np.ptp(prediction) == 0 or np.ptp(label) == 0:  # 0.0 there too, but with a warning where both are one class
        return 0.0
    return float(matthews_corrcoef(label, prediction))


def _correlation(name: str, logits: np.ndarray, label: np.ndarray) -> float:
    import scipy.stats

    prediction = logits[:, 0].astype(np.float64)
    if np.ptp(prediction) == 0 or np.ptp(label) == 0:
        return 0.0
    return float(getattr(scipy.stats, name)(prediction, label).statistic)


_METRICS = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews_correlation,
    "pearson": lambda logits, label: _correlation("pearsonr", logits, label),
    "spearman": lambda logits, label: _correlation("spearmanr", logits, label),
}
