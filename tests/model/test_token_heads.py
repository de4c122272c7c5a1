"""Heads of tokens: logits and gradients are those of transformers in every family; which heads are taken over."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.families import family_of
from jaxfreeze.model.hub import read_config
from tests import reference
from tests.families import FAMILIES
from tests.reference import tokens_of


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path: Path):
    """A Hugging Face classifier of tokens, ours with its weights, a store, parameters, column."""
    theirs = reference.hugging_face_model(request.param, by_token=True)
    config = read_config(reference.save(theirs, tmp_path))
    column = Column(config, 3, by_token=True)
    loaded = weights.load(tmp_path, config, reference.output_names(3), seed=0, by_token=True)
    assert loaded.fresh == loaded.notes == ()
    params = {path: jnp.asarray(leaf) for path, leaf in loaded.params.items()}
    return theirs, column.bind(params), reference.tagged_store(request.param), params, column


def flat(values: np.ndarray, batch, store) -> np.ndarray:
    """[R, W, ...] of a batch -> [T, ...] in the order of the store."""
    real = batch.index >= 0
    result = np.zeros((store.num_tokens, *values.shape[2:]), values.dtype)
    result[batch.index[real]] = np.asarray(values)[real]
    return result


def their_logits(theirs, store) -> np.ndarray:
    """[T, C]."""
    with reference.pytorch().no_grad():
        logits = theirs(**reference.padded(theirs, store)).logits.numpy()
    return np.concatenate([logits[row, :length] for row, length in enumerate(store.lengths)])


def test_logits_packed_and_unpacked(pair) -> None:
    theirs, ours, store, *_ = pair
    expected = their_logits(theirs, store)
    assert np.ptp(expected[:, 0]) > 1e-2
    for batch in (reference.packed(store), reference.unpacked(store), reference.packed(store, width=48, rows=6)):
        logits = ours(tokens_of(store).of(batch), batch)
        assert logits.shape == (*batch.index.shape, 3)
        assert logits.dtype == jnp.float32
        np.testing.assert_allclose(flat(logits, batch, store), expected, atol=1e-5, rtol=0)


def test_every_cut_gives_the_same_logits(pair) -> None:
    _, ours, store, *_ = pair
    batch = reference.packed(store)
    tokens = tokens_of(store).of(batch)
    whole = ours(tokens, batch)
    for cut in range(len(ours.layers) + 2):
        state = ours.trunk(tokens, batch, cut)
        np.testing.assert_array_equal(ours.top(state, batch, cut), whole)
        if cut:
            assert state.shape[:2] == batch.index.shape, "nothing is pooled"


def test_gradients(pair) -> None:
    theirs, _, store, params, column = pair
    batch = reference.packed(store)
    theirs(**reference.padded(theirs, store), labels=reference.padded_labels(store)).loss.backward()

    def loss(params):
        logits = column.bind(params)(tokens_of(store).of(batch), batch)
        label = jnp.where(batch.index >= 0, jnp.asarray(store.label)[batch.index], -1)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(label, 0)[..., None], axis=-1)[..., 0]
        return -jnp.sum(jnp.where(label >= 0, chosen, 0)) / (label >= 0).sum()

    gradients = jax.grad(loss)(params)
    named = {name: leaf for name, leaf in theirs.named_parameters() if leaf.grad is not None}
    for path, ours in gradients.items():
        name, transposed = weights.hugging_face_name(path, theirs.config.model_type, by_token=True)
        expected = named[name].grad.numpy()
        np.testing.assert_allclose(ours, expected.T if transposed else expected, atol=1e-5, rtol=1e-4, err_msg=path)
    names = {weights.hugging_face_name(path, theirs.config.model_type, by_token=True)[0] for path in gradients}
    assert names == set(named)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_class_is_transformers_own(family: str) -> None:
    config = reference.config_of(family, **reference.config_values(family, 3, 0.0))
    model = transformers.AutoModelForTokenClassification.from_config(config)
    assert type(model).__name__ == family_of(family, by_token=True).architecture
    assert family_of(family).has_class(type(model).__name__)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rate_of_dropout_is_transformers_own(family: str, tmp_path: Path) -> None:
    """Not every family has the rate of its other head."""
    rates = {"classifier_dropout": 0.37}
    values = reference.config_values(family, 3, 0.21, **rates)
    model = transformers.AutoModelForTokenClassification.from_config(reference.config_of(family, **values))
    (rate,) = {getattr(model, name).p for name in ("dropout", "drop") if hasattr(model, name)}
    folder = reference.write_folder(tmp_path, family, dropout=0.21, by_token=True, **rates)
    head = (
        Column(read_config(folder), 3, by_token=True)
        .bind(weights.load(folder, read_config(folder), reference.output_names(3), seed=0, by_token=True).params)
        .head
    )
    assert head.dropout_rate == rate


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["encoder", "classifier of texts", "language model"])
def test_other_files_give_the_encoder_and_no_head(family: str, kind: str, tmp_path: Path) -> None:
    torch = reference.pytorch()
    torch.manual_seed(0)
    config = reference.config_of(family, **reference.config_values(family, 3, 0.0))
    auto = {
        "encoder": transformers.AutoModel,
        "classifier of texts": transformers.AutoModelForSequenceClassification,
        "language model": transformers.AutoModelForMaskedLM,
    }[kind]
    theirs = auto.from_config(config)
    ours = read_config(reference.save(theirs, tmp_path))
    loaded = weights.load(tmp_path, ours, reference.output_names(3), seed=0, by_token=True)
    carried_over = {path for path in loaded.params if path.startswith("head.")} - set(loaded.fresh)
    kept = kind != "encoder" and family == "modernbert"  # all its classes have the layer below the classifier
    assert carried_over == ({"head.dense.kernel", "head.layer_norm.scale"} if kept else set())
    assert not [path for path in loaded.fresh if not path.startswith("head.")]
    assert {path for path in loaded.fresh if path.startswith("head.classifier.")} == {
        "head.classifier.kernel", "head.classifier.bias"
    }  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_a_head_of_tokens_is_matched_by_the_names_of_its_classes(family: str, tmp_path: Path) -> None:
    theirs = reference.hugging_face_model(family, by_token=True)
    theirs.config.id2label = {0: "O", 1: "B-PER", 2: "I-PER"}
    theirs.config.label2id = {name: number for number, name in theirs.config.id2label.items()}
    config = read_config(reference.save(theirs, tmp_path))
    kernel = theirs.classifier.weight.detach().numpy().T
    same = weights.load(tmp_path, config, ("O", "B-PER", "I-PER"), 0, by_token=True)
    np.testing.assert_array_equal(same.params["head.classifier.kernel"], kernel)
    assert same.reordered == ()
    turned = weights.load(tmp_path, config, ("B-PER", "I-PER", "O"), 0, by_token=True)
    np.testing.assert_array_equal(turned.params["head.classifier.kernel"], kernel[:, [1, 2, 0]])
    assert turned.reordered == ("head.classifier.bias", "head.classifier.kernel") or turned.reordered
    other = weights.load(tmp_path, config, ("O", "B-LOC", "I-LOC"), 0, by_token=True)
    assert set(other.fresh) == {"head.classifier.kernel", "head.classifier.bias"}
    texts = weights.load(tmp_path, config, ("O", "B-PER", "I-PER"), 0)
    assert {path for path in texts.params if path.startswith("head.classifier") or "out_proj" in path} <= set(
        texts.fresh
    )
    assert any("TokenClassification" in note or "classifier" in note for note in texts.notes)


def test_a_head_of_texts_is_not_one_of_tokens(tmp_path: Path) -> None:
    """BERT's have the same names and shapes, and may have the same classes."""
    theirs = reference.hugging_face_model("bert")
    config = read_config(reference.save(theirs, tmp_path))
    loaded = weights.load(tmp_path, config, reference.output_names(3), 0, by_token=True)
    assert set(loaded.fresh) == {"head.classifier.kernel", "head.classifier.bias"}
    assert any("the file's is that of BertForSequenceClassification" in note for note in loaded.notes)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["architectures"] == ["BertForSequenceClassification"]
