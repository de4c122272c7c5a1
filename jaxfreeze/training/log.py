"""What a run writes down as it goes: log.jsonl, TensorBoard events, and the progress line."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tensorboardX import SummaryWriter

from jaxfreeze import console
from jaxfreeze.run_folder import RunFolder


class Journal:
    """One line a logged step or evaluation, in three places at once. Used as a context manager."""

    def __init__(self, folder: RunFolder, total_steps: int, step: int = 0, size: int = 0) -> None:
        """step, size: where the run begins, and the bytes of log.jsonl up to there; what came later is dropped."""
        self._log = folder.log.open("a", encoding="utf-8")
        self._log.truncate(size)
        events = folder.path / "events"
        if step == 0:
            shutil.rmtree(events, ignore_errors=True)
        self._events = SummaryWriter(str(events), flush_secs=10, purge_step=step + 1 if step else None)
        self._line = console.ProgressLine(total_steps, step)
        self._start = time.perf_counter()

    @property
    def size(self) -> int:
        """Bytes of log.jsonl."""
        return os.fstat(self._log.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        self._events.close()
        self._log.close()

    def start(self) -> None:
        """The first step begins now: the clock and the time left count from here, compilation is behind."""
        self._start = time.perf_counter()
        self._line.start()

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
