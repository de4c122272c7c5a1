"""Training steps compiled for TPUs that are not here: what they take, send and are estimated to cost; nothing is run.

    pip install "jax[tpu]"                                     # for libtpu, whose compiler needs no TPU
    python benchmarks/chips.py --chips v5e --counts 1 --depths 3        # k = 3, uncached and cached: some minutes
    python benchmarks/chips.py > chips.jsonl                   # the whole table, hours of two cores

BERT-base with random weights, one packed batch. Prints a JSON object for each step that is compiled:

    compile_seconds, compile_cpu_seconds
    memory_bytes, share_of_memory   arguments, results, temporaries and code on a device; the tokens of one batch alone
    flops, bytes                    of XLA's cost_analysis, on a device
    collectives, sent_bytes         how many of each kind, and the bytes of their results
    donated                         whether every trained leaf and all of the optimizer's state is updated in place
    estimated_milliseconds          the compiler's cycles at the chip's clock; gathers, scatters, collectives have none
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
from flops import LAYERS, bert, column_and_labels
from gpu import OBJECTIVE, matmul_flops
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Shape
from jaxfreeze.freezing import Labels, Layers
from jaxfreeze.model.classifier import Column
from jaxfreeze.training import step
from jaxfreeze.training.cost import abstract_inputs, tree_bytes

TOPOLOGIES = {
    "v5e": {4: "v5e:2x2", 8: "v5e:2x4"},
    "v5p": {4: "v5p:2x2x1", 8: "v5p:2x2x2"},
    "v6e": {4: "v6e:2x2", 8: "v6e:2x4"},
}
"""By chip and number of them, the topology that the compiler is told of."""


def mesh_of(chip: str, count: int) -> Mesh:
    """So many of the chips, which need not be here, in one axis."""
    name = next(name for size, name in TOPOLOGIES[chip].items() if size >= count)
    found = topologies.get_topology_desc(name, platform="tpu").devices[:count]
    return Mesh(np.array(found), ("data",), axis_types=(AxisType.Auto,))


def estimated_cycles(text: str) -> Counter[str]:
    """The compiler's cycles of one step in the text of a compiled program: all, and those of copies.

    The step is the body of the program's outermost loop. {} where the compiler gives none.
    """
    loop = re.search(r"^ENTRY .*?\bwhile\(.*?body=%([\w.-]+)", text, re.DOTALL | re.MULTILINE)
    body = loop and re.search(rf"^%{re.escape(loop[1])} .*?^}}", text, re.DOTALL | re.MULTILINE)
    cycles: Counter[str] = Counter()
    for line in (body[0] if body else "").splitlines():
        if found := re.search(r'%([\w.-]+) = .*"estimated_cycles":"(\d+)"', line):
            cycles["all"] += int(found[2])
            cycles["copies"] += int(found[2]) * found[1].startswith(("copy", "transpose"))
    return cycles


def floor(column: Column, labels: Labels, shape: Shape, mesh: Mesh, cached: bool, shard: bool) -> tuple[float, float]:
    """(arithmetic, memory): seconds that a device needs at the least for its part of a step."""
    chip = chip_of(mesh.devices.flat[0].device_kind)
    assert chip is not None
    trained, state, frozen, *_ = abstract_inputs(column, OBJECTIVE, labels, shape, cached)
    lowest = max(1, column.cut) if cached else 1  # of the embeddings a step reads a few rows
    read = {path: leaf for path, leaf in frozen.items() if freezing.block_of(path, column.num_layers) >= lowest}
    own = 1 / mesh.size if shard else 1.0
    flops = matmul_flops(column.encoder, shape, column.cut, cached) / mesh.size
    return (
        flops / (1e12 * chip.teraflops),
        (2 * tree_bytes(trained) + 2 * own * tree_bytes(state) + tree_bytes(read)) / (1e9 * chip.gigabytes_per_second),
    )


def measure(depth: Layers, cached: bool, shape: Shape, mesh: Mesh, dtype: str, shard: bool) -> dict[str, Any]:
    """Compile one step -> its figures."""
    kind = mesh.devices.flat[0].device_kind
    column, labels = column_and_labels(bert(LAYERS, 768), OBJECTIVE, depth, dtype, devices.platform_of(mesh))
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
    depths = ["all" if text == "all" else int(text) for text in options.depths]
    for chip, count, depth, cached in itertools.product(options.chips, options.counts, depths, (True, False)):
        if (cached and options.only != "uncached" and depth != "all") or (not cached and options.only != "cached"):
            yield chip, count, depth, cached


def main() -> None:
    """Compile what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="+", choices=TOPOLOGIES, default=list(TOPOLOGIES))
    parser.add_argument("--counts", nargs="+", type=int, choices=(1, 2, 4, 8), default=[1, 4], help="chips of a step")
    parser.add_argument("--depths", nargs="+", default=["0", "1", "3", str(LAYERS), "all"])
    parser.add_argument("--only", choices=("cached", "uncached"), help="one of the two")
    parser.add_argument("--rows", type=int, default=16, help="of the batch, over all chips")
    parser.add_argument("--width", type=int, default=128, help="slots of a row")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--shard_optimizer", action="store_true")
    options = parser.parse_args()
    if importlib.util.find_spec("libtpu") is None:
        sys.exit('libtpu is not installed; `pip install "jax[tpu]"` installs the one that belongs to this jax')
    shape = Shape(options.rows, options.width, 1)
    for chip, count, depth, cached in settings(options):
        which = {"chip": chip, "count": count, "trainable_layers": depth, "cached": cached, "dtype": options.dtype}
        which |= {"rows": options.rows, "width": options.width, "shard_optimizer": options.shard_optimizer}
        try:
            mesh = mesh_of(chip, count)
            figures = measure(depth, cached, shape, mesh, options.dtype, options.shard_optimizer)
        except Exception as error:  # noqa: BLE001
            figures = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(which | figures), flush=True)


if __name__ == "__main__":
    main()
