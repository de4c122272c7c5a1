"""The terminal: plain lines, the progress line, scores."""

import contextlib
import itertools
import textwrap
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    """One plain line; on a terminal it is wrapped between words, and a path, which has none, stays whole."""
    if console.is_terminal:
        parts = [
            textwrap.wrap(part, console.width, break_long_words=False, break_on_hyphens=False) or [""]
            for part in line.split("\n")
        ]
        line = "\n".join(itertools.chain(*parts))
    console.print(line, markup=False)


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
