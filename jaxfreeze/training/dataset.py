"""The rows of a run: the task and its splits, read and checked; each split tokenised and put on the devices."""

import dataclasses
from collections.abc import Sequence
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
    """The task and its splits, those held out of the training rows that are not given.

    Raises InputError for anything wrong in them.
    """
    source = source_of(config)
    whole, task = source.train(source.task())
    validations, tests = source.validations(task), source.tests(task)
    train, held = _hold_out(config, task, whole, not validations)
    task = trained(task, config, _labels_of(train))
    for split in held:
        purpose = "validation" if split.name == "validation" else "the test at the end"
        console.say(
            f"{len(split.texts[0]):,} of {len(whole.texts[0]):,} training rows held out for {purpose}, by "
            f"--split_seed {config.split_seed}"
        )
    return Rows(task, train, *_with_held(validations, tests, held))


def _labels_of(train: Split) -> np.ndarray:
    assert train.labels is not None  # rows to train on have them
    return train.labels


def read_scored(config: TrainConfig, task: Task) -> tuple[list[Split], list[Split]]:
    """The validation and the test rows of a run whose task, classes included, is known. Raises InputError."""
    source = source_of(config)
    validations, tests = source.validations(task), source.tests(task)
    held: list[Split] = []
    if not validations or config.test_share is not None:
        held = _hold_out(config, task, source.train(task)[0], not validations)[1]
    validations, tests = map(list, _with_held(validations, tests, held))
    return validations, tests


def _hold_out(config: TrainConfig, task: Task, train: Split, validation: bool) -> tuple[Split, list[Split]]:
    """The rows that train, and those held out of them: for the test, if asked for, and then for validation."""
    shares = {"test": config.test_share}
    if validation:
        shares["validation"] = SHARE if config.validation_share is None else config.validation_share
    held = []
    for name, share in shares.items():
        if share is None:
            continue
        strata = task.objective.strata(_labels_of(train), train.counts)
        try:
            kept, out = hold_out(train.texts, strata, share, config.split_seed)
        except InputError as reason:
            raise InputError(f"--{name}_share {share:g}: {reason}") from None
        held.append(dataclasses.replace(train.take(out), name=name, skipped=0, first_skipped=""))
        train = train.take(kept)
    return train, held


def _with_held(
    validations: Sequence[Split], tests: Sequence[Split], held: Sequence[Split]
) -> tuple[tuple[Split, ...], tuple[Split, ...]]:
    """The validation and the test rows, with those that were held out."""
    return (
        (*validations, *(split for split in held if split.name == "validation")),
        (*tests, *(split for split in held if split.name == "test")),
    )


def rows_files_of(config: TrainConfig) -> list[Path]:
    """The files that a run's rows are read from; none for the demo, what comes from the hub, and standard input."""
    return source_of(config).files()


def make_dataset(split: Split, encoder: TextEncoder, mesh: Mesh) -> Dataset:
    """Tokenise a split and put its tokens and labels on the devices."""
    store = tokenize(split, encoder)
    tokens = Tokens(store.token_id, store.token_type, store.position)
    texts = () if split.name == "train" else split.texts
    return Dataset(split.name, store, devices.replicate(Data(tokens, store.label), mesh), texts)
