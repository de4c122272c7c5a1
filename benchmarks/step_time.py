"""What freezing saves here: steps for the last k layers, from the trunk cache and without it, and for all, in turn.

    python benchmarks/step_time.py --model demo --trainable_layers 3

Prints a JSON object: milliseconds of a step (medians over the rounds), and the medians of the ratios by round of
training all layers to each of the two. One round is a dispatch of 5 steps on 16 packed examples of the demo set each,
float32, dropout on.
"""

import argparse
import json
import statistics
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from jaxfreeze import console, devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.training import experiment as experiments
from jaxfreeze.training import preparation
from jaxfreeze.training.stopwatch import Stopwatch

STEPS = 5


class Contestant:
    """An experiment's compiled steps and their state, and its first dispatch, of STEPS steps."""

    def __init__(self, config: TrainConfig) -> None:
        watch = Stopwatch()
        with console.on_stderr():
            prepared = preparation.prepare([config], watch)
            self.state = experiments.begin(prepared)
            self.experiment = experiments.get_ready(prepared, self.state, watch)
        self.steps = experiments.compile_steps(self.experiment, self.state)  # found: get_ready has compiled them
        _, self.dispatch = next(experiments.dispatches(self.experiment, done=0))

    def time(self) -> float:
        """Milliseconds of a step."""
        frozen, data = self.experiment.model.frozen, self.experiment.train_set.data
        start = time.perf_counter()
        trained, state, metrics = self.steps(
            self.state.trained, self.state.optimizer_state, frozen, data, self.dispatch, self.experiment.seeds,
            np.int32(0),
        )  # fmt: skip
        metrics.loss.block_until_ready()
        seconds = time.perf_counter() - start
        self.state = self.state._replace(trained=trained, optimizer_state=state)
        return 1e3 * seconds / STEPS


def main() -> None:
    """Time the contestants in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--trainable_layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    policies: dict[str, dict[str, Any]] = {
        "cached": {"trainable_layers": options.trainable_layers, "cache": "device"},
        "uncached": {"trainable_layers": options.trainable_layers, "cache": "off"},
        "all": {"trainable_layers": "all", "cache": "off"},
    }
    contestants = {
        name: Contestant(TrainConfig("demo", model=options.model, log_every=STEPS, **policy))
        for name, policy in policies.items()
    }
    rounds = [{name: one.time() for name, one in contestants.items()} for _ in range(options.rounds + 1)][1:]
    result = {
        "trainable_layers": options.trainable_layers,
        "milliseconds": {name: round(statistics.median(times[name] for times in rounds), 1) for name in contestants},
        "times_faster_than_all": {
            name: round(statistics.median(times["all"] / times[name] for times in rounds), 2)
            for name in ("cached", "uncached")
        },
        "rounds": options.rounds,
        "devices": devices.describe(contestants["all"].experiment.mesh),
        "jax": version("jax"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
