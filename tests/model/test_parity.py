"""Logits and gradients are Hugging Face's: per block, end to end, packed and unpacked, trunk and top at every cut."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import read_config
from tests import reference
from tests.families import FAMILIES
from tests.reference import tokens_of


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path: Path):
    """A Hugging Face model, ours with its weights, a store, its packed batch."""
    theirs = reference.hugging_face_model(request.param)
    config = read_config(reference.save(theirs, tmp_path))
    column = Column(config, 3)
    params = {
        path: jnp.asarray(leaf)
        for path, leaf in weights.load(tmp_path, config, reference.output_names(3), seed=0).params.items()
    }
    store = reference.random_store(request.param)
    return theirs, column.bind(params), store, params, column


def their_logits(theirs, store) -> np.ndarray:
    with reference.pytorch().no_grad():
        return theirs(**reference.padded(theirs, store)).logits.numpy()


def test_logits_end_to_end(pair):
    theirs, ours, store, *_ = pair
    for batch in (reference.packed(store), reference.unpacked(store), reference.packed(store, width=48, rows=6)):
        logits = ours(tokens_of(store).of(batch), batch)
        np.testing.assert_allclose(reference.by_example(logits, batch), their_logits(theirs, store), atol=1e-5, rtol=0)


def test_each_block(pair):
    theirs, ours, store, *_ = pair
    batch = reference.unpacked(store)
    padded = reference.padded(theirs, store)
    with reference.pytorch().no_grad():
        hidden_states = theirs.base_model(**padded, output_hidden_states=True).hidden_states
    tokens = tokens_of(store).of(batch)
    width = padded["input_ids"].shape[1]
    for cut in range(1, len(ours.layers) + 1):
        state = ours.blocks(tokens, batch, 0, cut, None)
        for row, length in enumerate(store.lengths):
            np.testing.assert_allclose(state[row, :length], hidden_states[cut - 1][row, :length], atol=1e-5, rtol=0)
    assert width == store.lengths.max()
    last = ours.trunk(tokens, batch, len(ours.layers) + 1)  # [R, 1, D]
    np.testing.assert_allclose(last[:, 0], hidden_states[-1][:, 0], atol=1e-5, rtol=0)


def test_every_cut_gives_the_same_logits(pair):
    _, ours, store, *_ = pair
    batch = reference.packed(store)
    tokens = tokens_of(store).of(batch)
    whole = ours(tokens, batch)
    for cut in range(len(ours.layers) + 2):
        np.testing.assert_array_equal(ours.top(ours.trunk(tokens, batch, cut), batch, cut), whole)


def test_gradients(pair):
    theirs, _, store, params, column = pair
    batch = reference.packed(store)
    theirs(**reference.padded(theirs, store), labels=reference.pytorch().tensor(store.label).long()).loss.backward()

    def loss(params):
        logits = column.bind(params)(tokens_of(store).of(batch), batch)
        log_probs = jax.nn.log_softmax(logits)
        real = batch.example >= 0
        chosen = jnp.take_along_axis(log_probs, jnp.asarray(store.label)[batch.example][..., None], axis=-1)[..., 0]
        return -jnp.sum(jnp.where(real, chosen, 0)) / real.sum()

    gradients = jax.jit(jax.grad(loss))(params)
    named = {name: leaf for name, leaf in theirs.named_parameters() if leaf.grad is not None}  # others give no logits
    for path, ours in gradients.items():
        name, transposed = weights.hugging_face_name(path, theirs.config.model_type)
        expected = named[name].grad.numpy()
        np.testing.assert_allclose(ours, expected.T if transposed else expected, atol=1e-5, rtol=1e-4, err_msg=path)
    assert {weights.hugging_face_name(path, theirs.config.model_type)[0] for path in gradients} == set(named)
