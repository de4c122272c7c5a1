"""Reading splits: classic GLUE files, the hub (faked or out of reach), own files, and every error's exact line."""

import decimal
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas
import pytest

from jaxfreeze.data.readers import read_file, read_glue_tsv, read_split, splits_for_evaluation
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import OWN_FILES, TASKS, Task, get_task
from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Classification, Objective, Regression

GLUE_DIR = os.environ.get("JAXFREEZE_GLUE_DIR")
needs_glue = pytest.mark.skipif(not GLUE_DIR, reason="JAXFREEZE_GLUE_DIR is not set")

# fmt: off
PAIRS = (("A", "C"), ("B", "D"))
CLASSIC = {  # task: folder, training file, texts, labels
    "cola": ("CoLA", "a1\t1\t\tHe ran.\na1\t0\t*\tRan he.\n", (("He ran.", "Ran he."),), [1, 0]),
    "sst2": ("SST-2", "sentence\tlabel\ngood \t1\nbad \t0\n", (("good ", "bad "),), [1, 0]),
    "mrpc": ("MRPC", "\ufeffQuality\t#1 ID\t#1 String\t#2 String\r\n1\t7\tA\tB\r\n0\t7\tC\tD\r\n", PAIRS, [1, 0]),
    "stsb": ("STS-B", "index\tsentence1\tsentence2\tscore\n0\tA\tB\t5.000\n1\tC\tD\t0.4\n", PAIRS, [5, 0.4]),
    "qqp": ("QQP", "id\tquestion1\tquestion2\tis_duplicate\n0\tA\tB\t0\n1\tC\tD\t1\n", PAIRS, [0, 1]),
    "mnli": (
        "MNLI",
        "sentence1\tsentence2\tlabel1\tgold_label\nA\tB\tneutral\tcontradiction\nC\tD\tneutral\tentailment\n",
        PAIRS, [2, 0],
    ),
    "qnli": ("QNLI", "index\tquestion\tsentence\tlabel\n0\tA\tB\tnot_entailment\n", (("A",), ("B",)), [1]),
    "rte": ("RTE", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tentailment\n", (("A",), ("B",)), [0]),
    "wnli": ("WNLI", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n", (("A",), ("B",)), [1]),
}
SST2, RTE, STSB = "sentence\tlabel\n", "index\tsentence1\tsentence2\tlabel\n", "sentence1\tsentence2\tscore\n"

# How error lines end.
NO_EXAMPLE = ": expected at least one example, found an empty file or nothing but a header"
RAGGED = "look for a separator too many or too few, or a line break inside a text"
EMPTY = "is empty; fill it in or leave the row out"
NO_LABEL = "expected a label (text or a whole number), found none; fill it in or leave the row out"
NO_CLASS = "is neither a whole number nor a name; for scores use --regression"
UTF8 = "save the file as UTF-8"
LONG = "the line is over 10 MB; expected one example per line"
TSV = 'put a field with a tab or a line break in "...", and write a quote inside it as ""'
CSV = 'put a field with a comma or a line break in "...", and write a quote inside it as ""'
JSON = "expected one object per line"
NO_TEXT = "expected text in column 'text', found"
SKIP = "; --on_bad_row skip leaves out such rows"

WRONG_CLASSIC = [  # task, training file, what the error says after the path
    ("rte", "", NO_EXAMPLE),
    ("cola", "", NO_EXAMPLE),
    ("rte", RTE + "\n\n", NO_EXAMPLE),
    ("rte", "\n" + RTE + "0\tA\tB\tentailment\n", ":1: expected the names of the columns, found a blank line"),
    ("rte", RTE + "0\tA\tB\tentailment\n1\tA\tB\n", f":3: expected 4 fields as in the header, found 3; {RAGGED}"),
    ("rte", RTE + "\n0\tA\tB\tentailment\n", f":2: expected 4 fields as in the header, found 1; {RAGGED}"),
    ("cola", "sentence\tlabel\nHe ran.\t1\n", f":1: expected 4 fields as in the header, found 2; {RAGGED}"),
    ("rte", RTE + "0\tA\tB\tentailement\n",
     ":2: label 'entailement' is not one of entailment, not_entailment"),
    ("rte", RTE + "0\tA\t \tentailment\n", f":2: the text in column 'sentence2' {EMPTY}"),
    ("rte", "sentence1\tsentence2\nA\tB\n", ":1: no column 'label'; it has to be one of sentence1, sentence2"),
    ("rte", "sentence1\tsentence 2\tlabel\nA\tB\t1\n",
     ":1: no column 'sentence2'; it has to be one of sentence1, sentence 2, label; did you mean 'sentence 2'?"),
    ("stsb", STSB + "A\tB\tnan\n", ":2: expected a finite number as label, found 'nan'"),
    ("stsb", STSB + "A\tB\t6\n", ":2: expected a score from 0 to 5, found 6"),
    ("sst2", b"sentence\tlabel\nok\t1\nna\xefve\t1\n", f":3: expected UTF-8, found byte 0xef; {UTF8}"),
    ("sst2", b"\xef\xbb\xbfsentence\xe9\tlabel\n", f":1: expected UTF-8, found byte 0xe9; {UTF8}"),
    ("sst2", b"\xff\xfes\x00", f":1: expected UTF-8, found byte 0xff; {UTF8}"),
    ("sst2", SST2 + "a\x00b\t1\n", f":2: expected UTF-8 text, found a NUL byte; {UTF8}"),
    ("sst2", SST2 + "a" * 10_000_001, f":2: {LONG}"),
]
WRONG_OWN = [  # file, content, what the error says after the path
    ("a.csv", "", NO_EXAMPLE),
    ("a.csv", "text,label\n", NO_EXAMPLE),
    ("a.tsv", "\n", NO_EXAMPLE),
    ("a.jsonl", "", NO_EXAMPLE),
    ("a.csv", "text,label,text\na,b,c\n", ":1: two columns are called 'text'; column names have to differ"),
    ("a.jsonl", '{"text": "a", "text": "b", "label": 1}',
     f":1: two columns are called 'text'; column names have to differ{SKIP}"),
    ("a.csv", "txt,label\na,b\n", ":1: no column 'text'; it has to be one of txt, label; did you mean 'txt'?"),
    ("a.csv", "text;label\n", ":1: no column 'text'; it has to be one of text;label; "
     "the separator seems to be ';': write commas in a .csv, tabs in a .tsv"),
    ("a.csv", "text\na\n", ":1: no column 'label'; it has to be one of text"),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "a"}', f":2: no column 'label'; it has to be one of text{SKIP}"),
    ("a.csv", 'text,label\n"a\nb",1\nc,d,e\n', f":4: expected 2 fields as in the header, found 3; {RAGGED}{SKIP}"),
    ("a.csv", "text,label\na,1,\nb,0,\n", f":2: expected 2 fields as in the header, found 3; {RAGGED}{SKIP}"),
    ("a.csv", "text,label,\na,b,1\nb,0,\n", f":2: expected 2 fields as in the header, found 3; {RAGGED}{SKIP}"),
    ("a.tsv", "text\tlabel\na\n", f":2: expected 2 fields as in the header, found 1; {RAGGED}{SKIP}"),
    ("a.csv", 'text,label\na,1\n"b,0\nc,1\n', f":3: broken CSV (unexpected end of data); {CSV}"),
    ("a.csv", 'text,label\n"a"b,1\n', f":2: broken CSV (',' expected after '\"'); {CSV}"),
    ("a.tsv", 'text\tlabel\n"a" b\t1\n', f":2: broken TSV ('tab' expected after '\"'); {TSV}"),
    ("a.csv", b"text,label\na,1\n\xe9,0\n", f":3: expected UTF-8, found byte 0xe9; {UTF8}"),
    ("a.jsonl", b'{"text": "\xe9"}\n', f":1: expected UTF-8, found byte 0xe9; {UTF8}"),
    ("a.csv", "text,label\na\0,1\n", f":2: expected UTF-8 text, found a NUL byte; {UTF8}"),
    ("a.tsv", "text\tlabel\n" + "a" * 10_000_001, f":2: {LONG}"),
    ("a.jsonl", "1\n", f':1: expected an object {{"column": value}} per line, found int 1{SKIP}'),
    ("a.jsonl", '{"text":', f":1: broken JSON (Expecting value: line 1 column 9 (char 8)); {JSON}{SKIP}"),
    ("a.jsonl", '{"text": null, "label": 1}', f":1: {NO_TEXT} none{SKIP}"),
    ("a.jsonl", '{"text": 5, "label": 1}', f":1: {NO_TEXT} int 5{SKIP}"),
    ("a.json", '{"text": {"0": "a"}, "label": {"0": 1}}',
     f":1: {NO_TEXT} an object {{'0': 'a'}}; write one object for each row (pandas: orient='records'){SKIP}"),
    ("a.jsonl", '{"text": "\\ud800", "label": 1}',
     f":1: the text in column 'text' has half a surrogate pair, which is no character{SKIP}"),
    ("a.jsonl", '{"text": "a\\u0000", "label": 1}',
     f":1: the text in column 'text' has a NUL character; remove it{SKIP}"),
    ("a.csv", "text,label\n  ,1\n", f":2: the text in column 'text' {EMPTY}{SKIP}"),
    ("a.csv", "text,label\na, \n", f":2: {NO_LABEL}{SKIP}"),
    ("a.jsonl", '{"text": "a", "label": null}', f":1: {NO_LABEL}{SKIP}"),
    ("a.jsonl", '{"text": "a", "label": NaN}', f":1: {NO_LABEL}{SKIP}"),
    ("a.csv", "text,label\na,NaN\n",
     ":2: expected a label, found 'NaN', which stands for a missing one; fill it in or leave the row out, "
     f"or name all classes in --label_names if this is one{SKIP}"),
    ("a.csv", "text,label\na,0.5\n", f":2: label '0.5' {NO_CLASS}"),
    ("a.jsonl", '{"text": "a", "label": 1.5}', f":1: label '1.5' {NO_CLASS}"),
    ("a.csv", "text,label\na,1\nb,1\n", ": expected two classes or more in column 'label', found only '1'"),
    ("a.csv", "text,label\n" + "".join(f"a,{i}\n" for i in range(1001)),
     ":1002: more than 1000 different labels; is this an id column, or are they scores (then use --regression)?"),
    ("a.xlsx", "a", ": the ending '.xlsx' is not one of .csv, .tsv, .jsonl, .json, .parquet, .conll"),
    ("a.jsn", "a",
     ": the ending '.jsn' is not one of .csv, .tsv, .jsonl, .json, .parquet, .conll; did you mean '.json'?"),
]
REAL = [  # task, split, examples, share of each class in per cent
    ("cola", "train", 8551, [30, 70]), ("cola", "validation", 1043, [31, 69]), ("cola", "test", 1063, None),
    ("sst2", "train", 67349, [44, 56]), ("sst2", "validation", 872, [49, 51]),
    ("mrpc", "train", 3668, [33, 67]), ("mrpc", "validation", 408, [32, 68]), ("mrpc", "test", 1725, None),
    ("stsb", "train", 5749, None), ("stsb", "validation", 1500, None), ("stsb", "test", 1379, None),
    ("rte", "train", 2490, [50, 50]), ("rte", "validation", 277, [53, 47]), ("rte", "test", 3000, None),
    ("wnli", "train", 635, [51, 49]), ("wnli", "validation", 71, [56, 44]), ("wnli", "test", 146, None),
    ("qnli", "train", 8999, [50, 50]), ("qnli", "validation", 5463, [49, 51]), ("qnli", "test", 5463, None),
    ("qqp", "train", 8999, [63, 37]), ("qqp", "validation", 1000, [63, 37]),
    ("mnli", "train", 8999, [33, 33, 33]), ("mnli", "validation_matched", 1000, [33, 33, 33]),
]
# fmt: on


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def message(call, *arguments) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", list(CLASSIC))
@pytest.mark.parametrize("root", [True, False], ids=["glue_root", "own_folder"])
def test_a_classic_training_file(tmp_path, name, root):
    folder, content, texts, labels = CLASSIC[name]
    write(tmp_path / folder / "train.tsv", content)
    split = read_split(get_task(name), "train", tmp_path if root else tmp_path / folder)
    kind = np.float32 if name == "stsb" else np.int32
    assert (split.name, split.texts, split.skipped) == ("train", texts, 0)
    assert split.labels.dtype == kind
    assert split.labels.tolist() == np.array(labels, kind).tolist()


def test_only_tabs_and_newlines_cut_a_classic_file(tmp_path):
    sentence = "a \"b, c\x85d\u2028e\x0bf\x1dg '\r\u00e9"
    path = write(tmp_path / "dev.tsv", f'sentence\tlabel\n{sentence}\t1\n"open\t0\n\n')
    split = read_glue_tsv(path, get_task("sst2"), "validation")
    assert split.texts == ((sentence, '"open'),)
    assert split.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cola", "index\tsentence\n0\tHe ran.\n"),
        ("cola", "a1\t1\t\tHe ran.\n"),
        ("cola", "a1\thidden\t\tHe ran."),
        ("sst2", "index\tsentence\n0\tHe ran.\n"),
        ("sst2", "sentence\tlabel\nHe ran.\t1\n"),
        ("sst2", "sentence\tlabel\nHe ran.\t-\n"),
    ],
)
def test_a_test_file_may_have_labels_and_they_are_ignored(tmp_path, name, content):
    split = read_glue_tsv(write(tmp_path / "x.tsv", content), get_task(name), "test")
    assert (split.name, split.texts, split.labels) == ("test", (("He ran.",),), None)


