"""What is peculiar to ESM-2: <mask> by example, frequencies as filed, its config.json and its files of all ages."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from transformers.models.esm.configuration_esm import get_default_vocab_list

from jaxfreeze.cli import main
from jaxfreeze.data.batch import Tokens
from jaxfreeze.data.split import Split
from jaxfreeze.data.token_store import TextEncoder, TokenStore, tokenize
from jaxfreeze.errors import InputError
from jaxfreeze.inference.export import apply_top
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.families.esm import EsmConfig
from jaxfreeze.model.hub import read_config
from tests import reference
from tests.families import FAMILIES
from tests.folders import make_folder, tiny_rte

torch = reference.pytorch()
safetensors_torch = pytest.importorskip("safetensors.torch")
MASK = FAMILIES["esm"].values["mask_token_id"]


def tokens_of(store: TokenStore) -> Tokens:
    return Tokens(jnp.asarray(store.token_id), jnp.asarray(store.token_type), jnp.asarray(store.position))


def check_logits(folder: Path, store: TokenStore) -> None:
    """Packed and in rows of their own, the logits are those of transformers for the folder's files."""
    theirs, config = reference.load(folder), read_config(folder)
    params = weights.load(folder, config, reference.output_names(3), seed=0).params
    with torch.no_grad():
        expected = theirs(**reference.padded(theirs, store)).logits.numpy()
    width = max(32, int(store.lengths.max()))
    for batch in (reference.packed(store, width=3 * width // 2), reference.unpacked(store, width=width)):
        model = jax.jit(lambda batch: Column(config, 3).bind(params)(tokens_of(store).of(batch), batch))
        np.testing.assert_allclose(reference.by_example(model(batch), batch), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("token_dropout", [True, False])
@pytest.mark.parametrize("layer_norm", [True, False])
def test_masks_are_counted_by_example(token_dropout: bool, layer_norm: bool, tmp_path: Path) -> None:
    """With none, some, and all but the first token in examples that share a row."""
    settings = {"token_dropout": token_dropout, "emb_layer_norm_before": layer_norm}
    folder = reference.save(reference.hugging_face_model("esm", **settings), tmp_path)
    store = reference.random_store("esm")
    store.token_id[store.token_id == MASK] = MASK + 1
    for example in range(2, 7):
        store.token_id[store.start[example] + 1 : store.start[example + 1]][:: 7 - example] = MASK
    shares = np.add.reduceat(store.token_id == MASK, store.start[:-1], dtype=int) / store.lengths
    assert shares[0] == shares[1] == 0
    assert len(set(shares.tolist())) == 5
    check_logits(folder, store)


def test_a_row_longer_than_512_slots(tmp_path: Path) -> None:
    folder = reference.save(reference.hugging_face_model("esm", max_position_embeddings=700), tmp_path)
    check_logits(folder, reference.random_store("esm", num_examples=3, longest=600))


def rounded(folder: Path, names: list[str], dtype: Any = torch.float16) -> Path:
    """A file with the frequencies in half precision under those names."""
    theirs = reference.hugging_face_model("esm")
    reference.save(theirs, folder)
    state = {name: leaf.contiguous() for name, leaf in theirs.state_dict().items()}
    filed = state.pop("esm.rotary_embeddings.inv_freq").to(dtype).float()
    file = folder / "model.safetensors"
    safetensors_torch.save_file(state | {name: filed.clone() for name in names}, file, {"format": "pt"})
    return folder


BY_LAYER = [f"esm.encoder.layer.{number}.attention.self.rotary_embeddings.inv_freq" for number in range(2)]


@pytest.mark.parametrize("names", [BY_LAYER, ["esm.rotary_embeddings.inv_freq"]])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_frequencies_are_those_of_the_file(names: list[str], dtype: Any, tmp_path: Path) -> None:
    """ESM-2 was trained in half precision: its files have them rounded, and transformers takes them so."""
    folder = rounded(tmp_path, names, dtype)
    exact = [1.0, 100 ** (-1 / 3), 100 ** (-2 / 3)]
    config = read_config(folder)
    assert isinstance(config, EsmConfig)
    assert config.frequencies == tuple(torch.tensor(exact).to(dtype).float().tolist())
    check_logits(folder, reference.random_store("esm"))
    (folder / "model.safetensors").unlink()
    exactly = read_config(folder)  # of files that do not hold them, as of an export of the trained tensors alone
    assert isinstance(exactly, EsmConfig)
    np.testing.assert_allclose(exactly.frequencies, exact, rtol=1e-7)
    assert exactly.frequencies != config.frequencies


def test_frequencies_of_another_theta_are_refused(tmp_path: Path) -> None:
    folder = rounded(tmp_path, BY_LAYER)
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"rope_theta": 100.0', '"rope_theta": 101.0'))
    with pytest.raises(InputError) as caught:
        read_config(folder)
    message = "does not hold the frequencies of config.json's rope_theta"
    assert str(caught.value) == f"{folder / 'model.safetensors'}: {BY_LAYER[0]} {message}"


def test_what_early_files_hold_beside_the_encoder(tmp_path: Path) -> None:
    folder = rounded(tmp_path, BY_LAYER)
    file = folder / "model.safetensors"
    state = safetensors_torch.load_file(file)
    surplus = {
        "esm.embeddings.position_ids": torch.arange(40)[None],
        "esm.embeddings.position_embeddings.weight": torch.ones(40, 24),
        "esm.pooler.dense.weight": torch.ones(24, 24),
        "esm.pooler.dense.bias": torch.ones(24),
        "lm_head.bias": torch.ones(60),
    }
    safetensors_torch.save_file(state | surplus, file, {"format": "pt"})
    loaded = weights.load(folder, read_config(folder), reference.output_names(3), seed=0)
    assert loaded.fresh == ()
    assert loaded.notes == ("not used, heads of other tasks: lm_head (tensors: 1)",)


def test_the_tensors_that_a_classifiers_file_has_beside_our_parameters(tmp_path: Path) -> None:
    """Under the names of today, and with the bits of the file."""
    carried = (
        "esm.rotary_embeddings.inv_freq", "esm.contact_head.regression.weight", "esm.contact_head.regression.bias",
    )  # fmt: skip
    folder = rounded(tmp_path, BY_LAYER)
    found = weights.read_as_filed(folder, "esm", carried)
    theirs = reference.load(folder).state_dict()
    assert found.keys() == set(carried)
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, theirs[name].numpy())
    params = Column(read_config(folder), 3).shapes()
    assert theirs.keys() == {*carried, *(weights.hugging_face_name(path, "esm")[0] for path in params)}
    reference.load(folder).esm.save_pretrained(tmp_path / "bare")  # whose names lack the prefix
    assert weights.read_as_filed(tmp_path / "bare", "esm", carried).keys() == set(carried)


def test_an_export_computes_with_the_frequencies_of_its_source(tmp_path: Path) -> None:
    model = make_folder(tmp_path / "model", "esm")
    file = model / "model.safetensors"
    state = safetensors_torch.load_file(file)
    state |= {"esm.contact_head.regression.weight": torch.ones(1, 8), "esm.contact_head.regression.bias": torch.ones(1)}
    halves = torch.tensor([1.0, 100 ** (-1 / 3), 100 ** (-2 / 3)]).half().float()
    safetensors_torch.save_file(state | {name: halves.clone() for name in BY_LAYER}, file, {"format": "pt"})
    words = ["--task", "rte", "--data_dir", str(tiny_rte(tmp_path / "glue")), "--model", str(model)]
    words += ["--max_steps", "2", "--max_length", "32", "--trainable_layers", "1"]
    assert main([*words, "--output_dir", str(tmp_path / "run")]) == 0
    for name, flags in (("whole", []), ("top", ["--top_only"])):
        assert main(["export", "--run", str(tmp_path / "run"), "--output", str(tmp_path / name), *flags]) == 0
    theirs, run = reference.load(tmp_path / "whole"), FinishedRun(tmp_path / "run")
    np.testing.assert_array_equal(theirs.esm.rotary_embeddings.inv_freq, halves)
    assert theirs.state_dict().keys() == safetensors_torch.load_file(tmp_path / "whole" / "model.safetensors").keys()
    texts = (("the bowl holds tools", "a town made by the owner of the crate"), ("made", "from the town"))
    batch = transformers.AutoTokenizer.from_pretrained(model)(*map(list, texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(**batch).logits.numpy()
    np.testing.assert_allclose(run.logits(Split("validation", texts, None))[1], logits, atol=1e-5, rtol=0)
    again = apply_top(tmp_path / "top", model, tmp_path / "again") / "model.safetensors"
    assert again.read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def config_of(folder: Path, **changes: object) -> EsmConfig:
    """As that of ESM-2 on the hub; a change to ... leaves a value out."""
    published = {
        "model_type": "esm", "vocab_size": 33, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 40, "max_position_embeddings": 1026, "pad_token_id": 1, "mask_token_id": 32,
        "layer_norm_eps": 1e-5, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": None, "position_embedding_type": "rotary", "token_dropout": True,
        "emb_layer_norm_before": False, "is_folding_model": False, "esmfold_config": None, "vocab_list": None,
    }  # fmt: skip
    raw = {name: value for name, value in (published | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(raw))
    config = read_config(folder)
    assert isinstance(config, EsmConfig)
    return config


def test_the_config_of_esm_2(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert (config.max_tokens, config.type_vocab_size, config.token_dropout, config.mask_token_id) == (
        1026,
        1,
        True,
        32,
    )
    np.testing.assert_allclose(config.frequencies, [1e4 ** (-pair / 3) for pair in range(3)], rtol=1e-6)
    rates = {"hidden_dropout_prob": 0.2, "classifier_dropout": 0.3}
    assert config_of(tmp_path, **rates).head_dropout_prob == 0.2  # as in transformers, which reads no other
    without = config_of(tmp_path, token_dropout=..., emb_layer_norm_before=None, mask_token_id=None)
    assert (without.token_dropout, without.emb_layer_norm_before) == (False, False)


def test_each_rate_is_that_of_its_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.2, "classifier_dropout": 0.3}
    inside = {(layer, site): rate for layer in (1, 2) for site, rate in enumerate((0.1, 0.2, 0.2))}
    config = config_of(tmp_path, **rates, vocab_size=60)
    assert reference.dropout_sites(config, monkeypatch) == {**inside, (3, 0): 0.2, (3, 1): 0.2}


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"position_embedding_type": "absolute"},
         "position_embedding_type is 'absolute'; expected 'rotary', which ESM-2 has and ESM-1 lacks"),
        ({"position_embedding_type": ...},
         "position_embedding_type is 'absolute'; expected 'rotary', which ESM-2 has and ESM-1 lacks"),
        ({"is_folding_model": True}, "is_folding_model is true: this is ESMFold; expected an encoder"),
        ({"mask_token_id": None}, "mask_token_id is None; expected 0 to 32"),
        ({"mask_token_id": 33}, "mask_token_id is 33; expected 0 to 32"),
        ({"token_dropout": "yes"}, "token_dropout is 'yes'; expected true or false"),
        ({"num_attention_heads": 8}, "hidden_size 24 gives 8 heads of an odd width"),
        ({"rope_theta": "big"}, "rope_theta is 'big'; expected a number above 0"),
        ({"is_decoder": True}, "this is a decoder; expected an encoder"),
        ({"pad_token_id": None}, "pad_token_id is None; expected 0 to 32"),
        ({"layer_norm_eps": ...}, "layer_norm_eps missing"),
    ],
)  # fmt: skip
def test_wrong_config(changes: dict[str, Any], ending: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        config_of(tmp_path, **changes)
    assert str(caught.value) == f"{tmp_path / 'config.json'}: {ending}"


def test_proteins_become_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the tokenizer that ESM-2's folders have, a vocab.txt and no tokenizer.json."""
    monkeypatch.setenv("JAXFREEZE_CACHE", str(tmp_path / "cache"))
    config = config_of(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(get_default_vocab_list()))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "EsmTokenizer"}))
    proteins = ("MKTAYIAKQR", "MK<mask>G", "M" * 30)
    store = tokenize(
        Split("train", (proteins,), np.array([0, 1, 1], np.int32)),
        TextEncoder(tmp_path, 16, config.vocab_size, config.type_vocab_size, config.first_position, "esm"),
    )
    theirs = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"))(list(proteins), truncation=True, max_length=16)
    for number, ids in enumerate(theirs["input_ids"]):
        assert store.token_id[store.start[number] : store.start[number + 1]].tolist() == ids
    assert store.lengths.tolist() == [12, 6, 16]
    assert not store.token_type.any()
    assert (store.token_id == config.mask_token_id).sum() == 1


def test_in_bfloat16_the_logits_are_near(tmp_path: Path) -> None:
    folder = reference.save(reference.hugging_face_model("esm"), tmp_path)
    config = read_config(folder)
    params = weights.load(folder, config, reference.output_names(3), seed=0).params
    store = reference.random_store("esm")
    batch = reference.packed(store)
    exact, rough = (
        reference.by_example(jax.jit(Column(config, 3, dtype).bind(params))(tokens_of(store).of(batch), batch), batch)
        for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(rough, exact, atol=0.1, rtol=0.1)
