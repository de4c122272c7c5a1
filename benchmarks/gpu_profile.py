"""Where the time goes on an accelerator: the card's ceilings, the trunk pass, gather, optimizer, and a step's kernels.

    python benchmarks/gpu_profile.py --output DIR                # BERT-base shapes, random weights, bfloat16
    python benchmarks/gpu_profile.py --output DIR --layers 2 --hidden_size 64 --examples 600 --sizes 16 --square 512

Prints a JSON object, and a line as each part is done; a part that fails is reported with its error:

    ceilings     a large matrix product (bfloat16) and a large copy (bytes read and written), in this process
    trunk pass   9 of the 12 layers over a split: tokens/s and share of peak of the device alone, and of the whole pass
                 as a run makes it, with packing, copies to the host and the host's writes
    gather       20 batches from the trunk cache, alone; bytes read and written a second
    optimizer    one update of the trained leaves, clipping included, alone
    steps        by (k, batch size): milliseconds a step with 1, 5 and 20 in a dispatch, and the kernels of 20 steps as
                 JAX's profiler saw them: how long the device was busy, and the longest kernels

The compiled programs of the steps are written to DIR as text.
"""

import argparse
import functools
import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from chip_table import peak_of
from flops import bert
from gpu import OBJECTIVE, Ours, random_params, random_store
from products import product_flops

from jaxfreeze import devices
from jaxfreeze.data.batch import Tokens
from jaxfreeze.data.batches import evaluation_batches
from jaxfreeze.data.hidden_store import Layout
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.training.dataset import Dataset
from jaxfreeze.training.optimizer import apply_gradients
from jaxfreeze.training.step import Data, compiled_trunk_step, trunk_step
from jaxfreeze.training.trunk_cache import TrunkCache, load_or_compute

SAME = 10  # calls between two looks at the clock


def seconds_of(call: Callable[[], Any], rounds: int = 7) -> float:
    """Median seconds of one call; several are on the way at once."""
    jax.block_until_ready([call() for _ in range(2)])
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready([call() for _ in range(SAME)][-1])
        taken.append((time.perf_counter() - began) / SAME)
    return statistics.median(taken)


def ceilings(size: int) -> dict[str, float]:
    """What this card does at best."""
    one, other = (jax.random.normal(jax.random.key(n), (size, size), jnp.bfloat16) for n in range(2))
    product = jax.jit(jnp.matmul)
    seconds = seconds_of(lambda: product(one, other))
    large = jnp.zeros((size * size * 8,), jnp.float32) + 1.5
    copy = jax.jit(lambda x: x + 1)
    return {
        "tflops": round(2 * size**3 / seconds / 1e12, 1),
        "copy_gb_per_second": round(2 * large.nbytes / seconds_of(lambda: copy(large)) / 1e9, 1),
    }


