"""report.md, report.html and the figures: whole, self-contained, escaped, the same bytes for the same runs."""

import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jaxfreeze import atomic
from jaxfreeze.errors import InputError
from jaxfreeze.report import page, words
from jaxfreeze.report.document import Document, Heading, Items, Paragraph, Table, Value, to_markdown
from jaxfreeze.report.report import report
from tests.sweep.lines import line, lines, write

DEMO = {0: [0.811, 0.812, 0.8135], 2: [0.842, 0.845, 0.84], "all": [0.90, 0.904, 0.901]}
BERT = {0: [0.57, 0.58, 0.56], 6: [0.66, 0.527, 0.67], "all": [0.68, 0.66, 0.69]}
HOSTILE = '"><img src=x onerror=alert(1)>|`_x_*[l](http://evil.test)\n# é `$a$`'


class Page(HTMLParser):
    """What a browser would make of report.html."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two models: `demo` on two tasks, and bert-base-uncased on one with a collapsed run."""
    root = tmp_path_factory.mktemp("report")
    demo = write(root / "demo", [*lines(DEMO), *lines(DEMO, task="stsb")], tail='{"task"')
    bert = {"task": "rte", "model": "bert-base-uncased", "num_layers": 12, "frozen_dropout": True}
    report([demo, write(root / "bert", lines(BERT, **bert))], root / "out")
    return root / "out"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def make_report(records: list, name: str = "out") -> Path:
        report([write(tmp_path / "sweep", records)], tmp_path / name)
        return tmp_path / name

    return make_report


def inline_figures(folder: Path) -> list[str]:
    return re.findall(r"<svg.*?</svg>", (folder / "report.html").read_text(), flags=re.DOTALL)


# Files


def test_every_file_is_there_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "out"
    report([write(tmp_path / "sweep", lines(DEMO))], out)
    written = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    figures = {f"figures/{name}.{kind}" for name in ("difference-demo", "score-demo-mrpc") for kind in ("png", "svg")}
    assert written == {"report.html", "report.md", "report.json"} | figures
    assert sorted(capsys.readouterr().out.split()) == sorted(str(out / name) for name in written - {"report.json"})


def test_markdown_links_lead_to_figures(folder: Path) -> None:
    links = re.findall(r"!\[[^\n]*?\]\(([^)]*)\)", (folder / "report.md").read_text())
    assert sorted(links) == sorted(f"figures/{file.name}" for file in (folder / "figures").glob("*.png"))
    assert len(links) == 5
    for link in links:
        assert (folder / link).read_bytes().startswith(b"\x89PNG")
        ElementTree.fromstring((folder / link).with_suffix(".svg").read_text())


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    sweep = write(tmp_path / "sweep", lines(DEMO))
    report([sweep], tmp_path / "one")
    report([sweep], tmp_path / "two")
    names = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*.*"))
    assert len(names) == 7
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_an_earlier_report_is_replaced_and_nothing_else(make: Callable[..., Path]) -> None:
    out = make([*lines(DEMO), *lines(DEMO, task="stsb")])
    (out / "figures" / "mine.png").write_text("mine")
    (out / "notes.txt").write_text("mine")
    make(lines(DEMO, task="cola"))
    assert {file.name for file in (out / "figures").glob("*.png")} == {
        "difference-demo.png",
        "score-demo-cola.png",
        "mine.png",
    }
    assert (out / "notes.txt").read_text() == "mine"
    assert "CoLA" in (out / "report.md").read_text()


