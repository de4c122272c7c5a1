"""A document as one self-contained HTML page, with style, script and figures in it."""

import re
from html import escape
from importlib import resources
from string import Template

from jaxfreeze.report.document import Block, Document, Heading, Items, Lead, Notice, Paragraph, Picture, Table, Value
from jaxfreeze.report.figures import inline

MARK = '<meta name="generator" content="jaxfreeze report">'
"""In every report.html; page.html has a place for it."""


def to_html(document: Document, mark: str = MARK, sortable: bool = True) -> str:
    """The content of report.html; all text is escaped here. sortable: a script sorts the tables by column."""
    template = Template(_file("page.html"))
    sections = [(f"section-{i}", block) for i, block in enumerate(document.blocks)]
    contents = "".join(
        f'<li><a href="#{name}">{escape(block.text)}</a></li>'
        for name, block in sections
        if isinstance(block, Heading) and block.level == 2
    )
    return template.substitute(
        mark=mark,
        scripts="'unsafe-inline'" if sortable else "'none'",
        script=f"<script>\n{_file('sort.js')}</script>" if sortable else "",
        title=escape(document.title),
        subtitle=escape(document.subtitle),
        contents=contents,
        body="\n".join(_block(block, name, sortable) for name, block in sections),
    )


def _file(name: str) -> str:
    return resources.files("jaxfreeze.report").joinpath(name).read_text(encoding="utf-8")


def _block(block: Block, name: str, sortable: bool) -> str:
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
            return _table(block, name, sortable)
        case Lead(headline, lines, command, picture, items):
            told = "".join(f"<li>{_prose(line)}</li>" for line in lines)
            code = f'<pre tabindex="0"><code>{_command(command)}</code></pre>'
            answer = f'<div><p class="headline">{_prose(headline)}</p><ul>{told}</ul>{code}</div>'
            more = _block(Items(items), name, sortable)
            return f'<div class="lead">{answer}{_block(picture, name, sortable)}{more}</div>'
        case Picture(drawing, caption, alt, wide):
            svg = inline(drawing.svg, name, escape(alt))
            begin, end = ('<figure class="wide"><div tabindex="0">', "</div>") if wide else ("<figure>", "")
            return f"{begin}{svg}{end}<figcaption>{escape(caption)}</figcaption></figure>"


def _prose(text: str) -> str:
    """Escaped text in which 'k = 3' and '5e-5' stay on one line."""
    text = escape(text).replace("k = ", "k&nbsp;=&nbsp;")
    return re.sub(r"\b[\d.]+e-\d+", r'<span class="whole">\g<0></span>', text)


def _command(text: str) -> str:
    """Escaped text of a command that is broken between its words."""
    return "".join(f"<span>{escape(part)}</span>" if part.strip() else part for part in re.split(r"(\s+)", text))


def _table(table: Table, name: str, sortable: bool) -> str:
    numbers = table.numbers()
    begin, end = ('<button type="button">', "</button>") if sortable else ("", "")
    head = "".join(
        f'<th scope="col"{_class(number)}>{begin}{escape(text)}{end}</th>'
        for text, number in zip(table.columns, numbers, strict=True)
    )
    cell = _stacked_cell if table.stacked else _cell
    rows = "".join(
        f"<tr>{''.join(cell(*of, table.columns[of[2]]) for of in zip(row, numbers, range(len(row)), strict=True))}</tr>"
        for row in table.rows
    )
    kind = ' class="stacked"' if table.stacked else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}">'
        f'<table{kind}><caption><span id="{name}">{escape(table.caption)}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _stacked_cell(value: Value, number: bool, column: int, name: str) -> str:
    """A cell that carries its column's name, and runs in the direction of its text."""
    if column == 0:
        return f'<th scope="row">{escape(value.text)}</th>'
    told = f' data-name="{escape(name)}"' if name else ""
    return f'<td{_class(number)}{told} dir="auto">{_breakable(escape(value.text))}</td>'


def _cell(value: Value, number: bool, column: int, _: str) -> str:
    key = "" if value.key is None else f' data-key="{value.key:.9g}"'
    text = re.sub(r"(?<=\d) (?=\([^()]*(?: to | = ))", "<br>", escape(value.text))  # an interval goes below its value
    if column == 0:
        return f'<th scope="row"{key}>{_breakable(text)}</th>'
    return f"<td{_class(number)}{key}>{text}</td>"


def _breakable(text: str) -> str:
    """Escaped text in which a name such as top_up_failed is broken between its words."""
    return text.replace("_", "_<wbr>")


def _class(number: bool) -> str:
    return ' class="number"' if number else ""
