"""Dropout masks: the right rate, one mask per token wherever it lies, and nothing in common between any two places."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfreeze.data.batch import Tokens
from jaxfreeze.model import attention as attentions
from jaxfreeze.model import weights
from jaxfreeze.model.attention import Places, Queries
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.dropout import SITES_PER_BLOCK, dropout, dropout_seeds, mask_multiplier, mix
from jaxfreeze.model.hub import read_config
from tests import reference
from tests.families import FAMILIES

RATES = (0.01, 0.1, 0.25, 0.5, 0.9)
TOKENS, FEATURES, LAYERS = 1024, 128, 2
SEEDS = np.asarray(dropout_seeds(jax.random.key(7), LAYERS))  # [L + 2, 3, 2]
SITES = [(block, site) for block in range(LAYERS + 2) for site in range(SITES_PER_BLOCK)]


def mask(seed: np.ndarray, rate: float, tokens: int = TOKENS, features: int = FEATURES) -> np.ndarray:
    """1 where kept: [tokens, features]."""
    return np.asarray(mask_multiplier(jnp.arange(tokens)[:, None], jnp.arange(features), jnp.asarray(seed), rate)) > 0


def assert_unrelated(a: np.ndarray, b: np.ndarray) -> None:
    """Correlation of two masks within 5 standard errors of 0."""
    r = np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1]
    assert abs(r) < 5 / math.sqrt(a.size), r


@pytest.mark.parametrize("x, expected", [(0, 0), (1, 0x514E28B7), (0xFFFFFFFF, 0x81F16F39)])
def test_mix_is_murmur_hash_3s_finalizer(x, expected):
    assert int(mix(jnp.uint32(x))) == expected


@pytest.mark.parametrize("shift", [24, 12, 0])
@pytest.mark.parametrize("stride", [1, 2**15, 0x9E3779B9])
def test_mix_of_counted_numbers_is_uniform(stride, shift):
    count = 2**17
    mixed = np.asarray(mix(jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(stride) + jnp.uint32(12345)))
    observed = np.bincount((mixed >> shift) & 255, minlength=256)
    assert len(np.unique(mixed)) == count  # a bijection
    expected = count / 256
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)  # neither lumpy nor suspiciously even


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("block, site", SITES[:: SITES_PER_BLOCK - 1])
def test_share_of_zeros_is_the_rate(block, site, rate):
    dropped = 1 - mask(SEEDS[block, site], rate)
    sigma = math.sqrt(rate * (1 - rate))
    assert abs(dropped.mean() - rate) < 5 * sigma / math.sqrt(dropped.size)
    # In no token, feature or corner of the mask is it another.
    for axis in (0, 1):
        assert np.abs(dropped.mean(axis) - rate).max() < 6 * sigma / math.sqrt(dropped.shape[axis]) + 1e-3


@pytest.mark.parametrize("rate", RATES)
def test_values_are_zero_or_scaled_and_their_mean_is_kept(rate):
    x = jnp.ones((TOKENS, FEATURES), jnp.float32)
    y = np.asarray(dropout(x, jnp.arange(TOKENS), jnp.asarray(SEEDS[0, 0]), rate))
    np.testing.assert_array_equal(np.unique(y), np.array([0, np.float32(1 / (1 - rate))], np.float32))
    assert abs(y.mean() - 1) < 5 * math.sqrt(rate / (1 - rate) / y.size)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_seed_or_rate_zero_is_the_very_input(dtype):
    x = jnp.array([[-0.0, 1.5], [np.inf, np.nan]], dtype)
    token, seed = jnp.arange(2), jnp.asarray(SEEDS[0, 0])
    assert dropout(x, token, None, 0.5) is x
    assert dropout(x, token, seed, 0.0) is x
    assert mask_multiplier(token, token, None, 0.5) == 1.0
    assert dropout(jnp.ones((2, 2), dtype), token, seed, 0.5).dtype == dtype


def test_a_tokens_mask_depends_on_its_number_alone():
    random = np.random.default_rng(0)
    rows = random.permutation(TOKENS)[:60].reshape(5, 12)
    x, seed = jnp.ones((TOKENS, FEATURES)), jnp.asarray(SEEDS[1, 1])
    whole = dropout(x, jnp.arange(TOKENS), seed, 0.3)
    np.testing.assert_array_equal(dropout(x[rows], jnp.asarray(rows), seed, 0.3), whole[rows])
    compiled = jax.jit(lambda token: dropout(jnp.ones((*token.shape, FEATURES)), token, seed, 0.3))
    np.testing.assert_array_equal(compiled(jnp.asarray(rows)), whole[rows])


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_with_dropout_are_the_same_in_every_packing(family, tmp_path: Path):
    theirs = reference.hugging_face_model(family, dropout=0.4)
    config = read_config(reference.save(theirs, tmp_path))
    column = Column(config, 3)
    params = weights.load(tmp_path, config, reference.output_names(3), seed=0).params
    store = reference.random_store(family)
    tokens = Tokens(jnp.asarray(store.token_id), jnp.asarray(store.token_type), jnp.asarray(store.position))
    model = jax.jit(lambda batch, seeds: column.bind(params)(tokens.of(batch), batch, seeds))

    def logits(batch, key):
        seeds = dropout_seeds(jax.random.key(key), config.num_hidden_layers)
        return reference.by_example(model(batch, seeds), batch)

    packed, unpacked = reference.packed(store), reference.unpacked(store, width=20)
    np.testing.assert_allclose(logits(unpacked, 1), logits(packed, 1), atol=1e-5, rtol=0)
    assert np.abs(logits(packed, 2) - logits(packed, 1)).max() > 1e-2


def test_seeds_of_steps_blocks_and_sites_all_differ():
    steps = [dropout_seeds(jax.random.fold_in(jax.random.key(0), step), LAYERS) for step in range(50)]
    seeds = np.stack(steps)
    assert seeds.shape == (50, LAYERS + 2, SITES_PER_BLOCK, 2)
    assert seeds.dtype == np.uint32
    assert len(np.unique(seeds)) == seeds.size


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masks_of_different_steps_blocks_and_sites_are_unrelated(rate):
    next_step = np.asarray(dropout_seeds(jax.random.key(8), LAYERS))
    masks = [mask(seeds[place], rate) for seeds in (SEEDS, next_step) for place in SITES]
    for number, one in enumerate(masks):
        for other in masks[number + 1 :]:
            assert_unrelated(one, other)


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("distance", [1, 2, 3, 64])
def test_neighbouring_tokens_and_features_are_unrelated(distance, rate):
    kept = mask(SEEDS[2, 2], rate)
    assert_unrelated(kept[distance:], kept[:-distance])
    assert_unrelated(kept[:, distance:], kept[:, :-distance])
    assert_unrelated(kept[distance:, distance:], kept[:-distance, :-distance])


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_attention_masks_of_heads_and_of_key_to_query_are_unrelated(rate, monkeypatch, tmp_path: Path):
    """As the encoder calls it, on one example of 64 tokens: [heads, query, key]."""
    seen = []

    def spy(*arguments):
        seen.append(mask_multiplier(*arguments))
        return seen[-1]

    monkeypatch.setattr(attentions, "mask_multiplier", spy)
    theirs = reference.hugging_face_model("bert", num_hidden_layers=1, attention_probs_dropout_prob=rate)
    config = read_config(reference.save(theirs, tmp_path))
    attention = (
        Column(config, 3)
        .bind(weights.load(tmp_path, config, reference.output_names(3), seed=0).params)
        .layers[0]
        .attention
    )
    hidden = jnp.ones((1, 64, config.hidden_size))
    places = Places(jnp.arange(100, 164)[None], jnp.zeros((1, 64), int), jnp.arange(64)[None])
    attention(hidden, Queries(hidden, places), places, jnp.asarray(SEEDS[1]))
    (multiplier,) = seen
    kept = np.asarray(multiplier)[0] > 0  # [N, Q, W]
    assert kept.shape == (config.num_attention_heads, 64, 64)
    for number, head in enumerate(kept):
        for other in kept[number + 1 :]:
            assert_unrelated(head, other)
            for distance in range(1, len(kept)):  # nor is one head's mask another's, moved by some tokens
                assert_unrelated(head[distance:], other[:-distance])
        upper = np.triu_indices(64, 1)
        assert_unrelated(head[upper], head.T[upper])
    assert abs(1 - kept.mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / kept.size)
