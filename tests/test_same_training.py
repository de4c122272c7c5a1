"""benchmarks/same_training.py: its sums, by hand, and that it tells two distributions apart and one not from itself."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import reference

ROWS, SEEDS = 300, 6
OURS, THEIRS = "jaxfreeze", "pytorch"


@pytest.fixture(scope="module")
def statistics() -> Iterator[Any]:
    reference.pytorch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])
        import same_statistics

        patch.setattr(same_statistics, "DRAWS", 120)
        yield same_statistics


def runs(statistics: Any, accuracy: float, seed: int, seeds: int = SEEDS) -> list[Any]:
    """Runs that answer so large a share of RTE's rows rightly; some rows are harder than others for all of them."""
    random = np.random.default_rng(seed)
    label = np.random.default_rng(0).integers(0, 2, ROWS)
    hardness = np.random.default_rng(99).normal(size=ROWS)
    made = []
    for _ in range(seeds):
        ease = random.normal(size=ROWS) - hardness
        right = ease > np.quantile(ease, 1 - accuracy - random.normal() * 0.01)
        logits = np.zeros((1, ROWS, 2))
        logits[0, np.arange(ROWS), np.where(right, label, 1 - label)] = 2.0
        made.append(statistics.Run(np.array([0.5]), logits, label))
    return made


def test_two_distributions_are_told_apart_and_one_is_not(statistics: Any) -> None:
    ours, same, other = (runs(statistics, a, seed) for a, seed in ((0.6, 1), (0.6, 2), (0.66, 3)))
    apart = statistics.conclude({("rte", OURS): ours, ("rte", THEIRS): other})
    alike = statistics.conclude({("rte", OURS): ours, ("rte", THEIRS): same})
    for of_task, whole in (apart, alike):
        assert of_task["difference"] == whole["difference"]
        assert of_task["seeds"] == {OURS: SEEDS, THEIRS: SEEDS}
    assert apart[-1]["p"] < 0.01
    assert apart[-1]["interval"][1] < 0
    assert apart[-1]["difference"] == pytest.approx(-0.06, abs=0.02)
    assert alike[-1]["p"] > 0.05
    low, high = alike[-1]["interval"]
    assert low < 0 < high
    assert high - low < 0.1  # with other rows for each side it would be 0.16


def test_rows_are_common_to_both_sides(statistics: Any) -> None:
    """Of one and the same run, whatever rows are drawn, the difference is nothing."""
    one = runs(statistics, 0.7, 1, seeds=1)
    (line, _) = statistics.conclude({("rte", OURS): one, ("rte", THEIRS): one})
    assert line["interval"] == line["interval_90"] == [0.0, 0.0]
    assert line["disagreement"]["between"] == 0.0
    other = [statistics.Run(one[0].losses, one[0].logits, 1 - one[0].label)]
    with pytest.raises(ValueError, match="rte: expected the same dev rows"):
        statistics.conclude({("rte", OURS): one, ("rte", THEIRS): other})


def test_losses_and_disagreement_by_hand(statistics: Any) -> None:
    logits = np.log([[[0.8, 0.2], [0.5, 0.5]]])
    run = statistics.Run(np.array([0.0]), logits, np.array([0, 1]))
    assert statistics.dev_losses("rte", run) == pytest.approx([-(np.log(0.8) + np.log(0.5)) / 2])
    scores = statistics.Run(np.array([0.0]), np.array([[[1.0], [3.0]]]), np.array([1.5, 3.0]))
    assert statistics.dev_losses("stsb", scores) == pytest.approx([0.125])
    swapped = statistics.Run(np.array([0.0]), logits[:, ::-1], np.array([0, 1]))
    opposite = statistics.Run(np.array([0.0]), -logits, np.array([0, 1]))
    found = statistics.disagreement("rte", [run, opposite], [swapped])
    assert found[OURS] == 0.5  # the tie is answered alike
    assert found["between"] == 0.25


def test_gradients_under_two_kinds_of_masks(statistics: Any) -> None:
    """Draws of one kind are as far apart as chance takes them, draws at a fifth higher rate farther."""

    def draws(rate: float, seed: int) -> Any:
        random, made = np.random.default_rng(seed), statistics.Draws()
        for _ in range(400):
            kept = (random.random(64) >= rate).astype(np.float32)
            made.add(float(kept.mean()), {"kernel": kept, "key.bias": random.random(64)})
        return made

    ours = draws(0.1, 1)
    assert ours.total.keys() == {"kernel"}
    for rate, far in ((0.1, False), (0.12, True)):
        found = statistics.compare_draws(ours, draws(rate, 2))
        assert (abs(found["losses"]["standard_errors_apart"]) > 4) == far
        assert (found["mean_gradients_apart"] > 1.3 * found["by_chance"]) == far
    two = statistics.Draws()
    for value in (1.0, 3.0):
        two.add(value, {"kernel": np.array([value, 0.0])})
    assert (two.mean["kernel"].tolist(), two.error, two.norms) == ([2.0, 0.0], 1.0, [1.0, 3.0])
    assert statistics.compare_draws(two, two)["by_chance"] == pytest.approx(2**0.5, abs=1e-5)


def test_a_stopped_benchmark_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, statistics: Any
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import same_training

    trained: list[tuple[str, int]] = []
    random = iter(range(100))

    def train(side: str, seed: int) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append((side, seed))
        return runs(statistics, 0.6, next(random), seeds=1)[0]

    monkeypatch.setattr(same_training.preparation, "prepare", lambda *_: None)
    monkeypatch.setattr(same_training, "alike", lambda _, seed: seed)
    monkeypatch.setattr(same_training, "our_run", lambda seed: train(OURS, seed))
    monkeypatch.setattr(same_training, "their_run", lambda _, task, seed, shared: train(THEIRS, seed))
    command = f"distribution --data_dir a --model b --tasks rte --seeds 1 2 --output {tmp_path}".split()
    with pytest.raises(KeyboardInterrupt):
        same_training.main(command)
    assert trained == [(OURS, 1), (THEIRS, 1), (OURS, 2)]
    trained.clear()
    capsys.readouterr()
    same_training.main(command)
    assert trained == [(THEIRS, 2)]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["side"] == THEIRS
    assert lines[-1]["tasks"] == ["rte"]
    assert len(list(tmp_path.iterdir())) == 4
