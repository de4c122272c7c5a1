"""Any number of classes for each example: loss and gradients are those of transformers, for packed batches."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxfreeze import freezing
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import read_config
from jaxfreeze.objectives import MultiLabel
from jaxfreeze.training.step import Data, Program, loss_and_gradients
from tests import reference

CLASSES = 5


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_loss_and_gradients_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    torch = reference.pytorch()
    theirs = reference.hugging_face_model(family, CLASSES, problem_type="multi_label_classification")
    names = reference.output_names(CLASSES)
    encoder = read_config(reference.save(theirs, tmp_path))
    label = np.random.default_rng(1).integers(0, 2, (9, CLASSES), np.uint8)
    store = dataclasses.replace(reference.random_store(family, num_examples=9), label=label)
    expected = theirs(**reference.padded(theirs, store), labels=torch.tensor(label).float()).loss
    expected.backward()

    params = weights.load(tmp_path, encoder, names, seed=0).params
    policy = freezing.label_layers(list(params), freezing.ALL, encoder.num_hidden_layers)
    program = Program(Column(encoder, CLASSES), MultiLabel(names), tuple(sorted(policy.items())), None, ())  # type: ignore[arg-type]
    batch = jax.tree.map(lambda leaf: leaf[None], reference.packed(store, rows=8))
    data = Data(reference.tokens_of(store), label)
    loss, gradients = jax.jit(loss_and_gradients, static_argnums=0)(program, params, {}, data, batch, None)
    assert float(loss) == pytest.approx(expected.item(), abs=1e-5)
    named = dict(theirs.named_parameters())
    for path, gradient in gradients.items():
        name, transposed = weights.hugging_face_name(path, family)
        wanted = named[name].grad.numpy()
        np.testing.assert_allclose(gradient, wanted.T if transposed else wanted, atol=1e-4, rtol=0, err_msg=path)
    assert max(float(np.abs(gradient).max()) for gradient in gradients.values()) > 1e-2
