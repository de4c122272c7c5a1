"""A report as a list of blocks, independent of its format; and its Markdown."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxfreeze.report.figures import Drawing

MARK = "<!-- jaxfreeze report -->"
"""The first line of every report.md."""


class Value(NamedTuple):
    """One cell of a table."""

    text: str
    key: float | None = None
    """The number that a column is sorted by; None: by text."""


class Heading(NamedTuple):
    """The heading of a section (level 2) or a subsection (3)."""

    level: int
    text: str


class Paragraph(NamedTuple):
    """Plain text."""

    text: str


class Items(NamedTuple):
    """A list of (subject, text)."""

    items: Sequence[tuple[str, str]]


class Notice(NamedTuple):
    """Warnings that a reader must not miss."""

    lines: Sequence[str]


class Table(NamedTuple):
    """Rows of cells; the first cell of a row is its heading."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    stacked: bool = False
    """Of long texts: on a narrow screen the cells of a row lie below each other."""

    def numbers(self) -> list[bool]:
        """Which columns hold numbers; those are aligned to the right."""
        return [
            column > 0 and any(row[column].key is not None for row in self.rows) for column in range(len(self.columns))
        ]


class Picture(NamedTuple):
    """A figure with its caption and a description for screen readers."""

    drawing: Drawing
    caption: str
    alt: str
    wide: bool = False
    """As wide as the page; on a narrow screen it is scrolled."""


class Lead(NamedTuple):
    """An answer: what to do in large letters, what is known of it, the command; a figure beside it."""

    headline: str
    lines: Sequence[str]
    command: str
    picture: Picture
    items: Sequence[tuple[str, str]]
    """(subject, text) of what comes after the figure, or below the command where there is room."""


Block = Heading | Paragraph | Items | Notice | Table | Picture | Lead


class Document(NamedTuple):
    """A whole report."""

    title: str
    subtitle: str
    blocks: Sequence[Block]


def pictures(document: Document) -> list[Picture]:
    """All figures, in their order."""
    found = (block.picture if isinstance(block, Lead) else block for block in document.blocks)
    return [block for block in found if isinstance(block, Picture)]


def to_markdown(document: Document) -> str:
    """The content of report.md; figures are linked as figures/NAME.png."""
    parts = [MARK, f"# {_escaped(document.title)}", _start(_escaped(document.subtitle))]
    parts += [_block(block) for block in document.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_escaped(text)}"
        case Paragraph(text):
            return _start(_escaped(text))
        case Items(items):
            return "\n".join(
                f"- {f'**{_escaped(about)}**: ' if about else ''}{_escaped(text)}" for about, text in items
            )
        case Notice(lines):
            return "\n>\n".join(f"> {_escaped(line)}" for line in lines)
        case Table():
            return _table(block)
        case Lead(headline, told, command, picture, items):
            points = "\n".join(f"- {_start(_escaped(line))}" for line in told)
            code = f"    {' '.join(command.split())}"
            parts = [f"**{_escaped(headline)}**", points, "To train it:", code, _block(picture), _block(Items(items))]
            return "\n\n".join(parts)
        case Picture(drawing, caption, alt):
            return f"![{_escaped(alt)}](figures/{drawing.name}.png)\n\n*{_escaped(caption)}*"


def _table(table: Table) -> str:
    lines = [
        "| " + " | ".join(map(_escaped, table.columns)) + " |",
        "|" + "|".join("---:" if number else "---" for number in table.numbers()) + "|",
        *("| " + " | ".join(_escaped(value.text) for value in row) + " |" for row in table.rows),
    ]
    return f"{_start(_escaped(table.caption))}\n\n" + "\n".join(lines)


def _escaped(text: str) -> str:
    """Text on one line, escaped so that Markdown shows it literally."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


def _start(text: str) -> str:
    """Escaped text for the start of a line, where a number or a sign would begin a list."""
    return re.sub(r"^(\d*)([-+#=.)])", r"\1\\\2", text)
