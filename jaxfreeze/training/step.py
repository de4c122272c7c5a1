"""The whole idea: the frozen tree is an argument of the step, never a result; gradients are of the trained tree."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxfreeze import devices, freezing
from jaxfreeze.arrays import Array
from jaxfreeze.data.batches import Batch, Shape, Tokens
from jaxfreeze.data.dispatch import Group, unstack
from jaxfreeze.model.classifier import Column, SequenceClassifier, State
from jaxfreeze.model.dropout import dropout_seeds
from jaxfreeze.training.optimizer import apply_gradients


@dataclasses.dataclass(frozen=True)
class Program:
    """What is fixed when a step is compiled."""

    column: Column
    num_layers: int
    cut: int
    regression: bool
    frozen_dropout: bool = False
    shapes: tuple[Shape, ...] = ()  # of training batches
    side_by_side: bool = (
        False  # S runs at once: trained leaves, optimizer state, batches and seeds have an axis S first
    )
    accumulate: int = 1  # M parts of a batch, one after the other: batches have an axis M, after S
    remat: bool = False  # compute activations again for the gradients, not keep them


class Data(NamedTuple):
    """A split on the device."""

    tokens: Tokens  # [T] each
    label: Array  # int32 [E] classes, or float32 [E] scores
    hidden: Array | None = None  # the trunk cache: [T, D] the state at the cut, or [E, D] if only the head is above it


class Metrics(NamedTuple):
    """What one step reports."""

    loss: jax.Array  # mean over the batch's examples, float32
    grad_norm: jax.Array  # global norm over the trained leaves before clipping, float32


def state_at_cut(
    program: Program, model: SequenceClassifier, data: Data, batch: Batch, seeds: jax.Array | None
) -> State:
    """The state at the cut for one batch: read on the host, or gathered from the cache, or computed by the trunk."""
    if batch.hidden is not None:
        return batch.hidden
    if data.hidden is not None:
        return data.hidden[batch.example if program.cut > program.num_layers else batch.index]
    return model.trunk(data.tokens.of(batch), batch, program.cut, seeds if program.frozen_dropout else None)


def example_losses(logits: jax.Array, label: jax.Array, regression: bool) -> jax.Array:
    """Squared error of one output, or cross-entropy: logits [..., C], label [...] -> [...] float32."""
    if regression:
        return jnp.square(logits[..., 0] - label)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def loss_and_gradients(
    program: Program, trained: freezing.Params, frozen: freezing.Params, data: Data, batch: Batch, seeds: jax.Array
) -> tuple[jax.Array, freezing.Params]:
    """Mean loss of one packed batch, and its gradients: of the trained tree, and of nothing else."""
    count = jnp.sum(batch.example >= 0)

    def loss_of(trained: freezing.Params, part: Batch) -> jax.Array:
        model = program.column.bind(freezing.combine(trained, frozen))
        state = state_at_cut(program, model, data, part, seeds)
        logits = model.top(state, part, program.cut, seeds, program.remat)  # [R, S, C]
        losses = example_losses(logits, data.label[part.example], program.regression)  # [R, S]
        return jnp.sum(jnp.where(part.example >= 0, losses, 0.0)) / count

    differentiate = jax.value_and_grad(loss_of)
    if program.accumulate == 1:
        return differentiate(trained, batch)
    nothing = (jnp.float32(0), jax.tree.map(jnp.zeros_like, trained))
    total, _ = jax.lax.scan(lambda sum_, part: (jax.tree.map(jnp.add, sum_, differentiate(trained, part)), None),
                            nothing, batch)  # fmt: skip
    return total


def over_runs(program: Program, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
    """The function of one run, or the same for the runs that are trained side by side."""
    return jax.vmap(function, in_axes) if program.side_by_side else function


def train_step(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    optimizer_state: optax.OptState,
    frozen: freezing.Params,
    data: Data,
    group: Group,
    number: jax.Array,
    seed: jax.Array,
    step: jax.Array,
) -> tuple[freezing.Params, optax.OptState, Metrics]:
    """One optimizer step on batch `number` of a group -> (trained, optimizer state, metrics). `frozen` only goes in."""

    def seeds_of(seed: jax.Array) -> jax.Array:
        return dropout_seeds(jax.random.fold_in(jax.random.key(seed), step), program.num_layers)

    seeds = over_runs(program, seeds_of)(seed)
    differentiate = over_runs(program, functools.partial(loss_and_gradients, program), (0, None, None, 0, 0))
    update = over_runs(program, functools.partial(apply_gradients, optimizer), (0, 0, 0, None))

    def in_shape(shape: Shape) -> tuple[jax.Array, freezing.Params]:
        return differentiate(trained, frozen, data, unstack(group, number, shape), seeds)

    branches = [functools.partial(in_shape, shape) for shape in program.shapes]
    loss, gradients = jax.lax.switch(group.shape_number[number], branches)
    trained, optimizer_state = update(gradients, optimizer_state, trained, frozen)
    return trained, optimizer_state, Metrics(loss, over_runs(program, optax.tree.norm)(gradients))


def train_steps(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    optimizer_state: optax.OptState,
    frozen: freezing.Params,
    data: Data,
    group: Group,
    seed: jax.Array,
    first_step: jax.Array,
) -> tuple[freezing.Params, optax.OptState, Metrics]:
    """A step for each batch of the group, in one dispatch; metrics are [K], or [K, S] side by side.

    seed: uint32, or [S] side by side, from which every step's dropout comes.
    """

    def body(number: jax.Array, carry: Any) -> Any:
        trained, state, metrics = carry
        trained, state, new = train_step(
            program, optimizer, trained, state, frozen, data, group, number, seed, first_step + number
        )
        return trained, state, jax.tree.map(lambda all_, one: all_.at[number].set(one), metrics, new)

    nothing = jnp.zeros(group.shape_number.shape + seed.shape, jnp.float32)
    return jax.lax.fori_loop(0, group.count, body, (trained, optimizer_state, Metrics(nothing, nothing)))


def predict_step(program: Program, params: freezing.Params, data: Data, batch: Batch) -> jax.Array:
    """Logits of one packed batch, no dropout: float32 [R, S, C]."""
    model = program.column.bind(params)
    return model.top(state_at_cut(program, model, data, batch, None), batch, program.cut)


def trunk_step(program: Program, start: int, params: freezing.Params, data: Data, batch: Batch) -> State:
    """The state at the cut of one packed batch, no dropout: what the trunk cache keeps.

    start: the cut at which `data` or `batch` holds the state already; 0: from the tokens.
    """
    model = program.column.bind(params)
    state = state_at_cut(dataclasses.replace(program, cut=start), model, data, batch, None)
    return model.blocks(state, batch, start, program.cut, None)


compile_train_steps = functools.partial(
    jax.jit, train_steps, static_argnames=("program", "optimizer"), donate_argnames=("trained", "optimizer_state")
)
compiled_train_steps = compile_train_steps()
compiled_predict_step = devices.jit(predict_step, static_argnames="program")
compiled_trunk_step = devices.jit(trunk_step, static_argnames=("program", "start"))
