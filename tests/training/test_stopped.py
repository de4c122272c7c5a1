"""Real processes of run.py that get real signals and lose their output: only SIGKILL loses what was not saved."""

import contextlib
import errno
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxfreeze import cli
from jaxfreeze.errors import Stopped
from jaxfreeze.output import Output
from jaxfreeze.training import checkpoint, signals
from tests import effort
from tests.folders import empty_cache, make_folder, tiny_rte
from tests.training.test_resume import assert_same

ROOT = Path(__file__).parents[2]

Start = Callable[..., subprocess.Popen[str]]
Arguments = Callable[..., list[str]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, a model and a cache: rows are tokenized once."""
    folder = tmp_path_factory.mktemp("shared")
    tiny_rte(folder / "glue")
    make_folder(folder / "tiny", "bert")
    empty_cache(folder / "cache")
    return folder


@pytest.fixture
def arguments(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arguments:
    monkeypatch.setenv("JAXFREEZE_CACHE", str(shared / "cache"))

    def arguments(out: str, *flags: str, steps: int = 400) -> list[str]:
        run = ["--task", "rte", "--data_dir", str(shared / "glue"), "--model", str(shared / "tiny"), *flags]
        run += ["--max_length", "32", "--output_dir", str(tmp_path / out), "--max_steps", str(steps)]
        return [*run, "--log_every", "1", "--trainable_layers", "1"]

    return arguments


TAKE_TERMINAL = """import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])"""


@pytest.fixture
def start(arguments: Arguments) -> Start:
    def start(out: str, *flags: str, steps: int = 400, before: Sequence[str] = (), **how: Any) -> subprocess.Popen[str]:
        """before: a command that becomes ours."""
        command = [*before, sys.executable, "run.py", *arguments(out, *flags, steps=steps)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        environment = os.environ | {"XLA_FLAGS": effort.xla_flags()}
        return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **streams)

    return start


def wait_for_step(out: Path, step: int) -> None:
    for _ in range(9000):
        if (out / "log.jsonl").is_file() and (out / "log.jsonl").read_bytes().count(b"\n") >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"{out} did not reach step {step}")


def last_step(out: Path) -> int:
    return json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"]


def test_an_interrupt_loses_nothing(start: Start, tmp_path: Path) -> None:
    process = start("parts", steps=2000)
    wait_for_step(tmp_path / "parts", 5)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=180)
    assert process.returncode == 130
    done = assert_saved(tmp_path / "parts", signal.SIGINT, out, error)
    again = start("parts", steps=2000)
    wait_for_step(tmp_path / "parts", done + 1)
    again.send_signal(signal.SIGKILL)
    assert f"continuing after step {done:,} of 2,000" in again.communicate()[0]


def assert_saved(out: Path, number: signal.Signals, printed: str, error: str) -> int:
    """-> the step."""
    done = last_step(out)
    assert f"{number.name}: saving after the current step" in printed
    assert (
        error
        == f"stopped, saved after step {done} of 2000; to continue: python run.py --config {out / 'config.yaml'}\n"
    )
    assert checkpoint.steps_in(out / "checkpoints") == [done]
    return done


def interrupted(out: Path, words: list[str], *numbers: signal.Signals) -> tuple[int, str, str]:
    """The run in this process, which sends itself signals after step 5 -> exit code, standard output and error."""

    def send() -> None:
        wait_for_step(out, 5)
        for number in numbers:
            os.kill(os.getpid(), number)

    sender, printed = threading.Thread(target=send), io.StringIO()
    sender.start()
    code, error = main_on(printed, *words)
    sender.join()
    return code, printed.getvalue(), error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)])
def test_a_signal_loses_nothing(number: signal.Signals, code: int, arguments: Arguments, tmp_path: Path) -> None:
    found, printed, error = interrupted(tmp_path / "parts", arguments("parts", steps=2000), number)
    assert found == code
    assert_saved(tmp_path / "parts", number, printed, error)


def test_a_second_interrupt_stops_now(arguments: Arguments, tmp_path: Path) -> None:
    words = arguments("parts", "--checkpoint_every", "1", steps=5000)
    code, _, error = interrupted(tmp_path / "parts", words, signal.SIGINT, signal.SIGINT)
    assert code == 130
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error


def test_a_signal_before_the_first_step(start: Start, tmp_path: Path) -> None:
    process = start("parts")
    for _ in range(9000):
        if (tmp_path / "parts" / "config.yaml").is_file():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=180)
    assert process.returncode == 143
    assert error == "stopped by SIGTERM\n"


def test_a_terminal_hangs_up_twice() -> None:
    """The kernel sends SIGHUP and a shell sends it once more: only what a person sends again is urgent."""
    received = signals.Signals(Output(io.StringIO()))
    with received.saving():
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
            received(number, None)
        assert received.received == signal.SIGHUP
        with pytest.raises(Stopped, match="SIGTERM once more: at once, nothing saved") as stopped:
            received(signal.SIGTERM, None)
    assert stopped.value.number == signal.SIGTERM
    received(signal.SIGHUP, None)  # while it ends


def test_what_nohup_ignores_stays_ignored(arguments: Arguments, tmp_path: Path) -> None:
    words, before = arguments("parts", steps=2000), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        code, printed, error = interrupted(tmp_path / "parts", words, signal.SIGHUP, signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert code == 143
    assert "SIGHUP" not in printed
    assert_saved(tmp_path / "parts", signal.SIGTERM, printed, error)


def test_a_closed_terminal_loses_nothing(start: Start, tmp_path: Path) -> None:
    """SIGHUP, and whatever is written from then on fails."""
    master, slave = pty.openpty()
    process = start(
        "parts", steps=5000, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        before=[sys.executable, "-c", TAKE_TERMINAL],
    )  # fmt: skip
    os.close(slave)
    os.set_blocking(master, False)
    for step in range(1, 6):
        wait_for_step(tmp_path / "parts", step)
        with contextlib.suppress(BlockingIOError):
            os.read(master, 1 << 16)
    os.close(master)
    assert process.wait(180) == 129
    done = last_step(tmp_path / "parts")
    assert 5 <= done < 5000
    assert checkpoint.steps_in(tmp_path / "parts" / "checkpoints") == [done]


@pytest.mark.parametrize("errors_too", [False, True])
def test_a_reader_that_goes_loses_nothing(errors_too: bool, start: Start, tmp_path: Path) -> None:
    """`| head`, and `2>&1 | head`: nothing can be said then, but all is saved."""
    how = {"stderr": subprocess.STDOUT} if errors_too else {}
    process = start("parts", steps=5000, **how)
    wait_for_step(tmp_path / "parts", 5)
    assert process.stdout is not None
    process.stdout.close()
    error = ""
    if process.stderr is not None:
        with process.stderr:
            error = process.stderr.read()
    assert process.wait(180) == 141
    done = last_step(tmp_path / "parts")
    assert checkpoint.steps_in(tmp_path / "parts" / "checkpoints") == [done]
    command = f"python run.py --config {tmp_path / 'parts' / 'config.yaml'}"
    line = f"standard output is closed: stopped, saved after step {done} of 5000; to continue: {command}\n"
    assert error == ("" if errors_too else line)


class Failing(io.StringIO):
    """Takes what comes before this text."""

    def __init__(self, last: str, number: int) -> None:
        super().__init__()
        self.last, self.number = last, number

    def write(self, text: str) -> int:
        if self.last in text:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


def main_on(stream: io.StringIO, *command: str) -> tuple[int, str]:
    """A command in this process -> exit code, standard error."""
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(io.StringIO()) as error:
        return cli.main(command), error.getvalue()


FULL = "error: standard output cannot be written to (No space left on device), make room or send it elsewhere: "


@pytest.mark.parametrize(
    ("last", "steps", "then"),
    [
        ("rte on", [], "stopped"),
        ("step 3/6", [3], "stopped, saved after step 3 of 6; to continue: python run.py --config {out}/config.yaml"),
        ("step 6/6", [6], "not everything was printed"),  # the run is through
        ("run folder", [6], "not everything was printed"),
    ],
)
def test_a_full_disk_under_the_output(
    last: str, steps: list[int], then: str, arguments: Arguments, tmp_path: Path
) -> None:
    code, error = main_on(Failing(last, errno.ENOSPC), *arguments("parts", steps=6))
    assert code == 2
    assert error == f"{FULL}{then.format(out=tmp_path / 'parts')}\n"
    assert checkpoint.steps_in(tmp_path / "parts" / "checkpoints") == steps
    assert (tmp_path / "parts" / "metrics.json").is_file() == (steps == [6])


def test_other_commands_on_an_output_that_goes(arguments: Arguments, shared: Path, tmp_path: Path) -> None:
    """They stop at once; a sweep keeps its lines."""
    words = arguments("run", steps=2)
    assert main_on(io.StringIO(), *words) == (0, "")
    gone, said = (141, "standard output is closed: stopped\n"), (2, f"{FULL}stopped\n")
    predict = [
        "predict",
        "--run",
        str(tmp_path / "run"),
        "--input",
        str(shared / "glue/RTE/dev.tsv"),
        "--output",
        "-",
    ]
    for command, last in ((predict, '"index": 1,'), (["evaluate", "--run", str(tmp_path / "run")], "rte validation")):
        assert main_on(Failing(last, errno.EPIPE), *command) == gone
        assert main_on(Failing(last, errno.ENOSPC), *command) == said
    words = ["sweep", *words[:-8], "--output_dir", str(tmp_path / "sweep"), "--max_steps", "2"]
    words = [{"--task": "--tasks", "--model": "--models"}.get(word, word) for word in words]
    words += ["--trainable_layers", "1", "--seeds", "1", "2"]
    assert main_on(Failing("1/2", errno.EPIPE), *words) == gone
    assert (tmp_path / "sweep" / "results.jsonl").read_bytes().count(b"\n") == 1


def test_killed_again_and_again(start: Start, tmp_path: Path) -> None:
    """The short form of benchmarks/torture.py."""
    whole = start("whole", steps=60)
    whole.communicate(timeout=120)
    assert whole.returncode == 0
    random = np.random.default_rng(0)
    for kill in range(3):
        process = start("parts", "--checkpoint_every", "1", steps=60)
        wait_for_step(tmp_path / "parts", 10 * kill + 5)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.communicate()
    last = start("parts", "--checkpoint_every", "1", steps=60)
    last.communicate(timeout=120)
    assert last.returncode == 0
    assert_same(tmp_path / "whole", tmp_path / "parts")
