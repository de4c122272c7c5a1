"""A search in simulated worlds whose truth is known: what it promises of its answers holds there.

Every world is searched by the real schedule and judged by the real judge.
"""

import functools
from typing import NamedTuple

import numpy as np
import pytest

from jaxfreeze.search.price import reference_epochs
from jaxfreeze.search.record import Record
from jaxfreeze.search.schedule import candidates, dropped, next_stage, paper_candidates, steps
from jaxfreeze.search.trial import Candidate, Finding, Stage
from tests import effort
from tests.search.world import COSTS, NEEDS, Need, World, complete, judged, make_world, naive, quick_judge, with_a_cliff

WORLDS = 1000 if effort.inputs(1) else 96  # all of them with JAXFREEZE_TEST_EFFORT=4
EPOCHS = 3


class Said(NamedTuple):
    """What a search said of a world, and what is true."""

    need: Need
    covered: bool
    """Every point's interval holds its true score."""
    p_within: float
    within: bool
    """The recommended point is truly within a point of the best one."""
    p_keeps: float
    keeps: bool
    quality: float
    """True quality of the recommended point, of the best that any k can reach at these epochs."""
    naive_quality: float
    too_many: bool
    """The paper's protocol recommends more layers than are needed."""
    head_ratio: float
    """What that protocol says the head alone keeps."""


@functools.cache
def said() -> list[Said]:
    """Of every world."""
    with quick_judge():
        return [_said(seed) for seed in range(WORLDS)]


def _said(seed: int) -> Said:
    world = make_world(seed)
    answer = judged(world, complete(world))
    truth = {point.candidate: world.truth(point.candidate) for point in answer.points}
    gain = {candidate: score - world.constant for candidate, score in truth.items()}
    chosen, best = answer.chosen.candidate, max(truth.values())
    reachable = {layers: world.best(layers, EPOCHS) - world.constant for layers in world.curves}
    top = max(reachable.values())
    needed = next(layers for layers, reached in reachable.items() if reached >= answer.share * top)
    rank, paper = world.question.ladder.index, naive(world)
    paper_gain = world.truth(Candidate(paper.layers, 5e-5, EPOCHS)) - world.constant
    return Said(
        world.need,
        all(point.low <= truth[point.candidate] <= point.high for point in answer.points),
        answer.chosen.p_within,
        truth[chosen] >= best - answer.within,
        answer.chosen.p_keeps,
        top > 0 and gain[chosen] >= answer.share * max(gain.values()),
        gain[chosen] / top if top else 0.0,
        paper_gain / top if top else 0.0,
        top > 0 and rank(paper.layers) > rank(needed),
        paper.ratios[0],
    )


def share(name: str, *needs: Need) -> float:
    """Mean of a field over the worlds of some kinds; of all without."""
    return float(np.mean([getattr(one, name) for one in said() if one.need in (needs or NEEDS)]))


def chance() -> float:
    """Two standard errors of a share among so many worlds."""
    return 2 * 0.5 / WORLDS**0.5


LEARNABLE: tuple[Need, ...] = (0, 1, 2, 3, "all")


def test_intervals_cover_the_truth_together() -> None:
    assert share("covered") >= 0.93


def test_probabilities_are_kept() -> None:
    assert share("within") >= share("p_within") - chance()
    assert share("keeps") >= share("p_keeps") - chance()


def test_the_recommendation_keeps_what_it_should() -> None:
    assert share("quality", *LEARNABLE) >= 0.95
    assert share("keeps", *LEARNABLE) >= 0.85


def test_the_papers_protocol_fails_here() -> None:
    """At one rate, on the reported rows, by raw ratios."""
    assert share("too_many", 0, 1, 2) >= 0.5
    assert share("naive_quality", *LEARNABLE) < share("quality", *LEARNABLE) - 0.05
    assert share("head_ratio", "constant") >= 0.9  # of a model that has learned nothing


def regrets_of(world: World, record: Record) -> list[float]:
    """What every k's chosen rate truly scores below its best one."""
    chosen = {layers: choices[0].candidate for layers, choices in record.choices.items()}
    return [world.best(layers, EPOCHS) - world.truth(candidate) for layers, candidate in chosen.items()]


@pytest.mark.parametrize("num_layers", sorted(COSTS))
def test_price_and_regret(num_layers: int) -> None:
    prices, regrets = [], []
    for seed in range(WORLDS // 2):
        world = make_world(seed, num_layers)
        record = complete(world)
        seconds = sum(finding.seconds for finding in record.findings)
        prices.append(seconds / (reference_epochs(EPOCHS) * COSTS[num_layers]["all"]))
        regrets += regrets_of(world, record)
    assert np.mean(prices) <= 2.0
    assert np.quantile(prices, 0.95) <= 2.0
    assert np.mean(regrets) <= 0.005  # half a point
    assert np.quantile(regrets, 0.9) <= 0.015


def test_a_cliff_below_the_best_rate_does_not_push_the_choice_up() -> None:
    """As with many classes, where a rate that is too low scores next to nothing."""
    worlds = (with_a_cliff(make_world(seed), rows=4000) for seed in range(WORLDS // 2))
    assert np.mean([regret for world in worlds for regret in regrets_of(world, complete(world))]) <= 0.004


def test_the_replayed_search_is_the_live_one() -> None:
    """Also from findings in another order, and from a stage that was half made."""
    world = make_world(2)
    question, random = world.question, np.random.default_rng(0)
    record = Record(question)
    live = steps(record)
    findings: list[Finding] = []
    stage: Stage | None = next(live)
    while stage is not None:
        assert next_stage(question, findings) == stage
        made = world.run(stage)
        half = len(made) // 2
        mixed = [*findings, *made[half:]]
        if half:
            assert next_stage(question, mixed) == stage._replace(trials=stage.trials[:half])
        findings += made
        findings = [findings[place] for place in random.permutation(len(findings))]
        try:
            stage = live.send(made)
        except StopIteration:
            stage = None
    assert next_stage(question, findings) is None
    assert len({finding.trial for finding in record.findings}) == len(record.findings) == len(findings)
    assert sorted(candidates(question, findings), key=str) == sorted(record.finals, key=str)
    assert paper_candidates(question, findings) == tuple(record.paper)
    assert set(dropped(question, findings)) == set(record.dropped)
