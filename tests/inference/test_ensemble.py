"""Runs that answer as one: the mean of their probabilities, class by class, and the mean of their numbers."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from jaxfreeze import load
from jaxfreeze.cli import main
from jaxfreeze.errors import InputError
from jaxfreeze.inference.batcher import Batcher
from jaxfreeze.inference.ensemble import Ensemble, open_runs
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.objectives import Classification, MultiLabel, Regression
from tests import tagged
from tests.folders import make_folder
from tests.inference.runs import train

PAIRS = [("tools made", "the bowl"), ("money", "from town"), ("clothes", "made")]


@pytest.fixture(scope="module")
def seeds(tiny_runs: Path) -> list[Path]:
    """Two more runs of rte, which the head's seed and another cut tell apart, and one of stsb."""
    more = [("rte", "rte7", {"seed": 7}), ("rte", "rte8", {"seed": 8, "trainable_layers": 2})]
    made = [train(tiny_runs, tiny_runs / "model", task, name, **settings) for task, name, settings in more]
    return [tiny_runs / "rte", *made]


@pytest.fixture(scope="module")
def scores(tiny_runs: Path) -> list[Path]:
    return [tiny_runs / "stsb", train(tiny_runs, tiny_runs / "model", "stsb", "stsb7", seed=7)]


def test_by_hand(seeds: list[Path]) -> None:
    answers = load(seeds, ensemble=True)(PAIRS)
    alone = [load(path)(PAIRS) for path in seeds]
    for number, answer in enumerate(answers):
        shares = [list(run[number].probabilities.values()) for run in alone]
        mean = np.mean(shares, axis=0)
        assert np.ptp(shares, axis=0).max() > 1e-3  # they are not of one mind
        np.testing.assert_allclose(list(answer.probabilities.values()), mean, atol=1e-6)
        assert list(answer.probabilities) == ["entailment", "not_entailment"]
        assert answer.prediction == ["entailment", "not_entailment"][int(mean.argmax())]
        np.testing.assert_allclose(softmax(answer.logits), mean, atol=1e-6)
        assert answer.logits.dtype == np.float32
    assert load(seeds, ensemble=True)([]) == []


def test_a_mean_of_probabilities_is_not_one_of_logits() -> None:
    """A run that is sure counts as one, and no more; far below the smallest float as well."""
    objective = Classification(("a", "b"))
    logits = [np.array([[9, 0]], np.float32), np.array([[0, 2]], np.float32), np.array([[0, 2]], np.float32)]
    mean = np.mean([softmax(some.astype(np.float64)) for some in logits], axis=0)
    found = objective.average(logits)
    np.testing.assert_allclose(softmax(found.astype(np.float64)), mean, atol=1e-6)
    assert objective.decide(np.mean(logits, axis=0)).tolist() == [0] != objective.decide(found).tolist()
    sure = objective.average([np.array([[1000, 0]], np.float32)] * 2)
    np.testing.assert_allclose(sure, [[0, -1000]])


def test_numbers(scores: list[Path]) -> None:
    answers, alone = load(scores, ensemble=True)(PAIRS), [load(path)(PAIRS) for path in scores]
    for number, answer in enumerate(answers):
        found = [run[number].prediction for run in alone]
        assert found[0] != found[1]
        assert answer.prediction == pytest.approx(np.mean(found), abs=1e-5)
        assert answer.probabilities == {}
    three = [np.array([[value]], np.float32) for value in (1, 2, 6)]
    assert Regression().average(three).tolist() == [[3]]


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_of_one_run(task: str, tiny_runs: Path) -> None:
    one, run = load([tiny_runs / task], ensemble=True)(PAIRS), load(tiny_runs / task)(PAIRS)
    for mine, theirs in zip(one, run, strict=True):
        assert (mine.prediction, mine.probabilities) == (theirs.prediction, theirs.probabilities)
        np.testing.assert_array_equal(mine.logits, theirs.logits)


def reversed_classes(trunk: SharedTrunk, name: str) -> None:
    """Let a run have its classes in the other order."""
    run = trunk.runs[name]
    objective = run.task.objective
    assert isinstance(objective, Classification)
    other = dataclasses.replace(objective, labels=objective.labels[::-1], codes=objective.codes[::-1])
    run.task = dataclasses.replace(run.task, objective=other)


def test_classes_are_matched_by_name(seeds: list[Path]) -> None:
    """A run with the classes in another order: its first probability belongs to the ensemble's second class."""
    trunk = SharedTrunk(seeds[:2])
    reversed_classes(trunk, "rte7")
    answers = load(seeds[0])(PAIRS), load(seeds[1])(PAIRS)
    from jaxfreeze.inference.classifier import Classifier

    for found, one, other in zip(Classifier(Ensemble(trunk))(PAIRS), *answers, strict=True):
        first, second = (list(answer.probabilities.values()) for answer in (one, other))
        np.testing.assert_allclose(
            list(found.probabilities.values()), np.mean([first, second[::-1]], axis=0), atol=1e-6
        )
        assert list(found.probabilities) == ["entailment", "not_entailment"]


