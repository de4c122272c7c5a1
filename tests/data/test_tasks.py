"""The task table, the names that are taken, and how label cells are read."""

import pytest

from jaxfreeze.data.tasks import MAX_CLASSES, TASKS, ClassIds, get_task, own_task, read_score, read_stsb_score
from jaxfreeze.errors import InputError

NAMES = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "demo"]
KNOWN_METRICS = {"matthews_correlation", "accuracy", "f1", "pearson", "spearman"}


def test_the_table_holds_exactly_the_tasks_of_the_command_line():
    assert list(TASKS) == NAMES
    assert [task.name for task in TASKS.values()] == NAMES


@pytest.mark.parametrize(
    ("name", "columns", "labels", "primary_metric"),
    [
        ("cola", ("sentence",), ("unacceptable", "acceptable"), "matthews_correlation"),
        ("sst2", ("sentence",), ("negative", "positive"), "accuracy"),
        ("mrpc", ("sentence1", "sentence2"), ("not_equivalent", "equivalent"), "f1"),
        ("stsb", ("sentence1", "sentence2"), (), "spearman"),
        ("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), "f1"),
        ("mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), "accuracy"),
        ("qnli", ("question", "sentence"), ("entailment", "not_entailment"), "accuracy"),
        ("rte", ("sentence1", "sentence2"), ("entailment", "not_entailment"), "accuracy"),
        ("wnli", ("sentence1", "sentence2"), ("not_entailment", "entailment"), "accuracy"),
        ("demo", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), "accuracy"),
    ],
)
def test_a_task_has_the_hubs_columns_and_class_order(name, columns, labels, primary_metric):
    task = get_task(name)
    assert (task.text_columns, task.labels, task.primary_metric) == (columns, labels, primary_metric)
    assert task.primary_metric in task.metrics
    assert set(task.metrics) <= KNOWN_METRICS
    assert task.regression == (labels == ())
    assert task.num_outputs == max(1, len(labels))


@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_tsv_layout_matches_the_task(name):
    task = get_task(name)
    assert task.hub_config == name
    assert len(task.tsv_columns) == len(task.text_columns)
    assert len(task.tsv_codes) == len(task.labels)
    assert task.splits[0] == "train"


@pytest.mark.parametrize(
    ("found", "nearest"), [("mnil", "mnli"), ("MNLI", "mnli"), ("STS-B", "stsb"), ("file", "files"), ("zzzz", None)]
)
def test_an_unknown_task_lists_all_of_them_and_the_nearest(found, nearest):
    with pytest.raises(InputError) as error:
        get_task(found)
    hint = f"; did you mean '{nearest}'?" if nearest else ""
    assert str(error.value) == (
        f"--task: '{found}' is not a task; expected one of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, demo, "
        f"files{hint}"
    )


@pytest.mark.parametrize(
    ("labels", "regression", "kept", "metrics", "primary_metric", "num_outputs"),
    [
        (["no", "yes"], False, ("no", "yes"), ("accuracy", "f1"), "accuracy", 2),
        (["a", "b", "c"], False, ("a", "b", "c"), ("accuracy",), "accuracy", 3),
        ([], True, (), ("spearman", "pearson"), "spearman", 1),
    ],
)
def test_a_task_of_own_files(labels, regression, kept, metrics, primary_metric, num_outputs):
    task = own_task(["text"], labels, regression)
    assert (task.name, task.text_columns, task.labels) == ("files", ("text",), kept)
    assert (task.metrics, task.primary_metric) == (metrics, primary_metric)
    assert (task.regression, task.num_outputs) == (regression, num_outputs)


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["b", "a", "B"], ("B", "a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        ([10, 9, "9"], ("9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([True, False], ("false", "true")),
        ([" yes ", "yes", "no"], ("no", "yes")),
    ],
)
def test_new_classes_are_sorted_by_value_or_by_spelling(cells, order):
    classes = ClassIds(None)
    for cell in cells:
        classes(cell)
    assert classes.in_order() == order


def test_known_classes_keep_their_ids():
    classes = ClassIds(["yes", "no"])
    assert [classes(cell) for cell in ("no", "yes", " no")] == [1, 0, 1]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "expected a label (text or a whole number), found none; fill it in or leave the row out"),
        ("  ", "expected a label (text or a whole number), found none; fill it in or leave the row out"),
        (None, "expected a label (text or a whole number), found none; fill it in or leave the row out"),
        ([1], "expected a label (text or a whole number), found a list; fill it in or leave the row out"),
        ("0.5", "label '0.5' is neither a whole number nor a name; for scores use --regression"),
        ("-.5e3", "label '-.5e3' is neither a whole number nor a name; for scores use --regression"),
        (2.0, "label '2.0' is neither a whole number nor a name; for scores use --regression"),
        (1e20, "label '1e+20' is neither a whole number nor a name; for scores use --regression"),
        (float("nan"), "label 'nan' is neither a whole number nor a name; for scores use --regression"),
    ],
)
@pytest.mark.parametrize("known", [None, ["yes", "no"]])
def test_a_cell_that_names_no_class(known, cell, message):
    with pytest.raises(InputError) as error:
        ClassIds(known)(cell)
    assert str(error.value) == message


def test_a_label_that_is_not_known_lists_all_of_them_and_the_nearest():
    with pytest.raises(InputError) as error:
        ClassIds(["entailment", "neutral"])("entailement")
    assert str(error.value) == "label 'entailement' is not one of entailment, neutral; did you mean 'entailment'?"


def test_too_many_classes_look_like_an_id_column():
    classes = ClassIds(None)
    for label in range(MAX_CLASSES):
        classes(label)
    assert classes(0) == 0
    with pytest.raises(
        InputError, match=r"^more than 1000 different labels; is this an id column, .* --regression\)\?$"
    ):
        classes(MAX_CLASSES)


@pytest.mark.parametrize(("cell", "score"), [("3.5", 3.5), ("-1e3", -1000.0), (2, 2.0), (0.25, 0.25), ("0", 0.0)])
def test_a_score_is_a_number_or_its_spelling(cell, score):
    assert read_score(cell) == score


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("", "none"),
        (None, "none"),
        ("high", "'high'"),
        ("nan", "'nan'"),
        (float("inf"), "'inf'"),
        ("1_000", "'1_000'"),
        ("1e39", "'1e39'"),
        (10**400, "'1" + "0" * 59 + "'"),
        (True, "'True'"),
        ([1.0], "'[1.0]'"),
    ],
)
def test_a_cell_that_is_no_finite_number(cell, found):
    with pytest.raises(InputError) as error:
        read_score(cell)
    assert str(error.value) == f"expected a finite number as label, found {found}"


@pytest.mark.parametrize("cell", ["-0.1", "5.001"])
def test_sts_b_scores_run_from_0_to_5(cell):
    assert (read_stsb_score("0"), read_stsb_score("5.000")) == (0.0, 5.0)
    with pytest.raises(InputError) as error:
        read_stsb_score(cell)
    assert str(error.value) == f"expected a score from 0 to 5, found {cell}"
