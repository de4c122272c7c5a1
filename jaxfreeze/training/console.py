"""What a person sees of a run: the parameter table, the progress line, the score."""

import contextlib
import time
from collections.abc import Iterator, Mapping

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxfreeze import freezing

console = Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def on_stderr() -> Iterator[None]:
    """What is said in this block goes to standard error; standard output is for the result."""
    console.stderr = True
    try:
        yield
    finally:
        console.stderr = False


def say(line: str) -> None:
    """One plain line."""
    console.print(line, markup=False)


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


def cut_in_words(cut: int, num_layers: int) -> str:
    """Where the cut is."""
    if cut == 0:
        return "below the embeddings: nothing is frozen as a whole"
    if cut == num_layers + 1:
        return f"above layer {num_layers - 1}: only the head is above it"
    return f"below layer {cut - 1}: frozen below it are the embeddings" + (
        f" and {cut - 1} layer{'s' * (cut > 2)}" if cut > 1 else ""
    )


class ProgressLine:
    """Steps done, loss, learning rate, examples/s, time left: a moving line on a terminal, plain lines elsewhere."""

    def __init__(self, total_steps: int, step: int = 0) -> None:
        """step: the step after which the run begins."""
        self.total_steps, self._first = total_steps, step
        self._start = time.perf_counter()
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("training", total=total_steps, completed=step, figures="")
            self._bar.start()

    def start(self) -> None:
        """The first step begins now."""
        self._start = time.perf_counter()

    def update(self, step: int, figures: Mapping[str, float]) -> None:
        """Show the state after `step` steps."""
        line = (
            f"loss {figures['loss']:.4f}  lr {figures['learning_rate']:.2e}  "
            f"{figures['examples_per_second']:,.0f} examples/s"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=line)
            return
        pace = (time.perf_counter() - self._start) / (step - self._first)
        left = pace * (self.total_steps - step)
        say(f"step {step}/{self.total_steps}  {line}  {left:.0f} s left")

    def close(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.stop()


def metrics_line(metrics: Mapping[str, float]) -> str:
    """'accuracy 0.8417, f1 0.9'."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
