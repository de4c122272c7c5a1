"""The whole idea: the frozen tree is an argument of the step, never a result; gradients are of the trained tree."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxfreeze import devices, freezing
from jaxfreeze.arrays import Array
from jaxfreeze.data.batches import Batch, Shape
from jaxfreeze.data.groups import Group, unstack
from jaxfreeze.model.classifier import SequenceClassifier, State, Tokens
from jaxfreeze.model.dropout import dropout_seeds
from jaxfreeze.model.weights import bind
from jaxfreeze.training.optimizer import apply_gradients


@dataclasses.dataclass(frozen=True)
class Program:
    """What is fixed when a step is compiled."""

    graph: nnx.GraphDef
    num_layers: int
    cut: int
    regression: bool
    frozen_dropout: bool = False
    shapes: tuple[Shape, ...] = ()  # of training batches


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

    def loss_of(trained: freezing.Params) -> jax.Array:
        model = bind(program.graph, freezing.combine(trained, frozen))
        state = state_at_cut(program, model, data, batch, seeds)
        logits = model.top(state, batch, program.cut, seeds)  # [R, S, C]
        losses = example_losses(logits, data.label[batch.example], program.regression)  # [R, S]
        real = batch.example >= 0
        return jnp.sum(jnp.where(real, losses, 0.0)) / jnp.sum(real)

    return jax.value_and_grad(loss_of)(trained)


def train_step(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    optimizer_state: optax.OptState,
    frozen: freezing.Params,
    data: Data,
    group: Group,
    number: jax.Array,
    key: jax.Array,
    step: jax.Array,
) -> tuple[freezing.Params, optax.OptState, Metrics]:
    """One optimizer step on batch `number` of a group -> (trained, optimizer state, metrics). `frozen` only goes in."""
    seeds = dropout_seeds(jax.random.fold_in(key, step), program.num_layers)

    def in_shape(shape: Shape) -> tuple[jax.Array, freezing.Params]:
        return loss_and_gradients(program, trained, frozen, data, unstack(group, number, shape), seeds)

    branches = [functools.partial(in_shape, shape) for shape in program.shapes]
    loss, gradients = jax.lax.switch(group.shape_number[number], branches)
    trained, optimizer_state = apply_gradients(optimizer, gradients, optimizer_state, trained, frozen)
    return trained, optimizer_state, Metrics(loss, optax.tree.norm(gradients))


def train_steps(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    optimizer_state: optax.OptState,
    frozen: freezing.Params,
    data: Data,
    group: Group,
    key: jax.Array,
    first_step: jax.Array,
) -> tuple[freezing.Params, optax.OptState, Metrics]:
    """A step for each batch of the group, in one dispatch; metrics are [K]."""

    def body(number: jax.Array, carry: Any) -> Any:
        trained, state, metrics = carry
        trained, state, new = train_step(
            program, optimizer, trained, state, frozen, data, group, number, key, first_step + number
        )
        return trained, state, jax.tree.map(lambda all_, one: all_.at[number].set(one), metrics, new)

    nothing = jnp.zeros(group.shape_number.shape, jnp.float32)
    return jax.lax.fori_loop(0, group.count, body, (trained, optimizer_state, Metrics(nothing, nothing)))


def predict_step(program: Program, params: freezing.Params, data: Data, batch: Batch) -> jax.Array:
    """Logits of one packed batch, no dropout: float32 [R, S, C]."""
    model = bind(program.graph, params)
    return model.top(state_at_cut(program, model, data, batch, None), batch, program.cut)


def trunk_step(program: Program, params: freezing.Params, data: Data, batch: Batch) -> State:
    """The state at the cut of one packed batch, no dropout: what the trunk cache keeps."""
    return state_at_cut(program, bind(program.graph, params), data, batch, None)


compiled_train_steps = jax.jit(
    train_steps, static_argnames=("program", "optimizer"), donate_argnames=("trained", "optimizer_state")
)
compiled_predict_step = devices.jit(predict_step, static_argnames="program")
compiled_trunk_step = devices.jit(trunk_step, static_argnames="program")
