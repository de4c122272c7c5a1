"""Files that a download left undone, called what they are: a Git LFS pointer, a link to nothing."""

import contextlib
from pathlib import Path

from jaxfreeze.errors import InputError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # how the text begins that stands for a file in Git


def check_fetched(path: Path) -> None:
    """Raise InputError for a Git LFS pointer and for a link to nothing; a path with nothing there passes, as any file.

    Call it before a file is read, and before it is asked whether the file is there.
    """
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: a link to {path.readlink()}, which does not exist; fetch the file or link it again")
    begin = b""
    with contextlib.suppress(OSError), path.open("rb") as file:  # whoever reads it says why it cannot be read
        begin = file.read(len(LFS_POINTER))
    if begin == LFS_POINTER:
        raise InputError(f"{path}: a Git LFS pointer, not the file itself; run `git lfs pull` in {path.parent}")
