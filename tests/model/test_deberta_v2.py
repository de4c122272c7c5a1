"""DeBERTa-v2's settings beside v3's, which the tests of all families have: parity, and the line for what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.data.token_store import TokenStore
from jaxfreeze.errors import InputError
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.dropout import dropout_seeds
from jaxfreeze.model.families.deberta_v2 import DEBERTA_V2, DebertaConfig, rows_of_distances
from jaxfreeze.model.family import Family
from jaxfreeze.model.hub import read_config
from tests import reference

FAMILY = "deberta-v2"
V2 = {
    "share_att_key": False, "position_buckets": -1, "norm_rel_ebd": "none", "position_biased_input": True,
    "type_vocab_size": 2, "pos_att_type": ["p2c", "c2p"], "layer_norm_eps": 1e-3,
}  # fmt: skip
VARIANTS = {
    "v2": V2,
    "narrow words": V2 | {"embedding_size": 16},
    "far distances share a row": V2 | {"max_relative_positions": 9},
    "far distances share a bucket": {"max_relative_positions": 14, "share_att_key": False},
    "an odd number of buckets": {"position_buckets": 7, "max_relative_positions": 33},
    "c2p alone": V2 | {"pos_att_type": "c2p"},
    "p2c alone": {"pos_att_type": ["p2c"]},
    "p2c alone, not shared": V2 | {"pos_att_type": ["p2c"]},
    "a table without terms": V2 | {"pos_att_type": []},
    "terms without a table": V2 | {"relative_attention": False},
    "as BERT": V2 | {"relative_attention": False, "pos_att_type": None, "type_vocab_size": 1},
    "tanh approximated": {"pooler_hidden_act": "gelu_new", "hidden_act": "relu", "layer_norm_eps": 1e-2},
}


def loaded(folder: Path, **changes: object) -> tuple[Any, Column, dict[str, np.ndarray]]:
    """A Hugging Face model, ours, and its values."""
    theirs = reference.hugging_face_model(FAMILY, **changes)
    config = read_config(reference.save(theirs, folder))
    return theirs, Column(config, 3), weights.load(folder, config, reference.output_names(3), seed=0).params


def with_types(store: TokenStore, count: int) -> TokenStore:
    """The store with as many token types as the model has."""
    return dataclasses.replace(store, token_type=(np.arange(store.num_tokens) % max(count, 1)).astype(np.int8))


def gathered(store: TokenStore, batch: Batch) -> Tokens:
    return Tokens(*map(jnp.asarray, (store.token_id, store.token_type, store.position))).of(batch)


def padded(theirs: Any, store: TokenStore) -> dict[str, Any]:
    """With token types, which v3 takes none of."""
    inputs = reference.padded(theirs, store)
    types = np.zeros(inputs["input_ids"].shape, int)
    for row, (start, stop) in enumerate(zip(store.start[:-1], store.start[1:], strict=True)):
        types[row, : stop - start] = store.token_type[start:stop]
    return inputs | {"token_type_ids": reference.pytorch().tensor(types)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(variant: str, tmp_path: Path) -> None:
    theirs, column, params = loaded(tmp_path, **VARIANTS[variant])
    store = with_types(reference.random_store(FAMILY), theirs.config.type_vocab_size)
    inputs, batch = padded(theirs, store), reference.unpacked(store)
    torch = reference.pytorch()
    with torch.no_grad():
        states = theirs.base_model(**inputs, output_hidden_states=True).hidden_states
    tokens, model = gathered(store, batch), column.bind(params)
    for cut in range(1, 3):
        state = model.blocks(tokens, batch, 0, cut, None)
        for row, length in enumerate(store.lengths):
            np.testing.assert_allclose(state[row, :length], states[cut - 1][row, :length], atol=1e-5, rtol=0)
    packed = reference.packed(store)
    logits = theirs(**inputs).logits
    ours = reference.by_example(model(gathered(store, packed), packed), packed)
    np.testing.assert_allclose(ours, logits.detach().numpy(), atol=1e-5, rtol=0)

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        real = (packed.example >= 0)[..., None]
        return jnp.sum(jnp.sin(column.bind(params)(gathered(store, packed), packed)) * real)

    torch.sin(logits).sum().backward()
    named = dict(theirs.named_parameters())
    for path, ours in jax.jit(jax.grad(loss))(params).items():
        name, transposed = weights.hugging_face_name(path, FAMILY)
        leaf = named.pop(name)
        expected = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()  # of a table without terms
        np.testing.assert_allclose(ours, expected.T if transposed else expected, atol=1e-5, rtol=1e-4, err_msg=path)
    assert not named


@pytest.mark.parametrize("variant", [{"position_buckets": 32}, V2])
def test_a_row_of_more_than_512_slots(variant: dict[str, object], tmp_path: Path) -> None:
    """Queries are worked through in blocks: logits and gradients, of the last layer's queries too."""
    theirs, column, params = loaded(tmp_path, max_position_embeddings=600, **variant)
    lengths = np.array([30, 560, 7, 300])
    start = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(start[-1]) - np.repeat(start[:-1], lengths)
    words = np.random.default_rng(1).integers(5, 60, start[-1], np.int32)
    store = TokenStore(words, np.zeros(start[-1], np.int8), within.astype(np.int16), start, np.zeros(4, np.int32))
    store = with_types(store, theirs.config.type_vocab_size)
    batch = reference.packed(store, width=920)
    assert batch.shape.rows == 1
    logits = theirs(**padded(theirs, store)).logits
    ours = reference.by_example(column.bind(params)(gathered(store, batch), batch), batch)
    np.testing.assert_allclose(ours, logits.detach().numpy(), atol=1e-5, rtol=0)

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        return jnp.sum(jnp.sin(column.bind(params)(gathered(store, batch), batch)))

    reference.pytorch().sin(logits).sum().backward()
    named = dict(theirs.named_parameters())
    for path, ours in jax.jit(jax.grad(loss))(params).items():
        name, transposed = weights.hugging_face_name(path, FAMILY)
        expected = named[name].grad.numpy()
        np.testing.assert_allclose(ours, expected.T if transposed else expected, atol=1e-4, rtol=1e-4, err_msg=path)


