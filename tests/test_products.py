"""The arithmetic of matrix products is that of the formulas, whatever the program around them."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.products import product_flops, step_flops
from jaxfreeze import freezing
from jaxfreeze.data.batch import Shape
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.objectives import Classification

A, B = jax.ShapeDtypeStruct((2, 3, 5), jnp.bfloat16), jax.ShapeDtypeStruct((2, 5, 7), jnp.float32)
ONE = 2 * 2 * 3 * 5 * 7
CLASSES = Classification(("no", "perhaps", "yes"))


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum("nij,njk->nik", a, b)


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (product, 1),
        (jax.jit(product), 1),
        (lambda a, b: jax.lax.scan(lambda sums, _: (sums + product(a, b), None), jnp.zeros((2, 3, 7)), length=4), 4),
        (lambda a, b: jax.lax.cond(a.sum() > 0, lambda: product(a, b) + product(a, b), lambda: product(a, b)), 2),
        (lambda a, b: jax.lax.fori_loop(0, b[0, 0, 0].astype(int), lambda _, x: x + product(a, b), product(a, b)), 2),
        (jax.grad(lambda a, b: jnp.sum(product(a, b) ** 2)), 2),  # forward, and of a
        (jax.grad(jax.checkpoint(lambda a, b: jnp.sum(product(a, b) ** 2))), 3),  # forward twice
    ],
)  # fmt: skip
def test_each_product_counts(function, count: int) -> None:
    assert product_flops(function, A, B) == count * ONE


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("trainable_layers", [0, 1, 2, 4, "all"])
def test_a_step_of_bert(trainable_layers: freezing.Layers, cached: bool) -> None:
    """By hand: products of D x D, of D x I, of scores, and the pooler's and the classifier's."""
    encoder = EncoderConfig(
        model_type="bert", vocab_size=50, hidden_size=24, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=40, max_position_embeddings=32, type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0,
    )  # fmt: skip
    shape = Shape(rows=3, width=16, segments=2)
    column = Column(encoder, CLASSES.num_outputs)
    labels = freezing.label_layers(column.shapes(), trainable_layers, 4)
    column = Column(encoder, CLASSES.num_outputs, cut=freezing.cut_of(labels, 4))
    slots, firsts, width = shape.slots, shape.rows * shape.segments, 24
    total = 0
    for layer in range(max(1, column.cut if cached else 1), 5):
        queries = firsts if layer == 4 else slots  # of the last layer the first tokens alone are read
        key_and_value, query = 2 * slots * width**2, queries * width**2
        rest = queries * width**2 + 2 * queries * shape.width * width + 2 * queries * width * 40
        total += key_and_value + query + rest
        if layer >= column.cut:  # of the inputs and of the weights; the lowest trained layer's inputs need none
            total += 2 * (key_and_value + query + rest) - (key_and_value + query) * (layer == column.cut)
    total += firsts * width**2 * (3 if column.cut <= 4 else 2) + firsts * width * 3 * 3
    assert step_flops(column, CLASSES, tuple(sorted(labels.items())), shape, cached) == 2 * total
