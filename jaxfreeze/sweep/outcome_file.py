"""What a run answers for the test rows, kept beside its line of results.jsonl: outcomes/<digest of the run>.npz."""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxfreeze.atomic import new_file
from jaxfreeze.errors import InputError
from jaxfreeze.run_folder import NOT_COMPARED

FOLDER = "outcomes"
FILES = re.compile(r"[0-9a-f]{32}\.npz|\.[0-9a-f]{32}\.npz\.writing")


def is_ours(path: Path) -> bool:
    """Whether this is the folder of outcomes, with nothing in it but what `write` puts there."""
    return path.name == FOLDER and path.is_dir() and all(FILES.fullmatch(file.name) for file in path.iterdir())


def name_of(config: Mapping[str, Any]) -> str:
    """The file's name: a digest of the settings that change a run's result, as JSON has them."""
    settings = {name: value for name, value in config.items() if name not in NOT_COMPARED}
    return f"{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]}.npz"


def write(folder: Path, config: Mapping[str, Any], logits: Mapping[str, np.ndarray]) -> str:
    """Keep the logits of every test split, float32 [N, C], atomically -> their digest, for the line of the run."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with new_file(folder / FOLDER / name_of(config), "--output_dir", binary=True) as file:
        np.savez(file, allow_pickle=False, **logits)
    return _digest(logits)


def read(folder: Path, config: Mapping[str, Any], digest: str | None) -> dict[str, np.ndarray]:
    """The logits by test split, of the run with this config and this digest in its line of results.jsonl.

    Raises InputError if the file is gone, or is not the one that was written.
    """
    path = folder / FOLDER / name_of(config)
    mend = "restore it, or give another --output_dir"
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            logits = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"{path}: expected what a finished run answers, found no such file; {mend}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: expected what a finished run answers, found a damaged file ({error}); {mend}"
        ) from error
    if _digest(logits) != digest:
        raise InputError(f"{path}: expected what the run in results.jsonl answers, found something else; {mend}")
    return logits


def _digest(logits: Mapping[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for name, values in sorted(logits.items()):
        sha.update(f"{name} {values.dtype.str} {values.shape} ".encode() + np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()
