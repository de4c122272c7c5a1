"""`inspect`: what would train, where the cut is, and what a step costs, from config.json alone; trains nothing."""

import dataclasses

from rich.table import Table

from jaxfreeze import console, devices, freezing
from jaxfreeze.config import OWN_TASKS, TrainConfig
from jaxfreeze.data.batch import Shape
from jaxfreeze.data.tasks import Task, get_task, own_task
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.objectives.kinds import asked_kind
from jaxfreeze.training import platform_choices
from jaxfreeze.training.cost import step_cost
from jaxfreeze.training.parameter_table import parameter_table
from jaxfreeze.training.pretrained import make_labels

TWO_CLASSES = ("0", "1")  # of own rows without --label_names, which are not read


def inspect(config: TrainConfig) -> None:
    """Print the parameter table, every parameter's label, the cut, and the cost of a step against full fine-tuning."""
    config = platform_choices.with_dtype(config)
    devices.configure(config.dtype)
    encoder = read_config(model_folder(config.model))
    task = _own_task(config) if config.task in OWN_TASKS else get_task(config.task)
    objective = task.objective
    arithmetic = platform_choices.arithmetic(config.dtype, devices.data_mesh())
    column = Column(encoder, objective.num_outputs, by_token=objective.by_token, **arithmetic._asdict())
    labels = make_labels(config, list(column.shapes()), column.num_layers)
    cut = freezing.cut_of(labels, column.num_layers)
    for path, leaf in column.shapes().items():
        console.say(f"{labels[path]:8} {path} {list(leaf.shape)}")
    sizes = {path: leaf.shape for path, leaf in column.shapes().items()}
    console.console.print(parameter_table(sizes, labels, column.num_layers))
    console.say(f"cut: {freezing.describe_cut(cut, column.num_layers)}")
    shape = Shape(config.batch_size, min(config.max_length, encoder.max_tokens), 1)
    this = step_cost(dataclasses.replace(column, cut=cut), task.objective, labels, shape)
    whole = step_cost(column, task.objective, freezing.label_layers(labels, freezing.ALL, column.num_layers), shape)
    table = Table("one step", "this policy", "all trained", "ratio", title_justify="left")
    for name, ours, theirs in zip(("GFLOP", "temporary MB", "optimizer MB"), this, whole, strict=True):
        unit = 1e9 if name == "GFLOP" else 1e6
        table.add_row(name, f"{ours / unit:,.1f}", f"{theirs / unit:,.1f}", f"{ours / theirs:.2f}")
    console.say(f"the largest step, {shape.rows} examples of {shape.width} tokens, by XLA's account:")
    console.console.print(table)


def _own_task(config: TrainConfig) -> Task:
    several = config.label_column if len(config.label_column) > 1 else ()
    return own_task(config, config.label_names or several or TWO_CLASSES, asked_kind(config))
