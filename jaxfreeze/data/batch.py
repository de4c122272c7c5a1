"""What a step is given: packed examples as index matrices into a token store, and the store's columns.

Letters of the axes: R rows, W slots, G segments (places for an example in a row), D width, T tokens, E examples.
"""

import dataclasses
from typing import Annotated, NamedTuple, get_type_hints

import jax
import jax.numpy as jnp

from jaxfreeze.arrays import Array

ATTENTION_COST = 1 / 3072  # attention's share of a slot's cost per slot of width: 4 W D against 24 D^2 FLOPs at D = 512


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Packed examples. R rows of W slots; a row holds up to G examples. Empty places are -1 (0 in `first`).

    In a batch for training every leaf begins with one more axis, M, over the parts that are computed in turn; for runs
    side by side with one more before it, S, over the runs.
    """

    index: Annotated[Array, "R W"]  # int32, number of the slot's token in the store
    segment: Annotated[Array, "R W"]  # int32, which of its row's examples the slot belongs to
    first: Annotated[Array, "R G"]  # int32, slot of each example's first token
    example: Annotated[Array, "R G"]  # int32, number of the example in the store
    hidden: Annotated[Array | None, "R W D"] = None  # state of every token at the cut, if the host read it
    pooled: Annotated[Array | None, "R G D"] = None  # or, below the head alone, of each example's first token

    @property
    def shape(self) -> "Shape":
        """R, W and G."""
        return Shape(self.index.shape[-2], self.index.shape[-1], self.first.shape[-1])


AXES: dict[str, tuple[str, ...]] = {
    name: tuple(hint.__metadata__[0].split()) for name, hint in get_type_hints(Batch, include_extras=True).items()
}
"""The axes of each leaf of a Batch, by its name."""


class Tokens(NamedTuple):
    """The columns of a token store that an encoder reads: [T] each, or gathered for a batch, [R, W]."""

    token_id: Array  # int32
    token_type: Array  # int8 in the store
    position: Array  # int16 in the store

    def of(self, batch: Batch) -> "Tokens":
        """[T] -> int32 [R, W]: one gather. An empty slot, -1, reads some token that nothing looks at."""
        return Tokens(*(column[batch.index].astype(jnp.int32) for column in self))


@dataclasses.dataclass(frozen=True, order=True)
class Shape:
    """The shape of a batch, and so of one compiled step."""

    rows: int
    """R."""
    width: int
    """W."""
    segments: int
    """G."""

    @property
    def slots(self) -> int:
        """Tokens computed."""
        return self.rows * self.width

    @property
    def cost(self) -> float:
        """What a step costs, in slots without attention."""
        return self.slots * (1 + self.width * ATTENTION_COST)

    def sizes(self, name: str) -> tuple[int, int]:
        """R, and the size of the second axis, of the leaf of a Batch that is called so."""
        return self.rows, {"W": self.width, "G": self.segments}[AXES[name][1]]
