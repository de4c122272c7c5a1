"""Finished runs on labels of words: a class for every word of any input, and its entities, as transformers has them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from jax import export as jax_export

from jaxfreeze import load
from jaxfreeze.cli import main
from jaxfreeze.data.split import Split
from jaxfreeze.errors import InputError
from jaxfreeze.inference import export
from jaxfreeze.inference.batcher import Batcher
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.outputs import Outputs, joined
from jaxfreeze.inference.request import read_request
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.objectives import Tokens
from jaxfreeze.objectives.entities import entities_of
from tests import tagged
from tests.folders import make_folder
from tests.inference.exported import files, raw
from tests.inference.runs import train as train_glue
from tests.reference import pytorch

SENTENCES = [("the", "crates", "holds", "a", "town", "owner"), ("crate",), ("crates", "bowls", "town", "owner")]
CONTROL = "\x01"  # of which BERT's normalizer makes nothing


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a run on labels of words that learned something, and two of texts."""
    folder = tmp_path_factory.mktemp("runs")
    model = make_folder(folder / "model", "bert")
    tagged.train(
        model, tagged.write_rows(folder), folder / "tags", trainable_layers=1, max_steps=40, learning_rate=5e-3
    )
    for task in ("cola", "rte"):
        train_glue(folder, model, task, max_length=tagged.MAX_LENGTH)
    return folder


@pytest.fixture(scope="module")
def run(top: Path) -> FinishedRun:
    return FinishedRun(top / "tags")


def logits_of(run: FinishedRun, sentence: tuple[str, ...]) -> np.ndarray:
    """Of a sentence by itself, by way of the evaluation."""
    return run.logits(Split("test", ((sentence,),), None))[1]


def predict(top: Path, file: Path, out: Path, *flags: str, runs: tuple[str, ...] = ("tags",)) -> list[dict[str, Any]]:
    words = [word for name in runs for word in ("--run", str(top / name))]
    assert main(["predict", *words, "--input", str(file), "--output", str(out), *flags]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def check(run: FinishedRun, lines: list[dict[str, Any]], sentences: list[tuple[str, ...]] = SENTENCES) -> None:
    assert len(lines) == len(sentences)
    for number, (line, sentence) in enumerate(zip(lines, sentences, strict=True)):
        assert list(line) == ["index", "words", "prediction", "probabilities", "entities"]
        assert line["index"] == number
        assert line["words"] == list(sentence)
        logits = logits_of(run, sentence)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert line["prediction"] == [tagged.TAGS[best] for best in logits.argmax(axis=1)]
        np.testing.assert_allclose(line["probabilities"], shares.max(axis=1), atol=1e-5)
        assert [(one["type"], one["start"], one["end"]) for one in line["entities"]] == entities_of(line["prediction"])
        for one in line["entities"]:
            assert list(one) == ["type", "start", "end", "text"]
            assert one["text"] == " ".join(sentence[one["start"] : one["end"]])


def test_every_form_of_input_has_the_same_predictions(top: Path, run: FinishedRun, tmp_path: Path) -> None:
    texts = [" ".join(sentence) for sentence in SENTENCES]
    inputs = {
        "tags.conll": "\n".join("".join(f"{word} X B-PER\n" for word in sentence) for sentence in SENTENCES),
        "words.conll": "\n".join("".join(f"{word}\n" for word in sentence) for sentence in SENTENCES),
        "lists.jsonl": "".join(json.dumps({"words": sentence, "other": 1}) + "\n" for sentence in SENTENCES),
        "texts.jsonl": "".join(json.dumps({"words": text}) + "\n" for text in texts),
        "mixed.jsonl": "".join(
            json.dumps({"words": text if number == 1 else SENTENCES[number]}) + "\n"
            for number, text in enumerate(texts)
        ),
        "lines.txt": "".join(f"{text.replace(' ', '  ')} \n" for text in texts),
        "table.csv": "".join(f"{text}\n" for text in ("words", *texts)),
    }
    for name, content in inputs.items():
        (tmp_path / name).write_text(content)
        lines = predict(top, tmp_path / name, tmp_path / "out.jsonl")  # over the predictions of the one before
        check(run, lines)
    assert any(line["entities"] for line in lines)


def test_words_that_were_not_read_have_no_class(top: Path, run: FinishedRun, tmp_path: Path) -> None:
    long = ("town", CONTROL, "owner", *["the"] * 40)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"words": words}) + "\n" for words in (long, (CONTROL,), ("the",))))
    first, second, third = predict(top, file, tmp_path / "out.jsonl")
    pieces = len(run.encoder.tokenizer.tokenize("town owner"))
    room = tagged.MAX_LENGTH - 2 - pieces  # two tokens are special
    read = [0, *range(2, 3 + room)]
    assert [number for number, tag in enumerate(first["prediction"]) if tag is not None] == read
    assert [number for number, share in enumerate(first["probabilities"]) if share is not None] == read
    logits = logits_of(run, ("town", "owner", *["the"] * room))
    assert [first["prediction"][number] for number in read] == [tagged.TAGS[best] for best in logits.argmax(axis=1)]
    assert second == {"index": 1, "words": [CONTROL], "prediction": [None], "probabilities": [None], "entities": []}
    assert third["prediction"] == ["O"]


