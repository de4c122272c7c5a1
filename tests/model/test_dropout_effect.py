"""What dropout does to the logits is distributed as in transformers: at each site alone, and at all of them together.

Ours is drawn as in a run, one training step after the other, all examples packed in one batch. transformers in train
mode draws independent masks for as many copies of the examples. Compared are mean and variance for every example and
output; and no two examples, steps or sites have anything in common.
"""

import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfreeze.model import attention, dropout, weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.dropout import dropout_seeds, mask_multiplier
from jaxfreeze.model.hub import read_config
from tests import reference

RATE = 0.1
STEPS = 1000
COPIES = 500  # of the examples, in one batch for transformers
LAGS = (1, 2, 7, 100)  # steps between two that are compared
LAYER = ("attention probabilities", "attention output", "feed-forward output")
SITES = ("embeddings", *(f"{site} of layer {number}" for number in (0, 1) for site in LAYER))
HEADS = {"bert": ("pooled",), "roberta": ("first state", "pooled")}
"""In the order in which a column asks for masks."""


class Model:
    """A random classifier in transformers and here, and 6 examples."""

    def __init__(self, family: str, folder: Path) -> None:
        self.theirs = reference.hugging_face_model(family, dropout=RATE)
        self.config = read_config(reference.save(self.theirs, folder))
        params = weights.load(folder, self.config, reference.output_names(3), seed=0).params
        self.classifier = Column(self.config, 3).bind(params)
        self.store = reference.random_store(family, num_examples=6, longest=14)
        self.sites = SITES + HEADS[family]
        with reference.pytorch().no_grad():
            self.without = self.theirs(**reference.padded(self.theirs, self.store)).logits
        self._drawn = jax.jit(self._draw)

    def ours(self, sites: slice = slice(None), steps: int = STEPS) -> np.ndarray:
        """What dropout at these sites alone changes in the logits, step by step: [S, E, C]."""
        chosen = np.zeros(len(self.sites), bool)
        chosen[sites] = True
        batch = reference.packed(self.store)
        packed = np.moveaxis(np.asarray(self._drawn(chosen, np.arange(steps))), 0, 2)  # [R, G, S, C]
        return np.moveaxis(reference.by_example(packed, batch), 1, 0) - self.without.numpy()

    def _draw(self, chosen: jax.Array, steps: jax.Array) -> jax.Array:
        batch, calls = reference.packed(self.store), itertools.count()
        tokens = reference.tokens_of(self.store).of(batch)

        def only_chosen(*arguments):
            return jnp.where(chosen[next(calls)], mask_multiplier(*arguments), 1.0)

        def logits(step: jax.Array) -> jax.Array:
            seeds = dropout_seeds(jax.random.fold_in(jax.random.key(1), step), self.config.num_hidden_layers)
            return self.classifier(tokens, batch, seeds)

        with pytest.MonkeyPatch.context() as patch:
            for module in (attention, dropout):
                patch.setattr(module, "mask_multiplier", only_chosen)
            result = jax.lax.map(logits, steps, batch_size=100)
        assert next(calls) == len(self.sites)
        return result

    def theirs_with(self, sites: slice = slice(None), seed: int = 1) -> np.ndarray:
        """The same of transformers; a module that is called twice is on at both of its sites."""
        torch = reference.pytorch()
        torch.manual_seed(seed)
        modules = [module for module in self.theirs.modules() if isinstance(module, torch.nn.Dropout)]
        chosen = [*range(len(self.sites))][sites]
        for number, module in enumerate(modules):
            module.p = RATE if number in chosen else 0.0
        inputs = {name: x.repeat(COPIES, 1) for name, x in reference.padded(self.theirs, self.store).items()}
        self.theirs.train()
        with torch.no_grad():
            drawn = [self.theirs(**inputs).logits.reshape(COPIES, *self.without.shape) for _ in range(STEPS // COPIES)]
        return (torch.cat(drawn) - self.without).numpy()


def spread(change: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and variance over the draws of change [S, E, C], each with the squares of its standard errors: [E, C]."""
    squares = (change - change.mean(0)) ** 2
    return {name: (x.mean(0), x.var(0) / len(x)) for name, x in (("mean", change), ("variance", squares))}


def assert_same_distribution(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Mean and variance of changes [S, E, C] differ by less than 5 standard errors."""
    for (name, (mine, error)), (wanted, their_error) in zip(spread(ours).items(), spread(theirs).values(), strict=True):
        z = (mine - wanted) / np.sqrt(error + their_error)
        assert np.abs(z).max() < 5, name


def assert_unrelated(a: np.ndarray, b: np.ndarray) -> None:
    """Correlation over the draws of changes [S, ...] within 5 standard errors of 0."""
    a, b = ((x - x.mean(0)) / x.std(0) for x in (a, b))
    r = (a * b).mean(0)
    assert np.abs(r).max() < 5 / math.sqrt(len(a))


@pytest.fixture(scope="module", params=HEADS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(request.param, tmp_path_factory.mktemp("model"))


def test_each_sites_effect_is_that_of_transformers(model: Model) -> None:
    changes = []
    encoder = range(len(SITES)) if model.config.model_type == "bert" else ()  # RoBERTa's is made of the same modules
    for sites in (*(slice(number, number + 1) for number in encoder), slice(len(SITES), None)):  # the head's together
        changes.append(model.ours(sites))
        assert_same_distribution(changes[-1], model.theirs_with(sites))
    for one, other in itertools.combinations(changes, 2):
        assert_unrelated(one, other)


def test_the_effect_of_all_sites_is_that_of_transformers(model: Model) -> None:
    change = model.ours()
    assert_same_distribution(change, model.theirs_with())
    for lag in LAGS:
        assert_unrelated(change[lag:], change[:-lag])
    for one, other in itertools.combinations(range(change.shape[1]), 2):  # two examples
        assert_unrelated(change[:, one], change[:, other])


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.3])
def test_bfloat16_keeps_the_mean(rate: float) -> None:
    """1 / (1 - rate) in bfloat16 is up to 0.4% off."""
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (2048, 128)), jnp.bfloat16)
    seed = dropout_seeds(jax.random.key(0), 0)[0, 0]
    y = np.asarray(dropout.dropout(x, jnp.arange(len(x)), seed, rate), np.float64)
    kept = y > 0
    assert (y[kept] / np.asarray(x, np.float64)[kept]).mean() * (1 - rate) == pytest.approx(1, abs=1e-4)
