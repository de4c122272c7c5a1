"""`python run.py report`: writes report.md, report.html and figures about finished runs."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxfreeze.atomic import is_temporary, new_file, remove_abandoned, temporary_folder
from jaxfreeze.console import say
from jaxfreeze.errors import InputError
from jaxfreeze.report import document, page
from jaxfreeze.report.sections import compose
from jaxfreeze.sweep import results

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
LIST = "report.json"
"""The files of the report and the digests of what was written into each: the mark of a folder of ours."""
_NAMES = re.compile(rf"report\.(html|md)|{FIGURES}/[a-z0-9-]+\.(png|svg)")


def report(folders: Sequence[Path], output: Path) -> None:
    """Write the report on all finished runs in sweep folders and run folders to `output`.

    The whole report is made before any file is written. Files of an earlier report in `output` are replaced, all
    others stay. Raises InputError for results that cannot be read, for an output folder that holds other files, and for
    files of an earlier report that somebody has changed.
    """
    earlier = read_list(output)
    found = results.read(folders)
    content = compose(found)
    files: dict[str, bytes] = {PAGE: page.to_html(content).encode(), TEXT: document.to_markdown(content).encode()}
    for block in content.blocks:
        if isinstance(block, document.Picture):
            files[f"{FIGURES}/{block.drawing.name}.png"] = block.drawing.png
            files[f"{FIGURES}/{block.drawing.name}.svg"] = block.drawing.svg.encode()
    check_unchanged(output, earlier, files)
    try:
        _write(output, files, earlier)
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written to ({error}); give another folder") from error
    for name in files:
        say(str(output / name))


def read_list(output: Path) -> dict[str, list[str]]:
    """The files of an earlier report and the digests that they may have; nothing if `output` is new or empty.

    Raises InputError for a folder with other files and without a report.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: expected a folder, found a file; give another name")
    if not output.is_dir() or all(map(is_temporary, output.iterdir())):
        return {}
    if not (output / LIST).is_file():
        raise InputError(
            f"--output {output}: expected a new folder or an earlier report, with its {LIST}, found other files; "
            "give another name"
        )
    try:
        files = json.loads((output / LIST).read_text(encoding="utf-8"))["files"]
        return {name: list(digests) for name, digests in files.items() if _NAMES.fullmatch(name)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"--output {output}: its {LIST} is not that of a report; give another folder") from None


def check_unchanged(output: Path, earlier: Mapping[str, list[str]], files: Iterable[str]) -> None:
    """Raise InputError if a file that would be replaced or deleted holds anything but what was written into it."""
    for name in sorted({*earlier, *files}):
        place = output / name
        if (
            place.is_symlink()
            or (output / FIGURES).is_symlink()
            or (place.exists() and _digest(place) not in earlier.get(name, ()))
        ):
            raise InputError(
                f"--output {output}: {name} is not as a report left it; move it away, or give another folder"
            )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _write(output: Path, files: Mapping[str, bytes], earlier: Mapping[str, list[str]]) -> None:
    """Write all files under temporary names, then rename each; delete figures that only the earlier report had."""
    remove_abandoned(output)
    new = {name: [hashlib.sha256(content).hexdigest()] for name, content in files.items()}
    with temporary_folder(output) as temporary:
        (temporary / FIGURES).mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        both = {name: [*earlier.get(name, ()), *new.get(name, ())] for name in {*earlier, *new}}
        _write_list(output, both)  # a process that is killed leaves some of the old and some of the new
        (output / FIGURES).mkdir(exist_ok=True)
        for name in files:
            (temporary / name).replace(output / name)
        for name in earlier.keys() - files.keys():
            (output / name).unlink(missing_ok=True)
        _write_list(output, new)


def _write_list(output: Path, files: Mapping[str, list[str]]) -> None:
    with new_file(output / LIST, "--output") as file:
        file.write(json.dumps({"made_by": "jaxfreeze", "kind": "report", "files": files}, indent=2) + "\n")
