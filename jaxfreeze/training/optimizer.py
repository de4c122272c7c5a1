"""AdamW with warm-up, linear decay and clipping for the trained leaves; nothing at all for the frozen ones."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import optax

from jaxfreeze import freezing


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """What steers the optimizer, but for the peak learning rate, which is part of its state."""

    weight_decay: float
    """Decoupled weight decay, not on biases and LayerNorms."""
    warmup_ratio: float
    """Share of all steps, rounded up, in which the learning rate rises from 0."""
    max_grad_norm: float
    """Gradients are scaled down to this global norm, taken over the trained leaves."""
    total_steps: int
    """Steps after which the learning rate is 0."""


def schedule(config: OptimizerConfig) -> optax.Schedule:
    """The learning rate by step, for a peak of 1: linear from 0 over the warm-up, then linear to 0.

    As get_linear_schedule_with_warmup of Hugging Face has it.
    """
    warmup_steps = math.ceil(config.warmup_ratio * config.total_steps)
    rise = optax.schedules.linear_schedule(0.0, 1.0, warmup_steps)
    fall = optax.schedules.linear_schedule(1.0, 0.0, max(1, config.total_steps - warmup_steps))
    return optax.schedules.join_schedules([rise, fall], [warmup_steps])


def decays(path: str) -> bool:
    """Whether weight decay applies to a parameter: not to biases, not to LayerNorms."""
    return not path.endswith(".bias") and ".layer_norm." not in path


@functools.cache
def make_optimizer(config: OptimizerConfig, labels: freezing.LabelTuple) -> optax.GradientTransformation:
    """The policy as one optimizer over the whole tree; clipping, Adam and weight decay live in the trained group.

    The peak learning rate is kept in the optimizer's state (an update is proportional to it), not in the program: runs
    that differ in it alone share one program, side by side or one after the other.
    """
    trained_group = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(
            schedule(config),
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            weight_decay=config.weight_decay,
            mask=lambda params: {path: decays(path) for path in params},
        ),
        optax.inject_hyperparams(optax.scale)(step_size=1.0),
    )
    return freezing.partition(trained_group, dict(labels))


def initial_optimizer_state(
    config: OptimizerConfig,
    labels: freezing.LabelTuple,
    learning_rate: jax.Array,
    trained: freezing.Params,
    frozen: freezing.Params,
) -> optax.OptState:
    """The optimizer's state before the first step; learning_rate: float32, the peak."""
    state = make_optimizer(config, labels).init(freezing.combine(trained, frozen))
    return optax.tree.set(state, step_size=learning_rate)


def apply_gradients(
    config: OptimizerConfig,
    labels: freezing.LabelTuple,
    gradients: freezing.Params,
    optimizer_state: optax.OptState,
    trained: freezing.Params,
    frozen: freezing.Params,
) -> tuple[freezing.Params, optax.OptState]:
    """(trained, optimizer state) after one update; gradients are of the trained leaves only.

    The optimizer is over the whole tree, so the frozen leaves are shown to it with zeros for gradients: it turns them
    into zero updates, which are dropped here, so that no frozen leaf ever passes through an addition and the compiler
    removes the zeros.
    """
    zeros = jax.tree.map(jnp.zeros_like, frozen)
    updates, optimizer_state = make_optimizer(config, labels).update(
        freezing.combine(gradients, zeros), optimizer_state, freezing.combine(trained, frozen)
    )
    return optax.apply_updates(trained, {path: updates[path] for path in trained}), optimizer_state
