"""What a run reports: its steps, how far it is, and the versions that its result depends on."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import NamedTuple, Protocol

from jaxfreeze.data.batches import Batch

VERSIONS = ("jaxfreeze", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


class NonFiniteLossError(Exception):
    """The loss became NaN or infinite."""


class Steps(Protocol):
    """Who is told of the steps, as a Journal is."""

    def start(self) -> None:
        """The first step begins now."""

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """After `step` optimizer steps."""

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics after `step` optimizer steps."""


class Progress(NamedTuple):
    """What a run has done so far; of runs side by side, one run's share."""

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    slots: int = 0  # tokens computed, empty places included

    def plus(self, batch: Batch, runs: int = 1) -> "Progress":
        """After one more batch of each of so many runs side by side."""
        counts = ((batch.example >= 0).sum(), (batch.index >= 0).sum(), batch.index.size)
        examples, tokens, slots = (int(count) // runs for count in counts)
        return Progress(self.steps + 1, self.examples + examples, self.tokens + tokens, self.slots + slots)


def versions() -> dict[str, str]:
    """Of the packages that a result depends on."""
    return {name: version(name) for name in VERSIONS}