def test_an_entity_goes_on_past_a_word_that_was_not_read() -> None:
    objective = Tokens(tagged.TAGS)
    logits = 9 * np.eye(4, dtype=np.float32)[[0, 2, 3, 1]]
    words = (("town", "?", "owner", "?", "?"), ("?",), ("the", "crates", "?"))
    outputs = Outputs(logits, np.array([2, 0, 2]), words, np.array([0, 2, 0, 1], np.int32))
    first, second, third = outputs.predictions(objective)
    assert first.prediction == ["B-LOC", None, "I-LOC", None, None]
    assert first.entities == [("LOC", 0, 3)]
    assert first.as_json()["entities"] == [{"type": "LOC", "start": 0, "end": 3, "text": "town ? owner"}]
    assert (second.prediction, second.probabilities, second.entities) == ([None], [None], [])
    assert (third.prediction, third.entities) == (["O", "B-PER", None], [("PER", 1, 2)])
    parts = [outputs.part(begin, begin + 1) for begin in range(3)]
    assert [part.predictions(objective)[0].as_json() for part in parts] == [
        one.as_json() for one in (first, second, third)
    ]
    again = joined([outputs.part(0, 2), outputs.part(2, 3)]).predictions(objective)
    assert [one.as_json() for one in again] == [one.as_json() for one in (first, second, third)]


def test_many_rows_in_order(top: Path, run: FinishedRun, tmp_path: Path) -> None:
    some = [words for words, _ in tagged.sentences(1500, seed=5)]
    file = tagged.write_jsonl(tmp_path / "rows.jsonl", [(words, words) for words in some])
    lines = predict(top, file, tmp_path / "out.jsonl")
    assert [line["words"] for line in lines] == [list(words) for words in some]
    _, logits = run.logits(Split("test", (tuple(some),), None))
    expected = [tagged.TAGS[best] for best in logits.argmax(axis=1)]
    assert [tag for line in lines for tag in line["prediction"]] == expected


def test_in_python(top: Path, run: FinishedRun) -> None:
    model = load(top / "tags")
    found = model(list(map(list, SENTENCES)))
    check(run, [{"index": number, **one.as_json()} for number, one in enumerate(found)])
    for texts in ([" ".join(words) for words in SENTENCES], SENTENCES, [SENTENCES[0], "crate", SENTENCES[2]]):
        again = model(texts)
        assert [one.prediction for one in again] == [one.prediction for one in found]
    np.testing.assert_allclose(model.logits(SENTENCES), np.concatenate([one.logits for one in found]), atol=1e-6)
    assert model([]) == []
    for wrong, line in (
        ("the crates", "expected a list of texts or of lists of words, found a str"),
        ([["the"], []], "example 1: the list of words"),
        ([["the", ""]], "example 0: word 2"),
        ([3], "example 0: expected a list of words or a text"),
        ([" "], "example 0: the text in column"),
        ([[["the"]]], "example 0: expected words"),
    ):
        with pytest.raises(InputError, match=line):
            model(wrong)