def test_thresholds_that_runs_chose(seeds: list[Path]) -> None:
    """Their mean, whichever run comes first."""
    for thresholds in ((0.2, 0.6), (0.6, 0.2)):
        trunk = SharedTrunk(seeds[:2])
        for run, threshold in zip(trunk.runs.values(), thresholds, strict=True):
            objective = MultiLabel(run.task.objective.labels, threshold=threshold)
            run.task = dataclasses.replace(run.task, objective=objective)
        (task,) = Ensemble(trunk).tasks.values()
        assert isinstance(task.objective, MultiLabel)
        assert task.objective.threshold == pytest.approx(0.4)


def test_labels_of_words(tmp_path: Path) -> None:
    model, data = make_folder(tmp_path / "model", "bert"), tagged.write_rows(tmp_path)
    runs = [tagged.train(model, data, tmp_path / f"seed{seed}", seed=seed) for seed in (1, 2)]
    texts = [["tools", "town", "owner"], ["crates"]]
    answers, alone = load(runs, ensemble=True)(texts), [load(run)(texts) for run in runs]
    for number, answer in enumerate(answers):
        mean = np.mean([softmax(run[number].logits, axis=-1) for run in alone], axis=0)
        np.testing.assert_allclose(softmax(answer.logits, axis=-1), mean, atol=1e-6)
        np.testing.assert_allclose(answer.probabilities, mean.max(axis=-1), atol=1e-6)
        assert answer.prediction == [tagged.TAGS[place] for place in mean.argmax(axis=-1)]
        assert answer.words == tuple(texts[number])


def words(paths: list[Path], *more: str) -> list[str]:
    return [*(word for path in paths for word in ("--run", str(path))), *more]


def test_predict(seeds: list[Path], tmp_path: Path) -> None:
    """A line is that of a single run, and may be written over as one."""
    file, out = tmp_path / "rows.tsv", tmp_path / "out.jsonl"
    file.write_text("index\tsentence1\tsentence2\n" + "".join(f"{n}\t{a}\t{b}\n" for n, (a, b) in enumerate(PAIRS)))
    for _ in range(2):
        assert main(["predict", "--ensemble", *words(seeds, "--input", str(file), "--output", str(out))]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    for number, (line, answer) in enumerate(zip(lines, load(seeds, ensemble=True)(PAIRS), strict=True)):
        assert list(line) == ["index", "prediction", "probabilities", "logits"]
        assert (line["index"], line["prediction"]) == (number, answer.prediction)
        np.testing.assert_allclose(line["logits"], answer.logits, atol=1e-5)


def test_the_server(seeds: list[Path]) -> None:
    """It has one task, and answers as the ensemble does."""
    ensemble = open_runs(seeds, ensemble=True)
    (about,) = ensemble.about()
    assert (about["name"], about["ensemble"], about["score"]) == ("rte", ["rte", "rte7", "rte8"], {})
    batcher = Batcher(ensemble)
    outputs = batcher.submit([*PAIRS]).result(60)
    batcher.close()
    np.testing.assert_allclose(outputs["rte"].logits, load(seeds, ensemble=True).logits(PAIRS), atol=1e-5)


def test_runs_that_are_no_ensemble(
    seeds: list[Path], scores: list[Path], tiny_runs: Path, tmp_path: Path, capsys
) -> None:
    rte = tiny_runs / "rte"
    output = ["--input", "x.tsv", "--output", str(tmp_path / "y")]
    lines = {
        f"--ensemble: --run {scores[0]} has the objective regression, --run {rte} classification": [rte, scores[0]],
        f"--ensemble: --run {tiny_runs / 'cola'} has the classes unacceptable, acceptable, --run {rte}": [
            rte, tiny_runs / "cola"
        ],
        "two runs are called 'rte'; give each once": [rte, rte],
        "--run: expected the folder of a finished run, found none": [],
    }  # fmt: skip
    for line, paths in lines.items():
        assert main(["predict", "--ensemble", *words(paths, *output)]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert line in error
    submission = ["--glue_submission", str(tmp_path / "z")]
    assert main(["predict", "--ensemble", *words(seeds, *submission)]) == 2
    assert "--ensemble: not with --glue_submission" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    trunk = SharedTrunk(seeds[:2])
    run = trunk.runs["rte7"]
    run.task = dataclasses.replace(run.task, text_columns=("text",))
    with pytest.raises(InputError, match=r"reads 1 text column, --run .* 2; expected as many in all runs"):
        Ensemble(trunk)