def test_qqp_damaged_rows_are_left_out_and_counted_and_empty_texts_kept(tmp_path):
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    path = write(tmp_path / "train.tsv", head + "0\t1\t2\tA\tB\t0\n1\t1\t2\tcut\n\nhere\tD\t1\n2\t1\t2\tE\t\t1\n")
    split = read_glue_tsv(path, get_task("qqp"), "train")
    assert (split.texts, split.labels.tolist(), split.skipped) == ((("A", "E"), ("B", "")), [0, 1], 3)


@pytest.mark.parametrize(("name", "content", "expected"), WRONG_CLASSIC, ids=range(len(WRONG_CLASSIC)))
def test_a_classic_file_that_is_wrong(tmp_path, name, content, expected):
    path = write(tmp_path / "train.tsv", content)
    assert message(read_glue_tsv, path, get_task(name), "train") == f"{path}{expected}"


def test_a_line_of_exactly_10_mb_is_read(tmp_path):
    path = write(tmp_path / "dev.tsv", b"sentence\tlabel\n" + b"a" * (10_000_000 - 3) + b"\t1\n")
    assert len(read_glue_tsv(path, get_task("sst2"), "validation").texts[0][0]) == 10_000_000 - 3


def test_a_split_or_a_folder_that_is_not_there(tmp_path):
    mnli = get_task("mnli")
    write(tmp_path / "MNLI" / "train.tsv", CLASSIC["mnli"][1])
    assert message(read_split, mnli, "validation", tmp_path) == (
        "task 'mnli' has no split 'validation'; expected one of train, validation_matched, validation_mismatched, "
        "test_matched, test_mismatched, ax; did you mean 'validation_matched'?"
    )
    assert message(read_split, mnli, "train", tmp_path / "no") == (
        f"--data_dir {tmp_path / 'no'}: no such folder; expected one in the classic GLUE layout"
    )
    assert message(read_split, mnli, "validation_matched", tmp_path) == (
        f"--data_dir {tmp_path}: the 'validation_matched' split of 'mnli' is missing; "
        f"expected the file {tmp_path / 'MNLI' / 'dev_matched.tsv'} (classic GLUE layout)"
    )


