"""RESULTS.md is rendered from the tables in benchmarks/results/, and the figures of README and docs are theirs."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
HISTORY = sorted((ROOT / "benchmarks" / "history").glob("*.json"))


@pytest.fixture(scope="module")
def results() -> Iterator[ModuleType]:
    """benchmarks/results.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import results

        yield results


def test_the_page_is_rendered_from_the_files(results: ModuleType) -> None:
    text = results.render(*results.read_all())
    assert (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8") == text


def test_every_table_is_on_the_page_once(results: ModuleType) -> None:
    page, tables = results.read_all()
    assert sorted(name for section in page["sections"] for name in section["tables"]) == sorted(tables)
    titles = [table["title"] for table in tables.values()]
    assert len({*titles}) == len(titles)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_table_says_when_where_and_how(file: Path, results: ModuleType) -> None:
    table = results.read(file)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", table["date"])
    assert table["machine"] in results.read(results.PAGE)["machines"]
    assert table["versions"]["Python"]
    assert table["command"]
    for line in table["command"]:
        scripts = re.findall(r"\b(?:python|bash) (\S+)", line)
        assert scripts, line
        for script in scripts:
            assert script == "run.py" or re.fullmatch(r"benchmarks/\w+\.(py|sh)", script), line
            assert (ROOT / script).is_file(), line


@pytest.mark.parametrize("file", [*FILES, *HISTORY], ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_table_has_all_keys_and_full_rows(file: Path, results: ModuleType) -> None:
    table = results.read(file)
    assert tuple(table) == results.KEYS
    assert table["title"]
    assert table["about"]
    assert len({*table["columns"]}) == len(table["columns"])
    assert table["rows"]
    assert {len(row) for row in table["rows"]} == {len(table["columns"])}


class Cell(NamedTuple):
    """A figure of a table, by the cells of its row."""

    table: str
    column: str
    row: dict[str, Any]


def median(layers: int | str) -> Cell:
    """The ratio of whole runs, over the tasks."""
    return Cell("trainer_3_epochs", "ratio", {"k": layers, "task": "median"})


def step(layers: int | str, batch: int, contestant: str) -> Cell:
    """The ratio of a training step on the GPU."""
    return Cell("gpu_steps", "times PyTorch", {"k": layers, "batch": batch, "contestant": contestant})


def demo(*what: str) -> list[Cell]:
    """Figures of the demo's table."""
    return [Cell("demo", "value", {"what": one}) for one in what]


def flops(layers: int | str, cached: str) -> Cell:
    """GFLOP of a step."""
    return Cell("flops", "GFLOP", {"trainable_layers": layers, "cached": cached})


def at(task: str, model: str, layers: int, *rates: str) -> list[Cell]:
    """Scores at these learning rates."""
    return [Cell("rates", rate, {"task": task, "model": model, "k": str(layers)}) for rate in rates]


OWN, FULL = "score", "score at that rate"


def answer(task: str, layers: str, column: str) -> Cell:
    """A figure of a k in a search, with the epochs of the full model."""
    return Cell("search_answers", column, {"task": task, "k": layers, "epochs": 3})


EIGHT_TASKS = [Cell("shared_trunk", "of one", {"runs": 8})]
README_ROWS = {
    "whole run, k = 0, 1, 2, 3 of 6 layers, two CPU cores": [median(layers) for layers in range(4)],
    "whole run in bfloat16, k = 1, 3 of 6 layers, two CPU cores with AMX": [
        Cell("bfloat16_cpu", "ratio in bfloat16", {"k": layers, "task": "median"}) for layers in (1, 3)
    ],
    "whole run, everything trained, two CPU cores": [median("all")],
    "training step, k = 3 of 12 layers, batch 16, H100": [step(3, 16, "cached")],
    "training step, everything trained, batch 128, H100": [step("all", 128, "jaxfreeze")],
    "mean score of four tasks, 16 seeds of 10 epochs each": [
        Cell("same_training_scores", "jaxfreeze", {"task": "mean of the four"})
    ],
    "sweep of twelve runs, two CPU cores": [Cell("sweep", "the sweep's share", {"way": "Trainer, one by one"})],
    "eight tasks on one model, predictions": EIGHT_TASKS,
}
TIMES = (
    "the run, s",
    "load, s",
    "tokenize, s",
    "trunk cache, with compilation beside it, s",
    "train, s",
    "evaluate, s",
)
QUOTED = [  # page, text with the figures in groups, where they come from
    ("README.md", r"demo validation: accuracy (\S+)", demo("accuracy")),
    ("README.md", r"frozen parameters: (\S+), bits", demo("frozen parameters, bits unchanged")),
    ("docs/quickstart.md", r"demo validation: accuracy (\S+)", demo("accuracy")),
    (
        "docs/quickstart.md",
        r"(\d+) s in all: load (\d+), tokenize (\d+), trunk cache (\d+), compile 0, train (\d+), evaluate (\d+); (\d+)",
        demo(*TIMES, "training, examples/s"),
    ),
    (
        "docs/how_many_layers.md",
        r"hundred runs took (\S+), (\S+), (\S+) and (\S+) times as\n"
        r".*, with everything counted, and at most (\S+) times",
        [
            *(
                Cell("search", "search over full model alone", {"task": task})
                for task in ("RTE", "MRPC", "STS-B", "CoLA")
            ),
            Cell("search", "search over as many Trainer runs", {"task": "MRPC"}),
        ],
    ),
    (
        "docs/how_many_layers.md",
        r"\| 0 \| 5e-3 \| (\S+) \| (\S+) \|\n\| 1 \| 1e-3 \| (\S+) \| (\S+) \|\n\| 2 \| 5e-4 \| (\S+) \| \|\n"
        r"\| 3 \| 2e-4 \| (\S+) \| \|\n\| all \| 1e-4 \| (\S+) \| (\S+) \|\n",
        [
            answer("STS-B", layers, column)
            for layers, columns in (
                ("0", (OWN, FULL)), ("1", (OWN, FULL)), ("2", (OWN,)), ("3", (OWN,)), ("all", (OWN, FULL))
            )
            for column in columns
        ],
    ),
    (
        "docs/how_many_layers.md",
        r"a run takes (\S+) s instead of\n  (\S+) s\.",
        [answer("STS-B", layers, "seconds of a run") for layers in ("3", "all")],
    ),
    (
        "docs/how_many_layers.md",
        r"one layer scores (\S+) at its own rate, (\S+), and (\S+) at the full model's rate, (\S+)\.",
        [answer("CoLA", "1", column) for column in (OWN, "its own rate", FULL, "the full model's rate")],
    ),
    (
        "docs/how_many_layers.md",
        r"three layers score (\S+) F1 and the full model (\S+), both at (\S+),",
        [*(answer("MRPC", layers, FULL) for layers in ("3", "all")), answer("MRPC", "3", "the full model's rate")],
    ),
    (
        "docs/how_many_layers.md",
        r"score (\S+)\. The search answers with the\n"
        r"head alone at (\S+), which scores (\S+) \(.*\) after (\S+) s of training\. "
        r"The full model scores (\S+) at its own rate, (\S+),\n"
        r"and takes (\S+) s; the best found is three layers with (\S+)\n",
        [
            Cell("own_data_banking77", "jaxfreeze", {"metric": "accuracy"}),
            *(
                Cell("search_banking77", column, {"k": layers, "epochs": 3})
                for layers, columns in (
                    ("0", ("its own rate", OWN, "seconds of a run")),
                    ("all", (OWN, "its own rate", "seconds of a run")), ("3", (OWN,)),
                )
                for column in columns
            ),
        ],
    ),
    (
        "docs/own_data.md",
        r"at 5e-5\) score (\S+), and the head alone at (\S+) scores (\S+)\. ",
        [
            Cell("own_data_banking77", "jaxfreeze", {"metric": "accuracy"}),
            *(Cell("search_banking77", column, {"k": "0", "epochs": 3}) for column in ("its own rate", OWN)),
        ],
    ),
    (
        "docs/how_many_layers.md",
        r"head alone scores (\S+) at 1e-4 and (\S+) at 5e-3",
        at("banking77 (accuracy)", "MiniLM", 0, "1e-4", "5e-3"),
    ),
    (
        "docs/how_many_layers.md",
        r"one layer scores (\S+) at 5e-5\n  and (\S+) at 1e-3",
        at("banking77 (accuracy)", "MiniLM", 1, "5e-5", "1e-3"),
    ),
    (
        "docs/how_many_layers.md",
        r"a run at 5e-5 scores (\S+) and a run at 1e-3 (\S+)\.\n",
        at("STS-B (Spearman)", "MPNet", 1, "5e-5", "1e-3"),
    ),
    ("docs/predict_export_serve.md", r"layer trained cost (\S+) times one", EIGHT_TASKS),
    ("docs/scale.md", r"400,000 rows in (\d+) s", [Cell("trunk_cache_disk", "value", {"what": "tokenize, s"})]),
    ("docs/scale.md", r"\((\S+) - (\S+)\) GFLOP", [flops(3, "no"), flops(3, "yes")]),
    ("docs/scale.md", r"everything trained \| .* \| (\S+) GFLOP", [flops("all", "no")]),
    (
        "docs/scale.md",
        r"(\S+) MB with k = 3, (\S+) MB with all",
        [Cell("devices_bytes", "MB", {"trained layers": layers}) for layers in (3, "all")],
    ),
    (
        "docs/scale.md",
        r"(\S+) ms for 16 examples, (\S+) for 128, (\S+) for 512, (\S+) for 2,048",
        [Cell("devices_packing", "packing, ms", {"examples in a batch": size}) for size in (16, 128, 512, 2048)],
    ),
]  # fmt: skip


def agrees(quoted: str, figure: int | Decimal) -> bool:
    """Whether a figure, rounded to the digits of what is quoted, is that."""
    number = Decimal(quoted.replace(",", ""))
    return Decimal(figure).quantize(number, ROUND_HALF_UP) == number


def figures(results: ModuleType, cells: list[Cell]) -> list[Any]:
    tables = results.read_all()[1]
    return [results.lookup(tables[cell.table], cell.column, **cell.row) for cell in cells]


def test_the_ratios_of_the_readme(results: ModuleType) -> None:
    """Every fraction in its table is looked up."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    quoted = {label: re.findall(r"\d+\.\d+", text) for label, text in rows if re.search(r"\d\.\d", text)}
    assert quoted.keys() == README_ROWS.keys()
    for label, texts in quoted.items():
        found = figures(results, README_ROWS[label])
        assert [text for text, figure in zip(texts, found, strict=True) if not agrees(text, figure)] == [], label


@pytest.mark.parametrize(("page", "text", "cells"), QUOTED, ids=[f"{page}-{text}" for page, text, _ in QUOTED])
def test_figures_of_the_pages(page: str, text: str, cells: list[Cell], results: ModuleType) -> None:
    found = re.search(text, (ROOT / page).read_text(encoding="utf-8"))
    assert found
    for quoted, figure in zip(found.groups(), figures(results, cells), strict=True):
        assert agrees(quoted, figure), figure


@pytest.mark.parametrize("page", ["README.md", "docs/how_many_layers.md"])
def test_the_line_of_a_search_is_in_its_report(page: str) -> None:
    """Every clause of the answer that the page shows."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (line,) = re.findall(r"```text\n(\d of 6 layers.*?)\.\njaxfreeze --task stsb \.\.\.\n```", text, re.DOTALL)
    report = (ROOT / "docs" / "example_search" / "report.md").read_text(encoding="utf-8").replace("\\", "")
    setting, rest = line.replace("\n", " ").split(": ", 1)
    clauses = rest.split("; ")
    assert len(clauses) == 4
    said = [f"**{setting}**", *(f"- {clause[0].upper()}{clause[1:]}\n" for clause in clauses)]
    assert [clause for clause in said if clause not in report] == []


def test_a_figure_keeps_its_digits(results: ModuleType, tmp_path: Path) -> None:
    table = results.read(FILES[0]) | {"rows": [[Decimal("1.10"), [Decimal("2.0"), 3], None, "a | b", 12345]]}
    table["columns"] = [*"abcde"]
    results.write(tmp_path / "a.json", table)
    assert '[1.10, [2.0, 3], null, "a | b", 12345]' in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert results.read(tmp_path / "a.json") == table
    lines = results.markdown_table(table["columns"], table["rows"]).splitlines()
    assert lines == [
        "| a | b | c | d | e |",
        "| ---: | --- | --- | --- | ---: |",
        "| 1.10 | 2.0, 3 |  | a \\| b | 12,345 |",
    ]


FLOPS = [
    {"trainable_layers": 3, "cached": False, "flops": 2.29e11, "temp_bytes": 248.7e6, "optimizer_bytes": 174.84e6},
    {"trainable_layers": "all", "cached": False, "flops": 5e11, "temp_bytes": 1e9, "optimizer_bytes": 9e8},
    {"trainable_layers": 3, "cached": True, "flops": 1e11, "temp_bytes": 1e8, "optimizer_bytes": 1e8},
]


def test_run_replaces_the_rows(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a table that can be read; of any other the commands are printed."""
    ran: list[list[str]] = []

    def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        ran.append(words[1:])
        return subprocess.CompletedProcess(words, 0, stdout=json.dumps(FLOPS, indent=1) + "\n")

    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results.subprocess, "run", run)
    options = results.argparse.Namespace(machine="E", commit="0123456789ab", data_dir=None, model=None, mpnet=None)
    for name in ("flops", "serve"):
        (tmp_path / f"{name}.json").write_bytes((ROOT / "benchmarks" / "results" / f"{name}.json").read_bytes())
        results.run(tmp_path / f"{name}.json", options)
    assert ran == [["benchmarks/flops.py"]]
    table = results.read(tmp_path / "flops.json")
    assert [[str(cell) for cell in row] for row in table["rows"]] == [
        ["3", "no", "229.0", "0.458", "248.7", "174.8"],
        ["all", "no", "500.0", "1.000", "1000.0", "900.0"],
        ["3", "yes", "100.0", "0.200", "100.0", "100.0"],
    ]
    assert (table["machine"], table["commit"]) == ("E", "0123456")
    assert table["versions"]["Python"] == sys.version.split()[0]
    assert table["notes"] == results.read(ROOT / "benchmarks" / "results" / "flops.json")["notes"]
    assert results.read(tmp_path / "serve.json") == results.read(ROOT / "benchmarks" / "results" / "serve.json")
    assert "\npython benchmarks/serve.py --run RTE" in capsys.readouterr().out


def test_the_values_that_a_command_prints(results: ModuleType) -> None:
    assert results.values('{"a": [1, 2]}\n[3]\n\n{\n "b": 4.5\n}\n') == [{"a": [1, 2]}, [3], {"b": 4.5}]
    assert results.values("\n") == []
    with pytest.raises(json.JSONDecodeError):
        results.values('{"a": 1}\nStopped')


ASKED = {
    "--run flops": "--run requires --machine",
    "--run flops --machine M": None,
    "--run search mpnet_speed --machine E --model a": "--run requires --data_dir and --mpnet",
    "--run serve": None,  # its commands are printed
    "--run no_such_table": "invalid choice: 'no_such_table'",
    "--run --machine E --data_dir a --model b": "--run requires --mpnet",
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_run_requires(
    asked: str, results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = next(iter(results.read(results.PAGE)["machines"]))
    ran: list[str] = []
    monkeypatch.setattr(results, "commit_to_measure", lambda: "abc")
    monkeypatch.setattr(results, "run", lambda file, options: ran.append(file.stem))
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(sys, "argv", ["results.py", *asked.replace(" M", f" {machine}").split()])
    if error := ASKED[asked]:
        with pytest.raises(SystemExit):
            results.main()
        assert error in capsys.readouterr().err
        assert ran == []
    else:
        results.main()
        assert ran == [asked.split()[1]]


def test_a_table_that_fails_does_not_stop_the_others(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without names --run takes every table that it can read, but those of a GPU."""
    ran: list[str] = []

    def run(file: Path, options: Any) -> None:
        ran.append(file.stem)
        if file.stem == "flops":
            raise subprocess.CalledProcessError(3, "flops.py")

    monkeypatch.setattr(results, "commit_to_measure", lambda: "abc")
    monkeypatch.setattr(results, "run", run)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")
    command = "results.py --run --machine E --data_dir a --model b --mpnet c"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit, match=r"^flops: .*exit status 3"):
        results.main()
    assert ran == sorted(results.READERS.keys() - results.ON_A_GPU)
    assert "gpu_steps_h200" not in ran
    assert (tmp_path / "RESULTS.md").is_file()


def test_a_commit_is_measured(results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables may differ from it, since --run writes them one after the other; nothing else may."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks" / "results")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "benchmarks" / "RESULTS.md")
    with pytest.raises(SystemExit, match="no git checkout"):
        results.commit_to_measure()
    results.FOLDER.mkdir(parents=True)
    table, code = results.FOLDER / "flops.json", tmp_path / "code.py"
    for file in (table, code, results.RESULTS):
        file.write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    found = results.commit_to_measure()
    assert re.fullmatch(r"[0-9a-f]{12}", found)
    for file in (table, results.RESULTS, tmp_path / "new.txt"):
        file.write_text("2")
    assert results.commit_to_measure() == found
    code.write_text("2")
    with pytest.raises(SystemExit, match=r"put them away:\n M code\.py$"):
        results.commit_to_measure()


def test_check(results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails until the page is rendered, and writes nothing."""
    page = tmp_path / "RESULTS.md"
    page.write_text("other")
    monkeypatch.setattr(results, "RESULTS", page)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.json")
    (tmp_path / "page.json").write_bytes((ROOT / "benchmarks" / "results_page.json").read_bytes())
    monkeypatch.setattr(sys, "argv", ["results.py", "--check"])
    with pytest.raises(SystemExit, match=r"RESULTS\.md is not what"):
        results.main()
    assert page.read_text() == "other"
    monkeypatch.setattr(sys, "argv", ["results.py"])
    results.main()
    monkeypatch.setattr(sys, "argv", ["results.py", "--check"])
    results.main()
