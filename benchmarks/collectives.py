"""What devices send each other in a training step, read from the compiled program: bytes by kind of collective."""

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Shape
from jaxfreeze.model.classifier import Column
from jaxfreeze.objectives import Objective
from jaxfreeze.training.cost import SETTINGS, abstract_inputs
from jaxfreeze.training.step import Program, compile_train_steps

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def sent_bytes(
    column: Column, objective: Objective, labels: freezing.Labels, shape: Shape, mesh: Mesh
) -> dict[str, int]:
    """Bytes that a device gives to each kind of collective in one step with the trunk cache on every device."""

    def everywhere(tree: Any) -> Any:
        return placed(tree, devices.replicated(mesh))

    def placed(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    inputs = abstract_inputs(column, objective, labels, shape, cached=True, parts=mesh.size)
    trained, state, frozen, data, dispatch, *numbers = inputs
    dispatch = dispatch._replace(batches=placed(dispatch.batches, dispatch.shardings(mesh).batches))
    program = Program(column, objective, tuple(sorted(labels.items())), SETTINGS, (shape,))
    compiled = compile_train_steps(
        program, False, *(everywhere(tree) for tree in (trained, state, frozen, data)), dispatch, *numbers
    )
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
