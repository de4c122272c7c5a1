"""What more tasks on one trunk cost: 1, 3 and 8 runs answer for the same texts, together and one after the other.

    python benchmarks/shared_trunk.py        # some five minutes on two cores

The runs have the last layer trained (`--trainable_layers`), each with another seed, for one step: what they answer does
not matter here. Texts are the demo's pairs, tokenised in the time that is measured. Every round takes all settings in
turn. Prints a JSON object: seconds by number of tasks, medians, and their ratios to one task.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

COUNTS = (1, 3, 8)


def main() -> None:
    """Train the runs, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--trainable_layers", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from versus_pytorch import commit, machine, now

    from jaxfreeze import console, finetune
    from jaxfreeze.data.demo import demo_split
    from jaxfreeze.data.split import Split
    from jaxfreeze.inference.shared_trunk import SharedTrunk

    texts = tuple(column[: options.rows] for column in demo_split("train").texts)
    chunks = [Split("test", tuple(c[i : i + 1024] for c in texts), None) for i in range(0, len(texts[0]), 1024)]

    def seconds(trunks: list[SharedTrunk]) -> float:
        start = time.perf_counter()
        for trunk in trunks:
            for _ in trunk.stream(chunks):
                pass
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder, console.on_stderr():
        os.environ["JAXFREEZE_CACHE"] = f"{folder}/cache"
        runs = [
            finetune("demo", model=options.model, trainable_layers=options.trainable_layers, max_steps=1, seed=seed,
                     cache="off", output_dir=Path(folder) / f"seed{seed}")
            for seed in range(COUNTS[-1])
        ]  # fmt: skip
        paths = [run.path for run in runs]
        together = {count: [SharedTrunk(paths[:count])] for count in COUNTS}
        apart = {count: [SharedTrunk([path]) for path in paths[:count]] for count in COUNTS[1:]}
        settings = {**{f"{n} together": t for n, t in together.items()}, **{f"{n} apart": t for n, t in apart.items()}}
        times: dict[str, list[float]] = {name: [] for name in settings}
        for _ in range(options.rounds + 1):  # the first one compiles
            for name, trunks in settings.items():
                times[name].append(seconds(trunks))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    ratios = {
        name: round(statistics.median(a / b for a, b in zip(values[1:], times["1 together"][1:], strict=True)), 3)
        for name, values in times.items()
    }
    result = {"date": now(), "commit": commit(), "machine": machine(), "rows": len(texts[0])}
    print(json.dumps(result | {"seconds": {n: round(s, 2) for n, s in medians.items()}, "of one task": ratios}))


if __name__ == "__main__":
    main()
