"""Training steps compiled for TPUs and GPUs that are not here: what they take, send and are estimated to cost.

    pip install "jax[tpu]"                                     # for libtpu, whose compiler needs no TPU
    pip install "jax[cuda]"                                    # for the compiler of --chips h100, which needs no GPU
    python benchmarks/chips.py --chips v5e --counts 1 --depths 3        # k = 3, uncached and cached: some minutes
    python benchmarks/chips.py --family modernbert --rows 4 --width 2048 --depths 3       # long rows
    python benchmarks/chips.py > chips.jsonl                   # the whole table, hours of two cores

The family's base model, one packed batch; nothing is run. Prints a JSON object for each step that is compiled:

    compile_seconds, compile_cpu_seconds
    memory_bytes, share_of_memory   arguments, results, temporaries and code on a device; the tokens of one batch alone
    flops, bytes                    of XLA's cost_analysis, on a device; none for a GPU
    collectives, sent_bytes         how many of each kind, and the bytes of their results
    donated                         whether every trained leaf and all of the optimizer's state is updated in place
    estimated_milliseconds          the compiler's cycles at the chip's clock; gathers, scatters, collectives have none,
                                    nor has anything on a GPU
    copy_share                      share of these cycles in copies and transposes, which compute nothing
    arithmetic_milliseconds, memory_milliseconds     at the chip's peak: of the matrix products; of reading and writing
                                    trained leaves and optimizer state once, and reading the frozen layers
    times_floor                     the estimate over the larger of these two
"""

import os

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

import argparse
import importlib.util
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from chip_table import chip_of
from collectives import by_kind, collectives, compiled_step
from cycles import estimated_cycles
from flops import bert, column_and_labels
from gpu import OBJECTIVE
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from products import step_flops

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Shape
from jaxfreeze.freezing import Labels, Layers
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families import family_of
from jaxfreeze.training import step
from jaxfreeze.training.cost import abstract_inputs, tree_bytes

TOPOLOGIES = {
    "v5e": {4: "v5e:2x2", 8: "v5e:2x4"},
    "v5p": {4: "v5p:2x2x1", 8: "v5p:2x2x2"},
    "v6e": {4: "v6e:2x2", 8: "v6e:2x4"},
    "h100": {count: f"1x1x{count}" for count in (1, 2, 4, 8)},  # one host
}
"""By chip and number of them, the topology that the compiler is told of."""
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  l2_cache_size: 52428800 device_memory_size: 85899345920 memory_bandwidth: 3350000000000
}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 10 patch: 2 }
runtime_version { major: 12 minor: 9 }
"""
"""What XLA's compiler for GPUs asks of a card: compute capability 9.0 as in the CUDA C++ Programming Guide, sizes and
clock of the SXM5 card as in NVIDIA's H100 whitepaper."""


def mesh_of(chip: str, count: int) -> Mesh:
    """So many of the chips, which need not be here, in one axis."""
    name = next(name for size, name in TOPOLOGIES[chip].items() if size >= count)
    found = (
        topologies.get_topology_desc(chip, platform="cuda", target_config=H100, topology=name)
        if chip == "h100"
        else topologies.get_topology_desc(name, platform="tpu")
    )
    return Mesh(np.array(found.devices[:count]), ("data",), axis_types=(AxisType.Auto,))


def modernbert() -> EncoderConfig:
    """ModernBERT-base (Warner et al. 2024): 22 layers of width 768, two of three with a window of 128 tokens."""
    raw = {
        "model_type": "modernbert", "vocab_size": 50368, "hidden_size": 768, "num_hidden_layers": 22,
        "num_attention_heads": 12, "intermediate_size": 1152, "max_position_embeddings": 8192,
        "global_attn_every_n_layers": 3, "local_attention": 128, "classifier_pooling": "mean",
    }  # fmt: skip
    return family_of("modernbert", by_token=False).read_config(raw)


ENCODERS = {"bert": bert(12, 768), "modernbert": modernbert()}


def floor(column: Column, labels: Labels, shape: Shape, mesh: Mesh, cached: bool, shard: bool) -> tuple[float, float]:
    """(arithmetic, memory): seconds that a device needs at the least for its part of a step."""
    chip = chip_of(mesh.devices.flat[0].device_kind)
    assert chip is not None
    trained, state, frozen, *_ = abstract_inputs(column, OBJECTIVE, labels, shape, cached)
    lowest = max(1, column.cut) if cached else 1  # of the embeddings a step reads a few rows
    read = {path: leaf for path, leaf in frozen.items() if freezing.block_of(path, column.num_layers) >= lowest}
    own = 1 / mesh.size if shard else 1.0
    flops = step_flops(column, OBJECTIVE, tuple(sorted(labels.items())), shape, cached) / mesh.size
    return (
        flops / (1e12 * chip.teraflops),
        (2 * tree_bytes(trained) + 2 * own * tree_bytes(state) + tree_bytes(read)) / (1e9 * chip.gigabytes_per_second),
    )


