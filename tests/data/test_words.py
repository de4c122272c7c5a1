"""Words in a token store: the pieces of each as in a text, its label at the first, and none shifts its neighbours."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import transformers

from jaxfreeze.data import token_store, words
from jaxfreeze.data.batch import Shape
from jaxfreeze.data.packing import fill
from jaxfreeze.data.split import Split
from jaxfreeze.data.tables import BadRowError
from jaxfreeze.data.token_store import TextEncoder, tokenize
from jaxfreeze.errors import InputError
from tests.data.test_token_store import encoder_of
from tests.families import FAMILIES
from tests.folders import make_folder

ROWS = (("the", "crates", "holds", "a", "bowl"), ("crate",), ("crates", "crates"))
TAGGED = Split("train", (ROWS,), np.array([1, 2, 0, 0, 3, 4, 5, 6], np.int32))
CONTROL = "\x01"  # of which BERT's normalizer makes nothing


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return cache(lambda family: make_folder(tmp_path_factory.mktemp(family), family))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JAXFREEZE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def words_of(folder: Path, max_length: int = 48) -> TextEncoder:
    return replace(encoder_of(folder, max_length), words=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chunk", [1024, 2])
def test_the_pieces_are_those_of_the_text(family: str, chunk: int, folders, monkeypatch) -> None:
    monkeypatch.setattr(token_store, "CHUNK", chunk)
    store = tokenize(TAGGED, words_of(folders(family)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders(family))
    byte_level = FAMILIES[family].tokenizer == "bytes"
    for number, row in enumerate(ROWS):
        part = slice(store.start[number], store.start[number + 1])
        text = (" " if byte_level else "") + " ".join(row)
        assert store.token_id[part].tolist() == tokenizer(text)["input_ids"]
        pieces = [tokenizer(f" {word}" if byte_level else word, add_special_tokens=False)["input_ids"] for word in row]
        begins = np.cumsum([1, *map(len, pieces[:-1])])  # behind the special token
        assert np.flatnonzero(store.word[part] >= 0).tolist() == begins.tolist()
        assert store.word[part][begins].tolist() == list(range(len(row)))
        assert max(map(len, pieces)) > 1 or number == 1
    assert store.counts.tolist() == [5, 1, 2]
    assert store.flat_label.tolist() == TAGGED.labels.tolist()
    assert np.array_equal(store.label >= 0, store.word >= 0)
    assert [store.label.dtype, store.word.dtype, store.counts.dtype] == [np.int32, np.int32, np.int64]


def test_without_labels_first_pieces_are_marked(folders) -> None:
    store = tokenize(replace(TAGGED, labels=None), words_of(folders("bert")))
    assert set(np.unique(store.label)) == {-1, 0}
    assert np.array_equal(store.label == 0, store.word >= 0)
    assert store.counts.tolist() == [5, 1, 2]


def test_a_word_without_a_token_does_not_shift_its_neighbours(folders, capsys) -> None:
    rows = (("the", CONTROL, "bowl"), (CONTROL,), (CONTROL, "crate", CONTROL))
    store = tokenize(Split("train", (rows,), np.arange(7, dtype=np.int32)), words_of(folders("bert")))
    assert store.word[store.word >= 0].tolist() == [0, 2, 1]
    assert store.flat_label.tolist() == [0, 2, 5]
    assert store.counts.tolist() == [2, 0, 1]
    assert "train: 4 of 7 words make no token and are not read\n" in capsys.readouterr().out


def test_words_beyond_max_length_are_not_read_and_counted(folders, capsys) -> None:
    rows = (("the",) * 9, ("bowl", "crate"), ("the",) * 6 + ("crates",) * 2)
    split = Split("train", (rows,), np.arange(19, dtype=np.int32))
    for _ in range(2):  # the second time from the cache
        store = tokenize(split, words_of(folders("bert"), 10))
        assert store.lengths.tolist() == [10, 4, 10]
        assert store.counts.tolist() == [8, 2, 7]  # of the third, half a word was kept
        assert store.flat_label.tolist() == [*range(8), 9, 10, *range(11, 18)]
        assert capsys.readouterr().out == "train: 2 of 19 words lie beyond --max_length 10 and are not read\n"
    tokenize(split, words_of(folders("bert"), 40))
    assert capsys.readouterr().out == ""


def test_places_of_the_outputs_of_a_batch(folders) -> None:
    store = tokenize(TAGGED, words_of(folders("bert")))
    batch = fill(store, [[2, 0], [1]], Shape(3, 32, 2))
    place = store.places(batch)
    assert place.shape == batch.index.shape
    assert place[0][place[0] >= 0].tolist() == [6, 7, 0, 1, 2, 3, 4]
    assert place[1][place[1] >= 0].tolist() == [5]
    assert (place[2] == -1).all()
    for row, column in zip(*np.nonzero(place >= 0), strict=True):
        assert store.flat_label[place[row, column]] == store.label[batch.index[row, column]]
    texts = tokenize(Split("x", (("a b", "c"),), None), encoder_of(folders("bert")))
    assert texts.places(fill(texts, [[1, 0]], Shape(1, 16, 2))).tolist() == [[1, 0]]
    assert texts.counts.tolist() == [1, 1]


def test_words_are_another_store_than_their_text(folders) -> None:
    folder = folders("bert")
    assert words_of(folder).digest(TAGGED) != encoder_of(folder).digest(TAGGED)
    moved = replace(TAGGED, texts=((("the", "crates"), ("holds", "a", "bowl", "crate"), ("crates", "crates")),))
    assert words_of(folder).digest(moved) != words_of(folder).digest(TAGGED)


def test_the_second_time_it_is_memory_mapped(folders, monkeypatch) -> None:
    first = tokenize(TAGGED, words_of(folders("roberta")))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", None)
    second = tokenize(TAGGED, words_of(folders("roberta")))
    for name in ("label", "word", "token_id"):
        assert isinstance(getattr(second, name), np.memmap)
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))


def test_a_text_is_read_as_its_words_and_words_as_their_text(folders) -> None:
    text = Split("test", (("the  crates holds",),), None)
    as_words = Split("test", ((("the", "crates", "holds"),),), None)
    for encoder in (words_of(folders("bert")), encoder_of(folders("bert"))):
        assert encoder.encode(text).token_id.tolist() == encoder.encode(as_words).token_id.tolist()
    assert encoder_of(folders("bert")).encode(as_words).word is None


def test_a_tokenizer_that_does_not_number_words(folders, monkeypatch) -> None:
    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(InputError) as caught:
        tokenize(TAGGED, words_of(folders("bert")))
    assert "labels of words need a tokenizer that numbers them" in str(caught.value)
    assert "put the model's tokenizer.json into the folder" in str(caught.value)


def test_an_unknown_vocabulary_is_found_in_words_too(folders) -> None:
    odd = Split("train", ((("😀", "🎉"),),), np.array([0, 1], np.int32))
    with pytest.raises(InputError, match=r"does not know 2 of the 2 tokens of train \(see '😀 🎉'\)"):
        tokenize(odd, words_of(folders("bert")))


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("EU rejects", "expected a list of words in column 'words', found str 'EU rejects'"),
        (None, "expected a list of words in column 'words', found NoneType None"),
        ([], "the list of words in column 'words' is empty"),
        (["EU", ""], "word 2 in column 'words' is empty"),
        (["EU", " \t"], "word 2 in column 'words' is empty"),
        (["EU", 3], "expected words in column 'words', found 3 as word 2"),
        (["EU", None], "expected words in column 'words', found None as word 2"),
        (["E\0"], "has a NUL character"),
    ],
)
def test_wrong_cells_of_words(cell: object, line: str) -> None:
    with pytest.raises(BadRowError) as caught:
        words.checked_words(cell, "words")
    assert line in str(caught.value)


def test_a_text_may_do_for_words() -> None:
    assert words.checked_words(" EU  rejects\n", "words", may_be_text=True) == ("EU", "rejects")
    with pytest.raises(BadRowError, match="is empty"):
        words.checked_words("  ", "words", may_be_text=True)


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        (["O"], "2 words, but 1 labels in column 'tags'; expected one for each word"),
        (["O", "O", "O"], "2 words, but 3 labels"),
        ("OO", "expected a list with a label for each word in column 'tags', found str 'OO'"),
    ],
)
def test_labels_are_as_many_as_words(cell: object, line: str) -> None:
    with pytest.raises(BadRowError) as caught:
        words.check_labels(("EU", "rejects"), cell, "tags")
    assert line in str(caught.value)
    words.check_labels(("EU", "rejects"), ["O", "O"], "tags")
