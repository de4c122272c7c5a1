"""The scores of runs at their end, of one or of several side by side, with the logits that they rest on."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxfreeze import freezing
from jaxfreeze.objectives import answers
from jaxfreeze.training import evaluation
from jaxfreeze.training.dataset import Dataset
from jaxfreeze.training.evaluation import Predictor
from jaxfreeze.training.experiment import Experiment, settled_task


class RunScores(NamedTuple):
    """What one of several runs scores at its end."""

    metrics: dict[str, float]
    """On every validation split."""
    loss: float
    """Mean over the labels of the validation splits, without class weights and label smoothing."""
    test_metrics: dict[str, float]
    """On every test split; {} where they are left alone."""
    test_logits: dict[str, np.ndarray]
    """By test split: float32 [N, C]."""


def score_runs(experiment: Experiment, trained: freezing.Params, tests: bool) -> list[RunScores | None]:
    """Scores of all runs of an experiment, without those that fill it up; None for a run whose logits are not finite.

    tests: whether the test rows are scored too, which is to be done once.
    """
    validations, test_sets = experiment.validation_sets, experiment.test_sets if tests else ()
    answered = logits_of_runs(experiment, trained, (*validations, *test_sets))
    return [
        _scores_of(experiment, validations, test_sets, [logits[number] for logits in answered])
        for number in range(experiment.runs)
    ]


def _scores_of(
    experiment: Experiment, validations: Sequence[Dataset], test_sets: Sequence[Dataset], logits: list[np.ndarray]
) -> RunScores | None:
    if not all(np.isfinite(of).all() for of in logits):
        return None
    metrics: dict[str, float] = {}
    losses = []
    for dataset, answer in zip(validations, logits, strict=False):
        metrics |= evaluation.score(experiment.task, dataset, answer)
        losses.append(answers.losses(experiment.task.objective, answer, dataset.store.flat_label))
    test_metrics: dict[str, float] = {}
    settled = settled_task(experiment, metrics)
    of_tests = logits[len(validations) :]
    for dataset, answer in zip(test_sets, of_tests, strict=True):
        test_metrics |= evaluation.score(settled, dataset, answer)
    kept = {dataset.name: answer for dataset, answer in zip(test_sets, of_tests, strict=True)}
    return RunScores(metrics, float(np.concatenate(losses).mean()), test_metrics, kept)


def logits_of_runs(experiment: Experiment, trained: freezing.Params, sets: Sequence[Dataset]) -> list[np.ndarray]:
    """The logits of each of the S runs for each split: float32 [S, N, C], S = 1 for a single run."""
    predictors = list(_predictors(experiment, trained))
    answered = [[evaluation.predict(of, dataset, experiment.mesh) for of in predictors] for dataset in sets]
    return [np.concatenate([logits.reshape(-1, *logits.shape[-2:]) for logits in of]) for of in answered]


def compile_scoring(experiment: Experiment, trained: freezing.Params, tests: bool) -> None:
    """Compile what `score_runs`, or the evaluation of a single run, will need. tests: of the test rows too."""
    predictor = next(_predictors(experiment, trained))
    for dataset in (*experiment.validation_sets, *(experiment.test_sets if tests else ())):
        evaluation.compile_for(predictor, dataset, experiment.mesh)


def _predictors(experiment: Experiment, trained: freezing.Params) -> Iterator[Predictor]:
    """One for each run; where only heads are trained side by side, one for all."""
    model = experiment.model
    if not experiment.side_by_side:
        yield evaluation.one_run(model.column, model.params(trained))
    elif experiment.cache.first_tokens:
        yield evaluation.heads(model.column, trained, model.frozen)
    else:
        for number in range(experiment.runs):
            yield evaluation.one_run(model.column, model.params({path: leaf[number] for path, leaf in trained.items()}))
