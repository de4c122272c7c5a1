"""A report as one self-contained HTML page, with style, script and figures in it."""

import re
from html import escape
from importlib import resources
from string import Template

from jaxfreeze.report.document import Block, Document, Heading, Items, Notice, Paragraph, Picture, Table, Value
from jaxfreeze.report.figures import inline

MARK = '<meta name="generator" content="jaxfreeze report">'
"""In every report.html; page.html has a place for it."""


def to_html(document: Document) -> str:
    """The content of report.html; all text is escaped here."""
    template = Template(resources.files("jaxfreeze.report").joinpath("page.html").read_text(encoding="utf-8"))
    sections = [(f"section-{i}", block) for i, block in enumerate(document.blocks)]
    contents = "".join(
        f'<li><a href="#{name}">{escape(block.text)}</a></li>'
        for name, block in sections
        if isinstance(block, Heading) and block.level == 2
    )
    return template.substitute(
        mark=MARK,
        title=escape(document.title),
        subtitle=escape(document.subtitle),
        contents=contents,
        body="\n".join(_block(block, name) for name, block in sections),
    )


def _block(block: Block, name: str) -> str:
    match block:
        case Heading(level, text):
            return f'<h{level} id="{name}">{escape(text)}</h{level}>'
        case Paragraph(text):
            return f"<p>{_prose(text)}</p>"
        case Items(items):
            lines = (f"<li>{f'<b>{escape(about)}:</b> ' if about else ''}{_prose(text)}</li>" for about, text in items)
            return f"<ul>{''.join(lines)}</ul>"
        case Notice(lines):
            return f'<aside role="note">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</aside>'
        case Table():
            return _table(block, name)
        case Picture(drawing, caption, alt):
            svg = inline(drawing.svg, name, escape(alt))
            return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _prose(text: str) -> str:
    """Escaped text in which 'k = 3' stays on one line."""
    return escape(text).replace("k = ", "k&nbsp;=&nbsp;")


def _table(table: Table, name: str) -> str:
    numbers = table.numbers()
    head = "".join(
        f'<th scope="col"{_class(number)}><button type="button">{escape(text)}</button></th>'
        for text, number in zip(table.columns, numbers, strict=True)
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row, numbers, range(len(row))))}</tr>" for row in table.rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}">'
        f'<table><caption><span id="{name}">{escape(table.caption)}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(value: Value, number: bool, column: int) -> str:
    key = "" if value.key is None else f' data-key="{value.key:.9g}"'
    text = re.sub(r"(?<=\d) (?=\([^()]*(?: to | = ))", "<br>", escape(value.text))  # an interval goes below its value
    return f'<th scope="row"{key}>{text}</th>' if column == 0 else f"<td{_class(number)}{key}>{text}</td>"


def _class(number: bool) -> str:
    return ' class="number"' if number else ""