@pytest.mark.parametrize(("buckets", "furthest"), [(256, 512), (8, 40), (7, 33), (32, 512), (-1, 512), (-1, 20)])
def test_rows_of_distances(buckets: int, furthest: int) -> None:
    """256 buckets of 512 distances are v3's; at none does rounding decide."""
    torch = reference.pytorch()
    from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

    slots = torch.zeros(1, 600, 1)
    theirs = build_relative_position(slots, slots, buckets, furthest)[0].numpy()
    config = DebertaConfig(
        FAMILY, 60, 24, 2, 4, 40, 600, 1, 1e-7, 0, position_buckets=buckets, max_relative_positions=furthest
    )
    assert config.span == (buckets if buckets > 0 else furthest)
    place = np.arange(600)
    ours = rows_of_distances(config, place[:, None] - place)
    np.testing.assert_array_equal(ours, np.clip(theirs + config.span, 0, 2 * config.span - 1))
    assert (np.diff(ours[:, 0]) >= 0).all()


@pytest.mark.parametrize("pool", [False, True])
def test_dropout_of_the_table(pool: bool, tmp_path: Path) -> None:
    """The bias differs from seed to seed, also between layers, and on the mean is that without dropout."""
    _, column, params = loaded(tmp_path, dropout=0.2, share_att_key=False)
    attention = column.bind(params).layers[0].attention
    keys = jax.random.split(jax.random.key(0), 4)
    key, query = (jax.random.normal(one, (1, 4, 16, 6)) for one in keys[:2])
    slot = jnp.arange(16)[None]

    def bias(seed: jax.Array | None) -> jax.Array:
        return attention.bias(key, seed, pool)(query, slot, slot)

    seeds = dropout_seeds(keys[2], 998)[:, 1]  # [1000, 2]
    drawn = np.asarray(jax.lax.map(bias, seeds))
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-2
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - bias(None)) < 6 * error + 1e-6).all()


def test_either_way_to_the_bias_gives_the_same(tmp_path: Path) -> None:
    _, column, params = loaded(tmp_path, share_att_key=False)
    attention = column.bind(params).layers[0].attention
    key, query = jax.random.normal(jax.random.key(0), (2, 2, 4, 30, 6))
    for begin, stop in ((0, 30), (7, 19), (29, 30)):
        slot, some = jnp.arange(begin, stop)[None], query[:, :, begin:stop]
        of_neighbours, of_any = (attention.bias(key, None, pool)(some, slot, jnp.arange(30)[None]) for pool in (0, 1))
        np.testing.assert_allclose(of_neighbours, of_any, atol=1e-6, rtol=0)


def test_dropout_of_the_head(tmp_path: Path) -> None:
    """Below the pooler and below the classifier, each with its own rate."""
    pooled, token = jax.random.normal(jax.random.key(0), (1, 3, 24)), jnp.arange(3)[None]
    seeds = dropout_seeds(jax.random.key(1), 2)[0]
    for pooler, classifier, differs in ((0.0, 0.0, False), (0.0, 0.3, True), (0.3, 0.0, True)):
        _, column, params = loaded(tmp_path, pooler_dropout=pooler, cls_dropout=classifier)
        head = column.bind(params).head
        assert (head.pooler_dropout_rate, head.dropout_rate) == (pooler, classifier)
        assert (np.abs(head(pooled, token, seeds) - head(pooled, token, None)).max() > 1e-2) == differs


