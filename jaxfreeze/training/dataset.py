"""The rows of a run: the task and its splits, read and checked; each split tokenised and put on the devices."""

import dataclasses
from pathlib import Path

from jax.sharding import Mesh

from jaxfreeze import console, devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.data.hidden_store import HiddenStore
from jaxfreeze.data.readers import read_file, read_split, splits_for_evaluation
from jaxfreeze.data.split import Split, Text
from jaxfreeze.data.tasks import OWN_FILES, TASKS, Task, get_task, own_task
from jaxfreeze.data.token_store import TextEncoder, TokenStore, tokenize
from jaxfreeze.training.step import Data


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """One tokenised split, on the host and on the devices."""

    name: str
    store: TokenStore
    data: Data
    texts: tuple[tuple[Text, ...], ...] = ()  # by column, as read; none of the rows to train on, which are many
    hidden: HiddenStore | None = None  # the trunk cache, if batches are to bring their states from the host

    @property
    def has_states(self) -> bool:
        """Whether the states at the cut are there, on the devices or to come with the batches."""
        return not (self.hidden is self.data.hidden is self.data.pooled is None)

    def complete(self, batch: Batch, mesh: Mesh) -> Batch:
        """The batch with all that a step needs of it on the devices of this process."""
        return batch if self.hidden is None else self.hidden.attach(batch, devices.own_parts(mesh))


def read_task(config: TrainConfig) -> tuple[Task, Split, list[Split]]:
    """The task, its training split and its validation splits. Raises InputError for anything wrong in them."""
    if config.task == OWN_FILES:
        train, task = _read_own(config, own_task(config, config.label_names), "train")
        return task, train, read_validations(config, task)
    task = get_task(config.task)
    train = read_split(task, "train", None if config.data_dir is None else Path(config.data_dir))
    validations = read_validations(config, task)
    for split in (train, *validations):
        if split.skipped:
            console.say(f"{config.task} {split.name}: {split.skipped} rows left out, damaged in the published file")
    return task, train, validations


def read_validations(config: TrainConfig, task: Task) -> list[Split]:
    """The validation splits of a run whose task, classes included, is known. Raises InputError."""
    if config.task == OWN_FILES:
        return [_read_own(config, task, "validation")[0]]
    data_dir = None if config.data_dir is None else Path(config.data_dir)
    names, missing = splits_for_evaluation(task, data_dir)
    for name in missing:
        console.say(f"--data_dir {data_dir}: no file for {name}; scored without it")
    return [read_split(task, name, data_dir) for name in names]


def _read_own(config: TrainConfig, task: Task, split: str) -> tuple[Split, Task]:
    """One split of a user's own files; says how many rows were left out."""
    file = Path(str(config.train_file if split == "train" else config.validation_file))
    found, task = read_file(file, task, split, config.on_bad_row)
    if found.skipped:
        rows = f"{found.skipped:,} row{'s' if found.skipped > 1 else ''}"
        console.say(f"{file}: {rows} left out, first at {found.first_skipped}")
    return found, task


def rows_files_of(config: TrainConfig) -> list[Path]:
    """The files that a run's rows are read from; none for the demo and what comes from the hub."""
    if config.task == OWN_FILES:
        return [Path(str(config.train_file)), Path(str(config.validation_file))]
    if config.data_dir is None or config.task not in TASKS or not TASKS[config.task].tsv_files:
        return []
    task, data_dir = TASKS[config.task], Path(config.data_dir)
    names = ["train", *splits_for_evaluation(task, data_dir)[0]]
    return [place for name in names for place in task.tsv_places(name, data_dir)]


def make_dataset(split: Split, encoder: TextEncoder, mesh: Mesh) -> Dataset:
    """Tokenise a split and put its tokens and labels on the devices."""
    store = tokenize(split, encoder)
    tokens = Tokens(store.token_id, store.token_type, store.position)
    texts = () if split.name == "train" else split.texts
    return Dataset(split.name, store, devices.replicate(Data(tokens, store.label), mesh), texts)
