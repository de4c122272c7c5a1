"""Files and folders written atomically: made under a temporary name, then renamed once they are complete.

A reader of a name therefore finds the old content or all of the new content, never half of it. After an
exception the temporary file or folder is deleted; after a killed process it stays, and `is_temporary` recognises it.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from jaxfreeze.errors import InputError

WRITING = ".writing"
"""Part of every temporary name: .NAME.writing for the file NAME, .writing-RANDOM for a folder."""
TEMPORARY_FOLDER = re.compile(rf"{re.escape(WRITING)}-[a-z0-9_]{{8}}")
"""The name of a temporary folder, as tempfile makes it."""


def is_temporary(path: Path) -> bool:
    """Whether a name is that of a file or folder that is not complete."""
    return path.name.startswith(".") and WRITING in path.name


def check_writable(folder: Path, flag: str) -> None:
    """Raise InputError if this folder of a flag, or the one it would be made in, cannot be written to."""
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists() or p.is_symlink())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{flag} {folder}: {parent} is not a folder that can be written to")


def check_new(folder: Path, flag: str) -> None:
    """Raise InputError unless `new_folder` can make this folder of a flag: nothing, or an empty folder, is there."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{flag} {folder}: expected a folder, found a file; give another name")
    check_writable(folder, flag)
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{flag} {folder}: the folder is not empty; give another name")


@contextlib.contextmanager
def write_errors(place: str, then: str = "") -> Iterator[None]:
    """Raise an OSError of this block as InputError: `place` cannot be written, the reason, and `then`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{place}: cannot be written ({error.strerror or error}){then}") from error


@contextlib.contextmanager
def locked(file: Path, place: str, busy: str) -> Iterator[None]:
    """Hold this lock file, and its folder, for the block; both go at its end if nothing else is in the folder.

    The lock ends with the process, however that ends. Where the file system has no locks, nothing is held. Raises
    InputError that begins with `place`: if another process holds it, in the words `busy`, or if it cannot be made.
    """
    made = [folder for folder in file.parents if not folder.exists()]  # the innermost first
    with write_errors(place):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(file, f"{place}: {busy}")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(lock)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


def _lock(file: Path, busy: str) -> int:
    """A descriptor that holds the lock of the file of this name; its earlier holder may just have removed it."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise InputError(busy) from None
        except OSError:
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        os.close(descriptor)


@contextlib.contextmanager
def new_file(path: Path, flag: str, binary: bool = False) -> Iterator[IO[Any]]:
    """A file (UTF-8, or binary) that gets the name `path` at the end of the block, in place of what had that name.

    Its content is on disk before it is renamed. Raises InputError that names the flag if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}{WRITING}")
    with write_errors(f"{flag} {path}"):
        try:
            with temporary.open("wb") if binary else temporary.open("w", encoding="utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, flag: str) -> Iterator[Path]:
    """A folder to write into that gets the name `path` at the end of the block; only an empty folder is replaced.

    Raises InputError that names the flag if it cannot be written.
    """
    path = path.absolute()
    with write_errors(f"{flag} {path}"), temporary_folder(path.parent) as temporary:
        folder = temporary / path.name
        folder.mkdir()  # with the permissions that the user's umask gives; the outer one is private
        yield folder
        folder.rename(path)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A private folder in `parent`, locked by this process; at the end of the block it is deleted unless renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """A new private folder, and a descriptor that holds its lock; another process may remove it before it is locked."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f"{WRITING}-"))
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with contextlib.suppress(OSError):  # a file system without locks: then it is never taken for abandoned either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Delete the temporary folders in `parent` that no living process has locked."""
    for folder in parent.glob(f"{WRITING}-*"):
        if not TEMPORARY_FOLDER.fullmatch(folder.name) or folder.is_symlink():
            continue
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
