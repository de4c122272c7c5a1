"""The first screen of a report on a search: the sentences, the table, the figures and where they stand."""

import dataclasses
import itertools
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.transforms import Bbox

from jaxfreeze.freezing import ALL
from jaxfreeze.report import choice, choice_figures, choice_tables, figures, page, paper, search_report, words
from jaxfreeze.report.document import Heading, Lead, Picture, Table, to_markdown
from jaxfreeze.report.figures import frame, style
from jaxfreeze.report.point_labels import MARKER, Label, Segment, place
from jaxfreeze.report.report import report
from jaxfreeze.report.sections import Names
from jaxfreeze.search import answer_file, terms, wording
from jaxfreeze.search.answer import Answer
from jaxfreeze.search.wording import one_line
from tests.report.answers import KINDS, LOWER, answer, cola, deep, full, head, lower, mrpc, single, stsb
from tests.report.test_report import DEMO, HOSTILE, Page
from tests.sweep.lines import lines, write

SVG = "{http://www.w3.org/2000/svg}text"
everyone = pytest.mark.parametrize("of", KINDS.values(), ids=KINDS.keys())


# The one line


def test_the_line_of_a_recommendation() -> None:
    assert one_line(stsb()) == (
        "3 of 6 layers, learning rate 2e-4, 3 epochs: 84.3 (83.0 to 85.6) Spearman correlation on 1,500 rows it never "
        "saw; the best found is 86.2 with the full model at 5e-5; within 1 point of the best with probability 41%, "
        "keeps 95% of its quality with probability 97%; a run takes 31% of the full model's time. python run.py "
        "--task stsb --model models/all-MiniLM-L6-v2 --trainable_layers 3 --learning_rate 2e-4 --epochs 3"
    )


def test_a_constant_answer_that_scores_is_named() -> None:
    assert "keeps 95% of its gain over a constant prediction (50.5) with probability 98%" in one_line(deep())


def test_not_decided() -> None:
    line = one_line(cola())
    assert line.startswith("Not decided; the best so far is the full model, learning rate 5e-5, 3 epochs: 27.6 (")
    assert "no smaller k that was tried keeps 95% of its quality with the asked probability of 90%" in line
    assert "(k = 3 comes nearest, with 45%)" in line


def test_nothing_is_better_than_a_constant_answer() -> None:
    line = one_line(mrpc())
    assert line.startswith(
        "No setting is reliably better than giving every row the same answer: the same answer scores 81.2"
    )
    assert (
        "the best found, the full model, learning rate 5e-5, 3 epochs, scores 81.9 (78.8 to 85.0) on 408 rows" in line
    )
    assert "there is no quality of which a smaller k could keep 95%" in line
    assert "keeps" not in line


def test_the_head_alone_and_the_full_model() -> None:
    assert one_line(head()).startswith("The head alone, learning rate 2e-3, 10 epochs: 70.1")
    assert "with the full model at 2e-5 for 3 epochs" in one_line(head())  # the two differ in epochs
    line = one_line(full())
    assert line.startswith("The full model, learning rate 2e-5, 3 epochs: 91.5 (90.2 to 92.8) accuracy on 277 rows")
    assert "the best found; no smaller k that was tried keeps 95% of its gain" in line
    assert "a run takes 8 min." in line


def test_one_seed_and_nothing_to_compare_with() -> None:
    line = one_line(single())
    assert "82.0 (no interval) Spearman" in line
    assert "from one seed" in line
    assert "nothing else was run to its end" in line
    assert "the full model was not run" in line


def test_lower_is_better_in_its_own_unit() -> None:
    line = one_line(lower())
    assert "0.520 (0.480 to 0.560) mean absolute error (lower is better) on 800 rows" in line
    assert "within 0.01 of the best with probability 20%" in line
    assert "gain over a constant prediction (1.31)" in line
    assert "it has no ratio" in wording.of_paper(lower())


def test_what_would_narrow_the_intervals() -> None:
    assert "More test rows would narrow the intervals; more seeds would hardly" in wording.uncertainty(stsb())
    seeds = stsb(dominant_uncertainty="seeds", seed_error=0.02, row_error=0.004)
    assert "2 points from seeds and 0.4 points from the 1,500 reported rows. More seeds would" in wording.uncertainty(
        seeds
    )
    both = wording.uncertainty(stsb(seed_error=0.008))
    assert "Both more seeds and more test rows" in both
    assert "of its distance to the best" in both
    assert "of its lead over k = 3" not in both
    assert "of its lead over 3 of 6 layers, learning rate 2e-4" in wording.uncertainty(cola())
    assert "of its gain over a constant prediction" in wording.uncertainty(single())


