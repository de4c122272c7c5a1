"""CoNLL files: words and labels of each sentence, whatever separates them, and the place of what is wrong."""

from pathlib import Path

import pytest

from jaxfreeze.data.conll import conll_records
from jaxfreeze.data.tables import BadRowError, Record
from jaxfreeze.errors import InputError

BOTH, WORDS = [["words", "labels"]], [["words"]]


def read(folder: Path, content: str | bytes, layouts: list[list[str]] = BOTH) -> list[Record]:
    file = folder / "rows.conll"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(conll_records(file, layouts))


def sound(records: list[Record]) -> list[tuple[int, list[str], list[str]]]:
    return [(record.place.number, *record.sound().values()) for record in records]


@pytest.mark.parametrize(
    "content",
    [
        "EU B-ORG\nrejects O\n\nPeter B-PER\n",
        "EU B-ORG\nrejects O\n\nPeter B-PER",  # no newline at the end
        "EU\tB-ORG\nrejects\tO\n\nPeter\tB-PER\n\n\n",
        "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n",
        "EU   B-ORG  \nrejects  O \n   \nPeter  B-PER\n",
        "EU B-ORG\r\nrejects O\r\n\r\nPeter B-PER\r\n",
        b"\xef\xbb\xbfEU B-ORG\nrejects O\n\nPeter B-PER\n",  # a byte-order mark
    ],
)
def test_words_and_labels(content: str | bytes, tmp_path: Path) -> None:
    (first, *_), (number, *second) = sound(read(tmp_path, content))
    assert sound(read(tmp_path, content))[0] == (1, ["EU", "rejects"], ["B-ORG", "O"])
    assert (first, number, second) == (1, 4, [["Peter"], ["B-PER"]])


def test_lines_between_documents_are_none(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- -X- O\n\nEU NNP I-NP B-ORG\n-DOCSTART- -X- O O\nPeter NNP I-NP B-PER\n\n-DOCSTART-\n"
    assert sound(read(tmp_path, content)) == [(3, ["EU"], ["B-ORG"]), (5, ["Peter"], ["B-PER"])]


def test_quotes_hashes_and_odd_blanks_are_characters(tmp_path: Path) -> None:
    content = "\" O\n# O\n's O\n10\u00a0000 O\nNew York\tB-LOC\na,b O\n\u2028x O\n"
    ((_, words, labels),) = sound(read(tmp_path, content))
    assert words[:3] == ['"', "#", "'s"]
    assert words[4:6] == ["New York", "a,b"]  # a line with a tab is separated by tabs alone
    assert labels == ["O", "O", "O", "O", "B-LOC", "O", "O"]


def test_blanks_that_separate_are_spaces_and_tabs(tmp_path: Path) -> None:
    ((_, words, labels),) = sound(read(tmp_path, "10\u00a0000 O\n\u2028x O\n"))
    assert words == ["10\u00a0000", "\u2028x"]
    assert labels == ["O", "O"]


def test_the_columns_are_called_as_they_are_wanted(tmp_path: Path) -> None:
    ((record),) = read(tmp_path, "EU B-ORG\n", [["tokens", "ner_tags"]])
    assert record.sound() == {"tokens": ["EU"], "ner_tags": ["B-ORG"]}


@pytest.mark.parametrize("content", ["EU\nrejects\n", "EU B-ORG\nrejects O\n", "EU\tX\tB-ORG\nrejects\tX\tO\n"])
def test_labels_that_are_not_wanted_may_be_there_or_not(content: str, tmp_path: Path) -> None:
    (record,) = read(tmp_path, content, WORDS)
    assert record.sound() == {"words": ["EU", "rejects"]}


@pytest.mark.parametrize(
    ("lines", "number", "line"),
    [
        ("EU B-ORG\nrejects\ncalls O", 2, "expected a word and its label, found 'rejects' alone"),
        ("EU\nrejects", 1, "expected a word and its label, found 'EU' alone"),
        ("EU X B-ORG\nrejects O", 2, "expected 3 columns as in the lines before, found 2"),
        ("EU B-ORG\n O", 2, "the word is empty"),
        ("EU B-ORG\n\tO", 2, "the word is empty"),
        ("EU\tB-ORG\nx\t \ty", 2, "expected 2 columns as in the lines before, found 3"),
    ],
)
def test_a_wrong_line_is_its_sentence_alone(lines: str, number: int, line: str, tmp_path: Path) -> None:
    wrong, right = read(
        tmp_path, f"{lines}\n\nPeter B-PER\n".replace(" B-PER", "\tX\tB-PER" if "X" in lines else "\tB-PER")
    )
    assert (wrong.place.number, str(wrong.place)) == (number, f"{tmp_path / 'rows.conll'}:{number}")
    with pytest.raises(BadRowError) as caught:
        wrong.sound()
    assert line in str(caught.value)
    assert "a blank line ends a sentence" in str(caught.value)
    assert right.sound()["words"] == ["Peter"]


def test_an_encoding_that_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows\.conll:2: expected UTF-8, found byte 0xfc"):
        read(tmp_path, b"EU B-ORG\nZ\xfcrich B-LOC\n")


def test_an_empty_file(tmp_path: Path) -> None:
    assert read(tmp_path, "\n \n-DOCSTART- -X- O O\n") == []
