"""The terminal: lines that fit 80 columns, plain text in files, no colours where NO_COLOR says so."""

import io
import re

import pytest
from rich.console import Console

from jaxfreeze import console
from jaxfreeze.training.parameter_table import parameter_table

LINE = "trunk cache: 1,016 tokens x 24 float32 = 0.1 MB, read from device memory, kept on disk for the next run"
FIGURES = {"loss": 0.6892, "learning_rate": 6.17e-08, "examples_per_second": 1_234_567.0}


def screen(monkeypatch: pytest.MonkeyPatch, terminal: bool, width: int = 80) -> io.StringIO:
    """What a console of this width writes, on a terminal or into a file."""
    file = io.StringIO()
    made = Console(file=file, force_terminal=terminal, width=width, highlight=False, soft_wrap=True)
    monkeypatch.setattr(console, "console", made)
    return file


def shown(file: io.StringIO) -> list[str]:
    """The lines without what moves the cursor and sets colours."""
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", file.getvalue()).splitlines()


def test_a_long_line_breaks_between_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    file = screen(monkeypatch, terminal=True)
    console.say(LINE)
    assert max(map(len, shown(file))) <= 80
    assert " ".join(" ".join(shown(file)).split()) == LINE


def test_a_path_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/a-folder" * 20
    file = screen(monkeypatch, terminal=True)
    console.say(f"run folder: {path}")
    assert path in file.getvalue()


def test_a_file_gets_plain_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    file = screen(monkeypatch, terminal=False)
    console.say(LINE)
    line = console.ProgressLine(100)
    line.update(20, FIGURES)
    line.close()
    said, step = file.getvalue().splitlines()
    assert said == LINE
    assert re.fullmatch(r"step 20/100  loss 0\.6892  lr 6\.17e-08  1,234,567 examples/s  \d+ s left", step)


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_line_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = screen(monkeypatch, terminal=True, width=width)
    line = console.ProgressLine(1_000_000)
    line.update(999_999, FIGURES)
    line.close()
    last = shown(file)[-1].rstrip()
    assert len(last) <= width
    assert "loss 0.6892  lr 6.17e-08  1,234,567 examples/s" in last


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file = screen(monkeypatch, terminal=True)
    shapes = {"embeddings.word": (10, 4), "layers.0.bias": (4,), "layers.1.bias": (4,), "head.bias": (3,)}
    labels = {path: "frozen" if path.startswith("emb") else "trained" for path in shapes}
    console.console.print(parameter_table(shapes, labels, 2))
    line = console.ProgressLine(10)
    line.update(5, FIGURES)
    line.close()
    colours = [code for code in re.findall(r"\x1b\[([\d;]*)m", file.getvalue()) if re.search(r"\b[34]\d\b", code)]
    assert colours == []
    assert max(map(len, shown(file))) <= 80
