"""Which trials a search makes, with scores that are a function of the candidate."""

import dataclasses
import math
from collections.abc import Callable

import pytest

from jaxfreeze.freezing import ALL, Layers
from jaxfreeze.search import price
from jaxfreeze.search.rates import SERIES, Expectation, best_rates, expectation
from jaxfreeze.search.schedule import candidates, dropped, next_stage, not_tried, paper_candidates, rates
from jaxfreeze.search.trial import Candidate, Finding, Question, Stage, Trial

QUESTION = Question(num_layers=6, epochs=3, constant=0.5, rows=1000)
BEST: dict[Layers, float] = {0: 2e-3, 1: 5e-4, 2: 2e-4, 3: 2e-4, ALL: 5e-5}
Score = Callable[[Candidate], float]


def peaked(best: dict[Layers, float] = BEST, quality: dict[Layers, float] | None = None) -> Score:
    """A score above the constant answer's 0.5 that falls with the distance from each k's best rate."""

    def score(candidate: Candidate) -> float:
        away = SERIES.index(candidate.learning_rate) - SERIES.index(best[candidate.layers])
        return 0.5 + 0.4 * (quality or {}).get(candidate.layers, 1.0) * max(0.0, 1 - 0.08 * away**2)

    return score


def finding(trial: Trial, score: Score, question: Question = QUESTION) -> Finding:
    value = score(trial.candidate)
    seconds = price.expected_costs(question)[trial.candidate.layers] * trial.candidate.epochs
    return Finding(trial, value, 1 - value if math.isfinite(value) else math.inf, seconds)


def search(score: Score, question: Question = QUESTION) -> tuple[list[Stage], list[Finding]]:
    """All stages of a search, and its findings."""
    stages: list[Stage] = []
    findings: list[Finding] = []
    while (stage := next_stage(question, findings)) is not None:
        stages.append(stage)
        findings += [finding(trial, score, question) for trial in stage.trials]
    return stages, findings


def tried(findings: list[Finding], layers: Layers) -> set[float]:
    return {
        f.trial.candidate.learning_rate for f in findings if f.trial.candidate.layers == layers and not f.trial.final
    }


def by_layers(made: tuple[Candidate, ...], epochs: int = 3) -> dict[Layers, float]:
    return {candidate.layers: candidate.learning_rate for candidate in made if candidate.epochs == epochs}


def spent(findings: list[Finding]) -> float:
    """As a multiple of the reference."""
    return sum(f.seconds for f in findings) / price.reference_epochs(QUESTION.epochs)


def test_every_k_is_tried_at_its_own_best_rate() -> None:
    _, findings = search(peaked())
    assert by_layers(candidates(QUESTION, findings)) == BEST
    assert dropped(QUESTION, findings) == ()
    scores = rates(QUESTION, findings)
    assert {score.candidate for score in scores if score.chosen and score.candidate.epochs == 3} <= set(
        candidates(QUESTION, findings)
    )
    assert all(score.runs > 0 for score in scores)


def test_the_rate_of_every_k_is_marked_where_it_was_raced() -> None:
    """Also where the budget has no room for a race at all epochs."""
    _, findings = search(peaked())
    marked = [score.candidate for score in rates(QUESTION, findings) if score.chosen and score.candidate.epochs <= 3]
    assert {candidate.layers: candidate.learning_rate for candidate in marked} == BEST
    assert {candidate.layers: candidate.epochs for candidate in marked} == {0: 3, 1: 3, 2: 1, 3: 1, ALL: 3}


def test_cheap_k_first_and_races_before_final_trials() -> None:
    stages, _ = search(peaked())
    races = [trial.candidate for stage in stages for trial in stage.trials if not trial.final]
    order = list(dict.fromkeys(c.layers for c in races if c.epochs <= QUESTION.epochs))
    assert order == list(QUESTION.ladder)
    finals = [all(trial.final for trial in stage.trials) for stage in stages]
    first = finals.index(True)
    assert {trial.candidate.epochs for stage in stages[first:] for trial in stage.trials if not trial.final} <= {9}


