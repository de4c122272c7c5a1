"""What devices send each other in a training step, read from the compiled program: bytes by kind of collective."""

import math
import re
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.data.batches import Shape
from jaxfreeze.training import cost
from jaxfreeze.training.step import Data, Program

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def sent_bytes(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    frozen: freezing.Params,
    data: Data,
    shape: Shape,
    mesh: Mesh,
) -> dict[str, int]:
    """Bytes that a device gives to each kind of collective in one step, read from the program compiled for a mesh."""

    def everywhere(tree: Any) -> Any:
        sharding = devices.replicated(mesh)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    group = cost.abstract_group(shape, mesh.size)
    batches = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=devices.by_part(mesh, 1)), group.batches
    )
    state = jax.eval_shape(optimizer.init, freezing.combine(trained, frozen))
    compiled = cost.compile_step(
        program, optimizer, everywhere(trained), everywhere(state), everywhere(frozen), everywhere(data),
        group._replace(batches=batches),
    )  # fmt: skip
    return collectives(compiled.as_text() or "")


def collectives(text: str) -> dict[str, int]:
    """Bytes of the results of each kind of collective in the text of a compiled program, the body of a loop once."""
    total = dict.fromkeys(KINDS, 0)
    kinds = "|".join(KINDS)
    for results, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
        for dtype, sizes in re.findall(r"([a-z]+\d+)\[([\d,]*)\]", results):
            count = math.prod(int(size) for size in sizes.split(",") if size)
            total[kind] += count * max(1, int(re.sub(r"\D", "", dtype)) // 8)
    return {kind: size for kind, size in total.items() if size}
