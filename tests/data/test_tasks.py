"""The task table, the names that are taken, and the task of own files."""

import pytest

from jaxfreeze.config import TrainConfig
from jaxfreeze.data.tasks import TASKS, get_task, own_task
from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Classification, Regression

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
    objective = task.objective
    assert (task.text_columns, objective.labels, objective.primary_metric) == (columns, labels, primary_metric)
    assert objective.primary_metric in objective.metrics
    assert set(objective.metrics) <= KNOWN_METRICS
    assert isinstance(objective, Classification if labels else Regression)
    assert objective.num_outputs == max(1, len(labels))


@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_tsv_layout_matches_the_task(name):
    task = get_task(name)
    assert task.hub_config == name
    assert len(task.tsv_columns) == len(task.text_columns)
    assert task.splits[0] == "train"
    if name == "stsb":
        assert task.objective == Regression(("spearman", "pearson"), bounds=(0, 5))
    else:
        assert len(task.objective.spellings) == len(task.objective.labels)


@pytest.mark.parametrize(
    ("found", "nearest"), [("snli", None), ("MNLI", "mnli"), ("STS-B", "stsb"), ("Files", "files"), ("zzzz", None)]
)
def test_an_unknown_task_lists_all_of_them_and_the_same_word(found, nearest):
    with pytest.raises(InputError) as error:
        get_task(found)
    hint = f"; did you mean '{nearest}'?" if nearest else ""
    assert str(error.value) == (
        f"--task: '{found}' is not a task; expected one of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, demo, "
        f"files, hub{hint}"
    )


@pytest.mark.parametrize(
    ("labels", "regression", "kept", "metrics", "primary_metric", "num_outputs"),
    [
        (["no", "yes"], False, ("no", "yes"), ("accuracy", "f1"), "accuracy", 2),
        (["a", "b", "c"], False, ("a", "b", "c"), ("accuracy", "macro_f1"), "accuracy", 3),
        ([], True, (), ("spearman", "pearson"), "spearman", 1),
    ],
)
def test_a_task_of_own_files(labels, regression, kept, metrics, primary_metric, num_outputs):
    config = TrainConfig(
        "files",
        train_file="a",
        validation_file="b",
        text_columns=("text",),
        label_column=("mood",),
        regression=regression,
    )
    task = own_task(config, labels, "regression" if regression else "classification")
    objective = task.objective
    assert (task.name, task.text_columns, task.label_column, objective.labels) == ("files", ("text",), ("mood",), kept)
    assert (objective.metrics, objective.primary_metric) == (metrics, primary_metric)
    assert (objective.kind, objective.num_outputs) == ("regression" if regression else "classification", num_outputs)
