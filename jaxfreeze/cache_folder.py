"""What jaxfreeze keeps on disk because it can make it again: whole entries or none, a budget, a list, a way to clear.

    <cache root>/tokens/<digest>/   token stores        <cache root>/trunk/<digest>/   hidden states at the cut
    <cache root>/xla/               compiled programs      <cache root>/cpu/<digest>.json  measured speeds

An entry is written in a temporary folder beside the others (see atomic.py), which the writer keeps locked. A temporary
folder without a lock was left by a process that died, and is deleted.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from jaxfreeze import atomic, removal
from jaxfreeze.settings import expanded

NOTE = "done.json"  # written last: what the entry is, for `cache list`
ENTRY_FILES = re.compile(r"done\.json|hidden|(token_id|token_type|position|start|label)\.npy")
"""What an entry of tokens/ or trunk/ is made of."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEPT = re.compile(rf"{_DIGEST.pattern}/({ENTRY_FILES.pattern})")
_COMPILED = re.compile(r"[^/]+-[0-9a-f]{64}-(cache|atime)|xla_gpu_[a-z_]+/[^/]+|\.lockfile")  # by JAX and XLA
_SPEEDS = re.compile(r"\.?[0-9a-f]{64}\.json(\.writing)?")
KINDS = {"tokens": _KEPT, "trunk": _KEPT, "xla": _COMPILED, "cpu": _SPEEDS}
"""Our folders in the cache folder, and the files in each."""


class Entry(NamedTuple):
    """One thing in the cache folder."""

    kind: str
    path: Path
    size: int  # bytes
    used: float  # seconds since the epoch
    note: dict[str, str]


def cache_root() -> Path:
    """Where jaxfreeze keeps what it can make again: $JAXFREEZE_CACHE, else ~/.cache/jaxfreeze."""
    return Path(expanded(os.environ.get("JAXFREEZE_CACHE", "").strip() or "~/.cache/jaxfreeze"))


@contextlib.contextmanager
def new_entry(folder: Path, note: dict[str, str]) -> Iterator[Path]:
    """A temporary folder to write into; at the end of the block it becomes `folder`, after an exception it is gone.

    If another process has finished the same entry in the meantime, that one stays.
    """
    atomic.remove_abandoned(folder.parent)
    with atomic.temporary_folder(folder.parent) as temporary:
        yield temporary
        (temporary / NOTE).write_text(json.dumps(note))
        if not (folder / NOTE).is_file():
            remove(folder)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / NOTE).is_file():
                raise


def is_whole(folder: Path) -> bool:
    """Whether this entry is there; marks it as used now."""
    if not (folder / NOTE).is_file():
        return False
    with contextlib.suppress(OSError):  # a cache that can only be read serves as well
        os.utime(folder)
    return True


def remove(folder: Path) -> None:
    """Remove an entry, if it is there."""
    removal.remove_folder(folder, ENTRY_FILES)


class Room(NamedTuple):
    """What new trunk caches have to keep to; all in bytes."""

    budget: int
    """That all trunk caches together may take."""
    kept: int
    """That they take now."""
    removable: list[int]
    """Of each one that may be removed, the longest unused first."""
    free: int
    """On the disk."""
    folder: str

    def obstacle(self, need: int) -> str:
        """What is in the way of `need` bytes more, in words; nothing if they can be had."""
        if self.kept + need - self.budget > sum(self.removable):
            return f"--cache_budget is {self.budget / 1e9:g} GB"
        if self.free + sum(self.removable[: self.removals(need)]) < need:
            return f"{self.folder} has {self.free / 1e9:.2f} GB free"
        return ""

    def removals(self, need: int) -> int:
        """How many have to go so that `need` bytes more keep to the budget."""
        removed = itertools.accumulate(self.removable, initial=0)
        return next(count for count, size in enumerate(removed) if size >= self.kept + need - self.budget)


def room(budget: int, wanted: Collection[Path] = ()) -> Room:
    """The room for new trunk caches if all but those of `wanted` may be removed."""
    return _room(_entries("trunk"), budget, wanted)


def _room(kept: Collection[Entry], budget: int, wanted: Collection[Path]) -> Room:
    parent = cache_root() / "trunk"
    parent.mkdir(parents=True, exist_ok=True)
    atomic.remove_abandoned(parent)
    sizes = [entry.size for entry in _removable(kept, wanted)]
    return Room(budget, sum(entry.size for entry in kept), sizes, shutil.disk_usage(parent).free, str(parent))


def make_room(need: int, budget: int, wanted: Collection[Path] = ()) -> None:
    """Remove trunk caches, the longest unused first and none of `wanted`, until `need` bytes more keep to `budget`."""
    kept = _entries("trunk")
    for entry in _removable(kept, wanted)[: _room(kept, budget, wanted).removals(need)]:
        remove(entry.path)


def _removable(kept: Collection[Entry], wanted: Collection[Path]) -> list[Entry]:
    return sorted((entry for entry in kept if entry.path not in wanted), key=lambda entry: entry.used)


def entries() -> list[Entry]:
    """What takes room in the cache folder; compiled programs as one entry, measured speeds not at all."""
    found = [*_entries("tokens"), *_entries("trunk")]
    compiled = cache_root() / "xla"
    if compiled.is_dir():
        found.append(Entry("compiled", compiled, _size(compiled), compiled.stat().st_mtime, {}))
    return found


def _entries(kind: str) -> list[Entry]:
    found = []
    for folder in sorted((cache_root() / kind).glob("[!.]*")):
        if _DIGEST.fullmatch(folder.name) and (folder / NOTE).is_file():
            with contextlib.suppress(FileNotFoundError):  # another process removes it at this moment
                note = json.loads((folder / NOTE).read_text())
                found.append(Entry(kind, folder, _size(folder), folder.stat().st_mtime, note))
    return found


def clear() -> int:
    """Remove every entry -> bytes freed. Nothing is lost: all is made again when needed; what is being written stays.

    Raises InputError, and removes nothing, if there are files in our folders that are not ours.
    """
    root = cache_root()
    before = _size(root)
    folders = [root / kind for kind in KINDS if (root / kind).is_dir()]
    for folder in folders:
        written = re.compile(rf"{KINDS[folder.name].pattern}|{atomic.TEMPORARY_FOLDER.pattern}/.*")
        removal.check_removable(folder, written, f"cache clear: {folder}")
    for folder in folders:
        atomic.remove_abandoned(folder)
        removal.remove_folder(folder, KINDS[folder.name])
    freed = before - _size(root)
    if root.resolve() != Path.cwd().resolve():
        with contextlib.suppress(OSError):  # something else is in it, or a disk is mounted there
            root.rmdir()
    return freed


def _size(folder: Path) -> int:
    """Bytes of the files in it, at any depth; one that goes meanwhile has none."""
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return size


def describe(entry: Entry) -> str:
    """One line: kind, size, last used, what it is."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    about = ", ".join(f"{name} {value}" for name, value in entry.note.items())
    return f"{entry.kind:8} {entry.size / 1e6:10,.1f} MB  {when}  {about or entry.path}"
