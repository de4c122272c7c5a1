"""What sharing a step among devices costs: time on 1, 2, 4 and 8 simulated devices, and the bytes that they exchange.

    python benchmarks/devices.py --model demo                # about ten minutes on two cores
    python benchmarks/devices.py --model demo --only bytes   # of BERT-base, from compiled programs; nothing is run

Simulated devices share the cores of one machine, so more of them cannot be faster: `strong` is the time of a step on
the same batch, ideally the same for each number of devices; `weak` that of a batch which grows with it, ideally so many
times the first. What is above that is the price of sharing. `bytes` are those that a device gives to collectives in
one step on 8 devices, BERT-base, for each number of trained layers, from the cache. `packing` is the time to lay a
batch of so many examples into rows, which every process does for the whole batch. Prints a JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

COUNTS = (1, 2, 4, 8)


def time_of_step(model: str, layers: int, batch_size: int, rounds: int, shard_optimizer: bool) -> float:
    """Milliseconds of a step on all devices, median of the rounds."""
    from step_time import STEPS, Contestant

    from jaxfreeze.config import TrainConfig

    contestant = Contestant(TrainConfig(
        "demo", model=model, trainable_layers=layers, batch_size=batch_size, log_every=STEPS,
        shard_optimizer=shard_optimizer,
    ))  # fmt: skip
    return statistics.median([contestant.time() for _ in range(rounds + 1)][1:])


def bytes_by_depth() -> dict[str, dict[str, int]]:
    """By number of trained layers: bytes for each kind of collective."""
    from collectives import sent_bytes
    from flops import DEPTHS, LAYERS, TWO_CLASSES, bert, column_and_labels

    from jaxfreeze import devices
    from jaxfreeze.data.batch import Shape

    found, mesh = {}, devices.data_mesh()
    for depth in DEPTHS:
        column, labels = column_and_labels(bert(LAYERS, 768), TWO_CLASSES, depth)
        found[str(depth)] = sent_bytes(column, TWO_CLASSES, labels, Shape(8, 128, 4), mesh)
    return found


def packing(batch_size: int) -> dict[str, float]:
    """Milliseconds to make a batch on the host, and seconds to choose the shapes: 200,000 examples, about 40 tokens."""
    import numpy as np

    from jaxfreeze.data.batches import BatchPlan
    from jaxfreeze.data.token_store import TokenStore

    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(3.55, 0.5, 200_000).astype(int), 5, 128)  # near MNLI's
    start = np.concatenate([[0], np.cumsum(lengths)])
    nothing = np.zeros(start[-1], np.int32)
    store = TokenStore(
        nothing, nothing.astype(np.int8), nothing.astype(np.int16), start, np.zeros(len(lengths), np.int32)
    )
    begin = time.perf_counter()
    plan = BatchPlan.make(store, batch_size, (0,), 1, 8)
    chosen, batches = time.perf_counter(), plan.batches()
    count = max(3, 4096 // batch_size)
    for _ in range(count):
        next(batches)
    return {"ms_per_batch": 1e3 * (time.perf_counter() - chosen) / count, "seconds_for_shapes": chosen - begin}


def child(count: int, *arguments: str) -> Any:
    """This script on so many devices -> what it prints."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "--child", *arguments]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--trainable_layers", type=int, default=3)
    parser.add_argument(
        "--batch_size", type=int, default=32, help="of the strong scaling; the weak one takes 1/4 a device"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--shard_optimizer", action="store_true", help="a part of the optimizer's state on each device")
    parser.add_argument("--only", choices=("time", "bytes", "packing"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        model, layers, size = options.model, options.trainable_layers, options.batch_size
        time_or_bytes = (
            bytes_by_depth()
            if options.only == "bytes"
            else time_of_step(model, layers, size, options.rounds, options.shard_optimizer)
        )
        print(json.dumps(time_or_bytes))
        return
    from versus_pytorch import commit, machine, now

    result: dict[str, Any] = {"date": now(), "commit": commit(), "machine": machine()}
    if options.only in (None, "time"):
        shard = ("--shard_optimizer",) if options.shard_optimizer else ()
        flags = (*shard, "--model", options.model, "--trainable_layers", str(options.trainable_layers), "--rounds")
        for name in ("strong", "weak"):
            sizes = {n: options.batch_size if name == "strong" else options.batch_size // 4 * n for n in COUNTS}
            times = {n: child(n, *flags, str(options.rounds), "--batch_size", str(size)) for n, size in sizes.items()}
            result[name] = {n: {"batch_size": sizes[n], "ms_per_step": round(ms, 1)} for n, ms in times.items()}
    if options.only in (None, "packing"):
        result["packing"] = {size: packing(size) for size in (16, 128, 512, 2048)}
    if options.only in (None, "bytes"):
        result["bytes"] = child(8, "--only", "bytes")
        full = sum(result["bytes"]["all"].values())
        result["share_of_all"] = {
            depth: round(sum(sent.values()) / full, 4) for depth, sent in result["bytes"].items()
        }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