@pytest.mark.parametrize("place", ["diagnostic/diagnostic.tsv", "AX/diagnostic.tsv", "AX/test.tsv"])
@pytest.mark.parametrize("data_dir", [".", "MNLI"])
def test_the_diagnostic_set_lies_beside_mnli(tmp_path, place, data_dir):
    write(tmp_path / "MNLI" / "train.tsv", CLASSIC["mnli"][1])
    write(tmp_path / place, "index\tsentence1\tsentence2\n0\tA\tB\n")
    split = read_split(get_task("mnli"), "ax", tmp_path / data_dir)
    assert (split.name, split.texts, split.labels) == ("ax", (("A",), ("B",)), None)


def test_splits_for_evaluation(tmp_path):
    both = ["validation_matched", "validation_mismatched"]
    mnli = get_task("mnli")
    (tmp_path / "MNLI").mkdir()
    assert splits_for_evaluation(mnli, None) == (both, [])
    assert splits_for_evaluation(mnli, tmp_path) == (both[:1], both[1:])
    write(tmp_path / "MNLI" / "dev_mismatched.tsv", "")
    assert splits_for_evaluation(mnli, tmp_path) == (both, [])
    assert {name: splits_for_evaluation(TASKS[name], None) for name in TASKS if name != "mnli"} == {
        name: (["validation"], []) for name in TASKS if name != "mnli"
    }


