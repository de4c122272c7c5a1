"""What a training step costs, by XLA's own account of the compiled program."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxfreeze import freezing
from jaxfreeze.data.batch import AXES, Batch, Shape, Tokens
from jaxfreeze.data.dispatch import Dispatch
from jaxfreeze.model.classifier import Column
from jaxfreeze.objectives import Objective
from jaxfreeze.training.optimizer import OptimizerConfig, Schedule, initial_optimizer_state
from jaxfreeze.training.step import Data, Program, compile_train_steps

SETTINGS = OptimizerConfig(weight_decay=0.01, max_grad_norm=1.0)
"""Of the optimizer whose step is priced; no number in it changes the cost."""


class Cost(NamedTuple):
    """One compiled training step."""

    flops: float
    """Floating-point operations (XLA's cost_analysis)."""
    temp_bytes: int
    """Memory for intermediate values (XLA's memory_analysis)."""
    optimizer_bytes: int
    """Memory of the optimizer's state."""


def step_cost(
    column: Column, objective: Objective, labels: freezing.Labels, shape: Shape, cached: bool = False
) -> Cost:
    """Compile the step of a policy for batches of one shape, from shapes alone, and read its cost; nothing is run.

    cached: with the trunk cache in device memory, if there is a trunk.
    """
    inputs = abstract_inputs(column, objective, labels, shape, cached)
    program = Program(column, objective, tuple(sorted(labels.items())), SETTINGS, (shape,))
    compiled = compile_train_steps(program, False, *inputs)  # XLA counts the body of the loop over steps once
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    if cost is None or memory is None:
        raise RuntimeError("this backend of XLA does not report the cost of a compiled program")
    return Cost(float(cost["flops"]), memory.temp_size_in_bytes, tree_bytes(inputs[1]))


def abstract_inputs(
    column: Column, objective: Objective, labels: freezing.Labels, shape: Shape, cached: bool = False, parts: int = 1
) -> tuple[Any, ...]:
    """What `train_steps` takes after its program, without values; parts: devices that share the rows."""
    trained, frozen = freezing.split(column.shapes(), labels)
    frozen = {path: jax.ShapeDtypeStruct(leaf.shape, column.dtype) for path, leaf in frozen.items()}
    schedule = jax.eval_shape(lambda: Schedule(jnp.float32(0), jnp.int32(0), jnp.int32(0)))
    policy = tuple(sorted(labels.items()))
    start = functools.partial(initial_optimizer_state, SETTINGS, policy)
    state = jax.eval_shape(start, schedule, trained, frozen)
    numbers = jax.ShapeDtypeStruct((), np.uint32), jax.ShapeDtypeStruct((), np.int32)
    data = abstract_data(column, objective, shape, cached)
    return trained, state, frozen, data, abstract_dispatch(shape, parts), *numbers


def abstract_dispatch(shape: Shape, parts: int = 1) -> Dispatch:
    """A dispatch of one batch of this shape, its rows shared among so many devices, without values."""
    leaves = {}
    for name in (name for name, axes in AXES.items() if len(axes) == 2):
        rows, columns = shape.sizes(name)
        leaves[name] = jax.ShapeDtypeStruct((1, 1, parts, rows // parts, columns), jnp.int32)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return Dispatch(Batch(**leaves), jax.ShapeDtypeStruct((1,), jnp.int32), count)


def abstract_data(column: Column, objective: Objective, shape: Shape, cached: bool = False) -> Data:
    """The data of as many tokens and examples as one batch holds, without values."""
    num_tokens, num_examples = shape.slots, shape.rows * shape.segments
    columns = (jax.ShapeDtypeStruct((num_tokens,), dtype) for dtype in (jnp.int32, jnp.int8, jnp.int16))
    num_labels = num_tokens if objective.by_token else num_examples
    data = Data(Tokens(*columns), jax.ShapeDtypeStruct((num_labels, *objective.label_shape), objective.label_dtype))
    if not cached or column.cut == 0:
        return data
    pooled = column.cut > column.num_layers and not column.by_token
    leaf, rows = ("pooled", num_examples) if pooled else ("hidden", num_tokens)
    return data.with_states(leaf, jax.ShapeDtypeStruct((rows, column.encoder.hidden_size), column.state_dtype))


def tree_bytes(tree: object) -> int:
    """Bytes of all arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
