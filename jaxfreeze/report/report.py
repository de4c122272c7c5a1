"""`python run.py report`: writes report.md, report.html and figures about finished runs."""

import re
from collections.abc import Sequence
from pathlib import Path

from jaxfreeze.console import say
from jaxfreeze.report import document, page
from jaxfreeze.report.folder import ReportFolder
from jaxfreeze.report.sections import compose
from jaxfreeze.sweep import results

PAGE, TEXT, FIGURES = "report.html", "report.md", "figures"
_NAMES = re.compile(rf"report\.(html|md)|{FIGURES}/[a-z0-9-]+\.(png|svg)")


def report(folders: Sequence[Path], output: Path) -> None:
    """Write the report on all finished runs in sweep folders and run folders to `output`.

    The whole report is made before any file is written. Files of an earlier report in `output` are replaced, all
    others stay. Raises InputError for results that cannot be read, for an output folder that holds other files, and for
    files of an earlier report that somebody has changed.
    """
    folder = ReportFolder(output, "--output", "report", _NAMES)
    earlier = folder.earlier()
    found = results.read(folders)
    content = compose(found)
    files: dict[str, bytes] = {PAGE: page.to_html(content).encode(), TEXT: document.to_markdown(content).encode()}
    for picture in document.pictures(content):
        files[f"{FIGURES}/{picture.drawing.name}.png"] = picture.drawing.png
        files[f"{FIGURES}/{picture.drawing.name}.svg"] = picture.drawing.svg.encode()
    folder.check_unchanged(earlier, files)
    folder.write(files, earlier, {})
    for name in files:
        say(str(output / name))
