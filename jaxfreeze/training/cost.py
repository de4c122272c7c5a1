"""What a training step costs, by XLA's own account of the compiled program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxfreeze import freezing
from jaxfreeze.data.batches import Batch, Shape
from jaxfreeze.model.classifier import Tokens
from jaxfreeze.training.step import Data, Program, compiled_train_step


class Cost(NamedTuple):
    """One compiled training step."""

    flops: float
    """Floating-point operations (XLA's cost_analysis)."""
    temp_bytes: int
    """Memory for intermediate values (XLA's memory_analysis)."""
    optimizer_bytes: int
    """Memory of the optimizer's state."""


def abstract_batch(shape: Shape, sharding: jax.sharding.Sharding | None = None) -> Batch:
    """A batch of this shape, without values."""

    def of(size: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((shape.rows, size), jnp.int32, sharding=sharding)

    return Batch(of(shape.width), of(shape.width), of(shape.segments), of(shape.segments))


def abstract_data(num_tokens: int, num_examples: int, regression: bool) -> Data:
    """A token store and its labels, without values."""
    columns = (jax.ShapeDtypeStruct((num_tokens,), dtype) for dtype in (jnp.int32, jnp.int8, jnp.int16))
    return Data(Tokens(*columns), jax.ShapeDtypeStruct((num_examples,), jnp.float32 if regression else jnp.int32))


def tree_bytes(tree: object) -> int:
    """Bytes of all arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def step_cost(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    frozen: freezing.Params,
    data: Data,
    batch: Batch,
) -> Cost:
    """Compile the step for these shapes (arrays or ShapeDtypeStructs) and read its cost; nothing is run."""
    state = jax.eval_shape(optimizer.init, freezing.combine(trained, frozen))
    key = jax.eval_shape(lambda: jax.random.key(0))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    compiled = compiled_train_step.lower(program, optimizer, trained, state, frozen, data, batch, key, step).compile()
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    if cost is None or memory is None:
        raise RuntimeError("this backend of XLA does not report the cost of a compiled program")
    return Cost(float(cost["flops"]), memory.temp_size_in_bytes, tree_bytes(state))
