"""placeholder until the branch `objectives` is merged."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxfreeze import metrics


@dataclasses.dataclass(frozen=True)
class Objective:
    """A kind of label."""

    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    primary_metric: str

    @property
    def num_outputs(self) -> int:
        return len(self.labels) or 1

    @property
    def label_dtype(self) -> str:
        return "int32" if self.labels else "float32"

    def loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """Losses of logits [..., C] against labels [...] -> [...] float32."""
        if not self.labels:
            return jnp.square(logits[..., 0] - label)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)

    def score(self, logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
        return metrics.compute(self.metrics, logits, label)
