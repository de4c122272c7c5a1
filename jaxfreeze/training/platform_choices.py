"""What is done in one way on a CPU and in another on an accelerator, and the line that says so."""

import dataclasses
from typing import NamedTuple

from jax.sharding import Mesh

from jaxfreeze import cpu_products, devices, processes
from jaxfreeze.config import TrainConfig
from jaxfreeze.model.classifier import Column

MOST_SHAPES = 4
STEPS_FOR_A_SHAPE = 300  # on a CPU, through one layer: a shape more costs seconds to compile, and saves a part of each
EXAMPLES_FOR_A_SHAPE = 3_000_000
"""On an accelerator, through one layer: a shape more costs a TPU about a minute to compile, and saves it some 20
microseconds of each, a third of 1 ms for 16 examples (the compiler's estimate for a v5e, BERT-base, k = 3)."""


def most_shapes(platform: str, steps: int, layers: int, batch_size: int) -> int:
    """How many shapes the batches of a run may have: one more where it saves more time than it takes to compile.

    layers: that a step runs through. platform: as `devices.platform_of` names it.
    """
    if platform == "cpu":
        return min(MOST_SHAPES, 1 + steps * layers // STEPS_FOR_A_SHAPE)
    return min(MOST_SHAPES, 1 + steps * layers * batch_size // EXAMPLES_FOR_A_SHAPE)


def with_dtype(config: TrainConfig, elsewhere: bool = False) -> TrainConfig:
    """The config with what --dtype auto means here: what a run records, and keeps wherever it is continued or used.

    elsewhere: the run is made on devices that are not known here; float32 then.
    """
    if config.dtype != "auto":
        return config
    return dataclasses.replace(config, dtype="float32" if elsewhere or devices.platform() == "cpu" else "bfloat16")


class Arithmetic(NamedTuple):
    """How a run computes; the fields of Column of these names."""

    dtype: str
    platform: str
    activations: str | None = None
    onednn: bool = False


def arithmetic(dtype: str, mesh: Mesh) -> Arithmetic:
    """What --dtype means on the devices of a mesh. All processes must call it.

    On a CPU only products can be faster in bfloat16 than in float32, and only where it has units for them: whether it
    has is measured. All else but the frozen leaves is float32 then.
    """
    platform = devices.platform_of(mesh)
    if platform != "cpu" or dtype == "float32":
        return Arithmetic(dtype, platform)
    return Arithmetic(dtype, platform, "float32", processes.all_true(cpu_products.speeds().pays))


def note(column: Column, shapes: int) -> str | None:
    """What a person is told of this; None if nothing. shapes: how many the batches have."""
    if column.platform == "cpu":
        return None if column.activations is None else _of_products(cpu_products.speeds(), column.onednn)
    compiled = f"on a {column.platform.upper()} one program is compiled for {shapes} batch shape{'s' * (shapes > 1)}"
    if column.dtype == "bfloat16":
        return compiled
    saved = "more than half of a step's time" if column.platform == "tpu" else "time and memory"
    return f"{compiled}; --dtype bfloat16 would save {saved}, as float32 products run in full precision"


def _of_products(speeds: cpu_products.Speeds, onednn: bool) -> str:
    if not onednn:
        return "this CPU gains too little from products in bfloat16: they stay float32, as with --dtype float32"
    return (
        f"this CPU multiplies matrices in bfloat16 at {speeds.bfloat16:.0f} GFLOP/s, in float32 at "
        f"{speeds.float32:.0f}: products are bfloat16, activations and sums float32"
    )
