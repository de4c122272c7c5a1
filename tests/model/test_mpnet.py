"""MPNet: the bias by distance, in its buckets, far and near, in one table for all layers."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfreeze.data.token_store import TokenStore
from jaxfreeze.errors import InputError
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.families import mpnet
from jaxfreeze.model.hub import read_config
from tests import reference

TABLE = "embeddings.relative.table.embedding"


def with_config(folder: Path, **changes: object) -> Path:
    """A model folder with other values in its config.json."""
    file = reference.write_folder(folder, "mpnet") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def test_the_buckets_are_those_of_transformers() -> None:
    torch = reference.pytorch()
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distance = np.arange(-2000, 2001)
    ours = mpnet.BUCKETS[np.clip(distance, -mpnet.FAR, mpnet.FAR) + mpnet.FAR]
    np.testing.assert_array_equal(ours, MPNetEncoder.relative_position_bucket(torch.tensor(distance)).numpy())


@pytest.mark.slow
def test_a_row_of_more_than_512_slots(tmp_path: Path) -> None:
    """Attention in blocks: the logits, and the gradient of the table, which is the sum over layers and blocks."""
    theirs = reference.hugging_face_model("mpnet", max_position_embeddings=640)
    lengths = np.array([600, 70])
    start = np.concatenate([[0], np.cumsum(lengths)])
    token_id = np.random.default_rng(0).integers(5, 60, start[-1], np.int32)
    position = np.concatenate([np.arange(length) for length in lengths]).astype(np.int16) + np.int16(2)
    store = TokenStore(token_id, np.zeros(start[-1], np.int8), position, start, np.array([0, 1], np.int32))
    batch = reference.packed(store, width=700)
    assert batch.index.shape == (1, 700)
    reference.assert_same_logits(theirs, tmp_path, store, batch)

    theirs(**reference.padded(theirs, store)).logits.square().sum().mul(100).backward()
    config = read_config(tmp_path)
    params = weights.load(tmp_path, config, reference.output_names(3), seed=0).params
    tokens = reference.tokens_of(store).of(batch)

    def loss(table: jax.Array) -> jax.Array:
        return 100 * jnp.sum(Column(config, 3).bind({**params, TABLE: table})(tokens, batch) ** 2)

    expected = theirs.mpnet.encoder.relative_attention_bias.weight.grad.numpy()
    used = np.abs(expected).max(axis=1) > 1e-4
    assert np.flatnonzero(~used).tolist() == [mpnet.SIDE]  # no key after the query is at the distance 0
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(params[TABLE])), expected, atol=1e-5, rtol=1e-4)


def test_the_bias_is_float32_in_bfloat16_too(tmp_path: Path) -> None:
    config = read_config(reference.write_folder(tmp_path, "mpnet"))
    params = weights.load(tmp_path, config, reference.output_names(3), seed=0).params
    model = Column(config, 3, "bfloat16").bind(params)
    slot = jnp.arange(40)[None]
    bias = model.layers[1].bias(jnp.zeros((1, 4, 40, 6), jnp.bfloat16), slot[:, :7], slot)
    assert (bias.dtype, bias.shape) == (np.float32, (1, 4, 7, 40))
    at = np.arange(7)[:, None], np.arange(40)
    buckets = mpnet.BUCKETS[at[1] - at[0] + mpnet.FAR]  # [Q, W]
    np.testing.assert_array_equal(bias[0], np.moveaxis(params[TABLE][buckets], -1, 0))


def test_all_layers_have_the_embeddings_table(tmp_path: Path) -> None:
    shapes = Column(read_config(reference.write_folder(tmp_path, "mpnet", num_hidden_layers=3)), 3).shapes()
    assert [path for path in shapes if shapes[path].shape == (32, 4)] == [TABLE]


@pytest.mark.parametrize("pad", [0, 1, 5])
def test_the_first_position_is_not_counted_from_the_padding_token(pad: int, tmp_path: Path) -> None:
    theirs = reference.hugging_face_model("mpnet", pad_token_id=pad)
    store = reference.random_store("mpnet")
    store.token_id[store.token_id == pad] = 7  # padding that transformers would not count as tokens
    reference.assert_same_logits(theirs, tmp_path, store, reference.packed(store))
    assert read_config(tmp_path).first_position == 2


def test_what_a_file_may_leave_out(tmp_path: Path) -> None:
    config = read_config(with_config(tmp_path, pad_token_id=None))
    assert (config.pad_token_id, config.first_position) == (1, 2)


@pytest.mark.parametrize("buckets", [16, 64, None])
def test_another_number_of_buckets(buckets: int | None, tmp_path: Path) -> None:
    folder = with_config(tmp_path, relative_attention_num_buckets=buckets)
    with pytest.raises(InputError, match=f"relative_attention_num_buckets is {buckets}; expected 32"):
        read_config(folder)