def measure(
    encoder: EncoderConfig, depth: Layers, cached: bool, shape: Shape, mesh: Mesh, dtype: str, shard: bool
) -> dict[str, Any]:
    """Compile one step -> its figures."""
    kind = mesh.devices.flat[0].device_kind
    column, labels = column_and_labels(encoder, OBJECTIVE, depth, dtype, devices.platform_of(mesh))
    jax.config.update("jax_default_matmul_precision", "highest" if dtype == "float32" else "default")
    wall, cpu = time.perf_counter(), time.process_time()
    compiled = compiled_step(column, OBJECTIVE, labels, shape, mesh, cached, shard)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    step.forget_programs()
    donated = len(jax.tree.leaves(abstract_inputs(column, OBJECTIVE, labels, shape, cached)[:2]))
    text, cost, memory = compiled.as_text() or "", compiled.cost_analysis() or {}, compiled.memory_analysis()
    assert memory is not None
    taken = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    taken += memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    found, chip = collectives(text), chip_of(kind)
    assert chip is not None
    return {
        "compile_seconds": round(wall, 1),
        "compile_cpu_seconds": round(cpu, 1),
        "memory_bytes": taken,
        "share_of_memory": round(taken / chip.gigabytes / 2**30, 4),
        "flops": cost.get("flops"),
        "bytes": cost.get("bytes accessed"),
        "collectives": Counter(one.kind for one in found),
        "sent_bytes": by_kind(found),
        "donated": len(re.findall(r"(?:may|must)-alias", text.partition("\n")[0])) == donated,
    } | times(text, floor(column, labels, shape, mesh, cached, shard), chip.gigahertz)


def times(text: str, floors: tuple[float, float], gigahertz: float | None) -> dict[str, float]:
    """The estimate of one step, if the compiler gives one, beside its floors."""
    figures = dict(zip(("arithmetic_milliseconds", "memory_milliseconds"), (1e3 * of for of in floors), strict=True))
    cycles = estimated_cycles(text)
    if cycles and gigahertz:
        figures["estimated_milliseconds"] = 1e-6 * cycles["all"] / gigahertz
        figures["times_floor"] = figures["estimated_milliseconds"] / (1e3 * max(floors))
        figures["copy_share"] = cycles["copies"] / cycles["all"]
    return {name: round(value, 4) for name, value in figures.items()}


def settings(options: argparse.Namespace) -> Iterator[tuple[str, int, Layers, bool]]:
    """(chip, how many, depth, cached) of each step to compile."""
    layers = ENCODERS[options.family].num_hidden_layers
    depths = [{"all": "all", "L": layers}.get(text) or int(text) for text in options.depths]
    for chip, count, depth, cached in itertools.product(options.chips, options.counts, depths, (True, False)):
        if (cached and options.only != "uncached" and depth != "all") or (not cached and options.only != "cached"):
            yield chip, count, depth, cached


def main() -> None:
    """Compile what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="+", choices=TOPOLOGIES, default=list(TOPOLOGIES))
    parser.add_argument("--counts", nargs="+", type=int, choices=(1, 2, 4, 8), default=[1, 4], help="chips of a step")
    parser.add_argument("--family", choices=ENCODERS, default="bert")
    parser.add_argument("--depths", nargs="+", default=["0", "1", "3", "L", "all"], help="k; L: every layer, or all")
    parser.add_argument("--only", choices=("cached", "uncached"), help="one of the two")
    parser.add_argument("--rows", type=int, default=16, help="of the batch, over all chips")
    parser.add_argument("--width", type=int, default=128, help="slots of a row")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--shard_optimizer", action="store_true")
    options = parser.parse_args()
    for chip in options.chips:
        package, extra = ("jax_plugins", "cuda") if chip == "h100" else ("libtpu", "tpu")
        if importlib.util.find_spec(package) is None:
            sys.exit(f'{chip}: {package} is not installed; `pip install "jax[{extra}]"` installs it for this jax')
    shape = Shape(options.rows, options.width, 1)
    for chip, count, depth, cached in settings(options):
        which = {name: getattr(options, name) for name in ("family", "rows", "width", "dtype", "shard_optimizer")}
        which |= {"chip": chip, "count": count, "trainable_layers": depth, "cached": cached}
        try:
            mesh = mesh_of(chip, count)
            encoder = ENCODERS[options.family]
            figures = measure(encoder, depth, cached, shape, mesh, options.dtype, options.shard_optimizer)
        except Exception as error:  # noqa: BLE001
            figures = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(which | figures), flush=True)


if __name__ == "__main__":
    main()