def test_the_papers_answer_stands_beside_it() -> None:
    said = wording.of_paper(mrpc())
    assert said.startswith(
        "The head alone, which scores 81.5, 99.5% of the full model's 81.9 (every k at learning rate 5e-5"
    )
    assert said.endswith("; but a constant prediction scores 81.2.")
    assert wording.of_paper(stsb()).startswith("The full model: no smaller k that was tried keeps 95% of its score")
    assert wording.of_paper(single()).startswith("Not run")


def without(found: Answer, *missing: int) -> Answer:
    """The answer of a search whose budget left no room for these k at the full model's rate."""
    paper = tuple(point for point in found.paper if point.candidate.layers not in missing)
    return dataclasses.replace(found, paper=paper)


def test_of_what_the_papers_protocol_did_not_run_nothing_is_said() -> None:
    """A smaller k may keep the share, where it was not run."""
    assert wording.paper_choices(stsb()) == ("all",)
    some = without(stsb(), 2, 3)
    assert wording.paper_choices(some) == (2, 3, "all")
    assert wording.of_paper(some).startswith(
        "Not known: k = 2 and 3 had no run at the full model's rate; of the others, only the full model keeps 95% of "
        "its score (every k at learning rate 5e-5 for 3 epochs"
    )
    assert wording.paper_choices(deep()) == (3,)
    assert wording.paper_choices(without(deep(), 6)) == (3,)
    assert wording.paper_choices(without(deep(), 3)) == (3, 6)
    said = wording.of_paper(without(deep(), 0, 2))
    assert said.startswith("k = 3, which scores")
    assert said.endswith("no interval); k = 0 and 2 had no run at the full model's rate.")
    assert [wording.paper_choices(found) for found in (single(), lower())] == [(), ()]
    table = choice_tables.all_answers([stsb(), some, without(deep(), 0, 2), single()])
    column = [row[table.columns.index("the paper's k")] for row in table.rows]
    assert [value.text for value in column] == ["all", "2, 3 or all", "0, 2 or 3", words.NOTHING.text]
    assert [value.key for value in column][:3] == [7, 7, 3]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("mrpc", "MRPC"),
        ("files (reviews.csv)", "reviews.csv"),
        ("files (/my/in/reviews.csv)", "in/reviews.csv"),
        ("files (/a.csv)", "/a.csv"),
        ("files (in/a (1).csv)", "in/a (1).csv"),
        ("hub (imdb)", "imdb"),
        ("hub (owner/name)", "owner/name"),
        ("files", "this data"),
        ("files (-)", "this data"),
    ],
)
def test_own_data_is_called_by_its_name(task: str, said: str) -> None:
    assert terms.data(task) == said


def test_what_was_left_out() -> None:
    assert dict(wording.left_out(mrpc())) == {
        "k = 3": "at most 84.1 with the rates left, below k = 2",
        "k = 4 and 5": "not tried: the search tries k = 0, 1, 2, 3, then doubles k, and the full model",
    }


@everyone
def test_the_line_is_one_line_of_ascii(of) -> None:
    found = of()
    assert one_line(found).isascii()
    assert "\n" not in one_line(found)
    assert not re.search(r"\b(nan|inf|None)\b", one_line(found) + wording.uncertainty(found) + wording.of_paper(found))
    assert one_line(found).endswith(found.command)


# The table


@everyone
def test_the_table_has_every_point(of) -> None:
    found = of()
    table = choice_tables.by_layers(found)
    assert [row[0].text for row in table.rows] == [str(point.candidate.layers) for point in found.points]
    marked = [row[0].text for row in table.rows if row[-1].text == "recommended"]
    assert marked == ([str(found.chosen.candidate.layers)] if found.sure and wording.anything_learned(found) else [])
    assert not re.search(r"\b(nan|inf|None)\b", " ".join(value.text for row in table.rows for value in row))


def test_no_quality_is_told_where_nothing_was_learned() -> None:
    rows = choice_tables.by_layers(mrpc()).rows
    assert {row[4] for row in rows} == {row[5] for row in rows} == {words.NOTHING}
    assert {row[-1].text for row in rows} == {"no better than a constant prediction"}


