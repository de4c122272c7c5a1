"""Own CSV, TSV and JSON files: every cell as pandas reads it, what Excel leaves empty, and what is refused."""

import csv
import io
import json
import re
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jaxfreeze.data import json_rows
from jaxfreeze.data.formats import FILE_KINDS
from jaxfreeze.data.tables import BadRowError
from jaxfreeze.errors import InputError
from tests import effort

SEPARATORS = {".csv": ",", ".tsv": "\t"}
TABLES = effort.inputs(10_000)
BLANK_LINES = ("", "\n", "\r\n", " \n", "  \r\n")


def read(path: Path, *columns: str, numbered: bool = False) -> list[tuple[Any, ...]]:
    """The wanted cells of every row."""
    found = FILE_KINDS[path.suffix](path, [columns], numbered)
    return [tuple(record.sound()[column] for column in columns) for record in found]


def message(path: Path, *columns: str, numbered: bool = False) -> str:
    """The first error, without the file's name."""
    try:
        for record in FILE_KINDS[path.suffix](path, [columns], numbered):
            place = record.place
            record.sound()
    except BadRowError as reason:
        return f"{place}: {reason}".removeprefix(str(path))
    except InputError as reason:
        return str(reason).removeprefix(str(path))
    raise AssertionError("nothing is refused")


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def pandas_reads(path: Path) -> pandas.DataFrame:
    return pandas.read_csv(path, sep=SEPARATORS[path.suffix], dtype=str, keep_default_na=False)


def with_content(table: pandas.DataFrame) -> list[tuple[str, ...]]:
    """Columns a and b of the rows that are not empty."""
    a, b = list(table.columns).index("a"), list(table.columns).index("b")
    return [(row[a], row[b]) for row in table.to_numpy().tolist() if any(map(str.strip, row))]


TEXTS = st.text(st.sampled_from("ab1,\t\"' \n;|\\\u00e9\u2028\x85\u4e2d#"))
ANY_TEXTS = st.text(st.characters(exclude_characters="\0\r", codec="utf-8"))


@st.composite
def written_tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """A table written by pandas, and the ending of its file."""
    ending = draw(st.sampled_from(list(SEPARATORS)))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    rows = draw(st.lists(st.tuples(TEXTS | ANY_TEXTS, TEXTS, st.integers(0, 3)), min_size=1, max_size=5))
    if quoting == csv.QUOTE_ALL:  # the one in which csv.writer quotes a carriage return, too
        rows = [(a.replace("1", "\r"), b.replace("a", "\r\n"), n) for a, b, n in rows]
    table = pandas.DataFrame(rows, columns=["a", "b", "n"])[draw(st.permutations(["a", "b", "n"]))]
    text = draw(st.sampled_from(BLANK_LINES)) + table.to_csv(
        sep=SEPARATORS[ending],
        index=draw(st.booleans()),
        quoting=quoting,
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\n\n", "\r\n \r\n"])),
    )
    return ending, text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig"])))


