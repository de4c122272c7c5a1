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
from typing import Literal

import numpy as np

from jaxfreeze import devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.training.run import Run
from jaxfreeze.training.step import compiled_train_steps

STEPS = 5


class Contestant:
    """A policy's compiled steps and their state."""

    def __init__(self, model: str, trainable_layers: int | Literal["all"], cache: Literal["device", "off"]) -> None:
        config = TrainConfig("demo", model=model, trainable_layers=trainable_layers, cache=cache, log_every=STEPS)
        self.run = Run.prepare([config])
        self.run.fill_cache()
        self.seeds = self.run.seeds()
        self.trained = self.run.model.trained
        self.state = self.run.initial_state(self.trained)
        self.group = next(self.run.groups())[1]

    def time(self) -> float:
        """Milliseconds of a step."""
        start = time.perf_counter()
        self.trained, self.state, metrics = compiled_train_steps(
            self.run.program, self.run.optimizer, self.trained, self.state, self.run.model.frozen,
            self.run.train_set.data, self.group, self.seeds, np.int32(0),
        )  # fmt: skip
        metrics.loss.block_until_ready()
        return 1e3 * (time.perf_counter() - start) / STEPS


def main() -> None:
    """Time the contestants in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--trainable_layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    contestants = {
        "cached": Contestant(options.model, options.trainable_layers, "device"),
        "uncached": Contestant(options.model, options.trainable_layers, "off"),
        "all": Contestant(options.model, "all", "off"),
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
        "devices": devices.describe(contestants["all"].run.mesh),
        "jax": version("jax"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