def test_unbounded_qualities_and_diverged_rates() -> None:
    found = stsb()
    unbounded = found.points[0]._replace(quality_low=-np.inf, quality_high=np.inf)
    rows = choice_tables.by_layers(stsb(points=(unbounded, *found.points[1:]))).rows
    assert [row[4].text for row in rows][:2] == ["47.2", "82.0 (80.5 to 83.5)"]
    diverged = found.rates[0]._replace(score=-np.inf)
    told = choice_tables.rates(stsb(rates=(diverged, *found.rates[1:]))).rows[0]
    assert "diverged (2)" in [value.text for value in told]


def test_the_rates_table_marks_what_was_chosen() -> None:
    table = choice_tables.rates(stsb())
    starred = [
        (row[0].text, table.columns[i]) for row in table.rows for i, value in enumerate(row) if "*" in value.text
    ]
    assert starred == [("0", "2e-3"), ("1", "1e-3"), ("2", "5e-4"), ("3", "2e-4"), ("all", "5e-5")]


# The figures


def labels_of(count: int, seed: int, spread: float) -> list[tuple[float, float]]:
    """Points at close places: within `spread` of the width and height of a diagram of 0 to 1."""
    return [tuple(0.5 + spread * (np.random.default_rng([seed, i]).random(2) - 0.5)) for i in range(count)]


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("spread", [0.0, 0.06, 0.4])
def test_labels_do_not_overlap(count: int, spread: float) -> None:
    points = labels_of(count, 1, spread)
    with style():
        figure, axes = frame("labels", 4.3, 3.7)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        notes = place(
            figure, axes, [Label(*point, f"k = {i}, 2e-4", "#1b1c1e") for i, point in enumerate(points)], points
        )
        boxes = [note.get_window_extent(figure.canvas.get_renderer()) for note in notes]  # type: ignore[attr-defined]
        assert not [pair for pair in itertools.combinations(boxes, 2) if Bbox.intersection(*pair)]
        half = 0.5 * MARKER * figure.dpi / 72
        for x, y in axes.transData.transform(points):
            assert not [box for box in boxes if box.overlaps(Bbox([[x - half, y - half], [x + half, y + half]]))]
        assert all(axes.bbox.contains(x, y) for box in boxes for x, y in box.corners())


def test_a_label_covers_few_lines_and_none_goes_through_it() -> None:
    """Beside the point and above it are many, below it one at a time."""
    with style():
        figure, axes = frame("labels", 4.3, 3.7)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        many = [Segment((x, x), (0.46, 1.0)) for x in np.arange(0.02, 1.0, 0.02)]
        few = [Segment((0.0, 1.0), (height, height)) for height in np.arange(0.0, 0.45, 0.06)]
        (note,) = place(figure, axes, [Label(0.5, 0.5, "k = 2, 2e-4", "#1b1c1e")], [(0.5, 0.5)], many + few)
        assert note.get_position()[1] < 0
        assert note.get_bbox_patch().get_facecolor()[:3] == pytest.approx(to_rgb(figures.PAPER))


def drawn_texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(SVG)]


def test_every_point_is_labelled_with_k_and_rate() -> None:
    drawing = choice_figures.front_figure("front", deep())
    texts = drawn_texts(drawing.svg)
    assert {"k = 0, 2e-3", "k = 1, 1e-3, 3 epochs", "k = 1, 1e-3, 9 epochs", "k = 6, 1e-4", "all, 2e-5"} <= set(texts)
    assert "the paper's protocol, every k at 5e-5" in texts
    assert "constant prediction: 50.5" in texts
    assert drawing == choice_figures.front_figure("front", deep())
    assert drawing.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("draw", [choice_figures.front_figure, choice_figures.layers_figure])