@pytest.mark.parametrize("name", ["thesis.txt", "report.md", "report.html", "figures"])
def test_others_files_are_left_alone(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    mine = tmp_path / "out" / name
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(
        InputError, match=rf"--output {tmp_path}/out: expected a new folder or an earlier report, .* found other files"
    ):
        make(lines(DEMO))
    assert [file.name for file in (tmp_path / "out").iterdir()] == [name]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["report.md", "report.html", "figures/difference-demo.svg", "figures/score-demo-cola.png"]
)
def test_a_file_that_somebody_changed_or_made_is_not_replaced(make: Callable[..., Path], name: str) -> None:
    out = make(lines(DEMO))
    (out / name).write_text("my own words")
    before = {file: file.read_bytes() for file in out.rglob("*.*")}
    with pytest.raises(InputError, match=f"{name} is not as a report left it; move it away"):
        make(lines(DEMO, task="cola"))  # would replace three of them, and write the last
    assert {file: file.read_bytes() for file in out.rglob("*.*")} == before


def test_a_list_of_somebody_else_deletes_nothing(make: Callable[..., Path], tmp_path: Path) -> None:
    out = make(lines(DEMO))
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    written = json.loads((out / "report.json").read_text())
    written["files"]["../mine.txt"] = [hashlib.sha256(b"mine").hexdigest()]
    (out / "report.json").write_text(json.dumps(written))
    make(lines(DEMO, task="cola"))
    assert mine.read_text() == "mine"


