"""`from jaxfreeze import finetune, load`: as the pages show it, and done wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxfreeze
from jaxfreeze import finetune, load
from jaxfreeze.cli import main
from jaxfreeze.errors import InputError
from tests.inference.runs import write_glue
from tests.test_docs import code_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "predict_export_serve.md"


def test_what_the_pages_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Every block in turn, each going on from what was shown before it; GLUE is two dozen rows here."""
    for task in ("rte", "mrpc"):
        write_glue(tmp_path / "glue", task)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    ours, theirs = code_of(PAGE, "python")
    exec(compile(ours, PAGE.name, "exec"), names)
    assert main(["export", "--run", "runs/rte-demo-k3-seed42", "--output", "exported"]) == 0  # the line above it
    exec(compile(theirs, PAGE.name, "exec"), names)
    out = capsys.readouterr().out
    assert re.search(r"^\{'label': '(not_)?entailment', 'score': 0\.\d+\}$", out, re.MULTILINE)
    assert re.search(r"^(not_)?entailment \{'entailment': 0\.\d+, 'not_entailment': 0\.\d+\}$", out, re.MULTILINE)
    assert set(names["answers"]) == {"rte", "mrpc"}


def test_a_finished_run_is_returned_as_it_is(tiny_runs: Path) -> None:
    settings = {"data_dir": tiny_runs / "glue", "model": tiny_runs / "model", "trainable_layers": 1, "max_steps": 4}
    settings |= {"batch_size": 8, "max_length": 32, "learning_rate": 1e-3, "output_dir": tiny_runs / "rte"}
    again = finetune(task="rte", **settings)
    assert again.path == tiny_runs / "rte"
    assert again.metrics == again.record["metrics"]
    assert set(again.metrics) == {"accuracy"}
    assert load(again).task.name == "rte"
    with pytest.raises(InputError, match="--seed was 42, is 7"):
        finetune(task="rte", seed=7, **settings)


def test_one_run(tiny_runs: Path) -> None:
    classifier = load(tiny_runs / "cola")
    texts = ["tools made", "money from the town", "the"]
    answers = classifier(texts)
    logits = classifier.logits(texts)
    assert logits.shape == (3, 2)
    assert logits.dtype == np.float32
    for answer, row in zip(answers, logits, strict=True):
        assert answer.prediction == classifier.task.objective.labels[int(row.argmax())]
        assert list(answer.probabilities) == ["unacceptable", "acceptable"]
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert (answer.logits == row).all()
    assert classifier([]) == []
    assert classifier.logits([]).shape == (0, 2)
    many = classifier.logits(texts * 700)  # more than one chunk
    np.testing.assert_allclose(many, np.tile(logits, (700, 1)), atol=1e-5)


def test_several_runs(tiny_runs: Path) -> None:
    shared = load([tiny_runs / "rte", tiny_runs / "stsb"])
    pairs = [("tools made", "the bowl"), ("money", "from town")]
    answers = shared(pairs)
    assert list(answers) == ["rte", "stsb"]
    for name, one in answers.items():
        for mine, alone in zip(one, load(tiny_runs / name)(pairs), strict=True):
            np.testing.assert_allclose(mine.logits, alone.logits, atol=1e-5)
    assert isinstance(answers["stsb"][0].prediction, float)
    assert answers["stsb"][0].probabilities == {}
    assert shared([]) == {"rte": [], "stsb": []}


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ("a text", "expected a list of texts or of pairs of texts, found a str"),
        (7, "found a int"),
        ([("a", "b")], "the run was trained on sentence: expected a list of texts"),
        (["a", 3], "example 1: expected a text or a pair of texts, found a int"),
        ([("a", "b", "c")], "example 0: expected a text or a pair of texts, found 3 texts"),
        (["a", ("b", "c")], "example 1: expected 1 texts as in the first one, found 2"),
        (["a", ""], "example 1: the text in column '1' is empty"),
        (["a", "\ud800"], "half a surrogate pair"),
    ],
)
def test_wrong_texts(texts: object, line: str, tiny_runs: Path) -> None:
    with pytest.raises(InputError, match=re.escape(line)):
        load(tiny_runs / "cola")(texts)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"task": "rtee"}, "--task: 'rtee' is not a task"),
        ({"task": "rte", "layers": 3}, "finetune: no setting 'layers'"),
        ({"task": "rte", "epochs": "many"}, "finetune: epochs is 'many'; expected a whole number"),
        ({"task": "rte", "epochs": 0}, "--epochs 0: expected at least 1"),
    ],
)
def test_wrong_settings(settings: dict, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(line)):
        finetune(**settings, model="demo")
    assert not list(tmp_path.iterdir())


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        load(tmp_path / "none")
    with pytest.raises(AttributeError, match="module 'jaxfreeze' has no attribute 'lode'"):
        _ = jaxfreeze.lode


def test_importing_it_starts_nothing() -> None:
    """XLA's settings have to come before the first array, and `--help` should not wait."""
    code = "import sys, jaxfreeze; print({'jax', 'transformers', 'flax'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
