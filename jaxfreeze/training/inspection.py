"""`inspect`: what would train, where the cut is, and what a step costs, from config.json alone; trains nothing."""

import dataclasses

import jax
import optax
from rich.table import Table

from jaxfreeze import console, devices, freezing
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batches import Shape
from jaxfreeze.data.tasks import OWN_FILES, get_task
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.training import cost
from jaxfreeze.training.optimizer import OptimizerConfig, make_optimizer
from jaxfreeze.training.parameter_table import parameter_table
from jaxfreeze.training.setup import Policy
from jaxfreeze.training.step import Data, Program


def inspect(config: TrainConfig) -> None:
    """Print the parameter table, every parameter's label, the cut, and the cost of a step against full fine-tuning."""
    devices.configure(config.dtype)
    encoder = read_config(model_folder(config.model))
    num_outputs = 2 if config.task == OWN_FILES else get_task(config.task).num_outputs
    shapes = Column(encoder, num_outputs).shapes()
    policy = Policy.of(config, list(shapes), encoder.num_hidden_layers)
    for path, leaf in shapes.items():
        console.say(f"{policy.labels[path]:8} {path} {list(leaf.shape)}")
    sizes = {path: leaf.shape for path, leaf in shapes.items()}
    console.console.print(parameter_table(sizes, policy.labels, encoder.num_hidden_layers))
    console.say(f"cut: {freezing.describe_cut(policy.cut, encoder.num_hidden_layers)}")
    shape = Shape(config.batch_size, min(config.max_length, encoder.max_tokens), 1)
    full = Policy.of(_all(config), list(shapes), encoder.num_hidden_layers)
    table = Table("one step", "this policy", "all trained", "ratio", title_justify="left")
    this, whole = (plan_cost(encoder, num_outputs, p, shape, config.dtype) for p in (policy, full))
    for name, ours, theirs in zip(("GFLOP", "temporary MB", "optimizer MB"), this, whole, strict=True):
        unit = 1e9 if name == "GFLOP" else 1e6
        table.add_row(name, f"{ours / unit:,.1f}", f"{theirs / unit:,.1f}", f"{ours / theirs:.2f}")
    console.say(f"the largest step, {shape.rows} examples of {shape.width} tokens, by XLA's account:")
    console.console.print(table)


def plan_cost(
    encoder: EncoderConfig, num_outputs: int, policy: Policy, shape: Shape, dtype: str, cached: bool = False
) -> cost.Cost:
    """Cost of a training step under a policy, from shapes alone; cached: with the trunk cache, if there is a trunk."""
    return cost.step_cost(
        *abstract_step(encoder, num_outputs, policy, shape, dtype, cached), cost.abstract_group(shape)
    )


def abstract_step(
    encoder: EncoderConfig, num_outputs: int, policy: Policy, shape: Shape, dtype: str, cached: bool = False
) -> tuple[Program, optax.GradientTransformation, freezing.Params, freezing.Params, Data]:
    """Program, optimizer, trained and frozen leaves and data of a training step, as shapes without values."""
    column = Column(encoder, num_outputs, dtype, policy.cut)
    trained, frozen = freezing.split(column.shapes(), policy.labels)
    frozen = {path: jax.ShapeDtypeStruct(leaf.shape, dtype) for path, leaf in frozen.items()}
    optimizer = make_optimizer(OptimizerConfig(5e-5, 0.01, 0.1, 1.0, 1000), policy.labels)
    program = Program(column, encoder.num_hidden_layers, policy.cut, num_outputs == 1, shapes=(shape,))
    hidden = (encoder.hidden_size, dtype) if cached and policy.cut else None
    data = cost.abstract_data(shape.slots, shape.rows * shape.segments, num_outputs == 1, hidden)
    return program, optimizer, trained, frozen, data


def _all(config: TrainConfig) -> TrainConfig:

    return dataclasses.replace(config, trainable=(), trainable_layers="all")
