"""The reference: random Hugging Face models (in PyTorch, or as folders only), and their inputs as packed batches."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxfreeze.data.batch import Batch, Shape, Tokens
from jaxfreeze.data.packing import fill, full_rows
from jaxfreeze.data.token_store import TokenStore
from jaxfreeze.model import attention, dropout, weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.dropout import SITES_PER_BLOCK, mask_multiplier
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.hub import read_config
from tests.families import FAMILIES, config_of, filed

SIZES = {
    "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "max_position_embeddings": 40,
}  # fmt: skip


def pytorch() -> Any:
    """PyTorch, or a skip that says why: there are machines that the program runs on and PyTorch does not."""
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def config_values(family: str, num_labels: int, dropout: float, **changes: object) -> dict[str, Any]:
    """The arguments of a Hugging Face config: tiny sizes, the family's own constants."""
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return SIZES | FAMILIES[family].values | dropouts | changes | {"num_labels": num_labels}


def hugging_face_model(
    family: str, num_labels: int = 3, dropout: float = 0.0, seed: int = 0, by_token: bool = False, **changes: object
) -> Any:
    """A random classifier whose every parameter, biases and LayerNorms included, is away from its initial value."""
    torch = pytorch()
    import transformers

    torch.manual_seed(seed)
    config = config_of(family, **config_values(family, num_labels, dropout, **changes))
    model = _auto(transformers, by_token).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def _auto(transformers: Any, by_token: bool) -> Any:
    return getattr(transformers, f"AutoModelFor{'Token' if by_token else 'Sequence'}Classification")


def output_names(count: int) -> tuple[str, ...]:
    """What transformers calls the outputs of a head of so many, if config.json does not say."""
    return tuple(f"LABEL_{number}" for number in range(count))


def raw_config(family: str, num_labels: int = 3, dropout: float = 0.0, **changes: object) -> dict[str, Any]:
    """The content of a classifier's config.json, made without PyTorch."""
    values = {"hidden_act": "gelu", **config_values(family, num_labels, dropout, **changes)}
    return {"model_type": family, **filed(family, values)}