def test_the_demo_comes_from_its_grammar():
    split = read_split(get_task("demo"), "validation", None)
    assert (split.name, len(split.texts)) == ("validation", 2)
    assert set(split.labels.tolist()) == {0, 1, 2}


# The hub, without a network.


def hub_rows(columns: dict, label_names: list[str] | None):
    import datasets

    label = datasets.Value("float32") if label_names is None else datasets.ClassLabel(names=label_names)
    texts = {name: datasets.Value("string") for name in columns if name != "label"}
    return datasets.Dataset.from_dict(columns, features=datasets.Features({**texts, "label": label}))


NLI = ["entailment", "neutral", "contradiction"]


@pytest.mark.parametrize(
    ("name", "split", "label_names", "labels", "asked", "expected"),
    [
        ("mnli", "train", [NLI[2], NLI[0], NLI[1]], [0, 1, 2], ("mnli", "train"), [2, 0, 1]),
        ("mnli", "validation_matched", NLI, [0, 1, 2], ("mnli", "validation_matched"), [0, 1, 2]),
        ("mnli", "test_matched", NLI, [-1, -1, -1], ("mnli", "test_matched"), None),
        ("mnli", "ax", NLI, [-1, -1, -1], ("ax", "test"), None),
        ("stsb", "train", None, [5.0, 0.5, 0.0], ("stsb", "train"), [5.0, 0.5, 0.0]),
        ("stsb", "test", None, [-1.0, -1.0, -1.0], ("stsb", "test"), None),
    ],
)
def test_the_hubs_labels_are_mapped_by_name(monkeypatch, name, split, label_names, labels, asked, expected):
    columns = get_task(name).text_columns
    rows = hub_rows({columns[0]: ["a", "b", "c"], columns[1]: ["d", "", "f"], "label": labels}, label_names)
    calls = []
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(
        "datasets.load_dataset", lambda path, config, split: calls.append((path, config, split)) or rows
    )
    found = read_split(get_task(name), split, None)
    assert calls == [("nyu-mll/glue", *asked)]
    assert (found.name, found.texts) == (split, (("a", "b", "c"), ("d", "", "f")))
    assert (None if found.labels is None else found.labels.tolist()) == expected
    if expected is not None:
        assert found.labels.dtype == (np.int32 if label_names else np.float32)


