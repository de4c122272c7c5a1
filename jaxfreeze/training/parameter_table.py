"""The table of parameters: which part has how many, and whether it trains."""

from collections.abc import Iterator, Mapping

import numpy as np
from rich.table import Table

from jaxfreeze import freezing


def parameter_table(
    shapes: Mapping[str, tuple[int, ...]], labels: Mapping[str, str], num_layers: int, frozen: str = "frozen"
) -> Table:
    """Part, parameters, trained or frozen, share; neighbouring layers that are alike share a line."""
    totals = np.zeros((num_layers + 2, 2), np.int64)  # per block: parameters, trained ones
    for path, shape in shapes.items():
        size = int(np.prod(shape))
        totals[freezing.block_of(path, num_layers)] += (size, size if labels[path] == freezing.TRAINED else 0)
    table = Table(title_justify="left")
    table.add_column("part")
    for name in ("parameters", "state", "share"):
        table.add_column(name, justify="right" if name != "state" else "left")
    whole = int(totals[:, 0].sum())
    for name, (size, trained) in _grouped(totals):
        state = "trained" if trained == size else frozen if trained == 0 else f"{trained:,} trained"
        table.add_row(name, f"{size:,}", state, f"{size / whole:.1%}", style="" if trained else "dim")
    table.add_section()
    trained = int(totals[:, 1].sum())
    table.add_row("all", f"{whole:,}", f"{trained:,} trained", f"{trained / whole:.1%}")
    return table


def _grouped(totals: np.ndarray) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, (parameters, trained)) for embeddings, each stretch of like layers, and head."""
    yield "embeddings", (int(totals[0, 0]), int(totals[0, 1]))
    layers = totals[1:-1]
    start = 0
    for stop in range(1, len(layers) + 1):
        if stop == len(layers) or (layers[stop] != layers[start]).any():
            size, trained = layers[start:stop].sum(axis=0)
            yield f"layer {start}" if stop == start + 1 else f"layers {start} to {stop - 1}", (int(size), int(trained))
            start = stop
    yield "head", (int(totals[-1, 0]), int(totals[-1, 1]))