def test_the_config_of_v3_base() -> None:
    """Its file leaves out pad_token_id, embedding_size and the pooler's settings."""
    family: Family = DEBERTA_V2
    raw = {
        "model_type": FAMILY, "hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12,
        "intermediate_size": 3072, "max_position_embeddings": 512, "vocab_size": 128100, "type_vocab_size": 0,
        "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1,
        "position_biased_input": False, "conv_kernel_size": 0, "attention_head_size": 64, "pooler_hidden_size": 768,
    }  # fmt: skip
    config = family.read_config(raw)
    assert config == DebertaConfig(
        FAMILY, 128100, 768, 12, 12, 3072, 512, 1, 1e-7, 0, embedding_size=768, token_types=False,
        position_biased_input=False, relative_attention=True, pos_att_type=("c2p", "p2c"), share_att_key=True,
        position_buckets=256, max_relative_positions=512, norm_rel_ebd=True,
    )  # fmt: skip
    for name in ("layer_norm_eps", "type_vocab_size", "max_relative_positions"):
        del raw[name]
    assert family.read_config(raw | {"pad_token_id": None}) == config
    assert (config.pooler_hidden_act, config.pooler_dropout, config.span) == ("gelu", 0.0, 256)
    assert config.max_tokens == 512


def test_positions_that_a_file_keeps_and_its_encoder_does_not_add(tmp_path: Path) -> None:
    folder = reference.write_folder(tmp_path, FAMILY)
    tensors = load_file(folder / "model.safetensors")
    name = "deberta.embeddings.position_embeddings.weight"
    save_file(tensors | {name: np.zeros((40, 24), np.float32)}, folder / "model.safetensors")
    config = read_config(folder)
    assert weights.load(folder, config, reference.output_names(3), seed=0).notes == ()
    reference.write_folder(tmp_path, FAMILY, position_biased_input=True)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"missing: {name}"):
        weights.load(folder, read_config(folder), reference.output_names(3), seed=0)


BUCKETS = "expected 2 to 77 where distances from 40 on share one, or at most 0 for none"


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size is 3; expected 0: a convolution is not computed"),
        ({"relative_attention": False, "norm_rel_ebd": "none"},
         "relative_attention and position_biased_input are both false; expected one that tells order"),
        ({"relative_attention": False, "position_biased_input": True},
         "norm_rel_ebd is 'layer_norm', but relative_attention is false; expected a relative table"),
        ({"pos_att_type": "c2p|p2p"}, "pos_att_type has 'p2p'; expected one of c2p, p2c"),
        ({"pos_att_type": ["C2P"]}, "pos_att_type has 'C2P'; expected one of c2p, p2c; did you mean 'c2p'?"),
        ({"share_att_key": 1}, "share_att_key is 1; expected true or false"),
        ({"relative_attention": None}, "relative_attention is None; expected true or false"),
        ({"position_buckets": "8"}, "position_buckets is '8'; expected a whole number"),
        ({"position_buckets": 80}, f"position_buckets is 80; {BUCKETS}"),
        ({"position_buckets": 78}, f"position_buckets is 78; {BUCKETS}"),
        ({"position_buckets": 1}, f"position_buckets is 1; {BUCKETS}"),
        ({"max_relative_positions": 2.0}, "max_relative_positions is 2.0; expected a whole number"),
        ({"embedding_size": 0}, "embedding_size is 0; expected a whole number of at least 1"),
        ({"attention_head_size": 8}, "attention_head_size is 8; expected 6, as hidden_size says"),
        ({"pooler_hidden_size": 12}, "pooler_hidden_size is 12; expected 24, as hidden_size says"),
        ({"pooler_hidden_act": "swish"}, "relu"),
        ({"pooler_dropout": 1}, "pooler_dropout is 1; expected a number from 0 up to, but not including, 1"),
        ({"type_vocab_size": -1}, "type_vocab_size is -1; expected a whole number of at least 1"),
        ({"cls_dropout": 2}, "classifier_dropout is 2; expected a number from 0 up to, but not including, 1"),
        ({"model_type": "deberta"}, "model_type is 'deberta'; expected one of"),
    ],
)  # fmt: skip
def test_what_is_refused(changes: dict[str, object], ending: str, tmp_path: Path) -> None:
    raw = reference.raw_config(FAMILY, 3) | changes
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(InputError) as caught:
        read_config(tmp_path)
    assert ending in str(caught.value)
    assert "\n" not in str(caught.value)
