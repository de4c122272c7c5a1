"""Files and folders written atomically: complete under their own name, or what was there before."""

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from jaxfreeze import atomic
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.run_folder import RunFolder


def begin_file(path: Path) -> None:
    """As on a full disk."""
    with atomic.new_file(path, "--output") as file:
        file.write("half")
        file.flush()
        assert [atomic.is_temporary(there) for there in path.parent.iterdir() if there != path] == [True]
        raise OSError(errno.ENOSPC, "No space left on device")


def begin_folder(path: Path) -> None:
    with atomic.new_folder(path, "--output") as folder:
        (folder / "half").write_text("half")
        assert [atomic.is_temporary(there) for there in path.parent.iterdir()] == [True]
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("begin", [begin_file, begin_folder])
def test_after_an_exception_nothing_is_left(begin: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        begin(tmp_path / "out")
    assert str(raised.value) == f"--output {tmp_path / 'out'}: cannot be written (No space left on device)"
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_once_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    with pytest.raises(InputError):
        begin_file(path)
    assert path.read_text() == "before"
    with atomic.new_file(path, "--output") as file:
        file.write("after")
        file.flush()
        assert path.read_text() == "before"
    assert {there.name: there.read_text() for there in tmp_path.iterdir()} == {"out": "after"}


def test_a_folder_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with atomic.new_folder(tmp_path / "out", "--output") as folder:
        (folder / "file").touch()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "other").stat().st_mode
    full = r"out: cannot be written \(Directory not empty\)"
    with pytest.raises(InputError, match=full), atomic.new_folder(tmp_path / "out", "--output"):
        pass
    assert [there.name for there in (tmp_path / "out").iterdir()] == ["file"]


@pytest.mark.parametrize("write", [atomic.new_file, atomic.new_folder])
def test_a_place_that_cannot_be_written(
    write: Callable[[Path, str], AbstractContextManager[object]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"^--output .*file/out: cannot be written \("),
        write(tmp_path / "file" / "out", "--output"),
    ):
        pytest.fail("entered")


@pytest.mark.parametrize("call", ["open", "flock"])
def test_a_folder_taken_for_abandoned_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Another process looks for abandoned folders right after one was made."""
    module = {"open": atomic.os, "flock": atomic.fcntl}[call]
    honest, left = getattr(module, call), [None, None]

    def late(*arguments: Any, **more: Any) -> Any:
        if left:
            left.pop()
            for folder in tmp_path.iterdir():
                folder.rmdir()
        return honest(*arguments, **more)

    monkeypatch.setattr(module, call, late)
    with atomic.temporary_folder(tmp_path) as folder:
        assert (left, list(tmp_path.iterdir())) == ([], [folder])
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_only_what_no_process_holds_is_abandoned(tmp_path: Path) -> None:
    dead, mine = tmp_path / f"{atomic.WRITING}-dead1234", tmp_path / "mine"
    dead.mkdir()
    mine.mkdir()
    with atomic.temporary_folder(tmp_path) as alive:
        atomic.remove_abandoned(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([alive, mine])
    assert list(tmp_path.iterdir()) == [mine]


def test_a_run_can_begin_where_nothing_is_complete(tmp_path: Path) -> None:
    (tmp_path / f".config.yaml{atomic.WRITING}").touch()
    assert not RunFolder(tmp_path).is_finished(TrainConfig("rte"))
    (tmp_path / f"thesis{atomic.WRITING}").touch()
    with pytest.raises(InputError, match="the folder is not empty and holds no run"):
        RunFolder(tmp_path).is_finished(TrainConfig("rte"))


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run" / ".lock"
    with atomic.locked(file, "place", "busy"):
        with pytest.raises(InputError, match=r"^place: busy$"), atomic.locked(file, "place", "busy"):
            pytest.fail("entered")
        assert file.is_file()
    assert not list(tmp_path.iterdir())
    with atomic.locked(file, "place", "busy"):
        (file.parent / "result").touch()
    assert list(file.parent.iterdir()) == [file.parent / "result"]


def test_the_lock_of_a_dead_process_is_not_held(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    script = (
        "import os, signal\nfrom pathlib import Path\nfrom jaxfreeze import atomic\n"
        f"with atomic.locked(Path({str(file)!r}), 'place', 'busy'):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert file.exists()
    with atomic.locked(file, "place", "busy"):
        pass
    assert not file.exists()
