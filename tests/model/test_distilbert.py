"""DistilBERT: its names in config.json, and dropout where it has it."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.model.attention import Places, Queries
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.dropout import dropout_seeds
from jaxfreeze.model.hub import read_config
from tests import reference


def rewritten(folder: Path, **changes: object) -> Path:
    """A model folder with other values in its config.json, and without those that are None."""
    raw = json.loads(reference.write_folder(folder, "distilbert").joinpath("config.json").read_text()) | changes
    values = {name: value for name, value in raw.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    "changes, ending",
    [
        ({"dim": None, "n_layers": None, "hidden_dim": None}, "dim, n_layers, hidden_dim missing"),
        ({"n_heads": 7}, "dim 24 does not divide into 7 heads"),
        ({"n_layers": 1001}, "n_layers is 1001; expected at most 1000"),
        ({"hidden_dim": 0}, "hidden_dim is 0; expected a whole number of at least 1"),
        ({"dropout": 1}, "dropout is 1; expected a number from 0 up to, but not including, 1"),
        ({"activation": "relu6"}, "activation is 'relu6'; expected one of gelu, "),
    ],
)
def test_errors_have_the_names_of_the_file(changes, ending, tmp_path: Path):
    with pytest.raises(InputError) as caught:
        read_config(rewritten(tmp_path, **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: {ending}")


def test_what_a_file_may_leave_out(tmp_path: Path):
    config = read_config(rewritten(tmp_path, pad_token_id=None, seq_classif_dropout=None))
    assert (config.pad_token_id, config.head_dropout_prob) == (0, 0.2)


def test_the_attentions_output_is_not_dropped(tmp_path: Path):
    folder = reference.write_folder(tmp_path, "distilbert", dropout=0.5, attention_probs_dropout_prob=0.0)
    config = read_config(folder)
    params = {
        path: np.random.default_rng(0).normal(0, 0.1, leaf.shape).astype(np.float32)
        for path, leaf in Column(config, 3).shapes().items()
    }
    layer = Column(config, 3).bind(params).layers[1]
    batch = reference.packed(reference.random_store("distilbert"))
    seeds = dropout_seeds(jax.random.key(0), config.num_hidden_layers)[2]
    hidden = jax.random.normal(jax.random.key(1), (*batch.index.shape, config.hidden_size))
    queries, keys = Queries.of(hidden, batch, first_only=False), Places.all_of(batch)
    kept = layer.attention(hidden, queries, keys, None)
    np.testing.assert_array_equal(layer.attention(hidden, queries, keys, seeds), kept)
    assert np.abs(layer(hidden, batch, seeds) - layer(hidden, batch, None)).max() > 0.1  # the feed-forward's is
