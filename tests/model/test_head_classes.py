"""A checkpoint's head and a task's classes: matched by name, or the line that says why not."""

import pytest

from jaxfreeze.model.head_classes import Match, match


def labels(*names: object) -> dict[str, object]:
    """config.json of a classifier."""
    return {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(row): name for row, name in enumerate(names)},
    }


@pytest.mark.parametrize(
    "theirs, ours, rows",
    [
        (["negative", "positive"], ["negative", "positive"], [0, 1]),
        (["POSITIVE", "NEGATIVE"], ["negative", "positive"], [1, 0]),
        (["Not Entailment", "Entailment"], ["entailment", "not_entailment"], [1, 0]),
        (["not-duplicate", "duplicate"], ["not_duplicate", "duplicate"], [0, 1]),
        (["NotEquivalent", "Equivalent"], ["not_equivalent", "equivalent"], [0, 1]),
        (["b", "c", "a"], ["a", "b", "c"], [2, 0, 1]),
        (["1", "0"], ["0", "1"], [1, 0]),
        ([1, 0], ["0", "1"], [1, 0]),
        ([False, True], ["true", "false"], [1, 0]),
        (["1", "0", "-1"], ["-1", "0", "1"], [2, 1, 0]),
        (["A", "a"], ["a", "A"], [1, 0]),  # the same word twice: as it is spelled
        (["STRASSE", "weg"], ["weg", "Straße"], [1, 0]),
        (["covid 19", "none"], ["none", "COVID-19"], [1, 0]),
        (["LABEL_1", "LABEL_0"], ["LABEL_0", "LABEL_1"], [1, 0]),
    ],
)
def test_the_same_names(theirs, ours, rows):
    found, line = match(labels(*theirs), ours, len(theirs))
    assert found == rows
    assert bool(line) == (rows != sorted(rows))


@pytest.mark.parametrize(
    "theirs, ours",
    [
        (["LABEL_0", "LABEL_1"], ["negative", "positive"]),
        (["LABEL_0", "LABEL_1"], ["0", "1"]),
        (["negative", "neutral", "positive"], ["negative", "positive"]),
        (["negative", "positive"], ["negative", "neutral", "positive"]),
        (["0", "1"], ["-1", "0"]),
        (["A-", "B"], ["A", "B"]),
        (["1-2 stars", "3"], ["12 stars", "3"]),
        (["1.0", "0.0"], ["1", "0"]),
        (["A", "a"], ["a", "b"]),
        (["A", "a"], ["A", "á"]),
        (["entailment", "contradiction"], ["entailment", "not_entailment"]),
        (["yes", "yes"], ["yes", "no"]),
        (["yes", "yes"], ["yes", "yes "]),
    ],
)
def test_other_names(theirs, ours):
    line = f"head drawn at random: its classes are {', '.join(theirs)}, the task's are {', '.join(ours)}"
    assert match(labels(*theirs), ours, len(theirs)) == Match([], line)


def test_a_list_of_many_names_is_cut_short():
    _, line = match(labels(*(f"intent {number}" for number in range(150))), ["a", "b"], 150)
    assert "intent 7 and 142 more, the task's are a, b" in line
    assert len(line) < 200


@pytest.mark.parametrize("id2label", [{"0": "a"}, {"0": "a", "2": "b"}, {"a": 0, "b": 1}, ["a", "b"], "a", {}, 3])
def test_id2label_that_does_not_name_the_rows(id2label):
    line = "head drawn at random: id2label in config.json does not name the 2 rows of the file's"
    assert match({"id2label": id2label}, ["a", "b"], 2) == Match([], line)


@pytest.mark.parametrize("raw", [{}, {"id2label": None}, {"label2id": {"a": 0, "b": 1}}])
def test_without_id2label_the_names_are_those_of_transformers(raw):
    assert (
        match(raw, ["a", "b"], 2).line == "head drawn at random: its classes are LABEL_0, LABEL_1, the task's are a, b"
    )
    assert match(raw, ["LABEL_0", "LABEL_1"], 2) == Match([0, 1], "")


@pytest.mark.parametrize("raw", [labels("LABEL_0"), labels("similarity"), {}])
def test_one_output_needs_no_name(raw):
    assert match(raw, ["LABEL_0"], 1) == Match([0], "")
    assert match(raw, ["LABEL_0"], 2) == Match([], "head drawn at random: the file's has 2 outputs")


@pytest.mark.parametrize(
    "name, other",
    [
        ("BertForTokenClassification", True),
        ("BertForMultipleChoice", True),
        ("RobertaForQuestionAnswering", True),
        ("BertForMaskedLM", True),
        ("BertForSequenceClassification", False),
        ("BertForMultiLabelSequenceClassification", False),
        ("BertForClassification", False),
        ("BertModel", False),
        ("SentimentNet", False),
    ],
)
def test_the_head_of_another_task_is_none_of_ours(name, other):
    raw = {"architectures": [name], "id2label": {"0": "a", "1": "b"}}
    line = f"head drawn at random: the file's is that of {name}"
    assert match(raw, ["a", "b"], 2) == (Match([], line) if other else Match([0, 1], ""))
    one = match(raw | {"id2label": {"0": "x"}}, ["LABEL_0"], 1)
    assert one == (Match([], line) if other else Match([0], ""))