def test_the_hubs_labels_have_to_be_ours(monkeypatch):
    rows = hub_rows({"sentence": ["a"], "label": [0]}, ["bad", "good"])
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: rows)
    assert message(read_split, get_task("sst2"), "train", None) == (
        "nyu-mll/glue sst2: expected the labels ['negative', 'positive'], found ['bad', 'good']"
    )


class ConnectError(Exception):
    """Like those of the HTTP libraries, not an OSError."""


def unreachable(*_, **__):
    raise ConnectError("no route")


NO_HUB = (
    "cannot load 'rte' of nyu-mll/glue from the Hugging Face hub or its local cache (ConnectError: no route); "
    "give --data_dir FOLDER in the classic GLUE layout, or try --task demo"
)


def test_a_hub_out_of_reach_is_one_line_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("tried the hub, which retries for 24 s"))
    start = time.monotonic()
    assert message(read_split, get_task("rte"), "train", None) == NO_HUB
    assert time.monotonic() - start < 2


def test_a_hub_that_breaks_off_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", unreachable)
    assert message(read_split, get_task("rte"), "train", None) == NO_HUB


def test_a_hub_is_given_up_soon_where_it_cannot_be_reached_and_waited_for_where_it_is_slow(monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda _, name, timeout: asked.append((name, timeout)))
    monkeypatch.setattr("datasets.load_dataset", unreachable)
    message(read_split, get_task("rte"), "train", None)
    assert asked == [("nyu-mll/glue", (5.0, 60.0, 60.0, 60.0))]  # to connect, read, write, wait for a connection


def test_the_local_cache_stands_in_for_a_hub_out_of_reach(monkeypatch, tmp_path):
    import datasets
    from datasets.arrow_writer import ArrowWriter

    rows = hub_rows(
        {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0]}, list(get_task("rte").objective.labels)
    )
    folder = tmp_path / "nyu-mll___glue" / "rte" / "0.0.0" / "0123abcd"
    folder.mkdir(parents=True)
    with ArrowWriter(path=str(folder / "glue-train.arrow"), features=rows.features) as writer:
        writer.write_table(rows.data.table)
        writer.finalize()
    info = datasets.DatasetInfo(
        features=rows.features, builder_name="parquet", dataset_name="glue", config_name="rte", version="0.0.0"
    )
    info.splits = datasets.SplitDict.from_split_dict([{"name": "train", "num_examples": 2, "dataset_name": "glue"}])
    info.write_to_directory(str(folder))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    split = read_split(get_task("rte"), "train", None)
    assert (split.texts, split.labels.tolist()) == ((("a", "b"), ("c", "d")), [1, 0])
    assert message(read_split, get_task("rte"), "validation", None) == NO_HUB


# Own files.

ROWS = [('one, "two"\nthree', "10"), ("four", "9"), ("f\u00efve", "10")]


def own_file(folder: Path, kind: str, rows=ROWS) -> Path:
    import pyarrow
    import pyarrow.parquet

    path = folder / f"own{kind}"
    if kind == ".csv":
        quoted = ['"{}",{}'.format(text.replace('"', '""'), label) for text, label in rows]
        return write(path, "\r\n".join(["text,label", *quoted]))
    if kind == ".tsv":
        quoted = ['"{}"\t{}'.format(text.replace('"', '""'), label) for text, label in rows]
        return write(path, "\n".join(["text\tlabel", *quoted, ""]))
    if kind == ".parquet":
        texts, labels = zip(*rows, strict=True)
        pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": labels}), path)
        return path
    objects = [{"label": label, "more": None, "text": text} for text, label in rows]
    if kind == ".json":
        return write(path, json.dumps(objects, indent=1))
    return write(path, "".join(json.dumps(row) + "\n" for row in objects))


def read_own(
    path: Path,
    columns=("text",),
    label="label",
    objective: Objective = Classification(),  # noqa: B008
) -> tuple[Split, tuple[str, ...]]:
    """The split of an own file, and its classes."""
    split, task = read_file(path, Task(OWN_FILES, tuple(columns), objective, label_column=(label,)), "train")
    return split, task.objective.labels


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".CSV"])
def test_every_kind_of_own_file_gives_the_same_split(tmp_path, kind):
    path = own_file(tmp_path, kind.lower()).rename(tmp_path / f"renamed{kind}")
    split, labels = read_own(path)
    assert (split.name, split.texts, labels) == ("train", (tuple(text for text, _ in ROWS),), ("9", "10"))
    assert (split.labels.tolist(), split.labels.dtype) == ([1, 0, 1], np.int32)

    known, same = read_own(path, objective=Classification(("10", "9")))
    assert (known.labels.tolist(), same) == ([0, 1, 0], ("10", "9"))

    scored, none = read_own(path, objective=Regression())
    assert (scored.labels.tolist(), scored.labels.dtype, none) == ([10.0, 9.0, 10.0], np.float32, ())


