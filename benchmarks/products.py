"""The arithmetic of matrix products, counted in a program as it is traced: for any family, and nothing is run."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxfreeze import freezing
from jaxfreeze.data.batch import Shape
from jaxfreeze.model.classifier import Column
from jaxfreeze.objectives import Objective
from jaxfreeze.training.cost import SETTINGS, abstract_inputs
from jaxfreeze.training.step import Program, train_steps


@functools.cache
def step_flops(
    column: Column, objective: Objective, labels: freezing.LabelTuple, shape: Shape, cached: bool = False
) -> float:
    """Of one training step on a batch of this shape; cached: the state at the cut comes from the trunk cache."""
    program = Program(column, objective, labels, SETTINGS, (shape,))
    inputs = abstract_inputs(column, objective, dict(labels), shape, cached)
    return product_flops(functools.partial(train_steps, program), *inputs)


def product_flops(function: Callable[..., Any], *inputs: Any) -> float:
    """Floating-point operations of all matrix products that a function asks for: a multiplication and an addition each.

    inputs: arrays or jax.ShapeDtypeStructs. What it asks for twice, as to keep less for the gradients, counts twice; of
    branches the dearest counts, of a loop without a known number of rounds one round.
    """
    return _flops(jax.make_jaxpr(function)(*inputs).jaxpr)


def _flops(program: Any) -> float:
    total = 0.0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            (summed, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2.0 * math.prod(left[axis] for axis in summed) * equation.outvars[0].aval.size
        within = [_flops(one) for one in _within(equation.params)]
        rounds = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += rounds * (max(within) if equation.primitive.name == "cond" else sum(within))
    return total


def _within(params: dict[str, Any]) -> Iterator[Any]:
    """The programs in an equation: branches, bodies of loops, functions that are called."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr | Jaxpr):
                yield one if isinstance(one, Jaxpr) else one.jaxpr
