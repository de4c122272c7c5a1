"""The command `report`: writes report.md, report.html and figures about searches and finished runs."""

import re
from collections.abc import Sequence
from pathlib import Path

from jaxfreeze.console import say
from jaxfreeze.report import document, page, search_report, sections
from jaxfreeze.report.folder import ReportFolder
from jaxfreeze.search import answer_file
from jaxfreeze.sweep import results

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
_NAMES = re.compile(rf"report\.(html|md)|{FIGURES}/[a-z0-9-]+\.(png|svg)")


def report(folders: Sequence[Path], output: Path) -> None:
    """Write the report on all searches, and on all finished runs in sweep folders and run folders, to `output`.

    The whole report is made before any file is written. Files of an earlier report in `output` are replaced, all
    others stay. Raises InputError for results that cannot be read, for an output folder that holds other files, and for
    files of an earlier report that somebody has changed.
    """
    folder = ReportFolder(output, "--output", "report", _NAMES)
    earlier = folder.earlier()
    content = _content(folders)
    files: dict[str, bytes] = {PAGE: page.to_html(content).encode(), TEXT: document.to_markdown(content).encode()}
    for picture in document.pictures(content):
        files[f"{FIGURES}/{picture.drawing.name}.png"] = picture.drawing.png
        files[f"{FIGURES}/{picture.drawing.name}.svg"] = picture.drawing.svg.encode()
    folder.check_unchanged(earlier, files)
    folder.write(files, earlier, {})
    for name in files:
        say(str(output / name))


def _content(folders: Sequence[Path]) -> document.Document:
    """What is said of the folders: of a search, or the searches in a folder, the answers, of any other its runs."""
    by_folder = {folder: _searches(folder) for folder in folders}
    searches = [search for found in by_folder.values() for search in found]
    others = [folder for folder, found in by_folder.items() if not found]
    runs = sections.compose(results.read(others)) if others else None
    if not searches:
        assert runs is not None  # the command takes at least one folder
        return runs
    return search_report.compose([answer_file.read(folder / answer_file.NAME) for folder in searches], runs)


def _searches(folder: Path) -> list[Path]:
    """The folder if it is that of a search; if it has no runs, those in it that are, as `sweep --find_layers` makes."""
    if (folder / answer_file.NAME).is_file():
        return [folder]
    if any(folder.glob(results.RESULTS_FILES)):
        return []
    return [file.parent for file in sorted(folder.glob(f"*/{answer_file.NAME}"))]
