"""`--find_layers`: the smallest k that retains a share of full fine-tuning's score.

The full model is run first, then k = 0, 1, 2, ..., each with several seeds, until one of them retains the share.
"""

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
from jaxfreeze.metrics import LOWER_IS_BETTER
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.sweep import results
from jaxfreeze.sweep.curves import Curve, cost, curves
from jaxfreeze.sweep.grid import Group
from jaxfreeze.sweep.runner import run_groups
from jaxfreeze.sweep.statistics import TAILS, resampled_means
from jaxfreeze.sweep.wording import constant_answer_warning
from jaxfreeze.training.platform_choices import with_dtype


class Verdict(NamedTuple):
    """A number of layers compared with the full model."""

    layers: Layers
    score: float
    """Mean over the seeds, a fraction."""
    full_score: float
    quality: float
    """score / full_score."""
    low: float
    """Lower end of the quality's 95% interval; NaN for one seed."""
    high: float
    confidence: float
    """Fraction of the resamples that retain the target; NaN for one seed."""
    time: float
    """Share of the full model's seconds."""


def find_layers(
    config: TrainConfig,
    target: float,
    confidence: float,
    seeds: Sequence[int],
    folder: Path,
    budget: float = 2.0,
) -> Verdict | None:
    """Find the smallest k that retains `target` of the full model's score in `confidence` of the resamples over seeds.

    The runs are kept in folder/results.jsonl, and a later call, with more seeds too, continues from them. The search
    ends before it would cost more than `budget` times its full runs, in seconds. Returns None if no k up to that point
    retains the target with this confidence. Raises InputError for settings that no run could have.
    """
    if config.metric in LOWER_IS_BETTER:
        raise InputError(f"--metric {config.metric}: lower is better; --find_layers keeps a share of a score, as of r2")
    config = with_dtype(config)
    layers = read_config(model_folder(config.model)).num_hidden_layers
    run_groups([_group(config, "all", seeds)], folder)
    undecided: list[Verdict] = []
    curve = recorded_curve(folder, config, seeds)
    for k in range(layers + 1):
        times = search_cost(curve, k, layers, len(seeds))
        if times > budget:
            console.say(
                f"no k below {k} reliably keeps {target:.0%} of the whole model's score, and with k = {k} the search "
                f"would cost about {times:.1f} times its full runs; to continue: "
                f"--budget {math.ceil(10 * times) / 10:g}"
            )
            break
        run_groups([_group(config, k, seeds)], folder)
        curve = recorded_curve(folder, config, seeds)
        verdict = judge(curve, k, target)
        console.say(_describe(verdict, layers))
        if verdict.confidence >= confidence:
            _say_undecided(undecided, target, confidence, seeds)
            _say_answer(config, curve, verdict, layers, seeds[0])
            return verdict
        if verdict.quality >= target or verdict.confidence > 1 - confidence:
            undecided.append(verdict)
    else:
        console.say(f"no number of layers below the whole model reliably keeps {target:.0%} of its score")
    _say_undecided(undecided, target, confidence, seeds)
    return None


def search_cost(curve: Curve, k: int, layers: int, seeds: int) -> float:
    """Seconds of the runs up to k and of the full ones, as a times of the full ones; those of k are estimated.

    The estimate assumes that each further layer adds the same time, from the last k measured to the full model. Returns
    0 if the runs of k are on record already, such as in the folder of a sweep.
    """
    cell, full = curve.cell(k), curve.full
    assert full is not None  # was run before
    if cell is not None and cell.n == seeds:
        return 0.0
    below = [cost(cell).total_seconds for cell in curve.partial if isinstance(cell.layers, int) and cell.layers < k]
    last, whole = below[-1] if below else 0.0, cost(full).total_seconds
    return (sum(below) + last + (whole - last) / (layers + 1 - k) + whole) / whole


def judge(curve: Curve, k: int, target: float) -> Verdict:
    """Compare the runs with k layers to those of the full model. Raises InputError if the full model scores 0."""
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
    confidence = np.mean(means[:, 0] >= target * means[:, 1]) if cell.n > 1 else np.nan
    time = cost(cell).total_seconds / cost(full).total_seconds
    return Verdict(k, cell.mean, full.mean, cell.mean / full.mean, float(low), float(high), float(confidence), time)


def recorded_curve(folder: Path, config: TrainConfig, seeds: Sequence[int]) -> Curve:
    """The runs in folder/results.jsonl of this config, at any k, and of these seeds."""
    asked = (config.task, config.train_file, config.model, config.learning_rate)
    runs = [
        run
        for run in results.read([folder]).runs
        if (run.task, run.config.get("train_file"), run.model, run.learning_rate) == asked and run.seed in seeds
    ]
    return curves(runs)[0]


def _group(config: TrainConfig, layers: Layers, seeds: Sequence[int]) -> Group:
    runs = tuple(dataclasses.replace(config, trainable_layers=layers, seed=seed) for seed in seeds)
    return Group(config.model, config.task, layers, runs)


def _describe(verdict: Verdict, layers: int) -> str:
    interval = "" if np.isnan(verdict.low) else f" ({100 * verdict.low:.1f} to {100 * verdict.high:.1f})"
    what = "the head alone keeps" if verdict.layers == 0 else f"{verdict.layers} of {layers} layers keep"
    return (
        f"{what} {100 * verdict.quality:.1f}%{interval} of full fine-tuning "
        f"({100 * verdict.score:.1f} against {100 * verdict.full_score:.1f}), at {verdict.time:.0%} of its time"
    )


def _say_answer(config: TrainConfig, curve: Curve, verdict: Verdict, layers: int, seed: int) -> None:
    chosen = dataclasses.replace(config, trainable_layers=verdict.layers, seed=seed)
    console.say(f"answer: {_describe(verdict, layers)}; command to train it:")
    console.say(command(chosen))
    cell = curve.cell(verdict.layers)
    if cell is not None and (warning := constant_answer_warning(curve, cell)):
        console.say(warning)


def _say_undecided(undecided: Sequence[Verdict], target: float, confidence: float, seeds: Sequence[int]) -> None:
    if len(seeds) < 2:
        console.say("inconclusive with one seed: give --seeds two or more")
    for verdict in undecided:
        if not np.isnan(verdict.confidence):
            console.say(
                f"whether k = {verdict.layers} keeps {target:.0%} is inconclusive with {len(seeds)} seeds: it does in "
                f"{verdict.confidence:.0%} of the resamples, {confidence:.0%} are required; more --seeds may help"
            )
