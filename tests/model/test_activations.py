"""Activations: every name stands for the function that transformers has under it."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxfreeze.model.layers import ACTIVATIONS
from tests import reference

POINTS = np.concatenate([np.linspace(-12, 12, 4001), [0.0, -0.0, 1e-6, 1e4, -1e4]]).astype(np.float32)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_is_the_function_of_transformers(name: str) -> None:
    torch = reference.pytorch()
    from transformers.activations import ACT2FN

    expected = ACT2FN[name](torch.tensor(POINTS)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(POINTS)), expected, rtol=1e-6, atol=1e-6)


def test_the_exact_gelu_is_not_its_approximation() -> None:
    exact, other = (np.asarray(ACTIVATIONS[name](jnp.asarray(POINTS))) for name in ("gelu_python", "gelu_fast"))
    assert 1e-4 < np.abs(exact - other).max() < 1e-3
