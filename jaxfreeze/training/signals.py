"""SIGTERM and SIGINT: a run that trains saves and stops at its next step, any other stops at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from jaxfreeze import console
from jaxfreeze.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Notes the first signal while the run can save; raises otherwise, and at every further one."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.can_save = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Called by Python, between two instructions of the main thread."""
        first, self.received = self.received is None, number
        name = signal.Signals(number).name
        if not first or not self.can_save:
            raise Stopped(number, f"stopped by {name}" + ("" if first else " once more: at once, nothing saved"))
        console.say(f"{name}: saving after the step under way; once more stops at once")

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """While this block runs there is somebody who looks at `received`."""
        self.can_save = True
        try:
            yield
        finally:
            self.can_save = False


@contextlib.contextmanager
def handled() -> Iterator[Signals]:
    """Handle both signals in this block, if it is in the main thread; in another one they go where they went before."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals) for number in SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