@pytest.mark.parametrize("layers, best", [(1, 1e-2), (1, 1e-5), (ALL, 1e-5), (2, 5e-4), (0, 2e-5)])
def test_a_grid_moves_on_to_a_best_rate_beyond_its_edge(layers: Layers, best: float) -> None:
    _, findings = search(peaked({**BEST, layers: best}))
    assert best in tried(findings, layers)
    assert by_layers(candidates(QUESTION, findings))[layers] == best


def test_the_dearer_a_k_the_fewer_rates() -> None:
    _, findings = search(peaked())
    counts = [len(tried(findings, layers)) for layers in QUESTION.ladder]
    assert counts[:2] == sorted(counts[:2], reverse=True)
    assert max(counts[2:]) <= 4 < min(counts[:2])


def test_a_rate_that_diverges_is_never_chosen() -> None:
    """Though it does so with one seed of three, and scores best with the others."""
    findings: list[Finding] = []
    while (stage := next_stage(QUESTION, findings)) is not None and stage.trials[0].candidate.layers == 0:
        for trial in stage.trials:
            diverged = trial.seed == stage.trials[0].seed and trial.candidate.learning_rate >= 2e-3
            score = -math.inf if diverged else 0.5 + 0.05 * SERIES.index(trial.candidate.learning_rate)
            findings.append(Finding(trial, score, -score, 0.01))
    (chosen,) = [score.candidate for score in rates(QUESTION, findings) if score.chosen]
    assert chosen.learning_rate == 1e-3


def test_where_the_metric_says_nothing_the_loss_decides() -> None:
    """Among rates with one score, the one with the least loss is taken on to all epochs."""
    findings: list[Finding] = []
    while (stage := next_stage(QUESTION, findings)) is not None and stage.trials[0].candidate.layers == 0:
        for trial in stage.trials:
            loss = abs(SERIES.index(trial.candidate.learning_rate) - SERIES.index(1e-3))
            findings.append(Finding(trial, 0.5, float(loss), 0.01))
    chosen = [score.candidate for score in rates(QUESTION, findings) if score.chosen]
    assert [candidate.learning_rate for candidate in chosen] == [1e-3]


def test_far_rates_do_not_push_the_choice_up() -> None:
    """One layer on banking77: no rate above 1e-3 has a better score or a lower loss."""
    rungs = {
        1: {5e-5: (42.9, 3.246), 1e-4: (50.6, 2.414), 2e-4: (71.4, 1.444), 5e-4: (87.7, 0.553), 1e-3: (89.1, 0.389),
            2e-3: (88.1, 0.413), 5e-3: (84.6, 0.550)},
        3: {1e-3: (91.6, 0.301), 2e-3: (89.9, 0.320), 5e-3: (88.9, 0.409)},
    }  # fmt: skip
    question = Question(num_layers=6, epochs=3, constant=0.013, rows=1000)
    expected = expectation(1, below=5e-3)
    findings: list[Finding] = []
    for epochs, rung in rungs.items():
        for rate, (score, loss) in rung.items():
            findings.append(Finding(Trial(Candidate(1, rate, epochs), 1001), score / 100, loss, 1.0))
        assert best_rates(question, findings, expected, epochs)[0] <= 1e-3


def test_after_few_epochs_a_lower_rate_is_preferred_to_one_that_scores_the_same() -> None:
    """It gains more from longer training."""
    rung = {1e-4: (0.75, 0.44), 2e-4: (0.8, 0.40), 5e-4: (0.8, 0.39), 1e-3: (0.75, 0.44)}
    found = [Finding(Trial(Candidate(2, rate, 1), 1001), score, loss, 1.0) for rate, (score, loss) in rung.items()]
    expected = Expectation(SERIES.index(2e-4) + 0.5, 1.2)  # as likely the one as the other
    assert best_rates(QUESTION, found, expected, epochs=1)[0] == 2e-4


