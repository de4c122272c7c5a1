"""Seconds spent on each part of a run."""

import contextlib
import time
from collections.abc import Iterator, Mapping

PARTS = ("load", "tokenize", "compile", "cache", "train", "eval")


class Stopwatch:
    """Counts seconds by part; of a part within another, such as an evaluation in the training, to the inner one."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._parts: list[str] = []  # those under way, the innermost last
        self._since = self._start = time.perf_counter()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done in this block counts as `name`."""
        self._count()
        self._parts.append(name)
        try:
            yield
        finally:
            self._count()
            self._parts.pop()

    def _count(self) -> None:
        now = time.perf_counter()
        if self._parts:
            self._seconds[self._parts[-1]] += now - self._since
        self._since = now

    def seconds(self) -> dict[str, float]:
        """Until now: `total`, and each part."""
        self._count()
        return {"total": self._since - self._start, **self._seconds}

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count these too: of the same run, before it was stopped."""
        for part in PARTS:
            self._seconds[part] += seconds[part]
        self._start -= seconds["total"]