def test_the_papers_line_ends_where_a_k_had_no_run(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line from k = 1 to the full model would show scores of k that nobody has run."""
    monkeypatch.setattr(choice_figures, "written", lambda figure, name: figure)
    for missing, points in (((), [5]), ((2, 3), [2, 1]), ((0,), [4]), ((1, 3), [1, 1, 1])):
        figure = draw("name", without(stsb(), *missing))
        lines = [line for line in figure.axes[0].lines if line.get_color() == choice_figures.OF_PAPER]
        assert [len(line.get_xdata()) for line in lines] == points
        names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert sum("the paper's protocol" in name for name in names) == 1


def test_a_level_out_of_sight_is_named() -> None:
    texts = drawn_texts(choice_figures.front_figure("front", single()).svg)
    assert "constant prediction: 0.0 (below)" in texts
    assert "k = 2, 5e-4" in texts
    above = answer(LOWER[1:], "files", "mae", constant=9.0, half=0.01)
    assert "constant prediction: 9.00 (above)" in drawn_texts(choice_figures.front_figure("front", above).svg)


# The report


def section_of(text: str, name: str) -> str:
    return text[text.index(f"\n## {name}") :].split("\n## ")[1]


def saved(folder: Path, found: Answer) -> Path:
    folder.mkdir()
    answer_file.write(found, folder / "answer.json")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are laid out but not drawn."""
    for module in (figures, choice_figures):
        monkeypatch.setattr(module, "written", lambda figure, name, *_: figures.Drawing(name, "<svg></svg>", b""))


@pytest.mark.usefixtures("undrawn")
def test_the_first_screen() -> None:
    first, *rest = choice.blocks(stsb())
    assert isinstance(first, Lead)
    assert first.headline == "3 of 6 layers, learning rate 2e-4, 3 epochs"
    assert [line.split(" ")[0] for line in first.lines] == ["84.3", "The", "Within", "A"]
    assert first.command == stsb().command
    assert [about for about, _ in first.items] == ["How sure is that", "This search", "The paper's protocol"]
    kinds = [type(block) for block in rest]
    assert kinds[:3] == [Heading, Picture, Table]
    assert kinds.count(Heading) == 4


def test_a_report_on_one_search(tmp_path: Path) -> None:
    report([saved(tmp_path / "one", stsb())], tmp_path / "out")
    names = {file.name for file in (tmp_path / "out" / "figures").glob("*.svg")}
    stem = "search-all-minilm-l6-v2-stsb"
    assert names == {f"{stem}-{kind}.svg" for kind in ("front", "layers", "rates")} | {
        "difference-all-minilm-l6-v2.svg"
    }
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.index("# How many layers does STS-B need?") < text.index(
        "**3 of 6 layers, learning rate 2e-4, 3 epochs**"
    )
    assert "    python run.py --task stsb" in text
    assert "3 of 6 layers keep 94.4%" in section_of(text, "By the paper's protocol")
    html = (tmp_path / "out" / "report.html").read_text()
    found = Page(html)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert html.index('class="headline"') < html.index("<svg") < html.index("<table")
    for figure in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        assert not re.search(r"#[0-9a-fA-F]{6}\b", figure)  # a colour of its own would not follow the dark mode


@pytest.mark.usefixtures("undrawn")
def test_several_searches_and_a_sweep(tmp_path: Path) -> None:
    sweep = write(tmp_path / "sweep", lines(DEMO, task="demo"))
    folders = [saved(tmp_path / "one", stsb()), sweep, saved(tmp_path / "two", mrpc())]
    report(folders, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    heads = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert heads == ["All answers", "STS-B", "MRPC", "The answer", "demo", "How it was run"]
    rows = [
        row.split(" | ")[:3] for row in text.splitlines() if re.match(r"\| (STS-B|MRPC) \| \S+ \| (yes|nothing)", row)
    ]
    assert rows == [["| STS-B", "3", "yes"], ["| MRPC", "all", "nothing beats a constant prediction"]]


def test_the_papers_figures_are_made_of_the_papers_points() -> None:
    curve = paper.curve_of(stsb())
    assert curve is not None
    assert [cell.layers for cell in curve.cells] == [0, 1, 2, 3, ALL]
    assert curve.learning_rate == 5e-5
    ratios = {point.candidate.layers: point.quality for point in stsb().paper}
    assert {k: quality.value for k, quality in curve.qualities.items()} == pytest.approx(
        {k: ratio for k, ratio in ratios.items() if k != ALL}
    )
    assert paper.blocks(lower(), Names(), 2) == []
    assert paper.blocks(single(), Names(), 2) == []


@pytest.mark.usefixtures("undrawn")
def test_names_from_files_are_escaped() -> None:
    hostile = dataclasses.replace(stsb(), task=HOSTILE, model="</td><script>alert(1)</script>", command="python <b>&")
    document = search_report.compose([hostile])
    found = Page(page.to_html(document))
    assert (found.count("img"), found.count("script")) == (0, 1)
    assert "python <b>&" in found.text
    assert "<img" not in to_markdown(document)
