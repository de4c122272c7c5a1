"""`--find_layers`: how many layers does this task need? The full model first, then k from the cheap end, with seeds."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxfreeze import console
from jaxfreeze.config import TrainConfig, command
from jaxfreeze.errors import InputError
from jaxfreeze.freezing import Layers
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.sweep import results
from jaxfreeze.sweep.grid import Group
from jaxfreeze.sweep.runner import run_groups
from jaxfreeze.sweep.statistics import TAILS, Cell, Curve, curves, nothing_learned, resampled_means


class Verdict(NamedTuple):
    """A number of layers against the full model."""

    layers: Layers
    score: float  # mean over the seeds, a fraction
    full_score: float
    share: float  # score / full_score
    low: float  # 95% interval of the share; NaN with one seed
    high: float
    sure: float  # of the resamples, those that keep the target; NaN with one seed
    time: float  # share of the full model's seconds


def find_layers(
    config: TrainConfig,
    target: float,
    confidence: float,
    seeds: Sequence[int],
    folder: Path,
    budget: float = 2.0,
) -> Verdict | None:
    """Find the smallest k that keeps `target` of the full model's score in `confidence` of the resamples over seeds.

    The runs stay in folder/results.jsonl; called again, also with more seeds, the search goes on with them. It ends
    before it would cost more than `budget` times the full runs in it, in seconds. Returns None if no k up to there is
    sure to keep the target. Raises InputError for what no run could have.
    """
    layers = read_config(model_folder(config.model)).num_hidden_layers
    run_groups([_group(config, "all", seeds)], folder)
    doubtful: list[Verdict] = []
    curve = on_record(folder, config, seeds)
    for k in range(layers + 1):
        cost = cost_with(curve, k, layers, len(seeds))
        if cost > budget:
            console.say(
                f"no k below {k} is sure to keep {target:.0%} of the whole model's score, and with k = {k} the search "
                f"would cost about {cost:.1f} times its full runs; to go on: --budget {math.ceil(10 * cost) / 10:g}"
            )
            break
        run_groups([_group(config, k, seeds)], folder)
        curve = on_record(folder, config, seeds)
        verdict = judge(curve, k, target)
        console.say(_describe(verdict, layers))
        if verdict.sure >= confidence:
            _conclude(config, verdict, doubtful, layers, target, confidence, seeds)
            if warning := judged_nothing(curve, k):
                console.say(warning)
            return verdict
        if verdict.share >= target or verdict.sure > 1 - confidence:
            doubtful.append(verdict)
    else:
        console.say(f"no number of layers below the whole model is sure to keep {target:.0%} of its score")
    _say_doubts(doubtful, target, confidence, seeds)
    return None


def cost_with(curve: Curve, k: int, layers: int, seeds: int) -> float:
    """Seconds of the runs up to k and of the full ones, as a multiple of the full ones; of `k`, an estimate.

    A run with one layer more is taken to cost an equal step on the way from the last one measured to the full model's.
    What is on record already, such as in the folder of a sweep, costs nothing: then 0 is returned.
    """
    cell, full = curve.cell(k), curve.full
    assert full is not None  # was run before
    if cell is not None and cell.n == seeds:
        return 0.0
    below = [_seconds(cell) for cell in curve.partial if isinstance(cell.layers, int) and cell.layers < k]
    last, whole = below[-1] if below else 0.0, _seconds(full)
    return (sum(below) + last + (whole - last) / (layers + 1 - k) + whole) / whole


def judge(curve: Curve, k: int, target: float) -> Verdict:
    """What the runs with k layers say. Raises InputError if the whole model scores 0."""
    cell, full = curve.cell(k), curve.full
    assert cell is not None  # both were run before
    assert full is not None
    if full.mean <= 0:
        raise InputError(
            f"--find_layers: the whole model scores {100 * full.mean:.1f} in the mean, so there is no quality to keep; "
            "train longer (--epochs), or with another --learning_rate"
        )
    means = resampled_means([cell, full])
    ratios = means[:, 0] / means[:, 1]
    low, high = np.quantile(ratios, TAILS)
    sure = np.mean(means[:, 0] >= target * means[:, 1]) if cell.n > 1 else np.nan
    time = _seconds(cell) / _seconds(full)
    return Verdict(k, cell.mean, full.mean, cell.mean / full.mean, float(low), float(high), float(sure), time)


def judged_nothing(curve: Curve, k: int) -> str:
    """A warning where the score at k is not clear of what the same answer for every row would have, or nothing."""
    cell = curve.cell(k)
    return nothing_learned(curve, cell).strip() if cell is not None else ""


def on_record(folder: Path, config: TrainConfig, seeds: Sequence[int]) -> Curve:
    """Of all the runs in folder/results.jsonl those of this config and these seeds, whatever their k."""
    asked = (config.task, config.train_file, config.model, config.learning_rate)
    runs = [
        run
        for run in results.read([folder]).runs
        if (run.task, run.config.get("train_file"), run.model, run.learning_rate) == asked and run.seed in seeds
    ]
    return curves(runs)[0]


def _seconds(cell: Cell) -> float:
    return float(np.mean([run.seconds["total"] for run in cell.runs]))


def _group(config: TrainConfig, layers: Layers, seeds: Sequence[int]) -> Group:
    runs = tuple(dataclasses.replace(config, trainable_layers=layers, seed=seed) for seed in seeds)
    return Group(config.model, config.task, layers, runs)


def _describe(verdict: Verdict, layers: int) -> str:
    interval = "" if np.isnan(verdict.low) else f" ({100 * verdict.low:.1f} to {100 * verdict.high:.1f})"
    what = "the head alone keeps" if verdict.layers == 0 else f"{verdict.layers} of {layers} layers keep"
    return (
        f"{what} {100 * verdict.share:.1f}%{interval} of full fine-tuning "
        f"({100 * verdict.score:.1f} against {100 * verdict.full_score:.1f}), at {verdict.time:.0%} of its time"
    )


def _conclude(
    config: TrainConfig,
    verdict: Verdict,
    doubtful: Sequence[Verdict],
    layers: int,
    target: float,
    confidence: float,
    seeds: Sequence[int],
) -> None:
    _say_doubts(doubtful, target, confidence, seeds)
    chosen = dataclasses.replace(config, trainable_layers=verdict.layers, seed=seeds[0])
    console.say(f"answer: {_describe(verdict, layers)}; command to train it:")
    console.say(command(chosen))


def _say_doubts(doubtful: Sequence[Verdict], target: float, confidence: float, seeds: Sequence[int]) -> None:
    if len(seeds) < 2:
        console.say("one seed decides nothing: give --seeds two or more")
    for verdict in doubtful:
        if not np.isnan(verdict.sure):
            console.say(
                f"the {len(seeds)} seeds do not decide whether k = {verdict.layers} keeps {target:.0%}: it does in "
                f"{verdict.sure:.0%} of the resamples, {confidence:.0%} are asked for; more --seeds may tell"
            )