def test_runs_on_words_and_on_texts_share_a_trunk(top: Path, run: FinishedRun, tmp_path: Path) -> None:
    """Each has the answers that it has alone, whatever its labels belong to."""
    file = tmp_path / "rows.txt"
    file.write_text("".join(" ".join(words) + "\n" for words in SENTENCES))
    together = predict(top, file, tmp_path / "out.jsonl", runs=("cola", "tags"))
    assert list(together[0]) == ["index", "cola", "files"]
    check(run, [{"index": line["index"], **line["files"]} for line in together])
    alone = predict(top, file, tmp_path / "alone.jsonl", runs=("cola",))
    for line, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(line["cola"]["logits"], other["logits"], atol=1e-5)
    both = SharedTrunk([top / "cola", top / "tags"])
    assert not both.reads_words
    path = "embeddings.word.embedding"
    assert both.groups[0].params[0][path] is both.groups[1].params[0][path]
    pairs = load([top / "rte", top / "tags"])([("the crates", "town owner")])
    assert pairs["files"][0].words == ("the", "crates", "town", "owner")
    assert pairs["rte"][0].prediction in ("entailment", "not_entailment")


def test_words_for_a_run_on_texts_are_their_text(top: Path, tmp_path: Path) -> None:
    conll = tagged.write_conll(tmp_path / "rows.conll", [(words, words) for words in SENTENCES])
    (tmp_path / "rows.txt").write_text("".join(" ".join(words) + "\n" for words in SENTENCES))
    found = [
        [line["logits"] for line in predict(top, file, tmp_path / "out.jsonl", runs=("cola",))]
        for file in (conll, tmp_path / "rows.txt")
    ]
    assert found[0] == found[1]


def test_the_server_answers_requests_joined_in_one_pass(top: Path, run: FinishedRun) -> None:
    trunk = SharedTrunk([top / "tags"])
    trunk.compile()
    batcher = Batcher(trunk)
    bodies = [{"texts": " ".join(SENTENCES[0])}, {"texts": list(SENTENCES)}, {"texts": ["crate", list(SENTENCES[2])]}]
    asked = [read_request(json.dumps(body).encode(), trunk.tasks, trunk.reads_words) for body in bodies]
    waiting = [batcher.submit(request.rows) for request in asked]
    answers = [future.result(60)["files"].predictions(run.task.objective) for future in waiting]
    batcher.close()
    for found, sentences in zip(answers, (SENTENCES[:1], SENTENCES, SENTENCES[1:]), strict=True):
        check(run, [{"index": number, **one.as_json()} for number, one in enumerate(found)], sentences)


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ([["EU"], 3], "example 1: expected a list of words or a text"),
        ([[]], "example 0: the list of words in column '1' is empty"),
        ([["EU", None]], "example 0: expected words in column '1', found None as word 2"),
        ({"a": 1}, "texts: expected a text, or a list of texts or of lists of words, found an object"),
        ([["x" * 60_000, "x" * 60_000]], "texts: expected at most 100,000 characters in a text, found 120,000"),
    ],
)
def test_wrong_requests(texts: Any, line: str) -> None:
    with pytest.raises(InputError) as caught:
        read_request(json.dumps({"texts": texts}).encode(), ["files"], True)
    assert line in str(caught.value)


