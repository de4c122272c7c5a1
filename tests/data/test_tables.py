"""Own CSV, TSV and JSON files: every cell as pandas reads it, what Excel leaves empty, and what is refused."""

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxfreeze.data.formats import FILE_KINDS
from jaxfreeze.data.tables import BadRowError
from jaxfreeze.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
TABLES = 10_000
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
        with pytest.raises(pandas.errors.ParserError, match="EOF inside string"):
            pandas_reads(path)
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
