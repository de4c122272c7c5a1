"""The answer: which point is recommended, how sure that is, and what happens at the edges."""

import dataclasses

import numpy as np
import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Classification, Regression, Tokens
from jaxfreeze.search.answer import Answer
from jaxfreeze.search.judge import judge, pareto
from jaxfreeze.search.outcomes import Outcomes
from tests.search.made import about, candidate, labels, logits_of, outcomes, question, reported, with_errors, with_rates

LABEL = labels(400)
F1 = Classification(("no", "yes"), ("f1",))


def curve(**rates: tuple[float, ...]) -> list[Outcomes]:
    """Points by k (k0, k1, ..., all): the share of wrong rows by seed."""
    found = []
    for name, some in rates.items():
        layers = "all" if name == "all" else int(name[1:])
        found.append(with_rates(layers, LABEL, some))  # type: ignore[arg-type]
    return found


FOUND = curve(k0=(0.40, 0.41, 0.40), k1=(0.20, 0.19, 0.21), k2=(0.12, 0.11, 0.12), all=(0.11, 0.11, 0.12))


def answer_of(found: list[Outcomes], **changes: object) -> Answer:
    return judge(question(**changes), found, (), reported(LABEL), about())


def test_the_smallest_k_that_surely_keeps_the_share() -> None:
    answer = answer_of(FOUND)
    assert (answer.chosen.candidate.layers, answer.sure, answer.best.candidate.layers) == (2, True, "all")
    assert answer.full == answer.best == answer.points[-1]
    assert [point.candidate.layers for point in answer.points] == [0, 1, 2, "all"]
    assert answer.constant == 0.5
    assert answer.chosen.score == pytest.approx(1 - (0.12 + 0.11 + 0.12) / 3)
    assert answer.chosen.scores == pytest.approx((0.88, 0.89, 0.88))
    assert answer.chosen.quality == pytest.approx((0.5 - 0.35 / 3) / (0.5 - 0.34 / 3))
    assert answer.chosen.p_keeps > 0.9 > answer.points[1].p_keeps
    assert all(point.low < point.score < point.high for point in answer.points)
    assert answer.command == "train --trainable_layers 2"
    assert [point.on_front for point in answer.points] == [True] * 4
    assert answer_of(FOUND, share=0.5).chosen.candidate.layers == 1
    assert answer_of(FOUND, within=0.2).points[1].p_within > 0.999


def test_the_same_outcomes_give_the_same_answer_in_any_order() -> None:
    assert answer_of(FOUND) == answer_of(FOUND[::-1])


def test_the_paper_compares_plain_ratios_to_the_full_model() -> None:
    paper = curve(k1=(0.30, 0.31, 0.32), all=(0.11, 0.11, 0.12))
    paper[0] = paper[0]._replace(candidate=candidate(1, 5e-5))
    answer = judge(question(), FOUND, paper, reported(LABEL), about())
    first, full = answer.paper
    assert first.candidate == candidate(1, 5e-5)
    assert first.quality == pytest.approx(0.69 / (1 - 0.34 / 3))
    assert (full.quality, full.quality_low, full.quality_high) == (1.0, 1.0, 1.0)
    assert answer.points == answer_of(FOUND).points  # whatever the paper's points are
    assert judge(question(), FOUND, paper[:1], reported(LABEL), about()).paper == ()


def test_nothing_beats_the_constant_answer() -> None:
    """As MRPC's F1: nearly every row is called equivalent, which scores 81 without any model."""
    label = labels(408, ones=279 / 408)
    says_yes = [np.where(np.arange(408) % 19 == seed, 0, 1) for seed in range(6)]
    found = [outcomes(0, [logits_of(some) for some in says_yes[:3]]), outcomes("all", [logits_of(says_yes[5])] * 3)]
    answer = judge(question(), found, found, reported(label, F1), about())
    assert answer.constant == pytest.approx(2 * 279 / (408 + 279))
    assert not answer.sure
    assert answer.chosen == answer.best
    assert answer.chosen.p_keeps < 0.5
    assert (answer.chosen.quality, answer.chosen.quality_low, answer.chosen.quality_high) == (0.0, -np.inf, np.inf)
    assert min(point.quality for point in answer.paper) > 0.94


def test_the_full_model_need_not_be_the_best() -> None:
    answer = answer_of(curve(k1=(0.3, 0.31, 0.3), k2=(0.10, 0.11, 0.10), all=(0.15, 0.16, 0.15)))
    assert answer.full is not None
    assert (answer.best.candidate.layers, answer.full.candidate.layers) == (2, "all")
    assert answer.full.quality < 0.9
    assert not answer.full.on_front


def test_seeds_that_all_agree_leave_the_uncertainty_to_the_rows() -> None:
    answer = answer_of(curve(k1=(0.2,) * 3, all=(0.15,) * 3))
    assert answer.seed_error == pytest.approx(0.0, abs=1e-12)
    assert (answer.dominant_uncertainty, answer.row_error > 0.005) == ("rows", True)


