"""`--find_layers`: stage after stage is made, as the schedule asks for it, until an answer can be judged."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxfreeze import console
from jaxfreeze.command_config import SearchConfig
from jaxfreeze.config import TrainConfig, command
from jaxfreeze.data.tasks import name_of
from jaxfreeze.errors import InputError
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.search import answer_file, schedule, terms
from jaxfreeze.search.answer import Answer
from jaxfreeze.search.budget import LONGER
from jaxfreeze.search.judge import About, judge
from jaxfreeze.search.laboratory import Laboratory
from jaxfreeze.search.outcomes import Outcomes, Reported, best_constant
from jaxfreeze.search.price import expected_costs, price, reference_epochs, reference_price
from jaxfreeze.search.record import final_seeds
from jaxfreeze.search.rows import in_three_sets
from jaxfreeze.search.trial import Candidate, Finding, Question, Stage, Trial, ladder
from jaxfreeze.search.wording import one_line
from jaxfreeze.sweep.workshop import Engine
from jaxfreeze.training.platform_choices import with_dtype


def find_layers(config: TrainConfig, search: SearchConfig, folder: Path, engine: Engine | None = None) -> Answer:
    """Find the smallest k, with its learning rate and epochs, that keeps a share of the best score found.

    Everything is chosen on selection rows; the reported rows are scored by final trials alone, whose answers are judged
    at the end. What is found is kept in the folder: results.jsonl, outcomes/, and answer.json, which has what is
    returned. A search that was stopped continues where it was. engine: makes the trials; None: they are made here.
    Raises InputError for settings that no run could have.
    """
    if config.max_steps is not None:
        raise InputError("--max_steps: not with --find_layers, which tries --epochs and fewer of them; give --epochs")
    config = with_dtype(config, elsewhere=engine is not None)
    laboratory = Laboratory(in_three_sets(config, search.selection_share), folder, LONGER * config.epochs, engine)
    num_layers = read_config(model_folder(config.model)).num_hidden_layers
    laboratory.open(ladder(num_layers))
    question = ask(num_layers, config.epochs, search, laboratory.selection)
    if search.budget_seconds is not None:
        full = reference_epochs(config.epochs) * laboratory.full_epoch_seconds()
        question = dataclasses.replace(question, budget=search.budget_seconds / full)
    if schedule.next_stage(question, laboratory.findings()) is not None:
        laboratory.prepare()
    while (stage := schedule.next_stage(question, findings := laboratory.findings())) is not None:
        estimate = price(stage, findings, expected_costs(question))
        console.say(_planned(stage, estimate, question, findings))
        laboratory.make(stage.trials)
        console.say(_learned(stage, laboratory, estimate if findings else None))
    answer = _answer(config, question, laboratory)
    answer_file.write(answer, folder / answer_file.NAME)
    console.say(one_line(answer))
    return answer


def ask(num_layers: int, epochs: int, search: SearchConfig, selection: Reported) -> Question:
    """The question of these settings, on these selection rows; a budget in seconds is left open."""
    assert search.find_layers is not None  # who asks gives the share
    return Question(
        num_layers=num_layers,
        epochs=epochs,
        constant=best_constant(selection).score,
        rows=len(selection.counts),
        scale=scale_of(selection),
        share=search.find_layers,
        within=search.within / 100,
        confidence=search.confidence,
        seeds=search.seeds,
        budget=float(search.budget) if search.budget_seconds is None else math.inf,
    )


def scale_of(selection: Reported) -> float:
    """How far the primary metric moves with one row, as `Question.scale` has it.

    1 for a share of right answers; 2 for a correlation, which goes from -1 to 1; for an error the labels' own scale, or
    1 if they are all the same.
    """
    metric = selection.metric
    if metric in ("mae", "rmse"):
        return 2 * float(np.std(selection.label)) or 1.0
    if metric == "mse":
        return 2 * float(np.var(selection.label)) or 1.0
    return 2.0 if metric in ("matthews_correlation", "spearman", "pearson", "kendall", "cohen_kappa", "r2") else 1.0


def _planned(stage: Stage, estimate: float, question: Question, findings: Sequence[Finding]) -> str:
    """What is to be done, and what it will take."""
    runs = f"{stage.name}: {len(stage.trials)} run{'s' if len(stage.trials) > 1 else ''}"
    share = estimate / (question.budget * reference_price(question, findings, expected_costs(question)))
    seconds = f"about {terms.duration(estimate)}, " if findings else ""
    return f"{runs}, {seconds}{share:.1%} of the budget"


def _learned(stage: Stage, laboratory: Laboratory, estimate: float | None) -> str:
    """What a stage has shown, and what it took."""
    found = {finding.trial: finding for finding in laboratory.findings()}
    made = [found[trial] for trial in stage.trials]
    metric = laboratory.selection.metric
    scores: dict[Candidate, list[float]] = {}
    for finding in made:
        scores.setdefault(finding.trial.candidate, []).append(finding.score)
    means = {candidate: float(np.mean(values)) for candidate, values in scores.items()}
    best = max(means, key=means.__getitem__)
    took = terms.duration(sum(finding.seconds for finding in made))
    estimated = f" (estimated {terms.duration(estimate)})" if estimate is not None else ""
    if not math.isfinite(means[best]):
        return f"{stage.name}: every learning rate diverged; {took}{estimated}"
    score = terms.score(abs(means[best]), metric) if terms.lower_is_better(metric) else terms.score(means[best], metric)
    return (
        f"{stage.name}: best {terms.rate(best.learning_rate)}, {terms.metric(metric)} {score} on the selection rows; "
        f"{took}{estimated}"
    )


def _answer(config: TrainConfig, question: Question, laboratory: Laboratory) -> Answer:
    findings = laboratory.findings()
    made = {finding.trial for finding in findings}

    def outcomes(candidates: Sequence[Candidate]) -> list[Outcomes]:
        finals = (
            (one, [seed for seed in final_seeds(question, one.layers) if Trial(one, seed, True) in made])
            for one in candidates
        )
        return [laboratory.outcomes(candidate, seeds) for candidate, seeds in finals]

    about = About(
        task=name_of(config.task, vars(config)),
        model=config.model,
        selection_rows=question.rows,
        rates=schedule.rates(question, findings),
        dropped=schedule.dropped(question, findings),
        not_tried=schedule.not_tried(question),
        runs=len(findings),
        seconds=laboratory.seconds,
        command=lambda candidate: command(
            dataclasses.replace(
                config,
                trainable_layers=candidate.layers,
                learning_rate=candidate.learning_rate,
                epochs=candidate.epochs,
            )
        ),
    )
    final = outcomes(schedule.candidates(question, findings))
    paper = outcomes(schedule.paper_candidates(question, findings))
    return judge(question, final, paper, laboratory.reported, about)
