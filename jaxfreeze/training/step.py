"""The whole idea: the frozen tree is an argument of the step, never a result; gradients are of the trained tree."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxfreeze import freezing
from jaxfreeze.arrays import Array
from jaxfreeze.data.batches import Batch
from jaxfreeze.model.classifier import Tokens
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


class Data(NamedTuple):
    """A split on the device."""

    tokens: Tokens  # [T] each
    label: Array  # int32 [E] classes, or float32 [E] scores


class Metrics(NamedTuple):
    """What one step reports."""

    loss: jax.Array  # mean over the batch's examples, float32
    grad_norm: jax.Array  # global norm over the trained leaves before clipping, float32


def example_losses(logits: jax.Array, label: jax.Array, regression: bool) -> jax.Array:
    """Squared error of one output, or cross-entropy: logits [..., C], label [...] -> [...] float32."""
    if regression:
        return jnp.square(logits[..., 0] - label)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def train_step(
    program: Program,
    optimizer: optax.GradientTransformation,
    trained: freezing.Params,
    optimizer_state: optax.OptState,
    frozen: freezing.Params,
    data: Data,
    batch: Batch,
    key: jax.Array,
    step: jax.Array,
) -> tuple[freezing.Params, optax.OptState, Metrics]:
    """One optimizer step on one packed batch -> (trained, optimizer state, metrics). `frozen` goes in and stays."""
    seeds = dropout_seeds(jax.random.fold_in(key, step), program.num_layers)

    def loss_of(trained: freezing.Params) -> jax.Array:
        model = bind(program.graph, freezing.combine(trained, frozen))
        state = model.trunk(data.tokens.of(batch), batch, program.cut, seeds if program.frozen_dropout else None)
        logits = model.top(state, batch, program.cut, seeds)  # [R, S, C]
        losses = example_losses(logits, data.label[batch.example], program.regression)  # [R, S]
        real = batch.example >= 0
        return jnp.sum(jnp.where(real, losses, 0.0)) / jnp.sum(real)

    loss, gradients = jax.value_and_grad(loss_of)(trained)
    trained, optimizer_state = apply_gradients(optimizer, gradients, optimizer_state, trained, frozen)
    return trained, optimizer_state, Metrics(loss, optax.tree.norm(gradients))


def predict_step(program: Program, params: freezing.Params, tokens: Tokens, batch: Batch) -> jax.Array:
    """Logits of one packed batch, no dropout: float32 [R, S, C]."""
    return bind(program.graph, params)(tokens.of(batch), batch)


compiled_train_step = jax.jit(
    train_step, static_argnames=("program", "optimizer"), donate_argnames=("trained", "optimizer_state")
)
compiled_predict_step = jax.jit(predict_step, static_argnames="program")