def trunk_pass(encoder: EncoderConfig, examples: int, peak: float | None) -> dict[str, Any]:
    """One pass of the trunk below k = 3, or below the last layer."""
    mesh, store = devices.data_mesh(1), random_store(examples, encoder.vocab_size)
    layers = max(1, encoder.num_hidden_layers - 3)
    on = devices.platform_of(mesh)
    column = Column(encoder, OBJECTIVE.num_outputs, "bfloat16", cut=layers + 1, platform=on)
    leaves = random_params({path: leaf.shape for path, leaf in column.shapes().items()})
    params = devices.replicate({path: leaf.astype(jnp.bfloat16) for path, leaf in leaves.items()}, mesh)
    tokens = Tokens(store.token_id, store.token_type, store.position)
    dataset = Dataset("train", store, devices.replicate(Data(tokens, store.label), mesh))
    began = time.perf_counter()
    batches = list(evaluation_batches(store, devices.pass_batch_size(), mesh.size))
    packing = time.perf_counter() - began
    on_device = [devices.put(batch, devices.by_row(mesh)) for batch in batches]

    def step(batch: Any) -> jax.Array:
        return compiled_trunk_step(column, 0, params, dataset.data, batch)

    of_each_shape = {batch.shape: batch for batch in batches}
    began = time.perf_counter()
    for batch in of_each_shape.values():
        jax.block_until_ready(step(devices.put(batch, devices.by_row(mesh))))
    compiling = time.perf_counter() - began
    alone = []
    for _ in range(3):
        began = time.perf_counter()
        for batch in on_device:
            last = step(batch)
        jax.block_until_ready(last)
        alone.append(time.perf_counter() - began)
    layout = Layout("trial", store.num_tokens, encoder.hidden_size, np.dtype(jnp.bfloat16), False)
    began = time.perf_counter()
    load_or_compute(TrunkCache("host", layouts={dataset.name: layout}), dataset, column, params, mesh)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    rows = np.asarray(last)
    fetching = rows.nbytes / (time.perf_counter() - began)
    trunk = functools.partial(trunk_step, column, 0)
    by_shape = {shape: product_flops(trunk, params, dataset.data, batch) for shape, batch in of_each_shape.items()}
    flops = sum(by_shape[batch.shape] for batch in batches)
    slots = sum(batch.shape.slots for batch in batches)
    result = {
        "layers": layers, "tokens": int(store.num_tokens), "real_tokens": round(store.num_tokens / slots, 3),
        "shapes": sorted({(shape.rows, shape.width, shape.segments) for shape in (batch.shape for batch in batches)}),
        "compile_seconds": round(compiling, 1), "device_seconds": round(min(alone), 3), "pass_seconds": round(whole, 3),
        "packing_seconds": round(packing, 3), "fetch_gb_per_second": round(fetching / 1e9, 2),
        "device_tokens_per_second": round(store.num_tokens / min(alone)),
        "pass_tokens_per_second": round(store.num_tokens / whole),
    }  # fmt: skip
    if peak:
        result |= {
            "device_share_of_peak": round(flops / min(alone) / peak, 4),
            "pass_share": round(flops / whole / peak, 4),
        }
    return result


def gather(ours: Ours) -> dict[str, Any]:
    """The batches of the largest shape, from the trunk cache."""
    assert ours.data.hidden is not None
    largest = max((batch.shape for batch in ours.batches), key=lambda shape: shape.slots)
    index = jax.device_put(np.stack([batch.index for batch in ours.batches if batch.shape == largest]))
    take = jax.jit(lambda hidden, index: hidden[index])
    seconds = seconds_of(lambda: take(ours.data.hidden, index))
    size = index.size * ours.column.encoder.hidden_size * 2
    return {
        "milliseconds_a_step": round(1e3 * seconds / len(index), 4),
        "gb_per_second": round(2 * size / seconds / 1e9, 1),
        "batches": len(index),
    }


