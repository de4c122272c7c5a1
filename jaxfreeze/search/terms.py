"""How the program writes names and numbers for a reader: tasks, metrics, scores, learning rates, seconds."""

import math
from collections.abc import Sequence
from pathlib import PurePosixPath

from jaxfreeze.config import STANDARD_INPUT
from jaxfreeze.data.tasks import HUB, OWN_FILES
from jaxfreeze.metrics import LOWER_IS_BETTER
from jaxfreeze.sweep.curves import MISMATCHED

TASKS = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli": "MNLI",
    f"mnli{MISMATCHED}": "MNLI-mm",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
}
"""GLUE's names, in GLUE's order."""

METRICS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "matthews_correlation": "Matthews correlation",
    "cohen_kappa": "Cohen's kappa",
    "roc_auc": "ROC AUC",
    "lrap": "label ranking average precision",
    "spearman": "Spearman correlation",
    "pearson": "Pearson correlation",
    "kendall": "Kendall correlation",
    "r2": "R2",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "rmse": "root mean squared error",
    "log_loss": "log loss",
    "hamming_loss": "Hamming loss",
}
IN_UNITS = ("mae", "mse", "rmse", "log_loss")
"""Metrics that are not fractions: written as they are, in the unit of the labels or in nats."""


def task(name: str) -> str:
    """'MRPC'."""
    return TASKS.get(name, name)


def data(name: str) -> str:
    """What a question is about: 'MRPC'; 'in/a.csv' of the task `files (/my/in/a.csv)`; 'this data' of no name."""
    kind, _, of = name.removesuffix(")").partition(" (")
    if kind in (OWN_FILES, HUB):
        return "this data" if of in ("", STANDARD_INPUT) else str(PurePosixPath(*PurePosixPath(of).parts[-2:]))
    return task(name)


def metric(name: str) -> str:
    """'F1'; 'F1 of toxic' for `f1:toxic`."""
    kind, _, of_class = name.removesuffix(MISMATCHED).partition(":")
    written = METRICS.get(kind, kind.replace("_", " "))
    return f"{written} of {of_class}" if of_class else written


def short(model: str) -> str:
    """The name of a model or a file without its folder or its owner."""
    return PurePosixPath(model).name or model


def lower_is_better(name: str) -> bool:
    """Whether a smaller value of a metric is the better one."""
    return name in LOWER_IS_BETTER


def hundred(value: float, sign: bool = False) -> str:
    """A fraction x 100 with one decimal: '86.4', '-0.3', '+1.2'."""
    text = f"{100 * value:.1f}"
    if float(text) == 0:
        return "0.0"
    return f"{'+' if sign and value > 0 else ''}{text}"


def score(value: float, name: str) -> str:
    """A metric's value: x 100 with one decimal, or in its own unit with three digits."""
    if not math.isfinite(value):
        return "none"
    return hundred(value) if name not in IN_UNITS else f"{value:#.3g}".rstrip(".")


def points(value: float, name: str) -> str:
    """A difference of two scores: '1 point', '2.5 points'; '0.01' of a metric in its own unit."""
    if name in IN_UNITS:
        return f"{value:.2g}"
    text = f"{100 * value:.1f}".removesuffix(".0")
    return f"{text} {'point' if text == '1' else 'points'}"


def rate(value: float) -> str:
    """A learning rate: '2e-4', '2.5e-5'."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def epochs(count: int) -> str:
    """'1 epoch', '3 epochs'."""
    return f"{count} epoch{'s' * (count != 1)}"


def probability(value: float) -> str:
    """'83%'; '>99%' and '<1%' at the ends, since resampling shows no certainty."""
    if not math.isfinite(value):
        return "unknown"
    return ">99%" if value >= 0.995 else "<1%" if value < 0.005 else f"{value:.0%}"


def part(value: float) -> str:
    """A cost as a share of another one: '31%', '0.9%'."""
    return f"{value:.0%}" if value >= 0.0095 else f"{100 * value:.1g}%"


def share(value: float) -> str:
    """A share that was asked for: '95%', '99.5%'."""
    return f"{100 * value:.3g}%"


def duration(seconds: float) -> str:
    """'0.4 s', '41 s', '12 min', '3.5 h'."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def listed(values: Sequence[object], joint: str = "and") -> str:
    """'0, 1 and 2'."""
    *most, last = map(str, values)
    return f"{', '.join(most)} {joint} {last}" if most else last