def test_two_text_columns_keep_the_order_asked_for(tmp_path):
    path = write(tmp_path / "a.csv", "\ufeffb,label,a\nB,yes,A\nD,no,C\n\n")
    split, labels = read_own(path, ["a", "b"])
    assert (split.texts, labels, split.labels.tolist()) == ((("A", "C"), ("B", "D")), ("no", "yes"), [1, 0])


def test_json_and_parquet_labels_may_be_whole_numbers_or_booleans(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"t": "a", "y": 10}\n{"t": "b", "y": 9}\n')
    assert read_own(path, ["t"], "y")[1] == ("9", "10")
    path = write(tmp_path / "b.jsonl", '{"t": "a", "y": true}\n{"t": "b", "y": false}\n')
    assert read_own(path, ["t"], "y")[1] == ("false", "true")
    path = own_file(tmp_path, ".parquet", [("a", 10), ("b", 9)])
    assert read_own(path)[1] == ("9", "10")


SAME_CLASSES = {  # the classes '1' and 'true', as each format has them
    "a.csv": ("text,label\na,{}\nb,{}\n", [("1", "True"), ("1.0", "true"), ("01", "TRUE")]),
    "a.tsv": ("text\tlabel\na\t{}\nb\t{}\n", [("1", "True"), ('"1.0"', '"TRUE"')]),
    "a.jsonl": ('{{"text": "a", "label": {}}}\n{{"text": "b", "label": {}}}\n', [("1", "true"), ('"1.0"', '"True"')]),
    "a.json": ('[{{"text": "a", "label": {}}}, {{"text": "b", "label": {}}}]', [("1.0", "true"), ('"1"', '"true"')]),
}


@pytest.mark.parametrize("name", SAME_CLASSES)
def test_a_label_is_the_same_class_in_every_format(tmp_path, name):
    content, spellings = SAME_CLASSES[name]
    for cells in spellings:
        path = write(tmp_path / name, content.format(*cells))
        split, classes = read_own(path)
        assert (split.labels.tolist(), classes[1]) == ([0, 1], "true")
        for known in (("true", "1"), ("True", "1.0"), ("TRUE", "01")):
            split, classes = read_own(path, objective=Classification(known))
            assert (split.labels.tolist(), classes) == ([1, 0], known)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pandas.Series([1, 0, 1]), ("0", "1")),
        (pandas.Series([1.0, 0.0, 1.0]), ("0", "1")),
        (pandas.Series([1, 0, 1], dtype="Int64"), ("0", "1")),
        (pandas.Series([True, False, True]), ("false", "true")),
        (pandas.Series(["b", "a", "b"]), ("a", "b")),
        (pandas.Categorical(["b", "a", "b"], categories=["b", "unused", "a"]), ("a", "b")),
        (pandas.Categorical([10, 9, 10]), ("9", "10")),
        ([decimal.Decimal("2.0"), decimal.Decimal("1"), decimal.Decimal("2")], ("1", "2")),
    ],
)
def test_labels_of_a_parquet_file_of_pandas(tmp_path, labels, classes):
    pandas.DataFrame({"text": ["a", "b", "c"], "label": labels}).to_parquet(tmp_path / "a.parquet")
    split, found = read_own(tmp_path / "a.parquet")
    assert (split.labels.tolist(), found) == ([1, 0, 1], classes)


def test_decimals_are_scores(tmp_path):
    path = own_file(tmp_path, ".parquet", [("a", decimal.Decimal("1.5")), ("b", decimal.Decimal("2"))])
    assert read_own(path, objective=Regression())[0].labels.tolist() == [1.5, 2.0]
    assert message(read_own, path) == f"{path}: row 1: label '1.5' {NO_CLASS}"


def class_label_file(path: Path, labels: list, names: list[str]) -> Path:
    import datasets

    rows = hub_rows({"text": [f"text {number}" for number in range(len(labels))], "label": labels}, names)
    datasets.disable_progress_bars()
    rows.to_parquet(path)
    return path


def test_the_names_of_a_parquet_files_classes_are_read(tmp_path):
    train = class_label_file(tmp_path / "train.parquet", [0, 1, 0], ["pos", "neg", "rare"])
    other = class_label_file(tmp_path / "other.parquet", [0, 1, 1], ["neg", "pos"])
    split, classes = read_own(train)
    assert (split.labels.tolist(), classes) == ([0, 1, 0], ("pos", "neg", "rare"))  # in the file's order
    assert read_own(other, objective=Classification(classes))[0].labels.tolist() == [1, 0, 0]
    assert read_own(train, objective=Classification(("neg", "pos")))[0].labels.tolist() == [1, 0, 1]
    named = write(tmp_path / "a.csv", "text,label\na,neg\nb,pos\n")
    assert read_own(named, objective=Classification(classes))[0].labels.tolist() == [1, 0]
    assert message(read_own, train, ["text"], "label", Classification(("0", "1"))) == (
        f"{train}: row 1: label 'pos' is not one of 0, 1"
    )


