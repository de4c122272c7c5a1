"""`python run.py report`: writes report.md, report.html and figures about finished runs."""

import re
from collections.abc import Sequence
from pathlib import Path

from jaxfreeze.atomic import is_temporary, remove_abandoned, temporary_folder
from jaxfreeze.console import say
from jaxfreeze.errors import InputError
from jaxfreeze.report import document, page
from jaxfreeze.report.sections import compose
from jaxfreeze.sweep import results

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
MARKS = {PAGE: page.MARK, TEXT: document.MARK}
"""Text by which a file of an earlier report is recognised."""


def report(folders: Sequence[Path], output: Path) -> None:
    """Write the report on all finished runs in sweep folders and run folders to `output`.

    The whole report is made before any file is written. Files of an earlier report in `output` are replaced, all
    others stay. Raises InputError for results that cannot be read, and for an output folder that holds other files.
    """
    check_output(output)
    found = results.read(folders)
    content = compose(found)
    files: dict[str, bytes] = {PAGE: page.to_html(content).encode(), TEXT: document.to_markdown(content).encode()}
    for block in content.blocks:
        if isinstance(block, document.Picture):
            files[f"{FIGURES}/{block.drawing.name}.png"] = block.drawing.png
            files[f"{FIGURES}/{block.drawing.name}.svg"] = block.drawing.svg.encode()
    try:
        _write(output, files)
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written to ({error}); give another folder") from error
    for name in files:
        say(str(output / name))


def check_output(output: Path) -> None:
    """Raise InputError unless `output` is new, empty, or holds an earlier report."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: expected a folder, found a file; give another name")
    if not output.is_dir() or all(map(is_temporary, output.iterdir())):
        return
    earlier = [name for name in MARKS if (output / name).exists()]
    strange = [name for name in earlier if not _is_ours(output / name)]
    if strange:
        raise InputError(f"--output {output}: its {strange[0]} is no earlier report; give another folder")
    if not earlier:
        raise InputError(
            f"--output {output}: expected a new folder or an earlier report, found other files; give another name"
        )


def _is_ours(file: Path) -> bool:
    try:
        return MARKS[file.name] in file.read_text(encoding="utf-8")[:2000]
    except (OSError, ValueError):
        return False


def _write(output: Path, files: dict[str, bytes]) -> None:
    """Write all files under temporary names, then rename each; delete figures that only the earlier report had."""
    remove_abandoned(output)
    with temporary_folder(output) as temporary:
        (temporary / FIGURES).mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        old = _figures(output / TEXT)
        (output / FIGURES).mkdir(exist_ok=True)
        for name in files:
            (temporary / name).replace(output / name)
    for name in old - set(files):
        (output / name).unlink(missing_ok=True)


def _figures(text: Path) -> set[str]:
    """Figures of an earlier report, by its report.md."""
    if not text.is_file():
        return set()
    stems = re.findall(rf"\]\({FIGURES}/([a-z0-9-]+)\.png\)", text.read_text(encoding="utf-8"))
    return {f"{FIGURES}/{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
