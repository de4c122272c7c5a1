"""The rows of a run: the task and its splits, read and checked; each split tokenised and put on the devices."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxfreeze import console, devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.data.hidden_store import HiddenStore
from jaxfreeze.data.holdout import SHARE, hold_out
from jaxfreeze.data.sources import source_of
from jaxfreeze.data.split import Split, Text
from jaxfreeze.data.tasks import Task, trained
from jaxfreeze.data.token_store import TextEncoder, TokenStore, tokenize
from jaxfreeze.errors import InputError
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

    @property
    def first_tokens(self) -> bool:
        """Whether these states are those of first tokens alone, which only a head reads."""
        return self.data.pooled is not None or (self.hidden is not None and self.hidden.layout.by_example)

    def without_states(self) -> "Dataset":
        """The same rows before a trunk cache was filled."""
        return dataclasses.replace(self, data=self.data._replace(hidden=None, pooled=None), hidden=None)

    def complete(self, batch: Batch, mesh: Mesh) -> Batch:
        """The batch with all that a step needs of it on the devices of this process."""
        return batch if self.hidden is None else self.hidden.attach(batch, devices.own_parts(mesh))


class Rows(NamedTuple):
    """What a run reads."""

    task: Task
    train: Split
    validations: tuple[Split, ...]
    """They choose: the best step, and k in a search."""
    tests: tuple[Split, ...]
    """They are scored once, at the end, and choose nothing."""


def read_rows(config: TrainConfig) -> Rows:
    """The task and its splits, validation rows held out of the training rows where none are given.

    Raises InputError for anything wrong in them.
    """
    source = source_of(config)
    train, task = source.train(source.task())
    validations, tests = source.validations(task), source.tests(task)
    total = len(train.texts[0])
    if held_out := not validations:
        train, held = _held_out(config, task, train)
        validations = [held]
    task = trained(task, config, _labels_of(train))
    if held_out:
        count = total - len(train.texts[0])
        console.say(
            f"{count:,} of {total:,} training rows held out for validation, by --split_seed {config.split_seed}"
        )
    return Rows(task, train, tuple(validations), tuple(tests))


def _labels_of(train: Split) -> np.ndarray:
    assert train.labels is not None  # rows to train on have them
    return train.labels


def read_scored(config: TrainConfig, task: Task) -> tuple[list[Split], list[Split]]:
    """The validation and the test rows of a run whose task, classes included, is known. Raises InputError."""
    source = source_of(config)
    validations = source.validations(task) or [_held_out(config, task, source.train(task)[0])[1]]
    return validations, source.tests(task)


def _held_out(config: TrainConfig, task: Task, train: Split) -> tuple[Split, Split]:
    """The rows that train, and those that validate."""
    share = SHARE if config.validation_share is None else config.validation_share
    strata = task.objective.strata(_labels_of(train), train.counts)
    try:
        kept, held = hold_out(train.texts, strata, share, config.split_seed)
    except InputError as reason:
        raise InputError(f"--validation_share {share:g}: {reason}") from None
    return train.take(kept), dataclasses.replace(train.take(held), name="validation", skipped=0, first_skipped="")


def rows_files_of(config: TrainConfig) -> list[Path]:
    """The files that a run's rows are read from; none for the demo, what comes from the hub, and standard input."""
    return source_of(config).files()


def make_dataset(split: Split, encoder: TextEncoder, mesh: Mesh) -> Dataset:
    """Tokenise a split and put its tokens and labels on the devices."""
    store = tokenize(split, encoder)
    tokens = Tokens(store.token_id, store.token_type, store.position)
    texts = () if split.name == "train" else split.texts
    return Dataset(split.name, store, devices.replicate(Data(tokens, store.label), mesh), texts)