def test_the_lowest_loss_survives_a_short_rung_whose_scores_mislead() -> None:
    """Of k = 2 on CoLA: after one epoch half of the runs answered the same for every row, which scores 0."""
    short = {2e-4: (0.085, 0.5904), 5e-4: (0.0, 0.5921), 1e-3: (0.119, 0.5929), 2e-3: (0.0, 0.6047)}
    question = dataclasses.replace(QUESTION, constant=0.0, rows=855, scale=2.0, budget=3.0)
    usual = peaked({**BEST, 1: 1e-3})
    findings: list[Finding] = []
    while (stage := next_stage(question, findings)) is not None and stage.trials[0].candidate.layers != 3:
        for trial in stage.trials:
            found = finding(trial, usual)
            if trial.candidate[::2] == (2, 1):
                score, loss = short[trial.candidate.learning_rate]
                found = found._replace(score=score, loss=loss)
            findings.append(found)
    long = {f.trial.candidate.learning_rate for f in findings if f.trial.candidate[::2] == (2, 3)}
    assert long == {1e-3, 2e-4}


def test_final_trials_have_seeds_that_chose_nothing() -> None:
    for question in (QUESTION, dataclasses.replace(QUESTION, seeds=(5, 1001, 1002))):
        _, findings = search(peaked(), question)
        final = {f.trial.seed for f in findings if f.trial.final}
        assert not final & {f.trial.seed for f in findings if not f.trial.final}
        assert final == set(question.seeds or (1, 2, 3, 4, 5))
        seeds = {f.trial.seed for f in findings if f.trial.final and f.trial.candidate == Candidate(ALL, 5e-5, 3)}
        assert seeds == set(question.seeds or (1, 2, 3))


def test_what_final_trials_score_decides_nothing() -> None:
    """Though all rates are alike, so that little would decide."""
    stages, findings = search(lambda candidate: 0.8)
    other = [f._replace(score=-math.inf, loss=math.inf) if f.trial.final else f for f in findings]
    for made in range(0, len(findings) + 1, 9):
        assert next_stage(QUESTION, other[:made]) == next_stage(QUESTION, findings[:made])
    assert candidates(QUESTION, other) == candidates(QUESTION, findings)
    assert rates(QUESTION, other) == rates(QUESTION, findings)
    assert len(stages) > 10


def test_a_hopeless_k_gets_no_final_trials_unless_they_cost_nothing() -> None:
    poor: dict[Layers, float] = {0: 0.1, 1: 0.3, 2: 0.4}
    _, findings = search(peaked(quality=poor))
    (gone,) = dropped(QUESTION, findings)
    assert gone.layers == 2
    assert "40% of the best quality" in gone.reason
    made = [f.trial.candidate.layers for f in findings if f.trial.final and f.trial.candidate.learning_rate != 5e-5]
    assert set(made) == {0, 1, 3}
    few_rows = dataclasses.replace(QUESTION, rows=20)  # these do not tell 40% from 95%
    assert dropped(few_rows, search(peaked(quality=poor), few_rows)[1]) == ()


def test_nothing_is_hopeless_where_nothing_beats_the_constant_answer() -> None:
    _, findings = search(lambda candidate: 0.5)
    assert dropped(QUESTION, findings) == ()


@pytest.mark.parametrize("budget", [0.3, 1.2, 1.5, 2.0, 3.0])
def test_the_budget_holds_and_what_it_leaves_out_is_said(budget: float) -> None:
    question = dataclasses.replace(QUESTION, budget=budget)
    _, findings = search(peaked(), question)
    assert spent(findings) <= budget
    final = {candidate.layers for candidate in candidates(question, findings)}
    out = dropped(question, findings)
    assert final | {drop.layers for drop in out} == set(QUESTION.ladder)
    assert not final & {drop.layers for drop in out}
    assert all(f"a budget of {budget:g} times" in drop.reason for drop in out)
    assert (ALL in final) == (budget >= 1.5)
    assert bool(out) == (budget < 2)
    assert bool(paper_candidates(question, findings)) == (budget >= 1.5)


def test_the_budget_that_is_named_is_enough() -> None:
    out = dropped(dataclasses.replace(QUESTION, budget=0.5), [])
    assert [drop.layers for drop in out] == [2, 3, ALL]
    for drop in out:
        enough = float(drop.reason.split()[-2])
        for budget, left_out in ((enough, False), (enough - 0.1, True)):
            question = dataclasses.replace(QUESTION, budget=budget)
            assert (drop.layers in {one.layers for one in dropped(question, [])}) == left_out