def update(ours: Ours) -> dict[str, float]:
    """The optimizer's part of a step."""
    gradients = {path: 1e-3 * jnp.ones_like(leaf) for path, leaf in ours.trained.items()}
    apply = jax.jit(apply_gradients, static_argnums=(0, 1), donate_argnums=(3, 4))
    held = [jax.tree.map(jnp.copy, ours.trained), jax.tree.map(jnp.copy, ours.state)]

    def call() -> Any:
        held[:] = apply(ours.program.optimizer, ours.program.labels, gradients, held[1], held[0], ours.frozen)
        return held[0]

    call()
    seconds = statistics.median(_timed(call) for _ in range(20))
    size = sum(leaf.nbytes for leaf in ours.trained.values())
    return {"milliseconds": round(1e3 * seconds, 3), "gb_per_second": round(7 * size / seconds / 1e9, 1)}


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def kernels(call: Callable[[], Any]) -> dict[str, Any]:
    """What the profiler says of the device during a call."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with jax.profiler.trace(folder):
            call()
        wall = time.perf_counter() - began
        file = next(Path(folder).rglob("*.xplane.pb"))
        data = jax.profiler.ProfileData.from_file(str(file))
        names: dict[str, list[float]] = {}
        spans = []
        for plane in data.planes:
            if "/device:" not in plane.name:
                continue
            for line in plane.lines:
                if "Stream" not in line.name and "XLA Ops" not in line.name:
                    continue
                for event in line.events:
                    names.setdefault(event.name, []).append(event.duration_ns)
                    spans.append((event.start_ns, event.start_ns + event.duration_ns))
    spans.sort()
    busy, until = 0.0, 0.0
    for begin, end in spans:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    longest = sorted(names.items(), key=lambda item: -sum(item[1]))[:40]
    return {
        "events": len(spans),
        "busy_milliseconds": round(busy / 1e6, 3),
        "span_milliseconds": round((spans[-1][1] - spans[0][0]) / 1e6, 3) if spans else None,
        "wall_seconds": round(wall, 3),
        "longest": {name[:90]: [len(times), round(sum(times) / 1e6, 3)] for name, times in longest},
    }


def steps(ours: Ours, peak: float | None) -> dict[str, Any]:
    """A step's time by the number of steps in a dispatch, and its kernels."""
    whole = ours.dispatch
    found: dict[str, Any] = {}
    for count in sorted({1, min(5, ours.steps), ours.steps}):
        ours.dispatch = whole._replace(count=jax.device_put(np.int32(count), whole.count.sharding))
        ours.run()
        found[f"milliseconds, {count} in a dispatch"] = round(
            1e3 * statistics.median(ours.run() for _ in range(9)) / count, 3
        )
    seconds = found[f"milliseconds, {ours.steps} in a dispatch"] * 1e-3
    found["matmul_gflop"] = round(ours.flops / ours.steps / 1e9, 2)
    if peak:
        found["floor_milliseconds"] = round(1e3 * ours.flops / ours.steps / peak, 3)
        found["share_of_peak"] = round(ours.flops / ours.steps / seconds / peak, 4)
    found["kernels"] = kernels(ours.run)
    return found


def main() -> None:
    """Measure part by part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden_size", type=int, default=768)
    parser.add_argument("--examples", type=int, default=32768)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--shapes", type=int, default=4)
    parser.add_argument("--square", type=int, default=8192)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--depths", nargs="+", default=["3", "all"])
    parser.add_argument("--skip", nargs="+", default=[], choices=("ceilings", "trunk"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    devices.configure("bfloat16")
    encoder = bert(options.layers, options.hidden_size)
    kind = jax.local_devices()[0].device_kind
    peak = peak_of(kind)
    found: dict[str, Any] = {"device": kind, "versions": {name: version(name) for name in ("jax", "flax", "optax")}}

    def part(name: str, call: Callable[[], Any]) -> None:
        try:
            found[name] = call()
        except Exception as error:  # noqa: BLE001
            found[name] = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps({name: found[name]}), flush=True)

    if "ceilings" not in options.skip:
        part("ceilings", lambda: ceilings(options.square))
    if "trunk" not in options.skip:
        part("trunk pass", lambda: trunk_pass(encoder, options.examples, peak))
    for text in options.depths:
        depth = "all" if text == "all" else min(int(text), options.layers - 1)
        for size in options.sizes:
            name = f"k = {depth}, batch {size}"
            store = random_store(max(2048, size * options.steps), encoder.vocab_size)
            ours = Ours(encoder, store, depth, size, options)
            if depth != "all":
                ours.with_cache(store)
            part(f"compile, {name}", lambda ours=ours: ours.compile() or {"seconds": round(ours.compile_seconds, 1)})
            text_of = ours.compiled.as_text() or ""
            file = options.output / f"steps-{depth}-{size}.hlo.gz"
            file.write_bytes(gzip.compress(text_of.encode()))
            part(f"steps, {name}", lambda ours=ours: steps(ours, peak))
            part(f"optimizer, {name}", lambda ours=ours: update(ours))
            if depth != "all":
                part(f"gather, {name}", lambda ours=ours: gather(ours))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
