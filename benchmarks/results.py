"""Renders benchmarks/RESULTS.md from benchmarks/results/*.json, and runs the commands of tables again.

    python benchmarks/results.py                             # writes RESULTS.md; `make results` does the same
    python benchmarks/results.py --check                     # exit code 1 if RESULTS.md is not what the files give
    python benchmarks/results.py --run trainer_3_epochs flops --machine C --data_dir GLUE --model DIR
    python benchmarks/results.py --run --machine C --data_dir GLUE --model DIR --mpnet DIR     # every table, a day

A table is one file with these keys; benchmarks/results_page.json has the order of the tables, the text of the sections,
and the machines:

    title, about             what was measured
    columns, rows            a cell is a number, a text, a list of numbers, or null; a number is shown as it is written
    date, machine, commit    of the measurement; machine is a name in results_page.json
    versions                 by package
    command                  a list of lines; GLUE, MINILM, MPNET and DIR stand for folders
    notes                    a list of sentences

--run replaces the rows of the tables that results_readers.py reads, one after the other. Given the same commit again, a
script that keeps what has finished goes on where it stopped. Of any other table --run prints the commands; enter their
figures in its file. Read the notes of a table again after its rows have changed. benchmarks/history/ holds superseded
figures, in the same form, and is not rendered.
"""

import argparse
import datetime
import functools
import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from results_readers import READERS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"
PAGE = ROOT / "benchmarks" / "results_page.json"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
FOLDERS = {"GLUE": "data_dir", "MINILM": "model", "MPNET": "mpnet"}
"""By the word in a command, the flag that says which folder it is."""
FILE = "runs.jsonl"
"""In a command: where the script keeps what has finished."""
ON_A_GPU = {"gpu_steps_h200"}
"""Left out where --run names no tables."""
KEYS = ("title", "about", "columns", "rows", "date", "machine", "commit", "versions", "command", "notes")

Table = dict[str, Any]


def read(file: Path) -> Table:
    """A JSON file; its fractions are Decimal, which keep the digits that are written there."""
    found: Table = json.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    return found


def write(file: Path, table: Table) -> None:
    """Write a table, one line for each row and for each text of a list."""
    lines = [f"  {json.dumps(key)}: {_value_text(key, table[key])}" for key in KEYS]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _value_text(key: str, value: Any) -> str:
    if key not in ("rows", "command", "notes") or not value:
        return _json(value)
    return "[\n" + ",\n".join(f"    {_json(item)}" for item in value) + "\n  ]"


def _json(value: Any) -> str:
    """One line of JSON; Decimal with its digits."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_json, value))}]"
    return json.dumps(value, ensure_ascii=False)


def render(page: Table, tables: dict[str, Table]) -> str:
    """RESULTS.md. Raises KeyError for a table or a machine that there is not."""
    parts = [f"# {page['title']}", *page["about"], "## Machines", *page["about_machines"], _machines(page["machines"])]
    for section in page["sections"]:
        parts += [f"## {section['title']}", *section["about"]]
        for name in section["tables"]:
            parts += _rendered(tables[name], page["machines"])
        parts += section.get("open", [])
    return "\n\n".join(parts) + "\n"


def _machines(machines: dict[str, Table]) -> str:
    rows = [[name, one["about"], _versions(one["versions"])] for name, one in machines.items()]
    return markdown_table(["machine", "description", "versions"], rows)


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _rendered(table: Table, machines: dict[str, Table]) -> Iterable[str]:
    """The paragraphs of one table. Versions that the machine's row has are not repeated."""
    yield f"### {table['title']}"
    yield table["about"]
    yield markdown_table(table["columns"], table["rows"])
    usual = machines[table["machine"]]["versions"]
    other = {name: number for name, number in table["versions"].items() if usual.get(name) != number}
    of = [table["date"], f"machine {table['machine']}", *([f"commit {table['commit']}"] if table["commit"] else [])]
    yield f"Measured {', '.join(of)}{'; ' + _versions(other) if other else ''}:"
    yield "\n".join(map(_command, table["command"]))
    if table["notes"]:
        yield "\n".join(f"- {note}" for note in table["notes"])


