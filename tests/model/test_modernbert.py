"""What is peculiar to ModernBERT: windows, thetas, pooling, biases, its config.json of all ages, its files' head."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from jaxfreeze.data.batch import Tokens
from jaxfreeze.errors import InputError
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.dropout import dropout_seeds
from jaxfreeze.model.families.modernbert import ModernBertConfig
from jaxfreeze.model.hub import read_config
from tests import reference

torch = reference.pytorch()
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def pair(folder: Path, **changes: object) -> tuple[Any, Column, dict[str, jax.Array]]:
    """A model of transformers, our column of it, and its parameters."""
    theirs = reference.hugging_face_model("modernbert", **changes)
    config = read_config(reference.save(theirs, folder))
    params = weights.load(folder, config, reference.output_names(3), seed=0).params
    return theirs, Column(config, 3), {path: jnp.asarray(leaf) for path, leaf in params.items()}


def tokens_of(store) -> Tokens:
    return Tokens(jnp.asarray(store.token_id), jnp.asarray(store.token_type), jnp.asarray(store.position))


def check_logits(theirs: Any, column: Column, params: dict[str, jax.Array], atol: float = 1e-5, **sizes: int) -> None:
    """Packed and in rows of their own, the logits are transformers'. sizes: of the store."""
    store = reference.random_store("modernbert", **sizes)
    with torch.no_grad():
        expected = theirs(**reference.padded(theirs, store)).logits.numpy()
    width = max(32, int(store.lengths.max()))
    for batch in (reference.packed(store, width=3 * width // 2), reference.unpacked(store, width=width)):
        logits = jax.jit(lambda batch: column.bind(params)(tokens_of(store).of(batch), batch))(batch)
        np.testing.assert_allclose(reference.by_example(logits, batch), expected, atol=atol, rtol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("last", [GLOBAL, LOCAL])
def test_what_the_head_reads(pooling: str, last: str, tmp_path: Path) -> None:
    """In a last layer of either kind: the pooled state, the logits, and the gradients of mean pooling."""
    theirs, column, params = pair(tmp_path, classifier_pooling=pooling, layer_types=[LOCAL, GLOBAL, last])
    check_logits(theirs, column, params)
    store = reference.random_store("modernbert")
    batch, inputs = reference.packed(store), reference.padded(theirs, store)
    pooled = column.bind(params).trunk(tokens_of(store).of(batch), batch, cut=4)
    with torch.no_grad():
        state = theirs.model(**inputs).last_hidden_state.numpy()
    means = [row[:length].mean(axis=0) for row, length in zip(state, store.lengths, strict=True)]
    expected = state[:, 0] if pooling == "cls" else np.stack(means)
    np.testing.assert_allclose(reference.by_example(pooled, batch), expected, atol=1e-5, rtol=0)
    theirs(**inputs).logits.square().sum().backward()
    real = (batch.example >= 0)[..., None]

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        return jnp.sum(jnp.where(real, column.bind(params)(tokens_of(store).of(batch), batch), 0.0) ** 2)

    for path, ours in jax.jit(jax.grad(loss))(params).items():
        name, transposed = weights.hugging_face_name(path, "modernbert")
        gradient = theirs.get_parameter(name).grad.numpy()
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(
            ours, gradient.T if transposed else gradient, atol=1e-5 * scale, rtol=1e-4, err_msg=path
        )


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_mean_and_cls_with_dropout_everywhere_are_the_same_in_every_packing(pooling: str, tmp_path: Path) -> None:
    rates = {"embedding_dropout": 0.3, "classifier_dropout": 0.2}
    _, column, params = pair(tmp_path, dropout=0.4, classifier_pooling=pooling, **rates)
    config: Any = column.encoder
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.4, 0.4)
    assert (config.embedding_dropout, config.head_dropout_prob) == (0.3, 0.2)
    store = reference.random_store("modernbert")
    seeds = dropout_seeds(jax.random.key(1), 3)
    logits = [
        reference.by_example(jax.jit(column.bind(params))(tokens_of(store).of(batch), batch, seeds), batch)
        for batch in (reference.packed(store), reference.unpacked(store, width=20))
    ]
    np.testing.assert_allclose(*logits, atol=1e-5, rtol=0)


def test_each_rate_is_that_of_its_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"embedding_dropout": 0.1, "attention_dropout": 0.2, "mlp_dropout": 0.3, "classifier_dropout": 0.4}
    inside = {(layer, site): rate for layer in (1, 2, 3, 4) for site, rate in enumerate((0.2, 0.2, 0.3))}
    sites = reference.dropout_sites(config_of(tmp_path, **rates), monkeypatch)
    assert sites == {(0, 0): 0.1, **inside, (5, 0): 0.4}


BIASES = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")


@pytest.mark.parametrize(
    "changes",
    [
        *({name: True} for name in BIASES),
        dict.fromkeys(BIASES, True) | {"classifier_pooling": "mean"},
        {"classifier_activation": "relu", "hidden_activation": "gelu_pytorch_tanh"},
        {"norm_eps": 0.1, "local_attention": 1},
        {"num_attention_heads": 2, "global_rope_theta": 7.0, "local_rope_theta": 900.0},
    ],
)  # fmt: skip
def test_other_settings(changes: dict[str, Any], tmp_path: Path) -> None:
    changes = {"hidden_act" if name == "hidden_activation" else name: value for name, value in changes.items()}
    theirs, column, params = pair(tmp_path, **changes)
    assert params.keys() == column.shapes().keys()
    check_logits(theirs, column, params)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_row_longer_than_512_slots(pooling: str, tmp_path: Path) -> None:
    """Local layers are then worked through in blocks that meet the keys within their window alone."""
    sizes = {"max_position_embeddings": 700, "local_attention": 128, "global_rope_theta": 160000.0}
    theirs, column, params = pair(tmp_path, classifier_pooling=pooling, layer_types=[LOCAL, GLOBAL, LOCAL], **sizes)
    check_logits(theirs, column, params, num_examples=3, longest=600)


def config_of(folder: Path, **changes: object) -> ModernBertConfig:
    """As transformers of 2024 wrote it; a change to ... leaves a value out."""
    early = {
        "model_type": "modernbert", "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 4,
        "num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 40, "pad_token_id": 0,
        "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0,
        "local_attention": 128, "norm_eps": 1e-5, "layer_norm_eps": 0.5, "hidden_activation": "gelu",
        "hidden_act": "relu", "position_embedding_type": "sans_pos",
    }  # fmt: skip
    raw = {name: value for name, value in (early | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(raw))
    config = read_config(folder)
    assert isinstance(config, ModernBertConfig)
    return config


def test_early_names_and_those_of_transformers_5_say_the_same(tmp_path: Path) -> None:
    early = config_of(tmp_path)
    assert early.layer_types == (GLOBAL, LOCAL, LOCAL, GLOBAL)
    assert (early.global_theta, early.local_theta, early.layer_norm_eps) == (160000.0, 10000.0, 1e-5)
    assert (early.hidden_act, early.max_tokens, early.type_vocab_size) == ("gelu", 40, 1)
    rope = {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in ((GLOBAL, 16e4), (LOCAL, 1e4))}
    left_out = {"global_attn_every_n_layers": ..., "global_rope_theta": ..., "local_rope_theta": ...}
    types = [GLOBAL, LOCAL, LOCAL, GLOBAL]
    assert config_of(tmp_path, **left_out, rope_parameters=rope, layer_types=types) == early
    rope[LOCAL]["rope_theta"] = 7
    assert config_of(tmp_path, rope_parameters=rope).local_theta == 7.0  # which is of another kind than before
    assert config_of(tmp_path, rope_parameters={LOCAL: None}) == early


def test_values_that_a_file_leaves_out_are_those_of_transformers(tmp_path: Path) -> None:
    left_out = ("pad_token_id", "global_attn_every_n_layers", "global_rope_theta", "local_rope_theta",
                "local_attention", "norm_eps", "layer_norm_eps", "hidden_activation", "hidden_act")  # fmt: skip
    vocab = {"vocab_size": 50368}
    ours = config_of(tmp_path, **vocab, **dict.fromkeys(left_out, ...))
    transformers.ModernBertConfig(num_hidden_layers=4, hidden_size=24, num_attention_heads=4, intermediate_size=40,
                                  max_position_embeddings=40).save_pretrained(tmp_path)  # fmt: skip
    assert read_config(tmp_path) == ours


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling is {'type': 'linear'}; expected none"),
        ({"rope_parameters": {GLOBAL: {"rope_type": "yarn"}}}, f"rope_type of {GLOBAL} is 'yarn'; expected 'default'"),
        ({"rope_parameters": {"rope_theta": 1e4}},
         f"rope_parameters is {{'rope_theta': 10000.0}}; expected objects by the names {GLOBAL} and {LOCAL}"),
        ({"rope_parameters": {GLOBAL: 7}},
         f"rope_parameters is {{'{GLOBAL}': 7}}; expected objects by the names {GLOBAL} and {LOCAL}"),
        ({"local_rope_theta": None}, "local_rope_theta is None; expected a number above 0"),
        ({"global_rope_theta": 0}, "global_rope_theta is 0; expected a number above 0"),
        ({"layer_types": [GLOBAL]}, f"layer_types is ['{GLOBAL}']; expected 4 times {GLOBAL} or {LOCAL}"),
        ({"layer_types": [GLOBAL] * 3 + ["x"]},
         f"layer_types is {[GLOBAL] * 3 + ['x']!r}; expected 4 times {GLOBAL} or {LOCAL}"),
        ({"layer_types": [[]] * 4}, f"layer_types is {[[]] * 4!r}; expected 4 times {GLOBAL} or {LOCAL}"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers is 0; expected a whole number of at least 1"),
        ({"local_attention": -1}, "local_attention is -1; expected a whole number of at least 1"),
        ({"classifier_pooling": "max"}, "classifier_pooling is 'max'; expected one of cls, mean"),
        ({"mlp_bias": "no"}, "mlp_bias is 'no'; expected true or false"),
        ({"embedding_dropout": 1.5}, "embedding_dropout is 1.5; expected a number from 0 up to, but not including, 1"),
        ({"num_attention_heads": 8}, "hidden_size 24 gives 8 heads of an odd width"),
        ({"hidden_activation": "silu"}, None),
        ({"classifier_activation": "silu"}, None),
        ({"hidden_size": ...}, "hidden_size missing"),
    ],
)  # fmt: skip
def test_wrong_config(changes: dict[str, Any], ending: str | None, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        config_of(tmp_path, **changes)
    (name,) = changes
    field = {"hidden_activation": "hidden_act"}.get(name, name)
    start = f"{tmp_path / 'config.json'}: "
    assert str(caught.value).startswith(f"{start}{field} is 'silu'; expected one of gelu" if ending is None else start)
    assert ending is None or str(caught.value) == f"{start}{ending}"


def test_the_head_of_a_masked_language_model_is_taken_over_as_transformers_does(tmp_path: Path) -> None:
    """All but the classifier is in the file of a ModernBertForMaskedLM, and so are its dense layer and LayerNorm."""
    config = reference.hugging_face_model("modernbert").config
    masked = transformers.ModernBertForMaskedLM(config)
    with torch.no_grad():
        for parameter in masked.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    masked.save_pretrained(tmp_path)
    theirs = reference.load(tmp_path).state_dict()
    loaded = weights.load(tmp_path, read_config(tmp_path), reference.output_names(3), seed=0)
    assert set(loaded.fresh) == {"head.classifier.kernel", "head.classifier.bias"}
    for path in ("head.dense.kernel", "head.layer_norm.scale", "layers.2.layer_norm.scale"):
        name, transposed = weights.hugging_face_name(path, "modernbert")
        np.testing.assert_array_equal(loaded.params[path], theirs[name].numpy().T if transposed else theirs[name])


def test_a_fresh_heads_layer_norm_scales_by_one(tmp_path: Path) -> None:
    reference.hugging_face_model("modernbert").model.save_pretrained(tmp_path)
    loaded = weights.load(tmp_path, read_config(tmp_path), reference.output_names(3), seed=0)
    assert "head.layer_norm.scale" in loaded.fresh
    np.testing.assert_array_equal(loaded.params["head.layer_norm.scale"], np.ones(24, np.float32))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_in_bfloat16_the_logits_are_near(pooling: str, tmp_path: Path) -> None:
    _, column, params = pair(tmp_path, classifier_pooling=pooling)
    store = reference.random_store("modernbert")
    batch = reference.packed(store)
    exact, rough = (
        jax.jit(Column(column.encoder, 3, dtype).bind(params))(tokens_of(store).of(batch), batch)
        for dtype in ("float32", "bfloat16")
    )
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(
        reference.by_example(rough, batch), reference.by_example(exact, batch), atol=0.1, rtol=0.1
    )
