"""Side by side against one by one: the runs of a sweep on one trunk in one program, or each by itself.

    python benchmarks/gpu_sweep.py --data_dir GLUE --model DIR           # RTE, k = 1, 5 learning rates x 5 seeds
    python benchmarks/gpu_sweep.py --data_dir GLUE --model DIR --ways one_by_one --seeds 1 2 --output cpu.json   # a CPU
    python benchmarks/gpu_sweep.py --data_dir GLUE --model DIR --compare cpu.json

Each way is one process with an empty cache folder: `together` is `run.py sweep` as it is on an accelerator, and
`one_by_one` the same sweep with one run in a program; trunk, cache and compiled program are shared here too.
Prints a JSON object: seconds of each process and of its training steps, all scores, and how scores of the same run
differ between the ways and from those in the file that --compare names, beside their spread over the seeds.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

WAYS = ("together", "one_by_one")

Scores = dict[str, float]
"""By 'learning rate/seed'."""


def sweep(options: argparse.Namespace, way: str, folder: Path) -> None:
    """Make the sweep in this process."""
    import jax

    from jaxfreeze.sweep import runner, workshop
    from jaxfreeze.sweep.grid import make_grid

    values = {
        "models": [options.model], "tasks": [options.task], "trainable_layers": [options.trainable_layers],
        "learning_rates": options.learning_rates, "seeds": options.seeds, "epochs": options.epochs,
        "dtype": options.dtype, "data_dir": options.data_dir,
    }  # fmt: skip
    if way == "one_by_one":
        workshop.side_by_side = lambda group, runs: 1
    elif jax.default_backend() == "cpu":  # where the program would not do it
        workshop.side_by_side = lambda group, runs: runs
    runner.sweep(make_grid(values, "gpu_sweep.py"), folder)


def measure(options: argparse.Namespace, way: str) -> dict[str, Any]:
    """One way, in a process of its own."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--folder", f"{work}/sweep"]
        started = time.perf_counter()
        with contextlib.suppress(subprocess.TimeoutExpired):
            environment = os.environ | {"JAXFREEZE_CACHE": f"{work}/cache"}
            subprocess.run(command, check=True, env=environment, stdout=sys.stderr, timeout=options.limit)
        seconds = time.perf_counter() - started
        file = Path(work, "sweep", "results.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    if not lines:
        return {"runs": 0, "seconds": round(seconds, 1), "scores": {}}
    parts: dict[str, float] = {}
    for line in lines:
        for part, value in line["seconds"].items():
            parts[part] = parts.get(part, 0.0) + value
    return {
        "runs": len(lines),
        "seconds": round(seconds, 1),
        "seconds_of": {part: round(value, 2) for part, value in parts.items()},
        "train_examples_per_second": round(sum(line["examples"] for line in lines) / parts["train"]),
        "in_a_program": lines[0]["side_by_side"],
        "device": lines[0]["devices"],
        "scores": {f"{line['learning_rate']:g}/{line['seed']}": score(line) for line in lines},
    }


def score(line: dict[str, Any]) -> float:
    """A run's score."""
    return line["metrics"][line["primary_metric"]]


def difference(one: Scores, other: Scores) -> dict[str, float]:
    """How scores of the same runs differ."""
    both = [one[run] - other[run] for run in one if run in other]
    return {
        "runs": len(both),
        "largest": round(max(map(abs, both)), 4),
        "mean": round(statistics.fmean(both), 5),
    } if both else {"runs": 0}  # fmt: skip


def spread(scores: Scores) -> dict[str, float]:
    """By learning rate: the standard deviation over its seeds."""
    rates: dict[str, list[float]] = {}
    for run, value in scores.items():
        rates.setdefault(run.split("/")[0], []).append(value)
    return {rate: round(statistics.stdev(values), 4) for rate, values in rates.items() if len(values) > 1}


def main() -> None:
    """Measure each way, or be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", default="rte")
    parser.add_argument("--trainable_layers", type=int, default=1)
    parser.add_argument("--learning_rates", type=float, nargs="+", default=[2e-5, 5e-5, 1e-4, 2e-4, 5e-4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--limit", type=float, help="seconds for each way; what is finished by then counts")
    parser.add_argument("--compare", help="what this script printed elsewhere")
    parser.add_argument("--output", help="a file for what is printed")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        sweep(options, options.way, options.folder)
        return
    settings = ("task", "trainable_layers", "learning_rates", "seeds", "epochs", "dtype")
    result: dict[str, Any] = {name: getattr(options, name) for name in settings}
    result["versions"] = {name: version(name) for name in ("jax", "flax", "optax")}
    for way in options.ways:
        result[way] = measure(options, way)
        print(json.dumps({way: result[way]}), file=sys.stderr, flush=True)
        result["spread_over_seeds"] = spread(result[way]["scores"])
    if len(options.ways) > 1:
        one, all_ = result["one_by_one"], result["together"]
        if one["runs"] == all_["runs"]:
            result["speed_up"] = round(one["seconds"] / all_["seconds"], 2)
        result["difference"] = difference(result["together"]["scores"], result["one_by_one"]["scores"])
    if options.compare:
        known = json.loads(Path(options.compare).read_text())
        there = next(known[way] for way in WAYS if way in known)
        result["compared_with"] = there["device"]
        result["difference_there"] = {way: difference(result[way]["scores"], there["scores"]) for way in options.ways}
    print(json.dumps(result))
    if options.output:
        Path(options.output).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