@pytest.mark.slow
def test_what_pandas_writes_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    seen = 0

    @settings(max_examples=TABLES // 2, deadline=None, database=None)
    @given(written_tables())
    def same(table: tuple[str, bytes]) -> None:
        nonlocal seen
        seen += 1
        path = tmp_path / f"table{table[0]}"
        path.write_bytes(table[1])
        assert read(path, "a", "b") == with_content(pandas_reads(path))

    same()
    assert seen >= TABLES // 2


HEADERS = ("a,b", '"a","b"', "\ufeffa,b", '\ufeff"a",b', "\n\na,b", "a,b,,", "n,b,a", ",b,a", "n,n,b,a")


@pytest.mark.slow
def test_raw_text_is_read_as_pandas_reads_it_or_refused(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    alphabets = st.sampled_from(['xy,"\n', 'xy,\n\r "', "xy,, \n\n", 'x\u00e9,"" \r\n\u2028', 'x,",\n"""'])
    anything = alphabets.flatmap(lambda alphabet: st.text(st.sampled_from(alphabet), max_size=40))
    a = st.sampled_from(["x", '"x"', '"x,\ny"', '"""x"', "", " x ", 'x"y', '"\r\n"'])
    rows = st.lists(st.tuples(a, st.sampled_from(["y", '"y"', "", '"y""y"'])).map(",".join), max_size=6)
    bodies = anything | st.builds(str.join, st.sampled_from(["\n", "\r", "\r\n", "\n\n"]), rows)

    @settings(max_examples=TABLES // 2, deadline=None, database=None)
    @example(next(iter(SEPARATORS)), "a,b", "\n", "x,y\n,,,")  # wide and empty, which is rare
    @example(next(iter(SEPARATORS)), "a,b", "\n", ',\n,,\n"')  # the same before an open quote
    @given(st.sampled_from(list(SEPARATORS)), st.sampled_from(HEADERS), st.sampled_from(["\n", "\r\n", "\r"]), bodies)
    def same_or_refused(ending: str, header: str, line_end: str, body: str) -> None:
        text = (header + line_end + body).replace(",", SEPARATORS[ending])
        assume(f"\r{SEPARATORS[ending]}" not in text)  # after a blank line, pandas loses this separator
        path = write(tmp_path / f"raw{ending}", text)
        try:
            ours = read(path, "a", "b")
        except InputError as reason:
            outcomes[refused_for(str(reason), path, text.removeprefix("\ufeff"))] += 1
            return
        try:
            theirs = pandas_reads(path)
        except pandas.errors.ParserError:
            theirs = None
        if theirs is not None and isinstance(theirs.index, pandas.RangeIndex):
            assert ours == with_content(theirs)
            outcomes["read"] += 1
        else:  # a row without content is none to us, however wide it is; pandas takes a column for an index, or raises
            assert re.search(rf'(^|[\r\n])["\s{SEPARATORS[ending]}]*($|[\r\n])', text)
            outcomes["wide and empty"] += 1

    same_or_refused()
    assert outcomes["read"] > TABLES / 8, outcomes
    assert set(outcomes) == {"read", "wide and empty", "open quote", "behind a quote", "width"}


def refused_for(reason: str, path: Path, text: str) -> str:
    """In a word why a table was refused, if rightly."""
    separator, kind = SEPARATORS[path.suffix], path.suffix[1:].upper()
    if f"broken {kind} (unexpected end of data)" in reason:
        with pytest.raises(pandas.errors.ParserError) as refused:
            pandas_reads(path)
        if "EOF inside string" not in str(refused.value):  # it refused a wide row before it
            assert re.search(r"Expected \d+ fields in line \d+, saw \d+", str(refused.value))
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
            header = next(row for row in rows if any(row))
            assert any(len(row) > len(header) and not "".join(row).strip() for row in rows)
        return "open quote"
    if f"broken {kind} (" in reason:
        assert re.search(rf'"[^"\r\n{separator}]', text), "nothing stands behind a closing quote"
        return "behind a quote"
    assert re.match(r"expected \d fields as in the header, found \d", reason)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(row)]
    header, widths = rows[0], {len(row) for row in rows[1:]}
    named = max(number for number, name in enumerate(header, 1) if name)
    surplus = any(any(row[named:]) for row in rows[1:])
    assert max(widths) > len(header) or min(widths) < named or surplus
    return "width"


ROWS = [("x", "1"), ("y", "0")]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\nx,1\n\ny,0\n",
        "a,b\nx,1\n  \ny,0\n\n\n",
        "\n\n,b,a,n\n\n,1,x,\n,0,y,\n",
        "\ufeffa,b\r\nx,1\r\ny,0\r\n",
        '\ufeff"a","b"\rx,1\r\r"y",0',
        "a,b,,\nx,1,,\ny,0,,\n",
        "a,b,,\nx,1\ny,0,\n,,,\n",  # Excel ends some rows early
        ",,\na,b,\nx,1,\n,,\ny,0,\n,,\n",
        "n,n,a,b\n1,2,x,1\n3,4,y,0\n",
        'n,a,b\n"two\n\nlines",x,1\n"a ""quote""",y,0\n',
    ],
)
@pytest.mark.parametrize("ending", SEPARATORS)
def test_tables_as_people_have_them(tmp_path: Path, ending: str, content: str) -> None:
    assert read(write(tmp_path / f"a{ending}", content.replace(",", SEPARATORS[ending])), "a", "b") == ROWS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2,\n", ":2: expected 2 fields as in the header, found 3; "),
        ("a,b\nx,1\n\n1,x,0\n", ":4: expected 2 fields as in the header, found 3; "),
        ("a,b,n\nx,1\n", ":2: expected 3 fields as in the header, found 2; "),
        ("a,b,\nx,1,\ny,,0\n", ":3: expected 2 fields as in the header, found 3; "),
        ("a,b,a\nx,1,y\n", ":1: two columns are called 'a'; column names have to differ"),
        ('a,b\r"x\r\ny",1\r"z",1,2', ":4: expected 2 fields as in the header, found 3; "),
        ("a;b\nx;1\n", ":1: no column 'a'; it has to be one of a;b; the separator seems to be ';': write commas in"),
        (f"{','.join(f'c{number}' for number in range(99))}\n", ":1: no column 'a'; it has to be one of c0, c1, c2,"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str, expected: str) -> None:
    line = message(write(tmp_path / "a.csv", content), "a", "b")
    assert line.startswith(expected)
    assert len(line) < 300


