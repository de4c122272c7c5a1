"""The whole idea: gradients are taken of the trained leaves alone; the frozen ones go in and never come out.

Letters of the axes: R rows, W slots, G segments, D width, C classes, T tokens, E examples, K steps in one dispatch,
M parts of a batch, S runs side by side.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxfreeze import devices, freezing
from jaxfreeze.arrays import Array
from jaxfreeze.data.batch import Batch, Shape, Tokens
from jaxfreeze.data.dispatch import Dispatch, in_its_shape
from jaxfreeze.model.classifier import Column, SequenceClassifier, State
from jaxfreeze.model.dropout import dropout_seeds
from jaxfreeze.objectives import Objective
from jaxfreeze.training.optimizer import OptimizerConfig, apply_gradients


@dataclasses.dataclass(frozen=True)
class Program:
    """What is fixed when a training step is compiled. Equal by value, so that equal programs are compiled once."""

    column: Column
    """The architecture and its cut."""
    objective: Objective
    """The kind of label, which has the loss."""
    labels: freezing.LabelTuple
    """The policy: trained or frozen, for every path."""
    optimizer: OptimizerConfig
    shapes: tuple[Shape, ...]
    """The shapes that a batch may have."""
    frozen_dropout: bool = False
    """Whether there is dropout below the cut."""
    accumulate: int = 1
    """M: the parts of a batch, computed in turn."""
    remat: bool = False
    """Whether activations are computed again for the gradients, not kept."""


class Data(NamedTuple):
    """A split on the devices."""

    tokens: Tokens  # [T] each
    label: Array  # [E, ...], or [T] for labels of tokens, as the objective has it
    hidden: Array | None = None  # [T, D] the trunk cache: the state of each token at the cut
    pooled: Array | None = None  # [E, D] or, below the head alone, of each example's first token

    def with_states(self, leaf: str, states: Array) -> "Data":
        """The same with a trunk cache: `hidden` or `pooled`."""
        changes: dict[str, Any] = {leaf: states}
        return self._replace(**changes)


class Metrics(NamedTuple):
    """What a step reports."""

    loss: jax.Array  # float32, mean over the batch's labels
    grad_norm: jax.Array  # float32, global norm over the trained leaves before clipping


def state_at_cut(
    column: Column, model: SequenceClassifier, data: Data, batch: Batch, seeds: jax.Array | None = None
) -> State:
    """The state at the cut for one batch: as the host read it, or gathered from the cache, or computed by the trunk."""
    if batch.hidden is not None:
        return batch.hidden
    if batch.pooled is not None:
        return batch.pooled
    if data.hidden is not None:
        return data.hidden[batch.index]  # [R, W, D]
    if data.pooled is not None:
        return data.pooled[batch.example]  # [R, G, D]
    return model.trunk(data.tokens.of(batch), batch, column.cut, seeds)


def label_and_weight(objective: Objective, data: Data, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """The label of each output of a batch, and what it counts in the mean: [..., R, G], by token [..., R, W]."""
    place = jnp.asarray(batch.index if objective.by_token else batch.example)
    label = jnp.asarray(data.label)[place]
    return label, jnp.where(place >= 0, objective.weight(label), 0.0)


def loss_and_gradients(
    program: Program, trained: freezing.Params, frozen: freezing.Params, data: Data, batch: Batch, seeds: jax.Array
) -> tuple[jax.Array, freezing.Params]:
    """Mean loss of one packed batch, leaves [M, R, ...], and its gradients: of the trained leaves and nothing else."""
    objective = program.objective
    total_weight = jnp.sum(label_and_weight(objective, data, batch)[1])
    if objective.by_token:  # no word of a short batch may have been read
        total_weight = jnp.maximum(total_weight, jnp.finfo(jnp.float32).tiny)

    def loss_of(trained: freezing.Params, part: Batch) -> jax.Array:
        model = program.column.bind(freezing.combine(trained, frozen))
        state = state_at_cut(program.column, model, data, part, seeds if program.frozen_dropout else None)
        logits = model.top(state, part, program.column.cut, seeds, program.remat)  # [R, G, C], or [R, W, C] by token
        label, weight = label_and_weight(objective, data, part)
        return jnp.sum(jnp.where(weight > 0, objective.loss(logits, label), 0.0)) / total_weight

    differentiate = jax.value_and_grad(loss_of)
    if program.accumulate == 1:
        return differentiate(trained, jax.tree.map(lambda leaf: leaf[0], batch))
    nothing = (jnp.float32(0), jax.tree.map(jnp.zeros_like, trained))
    total, _ = jax.lax.scan(lambda sums, part: (jax.tree.map(jnp.add, sums, differentiate(trained, part)), None),
                            nothing, batch)  # fmt: skip
    return total


def train_step(
    program: Program,
    trained: freezing.Params,
    optimizer_state: optax.OptState,
    frozen: freezing.Params,
    data: Data,
    dispatch: Dispatch,
    number: jax.Array,
    seed: jax.Array,
    step: jax.Array,
    places: Any = None,
) -> tuple[freezing.Params, optax.OptState, Metrics]:
    """One optimizer step on batch `number` of a dispatch -> (trained, optimizer state, metrics).

    places: shardings of (trained, optimizer state) before the step and after it; None: XLA chooses.
    """
    trained, optimizer_state = _held((trained, optimizer_state), places)
    seeds = dropout_seeds(jax.random.fold_in(jax.random.key(seed), step), program.column.num_layers)
    loss, gradients = in_its_shape(
        dispatch,
        number,
        program.shapes,
        lambda batch: loss_and_gradients(program, trained, frozen, data, batch, seeds),
    )
    gradients = _held(gradients, None if places is None else places[0])
    trained, optimizer_state = _held(
        apply_gradients(program.optimizer, program.labels, gradients, optimizer_state, trained, frozen), places
    )
    return trained, optimizer_state, Metrics(loss, optax.tree.norm(gradients))


def _held(tree: Any, places: Any) -> Any:
    """The tree where it belongs. Without this a sharded optimizer state makes XLA reshard the whole step."""
    return tree if places is None else jax.lax.with_sharding_constraint(tree, places)


def train_steps(
    program: Program,
    trained: freezing.Params,
    optimizer_state: optax.OptState,
    frozen: freezing.Params,
    data: Data,
    dispatch: Dispatch,
    seed: jax.Array,
    first_step: jax.Array,
    places: Any = None,
) -> tuple[freezing.Params, optax.OptState, Metrics]:
    """A step for each batch of a dispatch; the metrics are [K] each.

    seed: uint32, from which every step's dropout comes. first_step: int32, the steps before these. places: as in
    `train_step`.
    """

    def body(number: jax.Array, carry: Any) -> Any:
        trained, state, metrics = carry
        trained, state, new = train_step(
            program, trained, state, frozen, data, dispatch, number, seed, first_step + number, places
        )
        return trained, state, jax.tree.map(lambda all_, one: all_.at[number].set(one), metrics, new)

    nothing = jnp.zeros(dispatch.shape_number.shape, jnp.float32)
    return jax.lax.fori_loop(0, dispatch.count, body, (trained, optimizer_state, Metrics(nothing, nothing)))


SIDE_BY_SIDE: Any = (0, 0, None, None, Dispatch(0, None, None), 0, None)  # type: ignore[arg-type]
"""Which inputs of `train_steps` begin with an axis S where runs are trained side by side; so do all its results."""


def predict_step(column: Column, params: freezing.Params, data: Data, batch: Batch) -> jax.Array:
    """Logits of one packed batch, without dropout: float32 [R, G, C], or [R, W, C] by token."""
    model = column.bind(params)
    return model.top(state_at_cut(column, model, data, batch), batch, column.cut)


def predict_heads(
    column: Column, trained: freezing.Params, frozen: freezing.Params, data: Data, batch: Batch
) -> jax.Array:
    """The same of S runs that trained their heads alone: trained leaves [S, ...] -> float32 [S, R, G, C]."""
    return jax.vmap(lambda one: predict_step(column, freezing.combine(one, frozen), data, batch))(trained)


def trunk_step(column: Column, start: int, params: freezing.Params, data: Data, batch: Batch) -> State:
    """The state at the cut of one packed batch, without dropout: what the trunk cache keeps.

    start: the cut at which `data` or `batch` holds the state already; 0: from the tokens.
    """
    model = column.bind(params)
    state = state_at_cut(dataclasses.replace(column, cut=start), model, data, batch)
    return model.blocks(state, batch, start, column.cut, None)


compiled_predict_step = devices.Jitted(predict_step, static_argnames="column")
compiled_predict_heads = devices.Jitted(predict_heads, static_argnames="column")
compiled_trunk_step = devices.Jitted(trunk_step, static_argnames=("column", "start"))


def compile_train_steps(program: Program, side_by_side: bool, *inputs: Any) -> jax.stages.Compiled:
    """`train_steps` compiled for inputs of these shapes and places; they may be jax.ShapeDtypeStructs.

    Trained leaves and optimizer state are donated, and come back in the places they had. What was compiled for equal
    programs and inputs before in this process is found again: nothing is traced.
    """
    return _compile_train_steps(program, side_by_side, *abstract(inputs))


@functools.lru_cache(maxsize=16)  # a program on a CPU takes hundreds of memory maps, and a process may have 65,530
def _compile_train_steps(
    program: Program, side_by_side: bool, leaves: tuple[jax.ShapeDtypeStruct, ...], tree: Any
) -> jax.stages.Compiled:
    inputs = jax.tree.unflatten(tree, leaves)
    kept = jax.tree.map(lambda leaf: leaf.sharding, inputs[:2])
    shares = any(place is not None and not place.is_fully_replicated for place in jax.tree.leaves(kept))
    function = functools.partial(train_steps, program, places=kept if shares else None)
    over_runs = jax.vmap(function, SIDE_BY_SIDE) if side_by_side else function
    mesh = devices.mesh_of(inputs[0])
    metrics = None if mesh is None else devices.replicated(mesh)
    steps = jax.jit(over_runs, donate_argnums=(0, 1), out_shardings=(*kept, metrics))
    return steps.lower(*inputs).compile(devices.compiler_options(mesh, program.column.onednn))


forget_programs = _compile_train_steps.cache_clear
"""Let go of the programs that compile_train_steps keeps."""


def abstract(inputs: Any) -> tuple[tuple[jax.ShapeDtypeStruct, ...], Any]:
    """Shapes, dtypes and places of the arrays of a tree, and its structure: a key of a compiled program."""

    def leaf(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(np.shape(array), array.dtype, sharding=getattr(array, "sharding", None))

    leaves, tree = jax.tree.flatten(inputs)
    return tuple(map(leaf, leaves)), tree
