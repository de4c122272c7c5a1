"""What sharing saves: a sweep against the same runs made one by one, without the trunk cache and by Trainer.

    python benchmarks/sweep.py --data_dir GLUE --model DIR                    # MRPC, k = 0 1 2 3, three seeds
    python benchmarks/sweep.py --data_dir GLUE --model DIR --contestants sweep one_by_one --seeds 1

DIR as for versus_pytorch.py. The contestants: `sweep` is one process (`run.py sweep`) with an empty cache folder;
`one_by_one` a process for each run (`run.py --cache off`), compiled programs kept between them; `trainer` a process for
each run of pytorch_trainer.py, float32. Prints a JSON object: seconds of each, and the sweep's share of the others'.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from versus_pytorch import OFFLINE, WAIT_POLICY, commit, machine, now, run_process

CONTESTANTS = ("sweep", "one_by_one", "trainer")


def run_sweep(options: argparse.Namespace, work: Path) -> float:
    """Seconds of the sweep."""
    axes = {"models": [options.model], "tasks": [options.task], "trainable_layers": options.trainable_layers}
    command = [sys.executable, "run.py", "sweep", "--output_dir", f"{work}/sweep", "--data_dir", options.data_dir]
    for name, values in (axes | {"seeds": options.seeds}).items():
        command += [f"--{name}", *map(str, values)]
    return run_process([*command, "--epochs", options.epochs], OFFLINE | {"JAXFREEZE_CACHE": f"{work}/cache"}).seconds


def run_each(options: argparse.Namespace, work: Path, contestant: str) -> float:
    """Seconds of all runs, one process after the other."""
    seconds = 0.0
    for layers in options.trainable_layers:
        for seed in options.seeds:
            flags = ["--task", options.task, "--data_dir", options.data_dir, "--model", options.model]
            flags += ["--trainable_layers", layers, "--seed", seed, "--epochs", options.epochs]
            if contestant == "trainer":
                command = [sys.executable, "benchmarks/pytorch_trainer.py", *flags, "--dtype", "float32"]
                environment = OFFLINE | {"OMP_WAIT_POLICY": WAIT_POLICY}
            else:
                command = [
                    sys.executable,
                    "run.py",
                    *flags,
                    "--cache",
                    "off",
                    "--output_dir",
                    f"{work}/{layers}-{seed}",
                ]
                environment = OFFLINE | {"JAXFREEZE_CACHE": f"{work}/cache"}
            seconds += run_process(command, environment).seconds
    return seconds


def main() -> None:
    """Run the contestants in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--trainable_layers", nargs="+", default=["0", "1", "2", "3"])
    parser.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    options = parser.parse_args()
    options.data_dir, options.model = (str(Path(path).resolve()) for path in (options.data_dir, options.model))
    seconds = {}
    for contestant in options.contestants:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            taken = run_sweep(options, work) if contestant == "sweep" else run_each(options, work, contestant)
        seconds[contestant] = round(taken, 1)
        print(f"{contestant}: {taken:.1f} s", file=sys.stderr)
    shares = {name: round(seconds["sweep"] / value, 3) for name, value in seconds.items() if "sweep" in seconds}
    settings = {name: getattr(options, name) for name in ("task", "trainable_layers", "seeds", "epochs")}
    header = {"date": now(), "commit": commit(), "machine": machine(), **settings}
    print(json.dumps(header | {"seconds": seconds, "sweep_as_a_share_of": shares}))


if __name__ == "__main__":
    main()
