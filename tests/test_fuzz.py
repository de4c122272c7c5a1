"""Random inputs and damaged files: a clear error or a right answer; never a crash, a hang, or silent garbage."""

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from jaxfreeze import freezing
from jaxfreeze.config import read_settings
from jaxfreeze.data.batches import BatchPlan, evaluation_batches
from jaxfreeze.data.readers import read_file, read_glue_tsv
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import OWN_FILES, Task, get_task
from jaxfreeze.data.token_store import TextEncoder
from jaxfreeze.errors import InputError
from jaxfreeze.model import weights
from jaxfreeze.objectives import Classification
from jaxfreeze.strict_yaml import from_text
from tests import effort
from tests.data.test_batches import batches_of, check, store_of
from tests.folders import VOCABULARY, make_folder

quick = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
TEXT = ANY_TEXT.filter(lambda text: text.strip() != "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read_own(path: Path) -> tuple[Split, tuple[str, ...]]:
    split, task = read_file(path, Task(OWN_FILES, ("text",), Classification()), "train")
    return split, task.objective.labels


def assert_read(path: Path, rows: list[tuple[str, int]]) -> None:
    split, classes = read_own(path)
    assert split.texts == (tuple(text for text, _ in rows),)
    assert split.labels is not None
    assert [int(classes[label]) for label in split.labels] == [label for _, label in rows]


def rows_of(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Rows with two labels at least."""
    rows = st.lists(st.tuples(texts, st.integers(-3, 12)), min_size=2, max_size=12)
    return rows.filter(lambda rows: len({label for _, label in rows}) > 1)


@quick
@given(rows_of(TEXT), st.sampled_from([("own.csv", ","), ("own.tsv", "\t")]))
def test_what_was_written_to_a_table_is_read(folder: Path, rows: list[tuple[str, int]], kind: tuple[str, str]) -> None:
    name, separator = kind
    path, out = folder / name, io.StringIO(newline="")
    csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    path.write_bytes(out.getvalue().encode())
    assert_read(path, rows)


@quick
@given(rows_of(TEXT), st.booleans())
def test_what_was_written_to_json_lines_is_read(folder: Path, rows: list[tuple[str, int]], ascii_only: bool) -> None:
    path = folder / "own.jsonl"
    lines = (json.dumps({"label": label, "text": text}, ensure_ascii=ascii_only) for text, label in rows)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    assert_read(path, rows)


@quick
@given(st.binary(max_size=300), st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
def test_any_bytes_are_rows_or_an_error(folder: Path, content: bytes, kind: str) -> None:
    path = folder / f"any{kind}"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        split, classes = read_own(path)
        assert split.labels is not None
        assert len(split.texts[0]) == len(split.labels) >= 2
        assert len(classes) >= 2


@quick
@given(ANY_TEXT)
def test_any_text_is_settings_or_an_error(folder: Path, text: str) -> None:
    path = folder / "any.yaml"
    path.write_bytes(text.encode())
    with contextlib.suppress(InputError):
        read_settings(path)
    from_text(text)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert"), 24, VOCABULARY, 2, 0, "bert")


@quick
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
def test_any_texts_become_whole_examples(encoder: TextEncoder, pairs: list[tuple[str, str]]) -> None:
    firsts, seconds = zip(*pairs, strict=True)
    store = encoder.encode(Split("train", (firsts, seconds), None))
    assert store.num_examples == len(pairs)
    assert store.start[-1] == len(store.token_id) == len(store.token_type) == len(store.position)
    assert 3 <= store.lengths.min() <= store.lengths.max() <= 24
    assert (store.token_id >= 0).all()
    assert (store.token_id < len(encoder.tokenizer)).all()
    for start, stop in zip(store.start[:-1], store.start[1:], strict=True):
        assert store.token_id[start] == encoder.tokenizer.cls_token_id
        assert store.token_id[stop - 1] == encoder.tokenizer.sep_token_id
        np.testing.assert_array_equal(store.position[start:stop], np.arange(stop - start))


@settings(quick, max_examples=effort.inputs(80))
@given(
    st.lists(st.integers(2, 128), min_size=1, max_size=120), st.integers(1, 20), st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 8]), st.integers(1, 4),
)  # fmt: skip
def test_any_lengths_are_packed_whole(
    lengths: list[int], batch_size: int, seed: int, row_multiple: int, limit: int
) -> None:
    store = store_of(np.array(lengths))
    plan = BatchPlan.make(store, batch_size, (seed,), epochs=1, row_multiple=row_multiple, limit=limit)
    assert len(plan.shapes) <= limit
    for made in (batches_of(plan), list(evaluation_batches(store, batch_size, row_multiple))):
        assert sorted(example for batch in made for example in check(batch, store)) == list(range(len(lengths)))
        assert all(len(batch.index) % row_multiple == 0 for batch in made)


PATHS = [
    "embeddings.word.embedding",
    *(f"layers.{i}.attention.{leaf}" for i in range(12) for leaf in ("query.kernel", "query.bias", "output.kernel")),
    "head.classifier.kernel",
]  # fmt: skip


@quick
@given(st.lists(st.one_of(st.text(".*[a-z()\\|0-9{}?+", max_size=12), st.sampled_from(PATHS)), max_size=4))
def test_any_patterns_are_a_policy_or_an_error(patterns: list[str]) -> None:
    with contextlib.suppress(InputError):
        labels = freezing.label_patterns(PATHS, patterns)
        trained, frozen = freezing.split(dict.fromkeys(PATHS, 0), labels)
        assert trained
        assert {*trained, *frozen} == set(PATHS)
        cut = freezing.cut_of(labels, 12)
        assert all(freezing.block_of(path, 12) >= cut for path in trained)


@quick
@given(st.one_of(st.integers(-3, 15), st.just("all")))
def test_any_number_of_layers_is_a_policy_or_an_error(layers: int) -> None:
    with contextlib.suppress(InputError):
        labels = freezing.label_layers(PATHS, layers, 12)
        assert freezing.cut_of(labels, 12) == (0 if layers == "all" else 13 - layers)


# Damaged files: sound ones, changed in a few places.

RANDOM = np.random.default_rng(0)
TENSORS = {
    "bert.pooler.dense.weight": RANDOM.standard_normal((4, 6), np.float32),
    "bert.pooler.dense.bias": RANDOM.standard_normal(4, np.float32),
    "bert.embeddings.LayerNorm.weight": RANDOM.standard_normal(6).astype(np.float16),
}
WORDS = [
    b"\0",
    b"\t",
    b"\n",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"-1",
    b"1e999",
    b"null",
    b"\xff",
    b"\xed\xa0\x80",
]


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """One to four changes: a bit, a piece gone, doubled or put in, an end cut off."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 5)):
        place = int(random.integers(len(changed) + 1)) if changed else 0
        length = int(random.integers(1, 9))
        kind = random.integers(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << int(random.integers(8))
        elif kind == 1:
            del changed[place : place + length]
        elif kind == 2:
            changed[place:place] = changed[place : place + length]
        elif kind == 3:
            changed[place:place] = WORDS[int(random.integers(len(WORDS)))]
        elif kind == 4 and random.integers(10) == 0:
            del changed[place:]
        elif place < len(changed):
            changed[place] = int(random.integers(256))
    return bytes(changed)


def survive(path: Path, make: Callable[[], bytes], read: Callable[[Path], None], times: int) -> None:
    """Both outcomes come up, and no other."""
    refused = 0
    for _ in range(times):
        path.write_bytes(make())
        try:
            read(path)
        except InputError:
            refused += 1
    assert 0.05 * times < refused < times


def test_damaged_safetensors_headers(folder: Path) -> None:
    path, random = folder / "model.safetensors", np.random.default_rng(1)
    save_file(TENSORS, path, {"format": "pt"})
    sound = path.read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")

    def make() -> bytes:
        return damaged(sound[:header], random) + sound[header:]

    def read(path: Path) -> None:
        for name, leaf in weights.read_file(path).items():
            if name in TENSORS and leaf.shape == TENSORS[name].shape:
                np.testing.assert_array_equal(leaf, TENSORS[name].astype(np.float32), err_msg=name)

    survive(path, make, read, effort.inputs(40_000))


GOOD_TSV = b"index\tsentence1\tsentence2\tlabel\n" + b"".join(
    b"%d\tthe bowl\tit is \xc3\xa4 bowl\t%sentailment\n" % (i, (b"", b"not_")[i % 2]) for i in range(4)
)
GOOD_JSONL = b"".join(b'{"text": "a b\xc3\xa4wl \\u00e4", "label": %d}\n' % (i % 2) for i in range(4))


def test_damaged_tsv(folder: Path) -> None:
    random, task = np.random.default_rng(2), get_task("rte")

    def read(path: Path) -> None:
        split = read_glue_tsv(path, task, "train")
        assert split.labels is not None
        assert len(split.texts[0]) == len(split.texts[1]) == len(split.labels)
        assert set(split.labels.tolist()) <= {0, 1}
        assert all(text.strip() and "\0" not in text for column in split.texts for text in column)

    survive(folder / "train.tsv", lambda: damaged(GOOD_TSV, random), read, effort.inputs(30_000))


def test_damaged_json_lines(folder: Path) -> None:
    random = np.random.default_rng(3)

    def read(path: Path) -> None:
        split, classes = read_own(path)
        assert split.labels is not None
        assert len(split.texts[0]) == len(split.labels)
        assert set(split.labels.tolist()) <= set(range(len(classes)))
        assert all(text.strip() and "\0" not in text for text in split.texts[0])

    survive(folder / "own.jsonl", lambda: damaged(GOOD_JSONL, random), read, effort.inputs(30_000))
