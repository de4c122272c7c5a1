"""Removing what jaxfreeze wrote, and nothing else: files are known by their names, one pattern for each kind of folder.

A pattern matches a file's whole path relative to the folder, with `/` between the parts. Whatever it does not match
belongs to somebody else, and so does every symbolic link.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from jaxfreeze.errors import InputError, listed


def foreign(folder: Path, ours: re.Pattern[str]) -> list[str]:
    """The files in a folder, at any depth, that are somebody else's; sorted, relative to it."""
    return sorted(name for name in _files(folder) if not _is_ours(folder, name, ours))


def remove(folder: Path, ours: re.Pattern[str], but: Collection[str] = ()) -> None:
    """Delete our files in a folder, at any depth, and the folders in it that are empty then; the folder itself stays.

    but: names of files that stay. Raises OSError for a file that cannot be deleted.
    """
    for name in sorted(_files(folder)):
        if name not in but and _is_ours(folder, name, ours):
            (folder / name).unlink(missing_ok=True)
            _remove_empty((folder / name).parent, folder)


def remove_folder(folder: Path, ours: re.Pattern[str]) -> None:
    """`remove`, and the folder itself if nothing is left in it; nothing if it is missing, or on a read-only disk."""
    try:
        remove(folder, ours)
        folder.rmdir()
    except OSError:
        return


def check_removable(folder: Path, ours: re.Pattern[str], flag: str, inputs: Iterable[Path] = ()) -> None:
    """Raise InputError unless a folder holds only files of ours, no input, and neither the current nor the home folder.

    flag: how the error names the folder. inputs: files and folders that are still needed.
    """
    place = folder.resolve()
    for known, what in ((Path.cwd(), "the current folder"), (Path.home(), "the home folder")):
        if known.resolve().is_relative_to(place):
            holds = "is" if known.resolve() == place else "holds"
            raise InputError(f"{flag}: {holds} {what}; nothing was deleted; give another folder")
    for needed in inputs:
        if needed.exists() and needed.resolve().is_relative_to(place):
            raise InputError(f"{flag}: contains {needed}, which is an input; nothing was deleted; give another folder")
    strangers = foreign(folder, ours)
    if strangers:
        raise InputError(
            f"{flag}: holds files that jaxfreeze did not write ({listed(strangers)}); nothing was deleted; "
            "move them, or give another folder"
        )


def _files(folder: Path) -> Iterator[str]:
    """Everything but folders, relative; links to folders are not followed."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*files, *links):
            yield Path(place, name).relative_to(folder).as_posix()


def _is_ours(folder: Path, name: str, ours: re.Pattern[str]) -> bool:
    return ours.fullmatch(name) is not None and not (folder / name).is_symlink()


def _remove_empty(place: Path, top: Path) -> None:
    """Delete a folder and those above it, up to `top` but without it, as long as they are empty."""
    while place != top:
        try:
            place.rmdir()
        except OSError:
            return
        place = place.parent
