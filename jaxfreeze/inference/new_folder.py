"""Folders that a command writes: whole, or not there."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from jaxfreeze.errors import InputError
from jaxfreeze.run_folder import WRITING, check_writable


def check_new(output: Path, flag: str) -> None:
    """Raise InputError unless a folder can be written there, and nothing that would be lost is in it."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{flag} {output}: expected a folder, found a file; give another name")
    check_writable(output, flag)
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"{flag} {output}: the folder is not empty; give another name")


@contextlib.contextmanager
def new_folder(output: Path, flag: str) -> Iterator[Path]:
    """A folder to write into that becomes `output` at the end of the block; after an exception it is gone."""
    output = output.absolute()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}{WRITING}") as holder:
            folder = Path(holder) / output.name  # made with the person's own permissions, unlike the holder
            folder.mkdir()
            yield folder
            folder.rename(output)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{flag} {output}: cannot be written ({reason})") from error