def test_a_file_of_old_line_ends_may_be_long(tmp_path: Path) -> None:
    row = f"{'x' * 1000},1\r".encode()
    (tmp_path / "a.csv").write_bytes(b"a,b\r" + row * 25_000)
    assert len(read(tmp_path / "a.csv", "a")) == 25_000
    (tmp_path / "a.csv").write_bytes(b"a,b\rx,1\r" + b"x" * 10_000_001)
    assert message(tmp_path / "a.csv", "a") == ":3: the line is over 10 MB; expected one example per line"


def test_where_rows_are_counted_an_empty_one_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b\n\nx,1\n \ny,0\n,\n,\n\n")
    assert read(path, "a", "b", numbered=True) == ROWS
    assert read(write(path, "a,b\nx,1\n,\n,\ny,0\n"), "a", "b", numbered=True) == [ROWS[0], ("", ""), ROWS[1]]
    assert read(write(path, "a,b\nx,1\n,,,,\n,\ny,0\n"), "a", "b") == ROWS


OBJECTS = '{"a": "x", "b": "1"}', '{"n": {"n": [1], "n": 2}, "b": "0", "n": null, "a": "y"}'


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(OBJECTS),
        "\ufeff{}\r\n\r\n  \n{}\n\n".format(*OBJECTS),
        "{}\r{}\r".format(*OBJECTS),
        "[{},{}]".format(*OBJECTS),
        "\ufeff\n [\n{}\n,\r\n\t{} ]\n\n".format(*OBJECTS),
        json.dumps([json.loads(text) for text in OBJECTS], indent=4),
    ],
)
@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_json_lines_and_arrays(tmp_path: Path, ending: str, content: str) -> None:
    assert read(write(tmp_path / f"a{ending}", content), "a", "b") == ROWS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[", ": item 1: broken JSON (Expecting value); expected an array of objects"),
        ('[{"a": 1}', ": item 2: broken JSON: expected a comma between two objects of the array"),
        ('[{"a": 1} {"a": 2}]', ": item 2: broken JSON: expected a comma between two objects of the array"),
        ('[, {"a": 1}]', ": item 1: broken JSON: expected a comma between two objects of the array"),
        ('[{"a": 1},]', ": item 2: broken JSON (Expecting value); expected an array of objects"),
        ('[{"a": 1}, {"a": 2]', ": item 2: broken JSON (Expecting ',' delimiter); expected an array of objects"),
        ('[{"a": 1}] {"a": 2}', ": broken JSON: expected nothing after the array, found more"),
        ('[{"a": 1}, {"b": 2}]', ": item 2: no column 'a'; it has to be one of b"),
        ('[{"a": 1}, 12]', ': item 2: expected an object {"column": value}, found int 12'),
        ('[{"a": 1}, {"a": 2, "a": 3}]', ": item 2: two columns are called 'a'; column names have to differ"),
        ('{"a": 1}\n\n{"a": 2', ":3: broken JSON (Expecting ',' delimiter: line 1 column 8 (char 7)); expected one"),
        ('{"a": 1}\n\nnull', ':3: expected an object {"column": value} per line, found NoneType None'),
    ],
)
def test_json_that_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    assert message(write(tmp_path / "a.json", content), "a").startswith(expected)


def test_json_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"a": 1},\n {"a": "\xe9"}]')
    assert message(tmp_path / "a.json", "a") == ":2: expected UTF-8, found byte 0xe9; save the file as UTF-8"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=2), values, max_size=3),
    max_leaves=6,
)
ITEMS = st.dictionaries(st.text(max_size=3), VALUES, max_size=3) | st.text() | st.integers() | st.lists(VALUES)


@settings(max_examples=150, deadline=None, database=None)
@given(st.lists(ITEMS, max_size=5), st.sampled_from([None, 0, 2]), st.booleans(), st.integers(1, 40))
def test_an_array_is_read_item_by_item_wherever_a_block_ends(
    values: list[Any], indent: int | None, ascii_only: bool, block: int
) -> None:
    content = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    raw = [content[begin : begin + block] for begin in range(0, len(content), block)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "BLOCK", block)
        assert [row for _, row in json_rows._array_rows(Path("a.json"), raw)] == values


def test_an_array_of_one_line_is_not_held_whole(tmp_path: Path) -> None:
    count = 60_000
    item = json.dumps({"a": "x" * 1000})
    (tmp_path / "a.json").write_text(f"[{','.join([item] * count)}]")
    tracemalloc.start()
    try:
        assert sum(1 for _ in FILE_KINDS[".json"](tmp_path / "a.json", [["a"]], True)) == count
        assert tracemalloc.get_traced_memory()[1] < 45e6 < count * 1000
    finally:
        tracemalloc.stop()
