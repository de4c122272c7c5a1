"""What freezing saves on this machine: a training step for the last k layers against one for all, timed in turn.

    python benchmarks/step_time.py --model demo --trainable_layers 3

Prints a JSON object: medians over the steps, in milliseconds, and the median of their ratios step by step. The batch is
16 packed examples of the demo set, float32, dropout on.
"""

import argparse
import json
import statistics
import time
from importlib.metadata import version

import jax
import numpy as np

from jaxfreeze import devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.training.loop import Run


class Contestant:
    """A policy's compiled step and its state."""

    def __init__(self, model: str, trainable_layers: str) -> None:
        layers = trainable_layers if trainable_layers == "all" else int(trainable_layers)
        self.run = Run.prepare(TrainConfig(task="demo", model=model, trainable_layers=layers, max_steps=1000))
        self.key = jax.device_put(jax.random.key(0), devices.replicated(self.run.mesh))
        self.trained = self.run.model.trained
        init = jax.jit(self.run.optimizer.init, out_shardings=devices.replicated(self.run.mesh))
        self.state = init(self.run.model.params())
        batch = next(iter(self.run.batches()))
        self.batch = jax.device_put(batch, devices.by_row(self.run.mesh))
        steps = self.run.compile(self.trained, self.state, self.key)
        self.step = steps[(*batch.index.shape, batch.first.shape[1])]

    def time(self, number: int) -> float:
        """Milliseconds of one step."""
        start = time.perf_counter()
        self.trained, self.state, metrics = self.step(
            self.trained,
            self.state,
            self.run.model.frozen,
            self.run.train_set.data,
            self.batch,
            self.key,
            np.int32(number),
        )
        metrics.loss.block_until_ready()
        return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Time both policies in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--trainable_layers", default="3")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    few, every = Contestant(options.model, options.trainable_layers), Contestant(options.model, "all")
    times = [(few.time(number), every.time(number)) for number in range(options.steps + 2)][2:]
    medians = [round(statistics.median(column), 1) for column in zip(*times, strict=True)]
    ratios = [all_layers / last_k for last_k, all_layers in times]
    result = {
        "trainable_layers": options.trainable_layers,
        "milliseconds": medians[0],
        "milliseconds_all": medians[1],
        "times_faster": round(statistics.median(ratios), 2),
        "steps": options.steps,
        "devices": devices.describe(few.run.mesh),
        "jax": version("jax"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