def test_evaluate_has_the_score_of_the_run(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--run", str(top / "tags")]) == 0
    assert "the same score as in metrics.json" in capsys.readouterr().out


def exported(run: Path, out: Path, *flags: str) -> Path:
    assert main(["export", "--run", str(run), "--output", str(out), *flags]) == 0
    return out


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_transformers_has_the_logits_of_the_export(family: str, top: Path, tmp_path: Path) -> None:
    run = top / "tags"
    if family != "bert":
        run = tagged.train(make_folder(tmp_path / "model", family), top, tmp_path / "run")
    whole = exported(run, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    assert config["architectures"][0].endswith("ForTokenClassification")
    assert config["id2label"] == {str(number): tag for number, tag in enumerate(tagged.TAGS)}
    assert "problem_type" not in config
    torch = pytorch()
    model = transformers.AutoModelForTokenClassification.from_pretrained(whole).eval()
    assert set(model.state_dict()) == set(raw(whole))
    tokenizer = transformers.AutoTokenizer.from_pretrained(whole)
    batch = tokenizer(list(map(list, SENTENCES)), is_split_into_words=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**batch).logits.numpy()
    _, ours = FinishedRun(run).logits(Split("test", (tuple(SENTENCES),), None))
    firsts = []
    for row in range(len(SENTENCES)):
        numbers = batch.word_ids(row)
        firsts += [theirs[row, n] for n, word in enumerate(numbers) if word is not None and word != numbers[n - 1]]
    np.testing.assert_allclose(ours, firsts, atol=1e-5, rtol=0)
    texts = tokenizer([" ".join(words) for words in SENTENCES], padding=True, return_tensors="pt")
    assert torch.equal(texts["input_ids"], batch["input_ids"])  # a text has the tokens of its words


def test_the_pipeline_of_transformers_has_its_entities(top: Path, run: FinishedRun, tmp_path: Path) -> None:
    whole = exported(top / "tags", tmp_path / "whole")
    find = transformers.pipeline("token-classification", str(whole), aggregation_strategy="first")
    tag = transformers.pipeline("token-classification", str(whole), ignore_labels=[])
    model = load(top / "tags")
    total = 0
    for words, _ in tagged.sentences(20, seed=3):
        (ours,) = model([words])
        text = " ".join(words)
        theirs = [(entity["entity_group"], text[entity["start"] : entity["end"]]) for entity in find(text)]
        assert [(one["type"], one["text"]) for one in ours.as_json()["entities"]] == theirs
        (pieces,) = tag([list(words)], is_split_into_words=True)
        at = {entity["start"]: entity["entity"] for entity in reversed(pieces)}
        begins = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
        assert [at[begin] for begin in begins.tolist()] == ours.prediction
        total += len(theirs)
    assert total > 10


def test_a_top_on_its_base_is_the_whole_folder(top: Path, tmp_path: Path) -> None:
    whole, part = exported(top / "tags", tmp_path / "whole"), exported(top / "tags", tmp_path / "top", "--top_only")
    assert files(export.apply_top(part, top / "model", tmp_path / "again")) == files(whole)


def test_an_export_is_the_start_of_another_run(top: Path, tmp_path: Path) -> None:
    whole = exported(top / "tags", tmp_path / "whole")
    again = tagged.train(whole, top, tmp_path / "again", trainable_layers=0, max_steps=1, learning_rate=1e-12)
    before, after = (json.loads((run / "metrics.json").read_text())["metrics"] for run in (top / "tags", again))
    assert after == before


def test_stablehlo_is_the_run(top: Path, run: FinishedRun, tmp_path: Path) -> None:
    folder = exported(top / "tags", tmp_path / "whole", "--format", "stablehlo")
    model = jax_export.deserialize((folder / "model.stablehlo").read_bytes())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for some in (SENTENCES, SENTENCES[:2]):
        batch = tokenizer(
            list(map(list, some)),
            is_split_into_words=True,
            padding=True,
            return_token_type_ids=True,
            return_tensors="np",
        )
        inputs = [batch[name].astype(np.int32) for name in ("input_ids", "token_type_ids", "attention_mask")]
        logits = np.asarray(model.call(*inputs))
        assert logits.shape == (*inputs[0].shape, len(tagged.TAGS))
        for row, words in enumerate(some):
            numbers = batch.word_ids(row)
            firsts = [n for n, word in enumerate(numbers) if word is not None and word != numbers[n - 1]]
            np.testing.assert_allclose(logits[row, firsts], logits_of(run, words), atol=1e-5, rtol=0)