def test_runs_that_take_longer_than_expected_are_noticed() -> None:
    """k = 1 takes six times what was expected of it, which the others do not."""
    findings: list[Finding] = []
    while (stage := next_stage(QUESTION, findings)) is not None:
        for trial in stage.trials:
            one = finding(trial, peaked())
            findings.append(one._replace(seconds=one.seconds * 6) if trial.candidate.layers == 1 else one)
    (gone,) = dropped(QUESTION, findings)
    assert gone.layers == 3
    assert "longer than expected" in gone.reason


def test_longer_runs_only_where_they_cost_no_more_than_the_full_model() -> None:
    for question in (QUESTION, dataclasses.replace(QUESTION, budget=9.0)):
        _, findings = search(peaked(), question)
        longer = {c.layers for c in candidates(question, findings) if c.epochs == 9}
        assert longer == ({0, 1} if question.budget == 9 else {0})
    findings = []
    while (stage := next_stage(question, findings)) is not None:
        made = [finding(trial, peaked()) for trial in stage.trials]  # k = 1 takes 0.47 of the full model's time
        findings += [one._replace(seconds=one.seconds * 3) if one.trial.candidate.layers == 1 else one for one in made]
    assert {c.layers for c in candidates(question, findings) if c.epochs == 9} == {0}


def test_the_papers_trials_are_at_the_full_models_rate_and_made_once() -> None:
    question = dataclasses.replace(QUESTION, budget=9.0)
    _, findings = search(peaked(), question)
    assert paper_candidates(question, findings) == tuple(Candidate(k, 5e-5, 3) for k in question.ladder)
    made = [f.trial for f in findings]
    assert len(made) == len(set(made))
    assert [sum(t.final and t.candidate == Candidate(k, 5e-5, 3) for t in made) for k in question.ladder] == [
        3,
        3,
        1,
        1,
        3,
    ]


@pytest.mark.parametrize("epochs, short", [(1, 1), (2, 1), (3, 1), (5, 2), (10, 3)])
def test_the_first_rung_is_a_complete_short_schedule(epochs: int, short: int) -> None:
    question = dataclasses.replace(QUESTION, epochs=epochs, budget=2.6)
    stages, findings = search(peaked(), question)
    assert {trial.candidate.epochs for trial in stages[0].trials} == {short}
    assert by_layers(candidates(question, findings), epochs) == BEST
    assert len({f.trial for f in findings}) == len(findings)


@pytest.mark.parametrize(
    "layers, ladder, left",
    [
        (2, (0, 1, ALL), (2,)),
        (6, (0, 1, 2, 3, ALL), (4, 5, 6)),
        (12, (0, 1, 2, 3, 6, ALL), (4, 5, 7, 8, 9, 10, 11, 12)),
        (24, (0, 1, 2, 3, 6, 12, ALL), (4, 5, *range(7, 12), *range(13, 25))),
    ],
)
def test_the_ladder(layers: int, ladder: tuple[Layers, ...], left: tuple[Layers, ...]) -> None:
    question = dataclasses.replace(QUESTION, num_layers=layers)
    assert question.ladder == ladder
    assert not_tried(question) == left
    best: dict[Layers, float] = {**BEST, 6: 1e-4, 12: 1e-4}
    _, findings = search(peaked(best), question)
    assert by_layers(candidates(question, findings)) == {k: best[k] for k in ladder}


def test_a_price_is_measured_where_it_can_be() -> None:
    costs: dict[Layers, float] = {0: 1.0, 1: 10.0, ALL: 100.0}
    stage = Stage("", (Trial(Candidate(1, 1e-3, 3), 1), Trial(Candidate(ALL, 5e-5, 2), 1)))
    assert price.price(stage, [], costs) == 3 * 10 + 2 * 100
    first = Finding(Trial(Candidate(0, 1e-3, 1), 1), 0.5, 0.5, 4.0)  # four times what was expected
    assert price.price(stage, [first], costs) == 4 * (3 * 10 + 2 * 100)
    second = Finding(Trial(Candidate(1, 1e-3, 2), 1), 0.5, 0.5, 30.0)  # 15 an epoch: 1.5 times
    assert price.price(stage, [first, second], costs) == 1.5 * (3 * 10 + 2 * 100)
    assert price.reference_price(QUESTION, [], costs) == 100 * (3 * 1 + 2 * 3 + 3 * 3)
