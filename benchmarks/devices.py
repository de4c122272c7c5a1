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
DEPTHS: tuple[int | str, ...] = (0, 1, 3, 6, 12, "all")
STEPS = 5


def time_of_step(model: str, layers: int, batch_size: int, rounds: int, shard_optimizer: bool) -> float:
    """Milliseconds of a step on all devices, median of the rounds."""
    import numpy as np
    from jaxfreeze.training.run import Run

    from jaxfreeze.config import TrainConfig

    config = TrainConfig(
        "demo", model=model, trainable_layers=layers, batch_size=batch_size, log_every=STEPS,
        shard_optimizer=shard_optimizer,
    )  # fmt: skip
    run = Run.prepare([config])
    steps, group, seeds = run.get_ready(), next(run.groups())[1], run.seeds()
    trained, state = run.at_start
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        trained, state, metrics = steps(
            trained, state, run.model.frozen, run.train_set.data, group, seeds, np.int32(0)
        )  # fmt: skip
        metrics.loss.block_until_ready()
        times.append(1e3 * (time.perf_counter() - start) / STEPS)
    return statistics.median(times[1:])


def bytes_by_depth() -> dict[str, dict[str, int]]:
    """By number of trained layers: bytes for each kind of collective."""
    from collectives import sent_bytes

    from jaxfreeze import devices
    from jaxfreeze.data.batch import Shape
    from jaxfreeze.freezing import cut_of, label_layers
    from jaxfreeze.model.classifier import Column
    from jaxfreeze.model.encoder import EncoderConfig
    from jaxfreeze.objectives import Classification

    encoder = EncoderConfig(
        model_type="bert", vocab_size=30522, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, max_position_embeddings=512, type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0,
    )  # fmt: skip
    objective, shape, found = Classification(("0", "1")), Shape(8, 128, 4), {}
    for depth in DEPTHS:
        labels = label_layers(Column(encoder, 2, "float32", 0).shapes(), depth, 12)
        column = Column(encoder, 2, "float32", cut_of(labels, 12))
        found[str(depth)] = sent_bytes(column, objective, labels, shape, devices.data_mesh())
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
    plan = BatchPlan.make(store, batch_size, 0, 1, 8)
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
