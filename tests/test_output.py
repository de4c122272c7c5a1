"""A stream that cannot be written to any more: what is raised, where, and how often."""

import errno
import io
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxfreeze.errors import InputError, Stopped
from jaxfreeze.output import Output


class Broken(io.StringIO):
    """Fails from the second line on."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.calls = number, 0

    def write(self, text: str) -> int:
        self.calls += 1
        if self.calls > 1:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ECONNRESET])
def test_a_reader_that_goes(number: int) -> None:
    stream = Broken(number)
    output = Output(stream)
    output.write("one")
    with pytest.raises(Stopped, match=r"^standard output is closed: stopped$") as stopped:
        output.write("two")
    assert stopped.value.number == 13
    output.writelines(["three", "four"])  # by whoever cleans up
    output.flush()
    assert stream.getvalue() == "one"
    assert stream.calls == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(number: int) -> None:
    output = Output(Broken(number))
    output.write("one")
    with pytest.raises(InputError, match=f"cannot be written to .{os.strerror(number)}.*: stopped$"):
        output.write("two")


def test_patience() -> None:
    output = Output(Broken(errno.EPIPE))
    output.patient = True
    output.writelines(["one", "two", "three"])
    assert output.failure is not None
    with pytest.raises(Stopped, match="not everything was printed"):
        output.finish()


def test_threads_that_draw_do_not_raise() -> None:
    """The moving line of a terminal is drawn by one; the main thread hears of it at its next line."""
    output = Output(Broken(errno.EIO))
    with ThreadPoolExecutor(1) as worker:
        worker.submit(output.writelines, ["one", "two", "three"]).result()
    with pytest.raises(Stopped):
        output.write("four")


def test_nothing_wrong() -> None:
    stream = io.StringIO()
    output = Output(stream)
    output.write("one")
    output.finish()
    assert stream.getvalue() == "one"
