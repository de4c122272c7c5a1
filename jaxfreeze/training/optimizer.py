"""AdamW with warm-up, linear decay and clipping for the trained leaves; nothing at all for the frozen ones."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxfreeze import freezing


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """What steers the optimizer, but for the schedule of the learning rate, which is part of its state."""

    weight_decay: float
    """Decoupled weight decay, not on biases and LayerNorms."""
    max_grad_norm: float
    """Gradients are scaled down to this global norm, taken over the trained leaves."""


class Schedule(NamedTuple):
    """The learning rate by step: linear from 0 to the peak over the warm-up, then linear to 0.

    As get_linear_schedule_with_warmup of Hugging Face has it. Numbers, or arrays of no axes.
    """

    peak: Any  # float32
    warmup_steps: Any  # int32
    total_steps: Any  # int32, after which the learning rate is 0

    @classmethod
    def of(cls, peak: float, warmup_ratio: float, total_steps: int) -> "Schedule":
        """warmup_ratio: share of all steps, rounded up, in which the learning rate rises."""
        warmup_steps = math.ceil(warmup_ratio * total_steps)
        return cls(np.float32(peak), np.int32(warmup_steps), np.int32(total_steps))

    def share(self, step: Any, numpy: Any = jnp) -> Any:
        """The learning rate after so many steps as a share of the peak: float32, computed by jax.numpy or by numpy.

        Times a reciprocal, as XLA divides by a constant: optax's own schedule has the numbers in the program.
        """
        steps_down = numpy.maximum(1, self.total_steps - self.warmup_steps)
        one = numpy.float32(1.0)
        up, down = (one / numpy.float32(steps) for steps in (numpy.maximum(1, self.warmup_steps), steps_down))
        rise = one - (one - numpy.float32(numpy.clip(step, 0, self.warmup_steps)) * up)
        fall = one - numpy.float32(numpy.clip(step - self.warmup_steps, 0, steps_down)) * down
        return numpy.where(step < self.warmup_steps, rise, fall)


class ScheduleState(NamedTuple):
    """How far a schedule is."""

    steps: jax.Array  # int32, so far
    schedule: Schedule


def scale_by_own_schedule() -> optax.GradientTransformation:
    """Scale updates by the negative learning rate of a schedule that is kept in the state, not in the program.

    Runs that differ in its numbers alone share one program, side by side or one after the other. `init` knows no
    schedule: `initial_optimizer_state` puts it there.
    """

    def init(params: optax.Params) -> ScheduleState:
        nothing = Schedule(jnp.float32(0), jnp.int32(0), jnp.int32(0))
        return ScheduleState(jnp.int32(0), nothing)

    def update(
        updates: optax.Updates, state: ScheduleState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ScheduleState]:
        share, peak = -state.schedule.share(state.steps), state.schedule.peak
        updates = jax.tree.map(lambda update: peak * (share * update), updates)
        return updates, ScheduleState(optax.safe_increment(state.steps), state.schedule)

    return optax.GradientTransformation(init, update)


def decays(path: str) -> bool:
    """Whether weight decay applies to a parameter: not to biases, not to LayerNorms."""
    return not path.endswith(".bias") and ".layer_norm." not in path


@functools.cache
def make_optimizer(config: OptimizerConfig, labels: freezing.LabelTuple) -> optax.GradientTransformation:
    """The policy as one optimizer over the whole tree; clipping, AdamW and the schedule live in the trained group."""
    trained_group = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.add_decayed_weights(config.weight_decay, lambda params: {path: decays(path) for path in params}),
        scale_by_own_schedule(),
    )
    return freezing.partition(trained_group, dict(labels))


def initial_optimizer_state(
    config: OptimizerConfig,
    labels: freezing.LabelTuple,
    schedule: Schedule,
    trained: freezing.Params,
    frozen: freezing.Params,
) -> optax.OptState:
    """The optimizer's state before the first step; schedule: its three numbers as arrays."""
    state = make_optimizer(config, labels).init(freezing.combine(trained, frozen))
    return optax.tree.set(state, schedule=schedule)


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