def write_folder(
    folder: Path,
    family: str,
    num_labels: int = 3,
    dropout: float = 0.0,
    seed: int = 0,
    by_token: bool = False,
    **changes: object,
) -> Path:
    """config.json and model.safetensors of a random classifier, made without PyTorch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw_config(family, num_labels, dropout, **changes)))
    random = np.random.default_rng(seed)
    tensors = {}
    for path, leaf in Column(read_config(folder), num_labels, by_token=by_token).shapes().items():
        name, transposed = weights.hugging_face_name(path, family, by_token)
        center = 1.0 if path.endswith(".scale") else 0.0
        tensors[name] = random.normal(center, 0.1, leaf.shape[::-1] if transposed else leaf.shape).astype(np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def save(model: Any, folder: Path) -> Path:
    """Write config.json and model.safetensors as Hugging Face does."""
    model.save_pretrained(folder)
    return folder


def load(folder: Path, by_token: bool = False) -> Any:
    """The PyTorch classifier of a folder, without dropout."""
    pytorch()
    import transformers

    return _auto(transformers, by_token).from_pretrained(folder).eval()


def random_store(
    family: str, num_examples: int = 7, longest: int = 20, num_labels: int = 3, seed: int = 0
) -> TokenStore:
    """Random tokens and labels in the layout that the family's tokenizer would give."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, longest + 1, num_examples)
    start = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(start[-1]) - np.repeat(start[:-1], lengths)
    second = within > np.repeat(lengths // 2, lengths)
    token_type = second if FAMILIES[family].token_types > 1 else np.zeros(start[-1])
    labels = (
        random.integers(0, num_labels, num_examples, np.int32)
        if num_labels > 1
        else random.random(num_examples, np.float32)
    )
    return TokenStore(
        random.integers(5, SIZES["vocab_size"], start[-1], np.int32),
        token_type.astype(np.int8),
        (within + FAMILIES[family].first_position).astype(np.int16),
        start,
        labels,
    )


def tagged_store(family: str, num_examples: int = 7, num_labels: int = 3, seed: int = 0) -> TokenStore:
    """A random store whose labels belong to words, of one token or several; an example's first and last are of none."""
    store = random_store(family, num_examples, num_labels=num_labels, seed=seed)
    random = np.random.default_rng(seed)
    begins = random.random(store.num_tokens) < 0.6
    begins[store.start[:-1]] = begins[store.start[1:] - 1] = False
    before = np.concatenate([[0], np.cumsum(begins)])
    word = np.where(begins, before[1:] - 1 - np.repeat(before[store.start[:-1]], store.lengths), -1)
    label = np.where(begins, random.integers(0, num_labels, store.num_tokens), -1)
    return dataclasses.replace(store, label=label.astype(np.int32), word=word.astype(np.int32))


def tokens_of(store: TokenStore) -> Tokens:
    """The columns of a store that an encoder reads."""
    return Tokens(jnp.asarray(store.token_id), jnp.asarray(store.token_type), jnp.asarray(store.position))


def packed(store: TokenStore, width: int = 32, rows: int | None = None) -> Batch:
    """All examples of a store in one packed batch."""
    filled = full_rows(store.lengths.tolist(), width)
    return fill(store, filled, Shape(rows or len(filled), width, max(map(len, filled))))


def unpacked(store: TokenStore, width: int = 32, rows: int | None = None) -> Batch:
    """All examples of a store, each in a row of its own."""
    single = [[example] for example in range(store.num_examples)]
    return fill(store, single, Shape(rows or len(single), width, 1))


def padded(theirs: Any, store: TokenStore) -> dict[str, Any]:
    """All examples of a store as a padded batch for a PyTorch model."""
    torch = pytorch()
    shape = (store.num_examples, int(store.lengths.max()))
    ids, types, mask = np.full(shape, theirs.config.pad_token_id), np.zeros(shape, int), np.zeros(shape, int)
    for row, (start, stop) in enumerate(zip(store.start[:-1], store.start[1:], strict=True)):
        ids[row, : stop - start] = store.token_id[start:stop]
        types[row, : stop - start] = store.token_type[start:stop]
        mask[row, : stop - start] = 1
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    return inputs | ({"token_type_ids": torch.tensor(types)} if FAMILIES[theirs.config.model_type].token_types else {})


def padded_labels(store: TokenStore) -> Any:
    """The labels of a store for a PyTorch model: [E], or of words [E, longest], -100 for tokens without."""
    torch = pytorch()
    if store.word is None:
        return torch.tensor(store.label).long()
    labels = np.full((store.num_examples, int(store.lengths.max())), -100)
    for row, (start, stop) in enumerate(zip(store.start[:-1], store.start[1:], strict=True)):
        some = store.label[start:stop]
        labels[row, : stop - start] = np.where(some >= 0, some, -100)
    return torch.tensor(labels)


def assert_same_logits(theirs: Any, folder: Path, store: TokenStore, *batches: Batch) -> None:
    """Ours, with the weights of theirs by way of a folder, has its logits for the examples of each batch."""
    config = read_config(save(theirs, folder))
    outputs = output_names(theirs.config.num_labels)
    model = Column(config, len(outputs)).bind(weights.load(folder, config, outputs, seed=0).params)
    with pytorch().no_grad():
        expected = theirs(**padded(theirs, store)).logits.numpy()
    for batch in batches:
        logits = by_example(model(tokens_of(store).of(batch), batch), batch)
        np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=0)


def dropout_sites(config: EncoderConfig, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], float]:
    """(block, site) -> rate of every dropout with a rate above 0 in a column of that architecture."""
    seeds = np.arange((config.num_hidden_layers + 2) * SITES_PER_BLOCK * 2, dtype=np.uint32)
    seeds = seeds.reshape(-1, SITES_PER_BLOCK, 2)
    rates: dict[tuple[int, int], float] = {}

    def spy(row: Any, column: Any, seed: np.ndarray, rate: float) -> Any:
        if rate:
            place = divmod(int(seed[0]) // 2, SITES_PER_BLOCK)
            assert place not in rates, "one seed for two masks"
            rates[place] = rate
        return mask_multiplier(row, column, seed, rate)

    for module in (attention, dropout):
        monkeypatch.setattr(module, "mask_multiplier", spy)
    batch = packed(random_store(config.model_type))
    tokens = Tokens(*(np.zeros_like(batch.index) for _ in Tokens._fields))
    column = Column(config, 3)
    with jax.disable_jit():  # every layer is run through, with its own seeds
        jax.eval_shape(lambda params: column.bind(params)(tokens, batch, seeds), column.shapes())
    return rates


def by_example(values: np.ndarray, batch: Batch) -> np.ndarray:
    """[R, G, ...] of a batch -> [E, ...] in the order of the store."""
    real = batch.example >= 0
    result = np.zeros((real.sum(), *values.shape[2:]), values.dtype)
    result[batch.example[real]] = np.asarray(values)[real]
    return result
