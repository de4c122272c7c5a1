"""The folder of a report: known by its list of files, and replaced only if its files are unchanged."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxfreeze.atomic import is_temporary, new_file, remove_abandoned, temporary_folder
from jaxfreeze.errors import InputError

LIST = "report.json"
"""The files of a report and the digests of what was written into each: the mark of a folder of ours."""


@dataclasses.dataclass(frozen=True)
class ReportFolder:
    """Where a report of some kind goes."""

    path: Path
    flag: str
    """The flag that names it, for errors."""
    kind: str
    """What its list says it is."""
    names: re.Pattern[str]
    """Every name that a file of such a report may have, relative to the folder."""

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"{self.flag} {self.path}"

    def earlier(self) -> dict[str, list[str]]:
        """The files of an earlier report and the digests that they may have; nothing if the folder is new or empty.

        Raises InputError for a folder with other files and without a report of this kind.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.place}: expected a folder, found a file; give another name")
        if not self.path.is_dir() or all(map(is_temporary, self.path.iterdir())):
            return {}
        if not (self.path / LIST).is_file():
            raise InputError(
                f"{self.place}: expected a new folder or an earlier report, with its {LIST}, found other files; "
                "give another name"
            )
        try:
            found = json.loads((self.path / LIST).read_text(encoding="utf-8"))
            if (found["made_by"], found["kind"]) == ("jaxfreeze", self.kind):
                return {name: list(digests) for name, digests in found["files"].items() if self.names.fullmatch(name)}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        raise InputError(f"{self.place}: its {LIST} is not that of such a report; give another folder")

    def check_unchanged(self, earlier: Mapping[str, list[str]], files: Iterable[str]) -> None:
        """Raise InputError if a file that would be replaced or deleted holds anything but what was written into it."""
        for name in sorted({*earlier, *files}):
            file = self.path / name
            linked = any(place.is_symlink() for place in (file, *file.parents[: name.count("/")]))
            if linked or (file.exists() and _digest(file) not in earlier.get(name, ())):
                raise InputError(
                    f"{self.place}: {name} is not as a report left it; move it away, or give another folder"
                )

    def write(self, files: Mapping[str, bytes], earlier: Mapping[str, list[str]], about: Mapping[str, Any]) -> None:
        """Write all files under temporary names, then rename each; delete those that only the earlier report had.

        about: what the list says beside the files. Raises InputError if they cannot be written.
        """
        try:
            self._write(files, earlier, about)
        except OSError as error:
            raise InputError(f"{self.place}: cannot be written to ({error}); give another folder") from error

    def _write(self, files: Mapping[str, bytes], earlier: Mapping[str, list[str]], about: Mapping[str, Any]) -> None:
        remove_abandoned(self.path)
        new = {name: [hashlib.sha256(content).hexdigest()] for name, content in files.items()}
        with temporary_folder(self.path) as temporary:
            for name, content in files.items():
                (temporary / name).parent.mkdir(exist_ok=True)
                (temporary / name).write_bytes(content)
            both = {name: [*earlier.get(name, ()), *new.get(name, ())] for name in {*earlier, *new}}
            self._write_list(both, about)  # a process that is killed leaves some of the old and some of the new
            for name in files:
                (self.path / name).parent.mkdir(exist_ok=True)
                (temporary / name).replace(self.path / name)
            for name in earlier.keys() - files.keys():
                (self.path / name).unlink(missing_ok=True)
            self._write_list(new, about)

    def _write_list(self, files: Mapping[str, list[str]], about: Mapping[str, Any]) -> None:
        with new_file(self.path / LIST, self.flag) as file:
            content = {"made_by": "jaxfreeze", "kind": self.kind, "files": files, **about}
            file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
