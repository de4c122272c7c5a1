"""The tables of what runs cost, each from the curves of one model: seconds, FLOPs, parameters."""

from collections.abc import Callable, Sequence

from jaxfreeze.freezing import Layers
from jaxfreeze.report import words
from jaxfreeze.report.document import Table, Value
from jaxfreeze.report.words import NOTHING, layers_value, of_full
from jaxfreeze.sweep.curves import Curve, cost


def costs(curves: Sequence[Curve], title: Callable[[Curve], str]) -> Table:
    """Seconds and FLOPs by k, and as shares of the full model's."""
    rows = []
    for curve in curves:
        full = cost(curve.full) if curve.full else None
        for cell in curve.cells:
            own = cost(cell)
            flops = own.flops_per_step
            rows.append([
                Value(title(curve)),
                layers_value(cell.layers, curve.num_layers),
                Value(words.three_digits(own.train_seconds), own.train_seconds),
                of_full(own.train_seconds, full.train_seconds if full else None),
                Value(words.three_digits(own.total_seconds), own.total_seconds),
                of_full(own.total_seconds, full.total_seconds if full else None),
                NOTHING if flops is None else Value(words.three_digits(flops / 1e9), flops),
                of_full(flops, full.flops_per_step if full else None),
            ])  # fmt: skip
    caption = (
        "Cost of one run by k, in the mean over runs: seconds as the runs recorded them (total: with loading, "
        "tokenising, the trunk cache, compiling and evaluation), and floating-point operations of one training step."
    )
    if any(run.side_by_side > 1 for curve in curves for run in curve.runs):
        caption += " Of runs trained side by side in one program, each has its share of the program's seconds."
    columns = ["task", "k", "training, s", "of full", "total, s", "of full", "GFLOP per step", "of full"]
    return Table(caption, columns, rows)


def parameters(curves: Sequence[Curve]) -> Table:
    """Trained and frozen parameters by k; from least to most where the tasks' heads differ."""
    num_layers = curves[0].num_layers
    by_layers: dict[Layers, list[dict[str, int]]] = {}
    for curve in curves:
        for run in curve.runs:
            by_layers.setdefault(run.trainable_layers, []).append(run.parameters)
    rows = []
    for layers in sorted(by_layers, key=lambda k: layers_value(k, num_layers).key or 0):
        counts = by_layers[layers]
        trained, frozen, total = (
            _count([table[part] for table in counts]) for part in ("trainable", "frozen", "total")
        )
        share = counts[0]["trainable"] / counts[0]["total"]
        rows.append([layers_value(layers, num_layers), trained, Value(f"{share:.1%}", share), frozen, total])
    caption = "Parameters by k. Where tasks have heads of different sizes: from the smallest to the largest."
    return Table(caption, ["k", "trained", "of all", "frozen", "all"], rows)


def _count(values: Sequence[int]) -> Value:
    low, high = min(values), max(values)
    return Value(f"{low:,}" if low == high else f"{low:,} to {high:,}", low)
