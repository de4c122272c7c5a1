"""Rows of a data set of the Hugging Face hub, of its local cache, or of a local folder that `datasets` loads."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxfreeze.data.parquet_rows import named
from jaxfreeze.data.split import CHUNK
from jaxfreeze.data.tables import Layouts, Place, Record, layout_of
from jaxfreeze.errors import InputError, one_of_names
from jaxfreeze.hub_client import quiet, reason

CONNECT_SECONDS = 5.0  # to reach the hub, once; load_dataset itself tries for 24 s
ANSWER_SECONDS = 60.0  # of a hub that is reached: slow is not unreachable


def load(name: str, config: str | None, split: str | None = None) -> Any:
    """A data set from the hub, or from the local cache when the hub is out of reach; split None: all, by name.

    Raises whatever `datasets` and the network raise.
    """
    import huggingface_hub  # here, because own files need none of this
    from datasets import load_dataset

    quiet()
    try:
        limits: Any = (CONNECT_SECONDS, *3 * [ANSWER_SECONDS])  # to connect, read, write, wait for a connection
        huggingface_hub.HfApi().dataset_info(name, timeout=limits)  # annotated as one number, passed on to httpx
    except Exception:
        cached = _cached(name, config, split)
        if cached is None:
            raise
        return cached
    return load_dataset(name, config, split=split)


def _cached(name: str, config: str | None, split: str | None) -> Any | None:
    from datasets.packaged_modules.cache.cache import Cache

    base = name.split("/")[-1]
    try:
        cache = Cache(repo_id=name, dataset_name=base, config_name=config, version="auto", hash="auto")
        return cache.as_dataset(split=split)
    except (ValueError, OSError):
        return None


def load_splits(name: str, config: str | None) -> Mapping[str, Any]:
    """Every split of a data set, or of a local folder, by its name. Raises InputError."""
    try:
        found = _load_folder(name, config) if Path(name).is_dir() else load(name, config)
    except Exception as error:  # what a network raises depends on the HTTP library that is installed
        raise InputError(
            f"--dataset {name}: cannot be loaded from the Hugging Face hub, its local cache or a folder "
            f"({reason(error)}); check the name and --dataset_config"
        ) from error
    return found if isinstance(found, Mapping) else {"train": found}


def _load_folder(folder: str, config: str | None) -> Any:
    import datasets

    saved = any((Path(folder) / name).is_file() for name in ("dataset_dict.json", "state.json"))  # of save_to_disk
    return datasets.load_from_disk(folder) if saved else datasets.load_dataset(folder, config)


def split_of(name: str, splits: Mapping[str, Any], wanted: str, flag: str) -> Any:
    """The split called `wanted`. Raises InputError with the names of those there."""
    if wanted not in splits:
        raise InputError(
            f"--{flag} {wanted}: --dataset {name} has no such split; expected {one_of_names(splits, wanted)}"
        )
    return splits[wanted]


def class_names(dataset: Any, column: str) -> tuple[str, ...]:
    """The class names, in id order, that a data set declares for a column of class ids, or of lists of them, or ()."""
    feature = dataset.features.get(column)
    feature = getattr(feature, "feature", feature)
    return tuple(getattr(feature, "names", None) or ())


def hub_records(path: Path, dataset: Any, layouts: Layouts) -> Iterator[Record]:
    """The wanted columns of one split, class ids replaced by the names of the classes; path: how errors name it."""
    try:
        columns = list(layout_of(list(dataset.features), layouts))
    except InputError as reason:
        raise InputError(f"{path}: {reason}") from None
    names = [class_names(dataset, column) for column in columns]
    row = 0
    for chunk in dataset.select_columns(columns).iter(batch_size=CHUNK):
        for values in zip(*(chunk[column] for column in columns), strict=True):
            row += 1
            place = Place(path, "row", row)
            cells = [named(place, cell, known) for cell, known in zip(values, names, strict=True)]
            yield Record(place, dict(zip(columns, cells, strict=True)))
