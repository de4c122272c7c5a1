"""Losses of labels that are classes: weights for rare ones, smoothing. Letters of the axes: C classes."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(
    logits: jax.Array, label: jax.Array, class_weights: tuple[float, ...] = (), smoothing: float = 0.0
) -> jax.Array:
    """Softmax cross-entropy of each label: float32 logits [..., C], int32 label [...] -> float32 [...].

    class_weights: one for each class; none: all 1. smoothing: the share of a label that is spread over all classes.
    The sum over the sum of `class_weight` is torch.nn.CrossEntropyLoss(weight, label_smoothing=smoothing). A label of
    -1 is none: its loss is a finite number without meaning.
    """
    known = jnp.maximum(label, 0)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, known)
    if not class_weights and not smoothing:
        return loss
    weights = jnp.asarray(class_weights or (1.0,) * logits.shape[-1], jnp.float32)  # [C]
    spread = -jnp.mean(weights * jax.nn.log_softmax(logits), axis=-1)
    return (1 - smoothing) * weights[known] * loss + smoothing * spread


def class_weight(label: jax.Array, class_weights: tuple[float, ...] = ()) -> jax.Array:
    """What each label counts in a mean of `cross_entropy`: int32 [...] -> float32 [...]; a label of -1 counts 0."""
    weights = jnp.asarray(class_weights, jnp.float32)[jnp.maximum(label, 0)] if class_weights else 1.0
    return jnp.where(label >= 0, weights, 0.0).astype(jnp.float32)


def binary_cross_entropy(
    logits: jax.Array, label: jax.Array, positive_weights: tuple[float, ...] = (), smoothing: float = 0.0
) -> jax.Array:
    """Sigmoid cross-entropy of each example, a mean over its classes: logits, label (0 or 1) [..., C] -> float32 [...].

    positive_weights: what a class's 1 counts against its 0, as torch.nn.BCEWithLogitsLoss(pos_weight). smoothing: the
    share of a label y that becomes 1/2: y (1 - smoothing) + smoothing / 2.
    """
    target = label.astype(jnp.float32) * (1 - smoothing) + smoothing / 2
    if not positive_weights:
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, target), axis=-1)
    weights = jnp.asarray(positive_weights, jnp.float32)  # [C]
    loss = -weights * target * jax.nn.log_sigmoid(logits) - (1 - target) * jax.nn.log_sigmoid(-logits)
    return jnp.mean(loss, axis=-1)