def test_class_ids_that_a_parquet_file_does_not_name(tmp_path):
    path = class_label_file(tmp_path / "a.parquet", [0, -1, 1], ["pos", "neg"])
    assert message(read_own, path) == f"{path}: row 2: {NO_LABEL}{SKIP}"
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    labels = pyarrow.array([0, 2, 1], pyarrow.int64())
    pyarrow.parquet.write_table(
        table.set_column(1, "label", labels).replace_schema_metadata(table.schema.metadata), path
    )
    assert message(read_own, path) == f"{path}: row 2: class id 2: expected 0 to 1, the ids that the file names"
    for metadata in ({"huggingface": "["}, {"huggingface": "[]"}, {"huggingface": '{"info": {"features": null}}'}):
        pyarrow.parquet.write_table(table.set_column(1, "label", labels).replace_schema_metadata(metadata), path)
        assert read_own(path)[1] == ("0", "1", "2")


BAD_ROWS = {  # three rows of two classes, with bad ones between
    ".csv": "text,label\na,1\n ,0\nb\nc,0\nd,\nd,1,2\ne,NaN\nf,1\ng,0\nh,0\n",
    ".tsv": "text\tlabel\na\t1\n \t0\nb\nc\t0\nd\t\nd\t1\t2\ne\tNaN\nf\t1\ng\t0\nh\t0\n",
    ".jsonl": '{"text":"a","label":1}\n{"text":" ","label":0}\n{"text":\n{"text":"c","label":0}\n{"text":"d"}\n[]\n'
    '{"text":"e","label":NaN}\n{"text":"f","label":1}\n{"text":"g","label":0}\n{"text":"h","label":0}\n',
    ".json": '[{"text":"a","label":1},{"text":" ","label":0},{"text":"c","label":0},{"text":"d"},7,{"label":1},'
    '{"text":"e","label":null},{"text":"f","label":1},{"text":"g","label":0},{"text":"h","label":0}]',
}


def read_leaving_out(path: Path, objective: Objective = Classification()) -> Split:  # noqa: B008
    return read_file(path, Task(OWN_FILES, ("text",), objective), "train", "skip")[0]


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_are_left_out_and_counted(tmp_path, kind):
    path = write(tmp_path / f"a{kind}", BAD_ROWS[kind])
    split = read_leaving_out(path)
    assert (split.texts, split.labels.tolist(), split.skipped) == ((tuple("acfgh"),), [1, 0, 1, 0, 0], 5)
    first = "item 2" if kind == ".json" else "line 2" if kind == ".jsonl" else "line 3"
    assert split.first_skipped == f"{first}: the text in column 'text' is empty"
    assert message(read_own, path).endswith(SKIP)


