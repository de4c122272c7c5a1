"""The column that is fine-tuned, and its one cut: trunk below (frozen), top above (trained)."""

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jaxfreeze.arrays import Array
from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families import family_of
from jaxfreeze.model.layers import for_platform

State: TypeAlias = Array  # the state at a cut: Tokens at cut 0, else hidden [R, W, D], or pooled [R, G, D] at cut L + 1


class SequenceClassifier(nnx.Module):
    """Embeddings, L layers and a head; `cut` counts the blocks (embeddings first, then layers) that are below the cut.

    cut 0: nothing is below, the embeddings are trained too. cut L - k + 1: the last k layers are above it.
    cut L + 1: only the head is above it. by_token: the head answers for every token, not for every example.
    """

    def __init__(
        self, config: EncoderConfig, num_outputs: int, dtype: str, rngs: nnx.Rngs, by_token: bool = False
    ) -> None:
        family = family_of(config.model_type, by_token)
        self.embeddings = family.embeddings(config, dtype, rngs)
        self.layers = nnx.List(
            [family.layer(config, number, self.embeddings, dtype, rngs) for number in range(config.num_hidden_layers)]
        )
        self.head = family.head(config, num_outputs, dtype, rngs)
        self.by_token = by_token

    def trunk(self, tokens: Tokens, batch: Batch, cut: int, seeds: jax.Array | None = None) -> State:
        """What lies below the cut: gathered tokens [R, W] -> the state at the cut.

        The state is the tokens themselves at cut 0, hidden [R, W, D] up to cut L, and at cut L + 1, where the head
        alone is left, [R, G, D], what it reads of each example; by token [R, W, D]. seeds: uint32 [L + 2, 3, 2], None
        for no dropout.
        """
        return self.blocks(tokens, batch, 0, cut, seeds)

    def top(
        self, state: State, batch: Batch, cut: int, seeds: jax.Array | None = None, remat: bool = False
    ) -> jax.Array:
        """What lies above the cut: the state at the cut -> logits, float32, [R, G, C] of packed examples, or [R, W, C].

        remat: for the gradients, compute what is within a layer a second time rather than keep it.
        """
        last = len(self.layers) + 1
        read = self.blocks(state, batch, cut, last, seeds, remat)  # [R, G, D], or [R, W, D] by token
        token = jnp.asarray(batch.index)  # [R, W]
        if not self.by_token:
            token = jnp.take_along_axis(token, batch.first, axis=1)  # [R, G]
        return self.head(read, token, None if seeds is None else seeds[last])

    def blocks(
        self, state: State, batch: Batch, start: int, stop: int, seeds: jax.Array | None, remat: bool = False
    ) -> Array:
        """Apply blocks start..stop-1 to the state at `start`; block 0 is the embeddings, block i is layer i - 1."""
        for block in range(start, stop):
            block_seeds = None if seeds is None else seeds[block]
            if block == 0:
                state = self.embeddings(state, batch, block_seeds)
            else:
                graph, values = nnx.split(self.layers[block - 1])
                layer = functools.partial(apply_layer, graph, block == len(self.layers) and not self.by_token)
                state = (jax.checkpoint(layer) if remat else layer)(values, state, batch, block_seeds)
        return state

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None = None) -> jax.Array:
        """The whole column: gathered tokens [R, W] -> logits [R, G, C], or [R, W, C] by token."""
        return self.top(tokens, batch, 0, seeds)


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply_layer(
    graph: nnx.GraphDef, pool: bool, values: nnx.State, state: Array, batch: Batch, seeds: jax.Array | None
) -> Array:
    """A layer with these values: [R, W, D] -> [R, W, D], with pool -> [R, G, D].

    Traced once for all layers that are alike, in whatever programs they are; compiled as part of these.
    """
    return nnx.merge(graph, values)(state, batch, seeds, pool)


@dataclasses.dataclass(frozen=True)
class Column:
    """A classifier's architecture and its cut, without values: hashable by value, so static where a step is compiled.

    Columns that differ in their cut alone share one graph, which is built once in a process.
    """

    encoder: EncoderConfig
    num_outputs: int
    """C, the outputs of the head."""
    dtype: str = "float32"
    """Of frozen leaves, and of activations and products if the last two fields do not say otherwise."""
    cut: int = 0
    """Blocks below the cut."""
    by_token: bool = False
    """Whether the head answers for every token, not for every example."""
    platform: str = "cpu"
    """What it is compiled for, as `devices.platform_of` names it; the values are the same on each, up to rounding."""
    activations: str | None = None
    """Their type, where it is not `dtype`."""
    onednn: bool = False
    """Whether a CPU does the products of float32 activations in bfloat16, see cpu_products.py."""

    @property
    def state_dtype(self) -> str:
        """The type of activations, and so of the state at the cut."""
        return self.activations or self.dtype

    @property
    def num_layers(self) -> int:
        """L."""
        return self.encoder.num_hidden_layers

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Every parameter by its path, in the order of the tree: its shape, and float32."""
        return dict(_structure(self.encoder, self.num_outputs, self.state_dtype, self.by_token, self.platform)[1])

    def bind(self, params: Mapping[str, Array]) -> SequenceClassifier:
        """The classifier with these values."""
        graph, _ = _structure(self.encoder, self.num_outputs, self.state_dtype, self.by_token, self.platform)
        flat: Any = {_keys(path): leaf for path, leaf in params.items()}
        return nnx.merge(graph, nnx.from_flat_state(flat))


@functools.cache
def _structure(
    encoder: EncoderConfig, num_outputs: int, dtype: str, by_token: bool, platform: str
) -> tuple[nnx.GraphDef, Mapping[str, jax.ShapeDtypeStruct]]:
    def make() -> SequenceClassifier:
        key = jax.random.key(0)
        rngs: Any = types.SimpleNamespace(params=lambda: key)  # no value is drawn, and nnx.Rngs takes half of the time
        return SequenceClassifier(encoder, num_outputs, dtype, rngs, by_token)

    model = nnx.eval_shape(make)
    for_platform(model, platform)
    graph, state = nnx.split(model)
    return graph, {".".join(map(str, path)): variable.get_value() for path, variable in nnx.to_flat_state(state)}


def _keys(path: str) -> tuple[str | int, ...]:
    """ "layers.3.attention" -> ("layers", 3, "attention")."""
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))
