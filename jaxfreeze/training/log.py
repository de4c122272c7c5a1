"""What a run writes down as it goes: log.jsonl, its trackers, and the progress line."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from jaxfreeze import console
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training.trackers import Tracker


class RunLog:
    """One line for each logged step and each evaluation, in all places at once. Used as a context manager."""

    def __init__(self, folder: RunFolder, total_steps: int, step: int, trackers: Sequence[Tracker]) -> None:
        """step: the one after which the run begins; lines of later steps, from before it was stopped, are dropped.

        trackers: are closed with the log.
        """
        self._log = folder.log.open("a", encoding="utf-8")
        self._log.truncate(_size_up_to(folder.log, step, total_steps))
        self._trackers = trackers
        self._line = console.ProgressLine(total_steps, step)
        self._start = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        for tracker in self._trackers:
            tracker.close(failed=error is not None)
        self._log.close()

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """After `step` optimizer steps: loss, learning_rate, grad_norm, examples_per_second."""
        self._write("train", step, figures)
        self._line.update(step, figures)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics on the validation rows after `step` optimizer steps."""
        self._write("validation", step, metrics)
        console.say(f"step {step}: {console.metrics_line(metrics)}")

    def result(self, step: int, metrics: Mapping[str, float], test_metrics: Mapping[str, float]) -> None:
        """The final scores of the run, on the validation and the test rows. step: the last one."""
        tests = {f"final/test_{name}": value for name, value in test_metrics.items()}
        scores = {f"final/{name}": value for name, value in metrics.items()} | tests
        for tracker in self._trackers:
            tracker.result(scores, step)

    def _write(self, kind: str, step: int, figures: Mapping[str, float]) -> None:
        line = {"kind": kind, "step": step, "seconds": round(time.perf_counter() - self._start, 3), **figures}
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        named = {f"{kind}/{name}": value for name, value in figures.items()}
        for tracker in self._trackers:
            tracker.scalars(named, step)


def _size_up_to(log: Path, step: int, total_steps: int) -> int:
    """Bytes of the lines of a log.jsonl that were written before the checkpoint of this step.

    The last evaluation comes after the last checkpoint. A line that was cut off does not count.
    """
    size = 0
    for line in log.read_bytes().splitlines(keepends=True) if step else []:
        if not line.endswith(b"\n"):
            break
        about = json.loads(line)
        if about["step"] > step or (about["kind"] == "validation" and about["step"] == total_steps):
            break
        size += len(line)
    return size
