"""What a run writes down as it goes: log.jsonl, TensorBoard events, and the progress line."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from jaxfreeze import console, removal
from jaxfreeze.run_folder import EVENT_FILES, RunFolder

if "torch" not in sys.modules:
    sys.modules["torch"] = None  # type: ignore[assignment]  # tensorboardX imports it: seconds, for nothing used here
    from tensorboardX import SummaryWriter

    del sys.modules["torch"]
else:
    from tensorboardX import SummaryWriter


class RunLog:
    """One line for each logged step and each evaluation, in three places at once. Used as a context manager."""

    def __init__(self, folder: RunFolder, total_steps: int, step: int = 0) -> None:
        """step: the one after which the run begins; lines of later steps, from before it was stopped, are dropped."""
        self._log = folder.log.open("a", encoding="utf-8")
        self._log.truncate(_size_up_to(folder.log, step, total_steps))
        events = folder.path / "events"
        if step == 0:
            removal.remove(folder.path, EVENT_FILES)
        self._events = SummaryWriter(str(events), flush_secs=10, purge_step=step + 1 if step else None)
        self._line = console.ProgressLine(total_steps, step)
        self._start = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        self._events.close()
        self._log.close()

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """After `step` optimizer steps: loss, learning_rate, grad_norm, examples_per_second."""
        self._write("train", step, figures)
        self._line.update(step, figures)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics on the validation rows after `step` optimizer steps."""
        self._write("validation", step, metrics)
        console.say(f"step {step}: {console.metrics_line(metrics)}")

    def _write(self, kind: str, step: int, figures: Mapping[str, float]) -> None:
        line = {"kind": kind, "step": step, "seconds": round(time.perf_counter() - self._start, 3), **figures}
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        for name, value in figures.items():
            self._events.add_scalar(f"{kind}/{name}", value, step)


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