def test_a_collapsed_seed_makes_a_point_uncertain() -> None:
    steady = answer_of(curve(k1=(0.12, 0.12, 0.12, 0.12), all=(0.12, 0.12, 0.13)))
    found = curve(k1=(0.12, 0.12, 0.12, 0.12), all=(0.12, 0.12, 0.13))
    diverged = np.full_like(found[0].logits[0], np.nan)
    answer = answer_of([found[0]._replace(logits=(*found[0].logits[:3], diverged)), found[1]])
    assert answer.points[0].scores[3] == 0.5  # as a constant answer
    assert answer.points[0].p_keeps < 0.9 < steady.points[0].p_keeps
    assert answer.points[0].high - answer.points[0].low > 3 * (steady.points[0].high - steady.points[0].low)
    assert (answer.chosen.candidate.layers, answer.dominant_uncertainty) == ("all", "seeds")


def test_one_k_alone() -> None:
    answer = answer_of(curve(k2=(0.2, 0.21, 0.2)))
    assert answer.chosen == answer.best == answer.points[0]
    assert (answer.full, answer.sure, answer.chosen.quality) == (None, True, 1.0)
    assert 0 < answer.seed_error < answer.row_error  # against the constant answer
    with pytest.raises(ValueError, match="no candidate was run"):
        answer_of([])
    with pytest.raises(InputError, match="give --seeds two or more"):
        answer_of(curve(k1=(0.1,), all=(0.1,)))


def test_of_equal_points_the_cheapest() -> None:
    wrong = [[1, 2], [3], [4, 5]]
    found = [with_errors(k, LABEL, wrong, epochs=epochs) for k, epochs in ((1, 3), (1, 6), (2, 3), ("all", 3))]
    answer = answer_of(found)
    assert answer.chosen == answer.best == answer.points[0]
    assert answer.chosen.candidate == candidate(1, epochs=3)
    assert {(point.p_keeps, point.p_within, point.regret) for point in answer.points} == {(1.0, 1.0, 0.0)}
    assert [point.on_front for point in answer.points] == [True, True, False, False]


@pytest.mark.parametrize("metric", ["f1", "matthews_correlation", "roc_auc"])
def test_resamples_without_a_class(metric: str) -> None:
    """20 rows with a single one of the rare class: a third of the resamples have none."""
    label = labels(20, ones=0.05)
    found = [with_errors(1, label, [[0], [19], []]), with_errors("all", label, [[], [], [3]])]
    answer = judge(question(), found, (), reported(label, Classification(("no", "yes"), (metric,))), about())
    for point in answer.points:
        assert np.isfinite([point.low, point.high, point.p_keeps, point.p_within, point.regret]).all()
        assert point.low < point.score <= point.high <= 1


def test_lower_may_be_better() -> None:
    label = np.linspace(0, 5, 300).astype(np.float32)
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.3, (300, 1))
    found = [
        outcomes(k, [(label[:, None] + size * noise + random.normal(0, 0.02, (300, 1))).astype(np.float32)] * 3)
        for k, size in ((1, 1.5), (2, 1.02), ("all", 1.0))
    ]
    answer = judge(question(within=0.02), found, found, reported(label, Regression(("mae",))), about())
    assert (answer.best.candidate.layers, answer.chosen.candidate.layers) == ("all", 2)
    assert answer.constant == pytest.approx(1.25, abs=0.01)  # the median's
    assert all(0 < point.low < point.score < point.high for point in answer.points)
    assert answer.points[0].score > answer.best.score
    assert answer.points[0].regret == pytest.approx(answer.points[0].score - answer.best.score, abs=0.003)
    assert answer.best.quality == 1.0
    assert {point.quality for point in answer.paper} == {0.0}  # a plain ratio means nothing here


def test_words_are_resampled_by_example() -> None:
    """All words of an example have one fate, so the rows are as uncertain as examples are few."""
    words = Tokens(("NOUN", "VERB"), ("accuracy",))
    label = labels(400)
    right = np.repeat(np.arange(20) % 4 > 0, 20)
    decided = np.where(right, label, 1 - label)
    answer = judge(
        question(),
        [outcomes(k, [logits_of(decided)] * 2) for k in (1, "all")],  # type: ignore[arg-type]
        (),
        reported(label, words, np.full(20, 20)),
        about(),
    )
    reach = 1.96 * np.sqrt(0.75 * 0.25 / 20)
    assert answer.rows == 20
    assert answer.chosen.high - answer.chosen.score == pytest.approx(reach, abs=0.03)


def test_the_front() -> None:
    scores, seconds = np.array([0.5, 0.6, 0.6, 0.55, 0.7]), np.array([1.0, 2.0, 3.0, 2.5, 9.0])
    assert pareto(scores, seconds).tolist() == [True, True, False, False, True]


def test_what_is_known_beside_is_passed_on() -> None:
    answer = answer_of(FOUND)
    given = about()
    for field in ("task", "model", "selection_rows", "rates", "dropped", "not_tried", "runs", "seconds"):
        assert getattr(answer, field) == getattr(given, field)
    assert (answer.rows, answer.num_layers, answer.metric) == (400, 6, "accuracy")
    assert dataclasses.asdict(answer)
