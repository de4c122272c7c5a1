"""Signals and a closed output: a run that trains saves and stops at its next step, any other stops at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from jaxfreeze import console
from jaxfreeze.errors import InputError, Stopped
from jaxfreeze.output import Output, guarded

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Somebody's wish, a closed terminal, and what SLURM sends before a time limit."""
URGENT = (signal.SIGTERM, signal.SIGINT)
"""Those that stop a run at once if they come again. A closed terminal sends SIGHUP twice: from the kernel and shell."""


class Signals:
    """Notes the first signal while the run can save, and raises if it cannot, or if an urgent one comes again."""

    def __init__(self, output: Output) -> None:
        """output: standard output; once it cannot be written to, that counts as a signal."""
        self._output = output
        self._noted: list[int] = []
        self._can_save = False

    @property
    def received(self) -> int | None:
        """The first signal; SIGPIPE where no signal came but standard output cannot be written to."""
        if self._noted:
            return self._noted[0]
        return None if self._output.failure is None else signal.SIGPIPE

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Called by Python, between two instructions of the main thread."""
        first, again, urgent = not self._noted, number in self._noted, number in URGENT
        self._noted.append(number)
        name = signal.Signals(number).name
        if first and not self._can_save:
            raise Stopped(number, f"stopped by {name}")
        if urgent and (again or not self._can_save):
            raise Stopped(number, f"stopped by {name} once more: at once, nothing saved")
        if first:
            with contextlib.suppress(RuntimeError):  # it came in the middle of writing a line
                console.say(f"{name}: saving after the current step; a second signal stops at once")

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """While this block runs there is somebody who looks at `received`. From then on a closed output stops nothing:
        the run is as good as through.
        """
        self._can_save = self._output.patient = True
        try:
            yield
        finally:
            self._can_save = False

    def stopped(self, number: int, then: str) -> Stopped | InputError:
        """What a run raises that was stopped by this `received`, its own or another process's, and has saved."""
        if self._noted or self._output.failure is None:
            return Stopped(number, then)
        return self._output.error(then)


@contextlib.contextmanager
def handled() -> Iterator[Signals]:
    """Handle the signals in this block, if it is in the main thread; in another one they go where they went before.

    A signal that was ignored before, as nohup ignores SIGHUP, stays ignored.
    """
    with guarded() as output:
        signals = Signals(output)
        main = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) for number in SIGNALS if main}
        handlers = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
        try:
            for number in handlers:
                signal.signal(number, signals)
            yield signals
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)
