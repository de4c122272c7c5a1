"""What a training step costs, by XLA's own account of the compiled program."""

import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.data.batches import Batch, Shape, Tokens
from jaxfreeze.data.dispatch import Group
from jaxfreeze.training.step import Data, Program, compiled_train_steps


class Cost(NamedTuple):
    """One compiled training step."""

    flops: float
    """Floating-point operations (XLA's cost_analysis)."""
    temp_bytes: int
    """Memory for intermediate values (XLA's memory_analysis)."""
    optimizer_bytes: int
    """Memory of the optimizer's state."""


COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def abstract_group(shape: Shape, parts: int = 1) -> Group:
    """A group of one batch of this shape, its rows shared out among so many devices, without values."""

    def of(size: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, parts, shape.rows // parts, size), jnp.int32)

    batches = Batch(of(shape.width), of(shape.width), of(shape.segments), of(shape.segments))
    return Group(batches, jax.ShapeDtypeStruct((1,), jnp.int32), jax.ShapeDtypeStruct((), jnp.int32))


def abstract_data(num_tokens: int, num_examples: int, regression: bool, hidden: tuple[int, str] | None = None) -> Data:
    """A token store and its labels, without values; hidden: (D, dtype) of a trunk cache with a row for each token."""
    columns = (jax.ShapeDtypeStruct((num_tokens,), dtype) for dtype in (jnp.int32, jnp.int8, jnp.int16))
    label = jax.ShapeDtypeStruct((num_examples,), jnp.float32 if regression else jnp.int32)
    states = None if hidden is None else jax.ShapeDtypeStruct((num_tokens, hidden[0]), hidden[1])
    return Data(Tokens(*columns), label, states)


def tree_bytes(tree: object) -> int:
    """Bytes of all arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def step_cost(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    frozen: freezing.Params,
    data: Data,
    group: Group,
) -> Cost:
    """Compile the step for these shapes (arrays or ShapeDtypeStructs) and read its cost; nothing is run."""
    state = jax.eval_shape(optimizer.init, freezing.combine(trained, frozen))
    compiled = _compile(program, optimizer, trained, state, frozen, data, group)
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    if cost is None or memory is None:
        raise RuntimeError("this backend of XLA does not report the cost of a compiled program")
    return Cost(float(cost["flops"]), memory.temp_size_in_bytes, tree_bytes(state))


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

    group = abstract_group(shape, mesh.size)
    batches = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=devices.by_part(mesh, 1)), group.batches
    )
    state = jax.eval_shape(optimizer.init, freezing.combine(trained, frozen))
    compiled = _compile(
        program, optimizer, everywhere(trained), everywhere(state), everywhere(frozen), everywhere(data),
        group._replace(batches=batches),
    )  # fmt: skip
    return collectives(compiled.as_text() or "")


def collectives(text: str) -> dict[str, int]:
    """Bytes of the results of each kind of collective in the text of a compiled program, the body of a loop once."""
    total = dict.fromkeys(COLLECTIVES, 0)
    kinds = "|".join(COLLECTIVES)
    for results, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
        for dtype, sizes in re.findall(r"([a-z]+\d+)\[([\d,]*)\]", results):
            count = math.prod(int(size) for size in sizes.split(",") if size)
            total[kind] += count * max(1, int(re.sub(r"\D", "", dtype)) // 8)
    return {kind: size for kind, size in total.items() if size}


def _compile(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    state: optax.OptState,
    frozen: freezing.Params,
    data: Data,
    group: Group,
) -> jax.stages.Compiled:
    """XLA counts the body of the loop over steps once."""
    numbers = jax.ShapeDtypeStruct((), np.uint32), jax.ShapeDtypeStruct((), np.int32)
    lowered = compiled_train_steps.lower(program, optimizer, trained, state, frozen, data, group, *numbers)
    return lowered.compile(devices.compiler_options())