def _command(line: str) -> str:
    """A command as a block of code, its line ended by a backslash where it is long."""
    words = textwrap.wrap(line, 108, break_long_words=False, break_on_hyphens=False)
    return "    " + " \\\n        ".join(words)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown; a column of numbers is aligned to the right."""
    kinds = [{type(row[at]) for row in rows} - {type(None)} for at in range(len(columns))]
    aligned = ["---:" if kind and kind <= {int, Decimal} else "---" for kind in kinds]
    lines = [columns, aligned, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, list):
        return ", ".join(map(_cell, cell))
    return cell.replace("|", r"\|") if isinstance(cell, str) else f"{cell:,}"


def lookup(table: Table, column: str, **row: Any) -> Any:
    """The cell of a column in the one row whose cells are those given by column. Raises ValueError if it is not one."""
    named = [dict(zip(table["columns"], cells, strict=True)) for cells in table["rows"]]
    found = [cells for cells in named if all(cells[name] == value for name, value in row.items())]
    if len(found) != 1:
        raise ValueError(f"{table['title']}: {len(found)} rows with {row}; expected one")
    return found[0][column]


def values(text: str) -> list[Any]:
    """The JSON values in what a command printed, one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while text := text[at:].lstrip():
        value, at = decoder.raw_decode(text)
        found.append(value)
    return found


def commit_to_measure() -> str:
    """The commit of this checkout. Raises SystemExit if other files than tables differ from it.

    What has finished is kept by commit: with changes it could not be told from what is measured with other ones.
    """
    git = functools.partial(subprocess.run, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    tables = [f":!{path.relative_to(ROOT)}" for path in (FOLDER, RESULTS)]
    changed = git(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", *tables]).stdout
    if changed:
        sys.exit(f"--run measures a commit; commit these changes first, or put them away:\n{changed.rstrip()}")
    found = git(["git", "describe", "--always", "--abbrev=12"]).stdout.strip()
    return found or sys.exit("--run measures a commit; this is no git checkout")


def run(file: Path, options: argparse.Namespace) -> None:
    """Run the commands of a table and replace its rows, date, machine, commit and versions; or print the commands.

    Raises subprocess.CalledProcessError if a command fails; the table stays as it was.
    """
    table = read(file)
    if file.stem not in READERS:
        print(f"# {file.stem}: run this, and enter its figures in {file.relative_to(ROOT)}")
        print("\n".join(table["command"]))
        return
    kept = f"build/benchmark-{options.commit}"  # a benchmark that stopped goes on here
    (ROOT / "build").mkdir(exist_ok=True)
    folders = {name: getattr(options, flag) for name, flag in FOLDERS.items()}
    folders |= {"DIR": kept, FILE: f"{kept}-{file.stem}.jsonl"}
    printed = []
    for line in table["command"]:
        words = [sys.executable, *(folders.get(word) or word for word in shlex.split(line)[1:])]
        searched = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(searched)}
        done = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        printed += values(done.stdout)
    rows = [[row.get(column) for column in table["columns"]] for row in READERS[file.stem](printed)]
    versions = {name: version(name) for name in table["versions"] if name != "Python"}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    table |= {"rows": rows, "date": today, "machine": options.machine, "commit": options.commit[:7]}
    write(file, table | {"versions": {"Python": sys.version.split()[0], **versions}})
    print(f"{file.relative_to(ROOT)}: new rows; read its notes again", file=sys.stderr)


def read_all() -> tuple[Table, dict[str, Table]]:
    """The page, and the tables by name."""
    return read(PAGE), {file.stem: read(file) for file in sorted(FOLDER.glob("*.json"))}


def main() -> None:
    """Render, check or run."""
    names = sorted(file.stem for file in FOLDER.glob("*.json"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if RESULTS.md is not up to date"
    )
    parser.add_argument(
        "--run", nargs="*", metavar="TABLE", choices=names, help="files in results/; all that can be read, if none"
    )
    parser.add_argument("--machine", choices=sorted(read(PAGE)["machines"]), help="where --run measures")
    for word, flag in FOLDERS.items():
        parser.add_argument(f"--{flag}", type=os.path.abspath, help=f"the folder that {word} stands for")
    options = parser.parse_args()
    chosen = sorted(READERS.keys() - ON_A_GPU) if options.run == [] else options.run or []
    measured = [name for name in chosen if name in READERS]
    if measured and not options.machine:
        parser.error(f"--run requires --machine; add this machine to {PAGE.relative_to(ROOT)} if it is a new one")
    words = {word for name in measured for line in read(FOLDER / f"{name}.json")["command"] for word in line.split()}
    if missing := [f"--{flag}" for word, flag in FOLDERS.items() if word in words and not getattr(options, flag)]:
        parser.error(f"--run requires {' and '.join(missing)}")
    options.commit = commit_to_measure() if measured else None
    failed = []
    for name in chosen:
        try:
            run(FOLDER / f"{name}.json", options)
        except subprocess.CalledProcessError as error:  # the others may still be measured
            failed.append(f"{name}: {error}")
    text = render(*read_all())
    if options.check:
        if not RESULTS.is_file() or RESULTS.read_text(encoding="utf-8") != text:
            sys.exit(f"{RESULTS.relative_to(ROOT)} is not what benchmarks/results/*.json give; run `make results`")
    else:
        RESULTS.write_text(text, encoding="utf-8")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
