"""What devices send each other in a training step, read from the compiled program: bytes by kind of collective."""

import math
import re
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Shape
from jaxfreeze.model.classifier import Column
from jaxfreeze.objectives import Objective
from jaxfreeze.training.cost import SETTINGS, abstract_inputs
from jaxfreeze.training.step import Program, compile_train_steps

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One collective operation of a compiled program."""

    kind: str
    bytes: int
    """Of its results."""


def compiled_step(
    column: Column,
    objective: Objective,
    labels: freezing.Labels,
    shape: Shape,
    mesh: Mesh,
    cached: bool = True,
    shard_optimizer: bool = False,
) -> jax.stages.Compiled:
    """One step compiled for the devices of a mesh, from shapes alone: they need not be here.

    cached: with the trunk cache on every device, if there is a trunk. shard_optimizer: as --shard_optimizer has it.
    """
    inputs = abstract_inputs(column, objective, labels, shape, cached, parts=mesh.size)
    places = [jax.tree.map(lambda _: devices.replicated(mesh), tree) for tree in inputs]
    if shard_optimizer:
        places[1] = devices.sharded(inputs[1], mesh)
    dispatch = places[4]
    batches = jax.tree.map(lambda _: inputs[4].shardings(mesh).batches, dispatch.batches)
    places[4] = dispatch._replace(batches=batches)
    program = Program(column, objective, tuple(sorted(labels.items())), SETTINGS, (shape,))
    return compile_train_steps(program, False, *_placed(inputs, tuple(places)))


def _placed(tree: Any, shardings: Any) -> Any:
    def leaf(array: jax.ShapeDtypeStruct, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map(leaf, tree, shardings)


def sent_bytes(
    column: Column, objective: Objective, labels: freezing.Labels, shape: Shape, mesh: Mesh
) -> dict[str, int]:
    """Bytes that a device gives to each kind of collective in one step with the trunk cache on every device."""
    return by_kind(collectives(compiled_step(column, objective, labels, shape, mesh).as_text() or ""))


def by_kind(found: list[Collective]) -> dict[str, int]:
    """Bytes of each kind of collective that there is."""
    total = {kind: sum(one.bytes for one in found if one.kind == kind) for kind in KINDS}
    return {kind: size for kind, size in total.items() if size}


def collectives(text: str) -> list[Collective]:
    """The collectives in the text of a compiled program, those in the body of a loop once.

    XLA for TPUs fuses one that runs beside other work into several operations: its start, its end, and what it runs
    beside. Each of them names it, by its channel; it is counted once. XLA for GPUs has the start of a gathering return
    what goes in before what comes out; what comes out is counted.
    """
    found, channels = [], set()
    for results, kind, start, rest in re.findall(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\((.*)", text):
        channel = re.search(r"channel_id=(\d+)", rest)
        if channel is not None and channel[1] in channels:
            continue
        if channel is not None:
            channels.add(channel[1])
        arrays = re.findall(r"([a-z]+\d+)\[([\d,]*)\]", results)
        if start and kind == "all-gather":
            arrays = arrays[len(arrays) // 2 :]
        found.append(Collective(kind, sum(map(_bytes, arrays))))
    return found


def _bytes(array: tuple[str, str]) -> int:
    """Of ("f32", "768,2")."""
    dtype, sizes = array
    return math.prod(int(size) for size in sizes.split(",") if size) * max(1, int(re.sub(r"\D", "", dtype)) // 8)
