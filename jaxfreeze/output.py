"""Standard output and standard error that may go away: a pager that quits, a full disk, a closed terminal."""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxfreeze.errors import InputError, Stopped

CLOSED = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ECONNRESET)
"""Error numbers of writing to a pipe, a terminal, a file or a socket that is closed; any other means a full disk."""


class Output:
    """A text stream that drops what it cannot write, and says so once.

    The first failure raises `error` in the main thread, at once or at its next write: other threads only draw. While it
    is `patient` nothing is raised; the caller checks `failure`.
    """

    def __init__(self, stream: Any, patient: bool = False) -> None:
        """stream: a text file; None, as Python has it where the stream was closed from the beginning, takes nothing."""
        self._stream = stream
        self.patient = patient
        self.failure: OSError | None = None
        self._told = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def writable(self) -> bool:
        """Whether it was open in the beginning."""
        return self._stream is not None

    def write(self, text: str) -> int:
        """As of a file."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As of a file."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As of a file."""
        self._attempt(lambda: self._stream.flush())

    def _attempt(self, action: Callable[[], object]) -> None:
        if self.failure is None and self._stream is not None:
            try:
                action()
            except OSError as error:
                self.failure = error
                self._discard()
        main = threading.current_thread() is threading.main_thread()
        if main and not (self.failure is None or self._told or self.patient):
            raise self.error("stopped")

    def _discard(self) -> None:
        """Let what is still in buffers go nowhere: Python writes it when it ends, and would complain."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def error(self, then: str) -> Stopped | InputError:
        """What the failure is to a person, and `then`: Stopped by SIGPIPE, or an InputError for a full disk."""
        self._told = True
        assert self.failure is not None
        if self.failure.errno in CLOSED:
            return Stopped(signal.SIGPIPE, f"standard output is closed: {then}")
        reason = self.failure.strerror or self.failure
        return InputError(f"standard output cannot be written to ({reason}), make room or send it elsewhere: {then}")

    def finish(self) -> None:
        """Write what is in buffers. Raises `error` if that fails, or if anything did while this was patient."""
        self.patient = False
        with contextlib.suppress(Stopped, InputError):
            self.flush()
        if self.failure is not None:
            raise self.error("not everything was printed")


@contextlib.contextmanager
def guarded() -> Iterator[Output]:
    """Have both streams guarded in this block -> standard output; of blocks inside each other the outermost counts.

    Standard error is patient: what cannot be said there is said nowhere.
    """
    if isinstance(sys.stdout, Output):
        yield sys.stdout
        return
    for number in range(3):  # one that is closed would be the next file's number, and what C++ logs would go there
        with contextlib.suppress(OSError):
            if _is_closed(number):
                os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    output, errors = Output(sys.stdout), Output(sys.stderr, patient=True)
    streams: Any = output, errors
    sys.stdout, sys.stderr = streams
    try:
        yield output
    finally:
        output.patient = True
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