def test_an_output_that_cannot_be_written(tmp_path: Path, make: Callable[..., Path]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--output .*file: expected a folder, found a file"):
        make(lines(DEMO), "file")
    with pytest.raises(InputError, match=r"--output .*file/out: cannot be written to \(.*give another folder"):
        make(lines(DEMO), "file/out")


def test_nothing_is_written_when_something_fails(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"line 1: model"):
        make([line(0.5, 0, 1, model=" ")])
    assert not (tmp_path / "out").exists()
    out = make(lines(DEMO))
    before = {file: file.read_bytes() for file in out.rglob("*.*")}
    full = Path.write_bytes

    def disk_full(self: Path, content: bytes) -> int:
        if self.suffix == ".svg":
            raise OSError(28, "No space left on device")
        return full(self, content)

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(InputError, match=r"cannot be written to \(\[Errno 28\] No space left on device"):
        make(lines(DEMO, task="cola"))
    monkeypatch.undo()
    assert {file: file.read_bytes() for file in out.rglob("*.*")} == before
    (out / f"{atomic.WRITING}-dead1234" / "figures").mkdir(parents=True)
    make(lines(DEMO, task="cola"))  # what a killed process left half-written is in nobody's way
    assert not list(out.glob(f"{atomic.WRITING}*"))


# The page


def test_the_page_needs_nothing_from_elsewhere(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    found = Page(text)
    assert not re.search(r"@import|url\((?!#)", text)
    assert set(re.findall(r'[\w:-]+="https?://[^"]*"', text)) == {
        'xmlns="http://www.w3.org/2000/svg"',
        'xmlns:xlink="http://www.w3.org/1999/xlink"',
    }
    for tag, attributes in found.tags:
        assert tag not in ("link", "img", "iframe", "object", "base"), tag
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), attributes
    policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def test_the_page_is_accessible(folder: Path) -> None:
    found = Page((folder / "report.html").read_text())
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [(a.get("href") or a.get("xlink:href") or "")[1:] for tag, a in found.tags if tag in ("a", "use")]
    targets += [a["aria-labelledby"] or "" for _, a in found.tags if "aria-labelledby" in a]
    assert set(targets) <= set(ids)
    assert found.count("table") == found.count("caption") > 8
    assert all(a.get("scope") in ("col", "row") for tag, a in found.tags if tag == "th")
    assert sum(a.get("scope") == "col" for _, a in found.tags) == found.count("button")
    figures = [a for tag, a in found.tags if tag == "svg"]
    assert len(figures) == 5
    assert all(a["role"] == "img" and a["aria-label"] for a in figures)
    assert ("html", {"lang": "en"}) in found.tags
    assert any(a.get("name") == "viewport" for _, a in found.tags)


def test_figures_in_the_page_follow_its_colours(folder: Path) -> None:
    """A colour written out would not change in dark mode; a style sheet of a figure would hold for the whole page."""
    text = (folder / "report.html").read_text()
    defined = set(re.findall(r"(--[\w-]+):", text))
    for figure in inline_figures(folder):
        ElementTree.fromstring(figure)
        assert not re.search(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b(?=[;\"])", figure)
        assert "<style" not in figure
        assert "font-family" not in figure
        assert set(re.findall(r"var\((--[\w-]+)\)", figure)) <= defined
    dark = text[text.index("prefers-color-scheme") :]
    assert set(re.findall(r"(--[\w-]+):", dark[: dark.index("}")])) == defined


def test_names_from_files_are_escaped_everywhere(make: Callable[..., Path]) -> None:
    records = lines(DEMO, model=HOSTILE, devices="<b>dev</b>", versions={"jax</style><script>": "1"})
    for record in records:
        record["config"]["data_dir"] = "</td><script>alert(2)</script>"
    out = make(records)
    found = Page((out / "report.html").read_text())
    assert (found.count("img"), found.count("script"), found.count("style")) == (0, 1, 1)
    assert "<b>dev</b>" in found.text
    assert not [attributes for _, attributes in found.tags if "onerror" in attributes]
    markdown = (out / "report.md").read_text()
    assert not re.search(r"<(?!!-- jaxfreeze report -->)", markdown)
    assert "\n# é" not in markdown
    (drawn,) = (out / "figures").glob("score-*.svg")
    texts = [element.text for element in ElementTree.parse(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert any("`$a$`" in (text or "") for text in texts)  # and not a formula
    assert r"\|\`\_x\_\*\[l\](http://evil.test) # é \`\$a\$\`" in markdown
    rows = [row for row in markdown.splitlines() if row.startswith("| model ")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [4]


def test_names_of_figures_are_plain_and_differ(make: Callable[..., Path]) -> None:
    runs = [run for model in ("x/a_b", "a b", "é", "ü") for run in lines(DEMO, model=model)]
    names = {file.name for file in (make(runs) / "figures").glob("score-*.png")}
    assert names == {"score-a-b-mrpc.png", "score-a-b-mrpc-2.png", "score-x-mrpc.png", "score-x-mrpc-2.png"}


# What it says


def test_the_head_answers(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    head = text[: text.index("\n## demo")]
    assert "27 runs of demo and bert-base-uncased on MRPC, STS-B and RTE, 2026-11-24" in head
    assert re.search(
        r"- \*\*STS-B\*\*: the head alone kept 90\.\d% \(8\d\.\d to 9\d\.\d\) of full fine-tuning, 81\.2 against", head
    )
    assert "inconclusive with these seeds" in head
    assert "line 19: cut off while it was written; left out." in head


def test_authors_figures_stand_only_beside_their_own_models(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    demo, bert = text[text.index("\n## demo") : text.index("\n## bert")], text[text.index("\n## bert") :]
    assert "The paper's authors have no results for such a model" in demo
    assert "authors, 2020-05" not in demo
    assert "65.6 ± 4.4 (10)" in bert  # k = 6 of the reference
    assert "RTE, authors | 86.2 | 97.7" in bert
    figures = {file.stem: file.read_text() for file in (folder / "figures").glob("*.svg")}
    assert {name for name, svg in figures.items() if "authors" in svg} == {
        "difference-bert-base-uncased",
        "score-bert-base-uncased-rte",
    }


def test_collapsed_runs_are_named_and_both_means_shown(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert "- **RTE, k = 6**: 1 of 3 runs: seed 2 (52.7)" in text
    assert "1 of 9 scores collapsed" in text
    assert "None of 18 scores collapsed" in text
    row = "| RTE | 6 | 3 | 1 | 61.9 | 66.5 | -5.8 | -1.2 | 91.5 | 98.3 | -1.5 | +1.2 |"
    assert row in text.replace(words.MINUS, "-")


def test_how_it_was_run_is_said(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert "**Dropout in the frozen layers**: on in some runs, off in others; in the paper's runs it was on" in text
    assert "**Gradient norm for clipping**: over the trained parameters" in text
    assert "**weight\\_decay**: 0.01; in the paper's runs 0" in text
    assert "**Learning rate, bert-base-uncased, RTE**: 5e-05; the authors chose 3e-05" in text
    assert "**Versions**: jaxfreeze 0.1.0; jax 0.10.2" in text
    assert "| epochs | 3 | all runs |" in text
    assert "from the folder glue" in text
    assert "Epochs" not in text


def test_several_learning_rates_and_unlike_runs_are_said(make: Callable[..., Path]) -> None:
    runs = [*lines(DEMO), *lines(DEMO, learning_rate=2e-5), line(0.84, 2, 4, epochs=5)]
    out = make(runs)
    text = (out / "report.md").read_text()
    assert "demo: MRPC ran at several learning rates; each is a curve of its own" in text
    assert "runs of this curve differ in more than k and seed (epochs 3 and 5)" in text
    assert "**MRPC, learning rate 2e-05**:" in text
    assert len(list((out / "figures").glob("*.png"))) == 2


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({2: [0.8], "all": [0.85]}, "one run has no interval, which is inconclusive with these seeds"),
        ({2: [0.8, 0.81]}, "no run of the full model (trainable\\_layers all) at learning rate 5e-05"),
        ({"all": [0.8, 0.81]}, "only the full model was run: 80.5 ± 0.7 (2 runs)"),
        ({0: [0.0, 0.0], "all": [0.0, 0.0]}, "the full model's mean is 0.0, of which no share can be taken"),
        ({6: [0.85, 0.85], "all": [0.85, 0.85]}, "6 of 6 layers keep 100.0% (100.0 to 100.0)"),
        (
            {0: [0.81, 0.812], "all": [0.813, 0.811]},
            "the full model's 81.2 (79.9 to 82.5) F1 is indistinguishable from a constant prediction (81.2 on "
            "GLUE's dev set), so there is no gain to keep a share of. By the paper's plain ratio of scores: 99.9%",
        ),
        (
            {0: [0.811, 0.8125], 2: [0.89, 0.892], "all": [0.90, 0.901]},
            "k = 0 or 2 kept less than 90% of full fine-tuning's gain over a constant prediction (81.2 on "
            "GLUE's dev set) in the mean; the most is 89.2% (81.4 to 97.5) at k = 2.",
        ),
        (
            {0: [0.811, 0.8125], 2: [0.89, 0.892], "all": [0.90, 0.901]},
            "whole interval above 90%. By the paper's plain ratio of scores: 90.1% at k = 0.",
        ),
    ],
)
def test_reports_on_little(make: Callable[..., Path], scores: dict, said: str) -> None:
    assert said in (make(lines(scores)) / "report.md").read_text()


def test_blocks_in_markdown_and_html() -> None:
    table = Table("C", ["k", "v<"], [[Value("0"), Value("1 (0 to 2)", 1.0)], [Value("a|b"), Value("-")]])
    blocks = [Heading(2, "*H*"), Paragraph("1. not a list"), Items([("a", "b"), ("", "c")]), table]
    found = Document("T", "S", blocks)
    assert to_markdown(found).splitlines()[4:] == [
        "S", "", "## \\*H\\*", "", "1\\. not a list", "", "- **a**: b", "- c", "", "C", "",
        "| k | v&lt; |", "|---|---:|", "| 0 | 1 (0 to 2) |", "| a\\|b | - |",
    ]  # fmt: skip
    html = page.to_html(found)
    assert '<button type="button">v&lt;</button>' in html
    assert '<td class="number" data-key="1">1<br>(0 to 2)</td>' in html
    assert '<th scope="row">a|b</th><td class="number">-</td>' in html