def test_no_half_of_a_bad_row_is_kept(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,label\nA,,1\nB,C,\nD,E,0\nF,G,1\n")
    split, _ = read_file(path, Task(OWN_FILES, ("a", "b"), Classification()), "train", "skip")
    assert (split.texts, split.labels.tolist(), split.skipped) == ((("D", "F"), ("E", "G")), [0, 1], 2)


def test_a_file_of_more_bad_rows_than_good_ones_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,1\nb,0\nc,\nd,\n")
    assert read_leaving_out(path).skipped == 2
    assert message(read_leaving_out, write(path, "text,label\na,1\nb,0\nc,\nd,\ne,\n")) == (
        f"{path}: 3 of 5 rows cannot be used, more than the rest; "
        "the first at line 4: expected a label (text or a whole number), found none"
    )
    assert message(read_leaving_out, write(path, "text,label\na,\n")) == (
        f"{path}: none of its 1 rows can be used; "
        "the first at line 2: expected a label (text or a whole number), found none"
    )
    assert message(read_leaving_out, write(path, "text,label\n")) == f"{path}{NO_EXAMPLE}"


@pytest.mark.parametrize(
    ("content", "objective", "expected"),
    [
        ("a,1\nb,2\nc,3\n", Classification(("1", "2")), ":4: label '3' is not one of 1, 2"),
        ("a,1\nb,2\nc,0.5\n", Classification(), f":4: label '0.5' {NO_CLASS}"),
        ("a,1\nb,2\nc,high\n", Regression(), ":4: expected a finite number as label, found 'high'"),
        ('a,1\nb,2\n"c,1\n', Classification(), f":4: broken CSV (unexpected end of data); {CSV}"),
    ],
)
def test_what_is_an_error_even_where_bad_rows_are_left_out(tmp_path, content, objective, expected):
    path = write(tmp_path / "a.csv", f"text,label\n{content}")
    assert message(read_leaving_out, path, objective) == f"{path}{expected}"


def test_missing_scores_are_left_out(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,1.5\nb,NA\nc,\nd,2\n")
    split = read_leaving_out(path, Regression())
    assert (split.labels.tolist(), split.skipped) == ([1.5, 2.0], 2)


def test_a_class_that_is_called_like_a_missing_value(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,None\nb,Some\n")
    split, classes = read_own(path, objective=Classification(("Some", "None")))
    assert (split.labels.tolist(), classes) == ([1, 0], ("Some", "None"))


def test_a_long_document_fits_in_a_csv_field(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n" + "a" * 200_000 + ",1\nb,0\n")
    assert len(read_own(path)[0].texts[0][0]) == 200_000


@pytest.mark.parametrize(("name", "content", "expected"), WRONG_OWN, ids=range(len(WRONG_OWN)))
def test_an_own_training_file_that_is_wrong(tmp_path, name, content, expected):
    path = write(tmp_path / name, content)
    assert message(read_own, path) == f"{path}{expected}"


@pytest.mark.parametrize("label", ["high", "nan", "inf", "1e39", "-inf"])
def test_an_own_score_that_is_no_finite_number(tmp_path, label):
    path = write(tmp_path / "a.csv", f"text,label\na,1.5\nb,{label}\n")
    assert message(read_own, path, ["text"], "label", Regression()) == (
        f"{path}:3: expected a finite number as label, found '{label}'{SKIP if label == 'nan' else ''}"
    )


def test_json_nested_without_end(tmp_path):
    path = write(tmp_path / "a.jsonl", "[" * 100_000)
    assert message(read_own, path).startswith(f"{path}: item 1: broken JSON (")
    assert message(read_own, write(path, '{"text":' * 100_000)).startswith(f"{path}:1: broken JSON (")


def test_a_validation_label_has_to_be_known(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,yes\nb,yess\n")
    assert message(read_own, path, ["text"], "label", Classification(("no", "yes"))) == (
        f"{path}:3: label 'yess' is not one of no, yes"
    )
    split, _ = read_own(write(path, "text,label\na,yes\n"), objective=Classification(("no", "yes")))
    assert split.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a", "x"), ("b", None)], f": row 2: {NO_LABEL}{SKIP}"),
        ([("a", "x"), (" ", "y")], f": row 2: the text in column 'text' {EMPTY}{SKIP}"),
        ([("a", 0.5)], f": row 1: label '0.5' {NO_CLASS}"),
        ([(7, "x")], f": row 1: {NO_TEXT} int 7{SKIP}"),
    ],
)
def test_a_parquet_file_that_is_wrong_names_the_row(tmp_path, rows, expected):
    path = own_file(tmp_path, ".parquet", rows)
    assert message(read_own, path) == f"{path}{expected}"


def test_a_parquet_file_without_the_column_or_without_sense(tmp_path):
    path = own_file(tmp_path, ".parquet")
    assert message(read_own, path, ["txt"]) == (
        f"{path}: no column 'txt'; it has to be one of text, label; did you mean 'text'?"
    )
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-20], b"\0" * 4 + b"\xff" * 60 + whole[64:]):
        line = message(read_own, write(path, content))
        assert line.startswith(f"{path}: broken Parquet file near row 0 (")


def test_a_path_that_is_no_file(tmp_path):
    assert message(read_own, tmp_path) == (f"{tmp_path}: expected a file, found a folder; give the file itself")
    path = tmp_path / "no.csv"
    assert message(read_own, path) == (f"{path}: expected a file, found nothing there; check the path")
    assert message(read_glue_tsv, path, get_task("rte"), "test") == (
        f"{path}: expected a file, found nothing there; check the path"
    )


@pytest.mark.parametrize(
    ("text_columns", "label_column"), [(["a", "b", "c"], "y"), (["a", "a"], "y"), (["a", "y"], "y")]
)
def test_the_columns_asked_for_have_to_make_sense(tmp_path, text_columns, label_column):
    line = message(read_own, tmp_path / "a.csv", text_columns, label_column)
    assert line == (
        f"--text_columns takes one or two columns, apart from --label_column; found {[*text_columns, label_column]}"
    )


# The real data.


@needs_glue
@pytest.mark.parametrize(("name", "split", "examples", "shares"), REAL)
def test_real_glue(name, split, examples, shares):
    task = get_task(name)
    found = read_split(task, split, Path(GLUE_DIR))
    assert (found.skipped, len(found.texts)) == (0, len(task.text_columns))
    assert {len(texts) for texts in found.texts} == {examples}
    assert not any(texts[0].startswith("\ufeff") for texts in found.texts)
    if split.startswith("test"):
        assert found.labels is None
        return
    assert found.labels.shape == (examples,)
    assert found.labels.dtype == task.objective.label_dtype
    if name == "stsb":
        assert (found.labels.min(), found.labels.max()) == (0, 5)
    else:
        assert np.bincount(found.labels, minlength=len(shares)) / examples * 100 == pytest.approx(shares, abs=3)


@needs_glue
def test_real_glue_lacks_mnli_mismatched():
    assert splits_for_evaluation(get_task("mnli"), Path(GLUE_DIR)) == (
        ["validation_matched"],
        ["validation_mismatched"],
    )
