"""docs/tour.ipynb: its code runs, it holds the output of an execution from top to bottom, and the site shows both."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.folders import make_folder
from tests.test_docs import hooks  # noqa: F401  # a fixture

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tour.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In one namespace, on a tiny model in place of the MiniLM."""
    model = make_folder(tmp_path / "model", "bert")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    plt.switch_backend("agg")
    names: dict = {}
    for cell in CODE:
        code = "".join(cell["source"]).replace('"demo"', repr(str(model))).replace("--model demo", f"--model {model}")
        exec(compile(code, NOTEBOOK.name, "exec"), names)
        printed = capsys.readouterr().out
        assert bool(printed) == any(output["output_type"] == "stream" for output in cell["outputs"])
    assert len(names["rows"]) == len((tmp_path / "messages.csv").read_text().splitlines()) - 1
    assert {line["kind"] for line in names["log"]} == {"train", "validation"}
    assert {"text", "label", "prediction", "loss"} <= names["worst"][0].keys()


def test_it_holds_what_it_showed() -> None:
    """Every cell was executed, in this order, without an error."""
    assert [cell["execution_count"] for cell in CODE] == [*range(1, len(CODE) + 1)]
    kinds = [output["output_type"] for cell in CODE for output in cell["outputs"]]
    assert {*kinds} == {"stream", "display_data"}


def test_the_site_shows_it(hooks) -> None:  # noqa: F811
    page = hooks.notebook_page(NOTEBOOK)
    assert page.count("```python\n") == len(CODE) + 1  # and find_layers, in a text
    assert page.count("](data:image/png;base64,") == 1
    assert re.search(r"^# Tour\n\n<!-- notebook -->\n", page)


@pytest.mark.parametrize(
    "repository", ["https://github.com/a/b", "https://github.com/a/b/", "https://github.com/a/b.git"]
)
def test_colab(repository: str, hooks) -> None:  # noqa: F811
    colab = "https://colab.research.google.com/github/a/b/blob/main/docs/tour.ipynb"
    assert f"[open it in Colab]({colab})" in hooks.notebook_links("docs/tour.ipynb", repository)


@pytest.mark.parametrize("repository", [None, "", "https://host/a/b"])
def test_no_colab_without_github(repository: str | None, hooks) -> None:  # noqa: F811
    assert "colab" not in hooks.notebook_links("docs/tour.ipynb", repository)
