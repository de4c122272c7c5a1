"""From a config to everything a run needs, all of it read and checked before anything is written or trained."""

import dataclasses
import time
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from jaxfreeze import console, devices, freezing
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batches import Batch, Tokens
from jaxfreeze.data.hidden_store import HiddenStore
from jaxfreeze.data.readers import read_file, read_split, splits_for_evaluation
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import OWN_FILES, Task, get_task, own_task
from jaxfreeze.data.token_store import TextEncoder, TokenStore, tokenize
from jaxfreeze.errors import InputError
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.training.step import Data, Program


@dataclasses.dataclass(frozen=True)
class Policy:
    """What trains, in a given architecture."""

    labels: freezing.Labels
    cut: int

    @classmethod
    def of(cls, config: TrainConfig, paths: list[str], num_layers: int) -> "Policy":
        """The policy that --trainable_layers or --trainable asks for."""
        if config.trainable:
            labels = freezing.label_patterns(paths, config.trainable)
        else:
            assert config.trainable_layers is not None  # TrainConfig fills it in
            labels = freezing.label_layers(paths, config.trainable_layers, num_layers)
        return cls(labels, freezing.cut_of(labels, num_layers))


@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier on the devices, parted by its policy."""

    folder: Path
    encoder: EncoderConfig
    column: Column
    policy: Policy
    trained: freezing.Params  # float32
    frozen: freezing.Params  # in the compute type
    fresh: tuple[str, ...]
    dtype: str

    def params(self, trained: freezing.Params | None = None) -> freezing.Params:
        """The whole tree, with these trained leaves in place of the pretrained ones if they are given."""
        return freezing.combine(self.trained if trained is None else trained, self.frozen)

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters: total, trainable, frozen."""
        trainable, frozen = (sum(leaf.size for leaf in group.values()) for group in (self.trained, self.frozen))
        return {"total": trainable + frozen, "trainable": trainable, "frozen": frozen}

    def start(self, seed: int) -> dict[str, np.ndarray]:
        """The trained leaves, on the host, of a run with this seed, which draws the fresh ones."""
        trained = {path: np.asarray(leaf) for path, leaf in self.trained.items()}
        return trained | weights.draw({path: trained[path].shape for path in self.fresh if path in trained}, seed)

    def program(self, task: Task) -> Program:
        """What a compiled pass of this model is made of; training adds to it."""
        return Program(self.column, self.encoder.num_hidden_layers, self.policy.cut, task.regression)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One tokenised split, on the host and on the devices."""

    name: str
    store: TokenStore
    data: Data
    hidden: HiddenStore | None = None  # the trunk cache, if batches are to bring their states from the host

    def complete(self, batch: Batch, mesh: Mesh) -> Batch:
        """The batch with all that a step needs of it on the devices of this process."""
        return batch if self.hidden is None else self.hidden.attach(batch, devices.own_parts(mesh))


def read_task(config: TrainConfig) -> tuple[Task, Split, list[Split]]:
    """The task, its training split and its validation splits. Raises InputError for anything wrong in them."""
    if config.task == OWN_FILES:
        columns, label = config.text_columns, config.label_column
        known = config.label_names or None
        train, classes = read_file(Path(str(config.train_file)), columns, label, known, config.regression)
        validation, _ = read_file(Path(str(config.validation_file)), columns, label, classes, config.regression)
        return own_task(columns, classes, config.regression), train, [validation]
    task = get_task(config.task)
    data_dir = None if config.data_dir is None else Path(config.data_dir)
    names, missing = splits_for_evaluation(task, data_dir)
    for name in missing:
        console.say(f"--data_dir {data_dir}: no file for {name}; scored without it")
    train, *validations = (read_split(task, name, data_dir) for name in ("train", *names))
    for split in (train, *validations):
        if split.skipped:
            console.say(f"{config.task} {split.name}: {split.skipped} rows left out, damaged in the published file")
    return task, train, validations


def load_model(config: TrainConfig, task: Task, mesh: Mesh) -> Model:
    """Load pretrained weights onto the mesh: trained leaves in float32, frozen ones in the compute type."""
    folder = model_folder(config.model)
    encoder = read_config(folder)
    if config.max_length > encoder.max_tokens:
        raise InputError(f"--max_length {config.max_length}: {config.model} holds at most {encoder.max_tokens} tokens")
    column = Column(encoder, task.num_outputs, config.dtype)
    policy = Policy.of(config, list(column.shapes()), encoder.num_hidden_layers)
    pretrained = weights.load(folder, encoder, task.num_outputs, config.seed)
    trained, frozen = freezing.split(pretrained.params, policy.labels)
    frozen = {path: leaf.astype(config.dtype) for path, leaf in frozen.items()}
    return Model(
        folder,
        encoder,
        dataclasses.replace(column, cut=policy.cut),
        policy,
        devices.replicate(trained, mesh),
        devices.replicate(frozen, mesh),
        pretrained.fresh,
        config.dtype,
    )


def text_encoder(config: TrainConfig, model: Model) -> TextEncoder:
    """How this model's texts become tokens."""
    encoder = model.encoder
    return TextEncoder(
        model.folder, config.max_length, encoder.vocab_size, encoder.type_vocab_size, encoder.first_position
    )


def dataset(split: Split, encoder: TextEncoder, mesh: Mesh) -> Dataset:
    """Tokenise a split and put its tokens and labels on the devices."""
    store = tokenize(split, encoder)
    tokens = Tokens(store.token_id, store.token_type, store.position)
    return Dataset(split.name, store, devices.replicate(Data(tokens, store.label), mesh))


@dataclasses.dataclass
class Stopwatch:
    """Seconds spent on each part of a run."""

    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(("total", "load", "tokenize", "compile", "cache", "train", "eval"), 0.0)
    )
    _start: float = dataclasses.field(default_factory=time.perf_counter)
    _part: str | None = None
    _since: float = 0.0

    def begin(self, part: str | None) -> None:
        """What is done from now on counts as `part`, until the next call."""
        now = time.perf_counter()
        if self._part is not None:
            self.seconds[self._part] += now - self._since
        self._part, self._since = part, now
        self.seconds["total"] = now - self._start

    def so_far(self) -> dict[str, float]:
        """Seconds until now, those of the part under way included."""
        now = time.perf_counter()
        running = {} if self._part is None else {self._part: self.seconds[self._part] + now - self._since}
        return self.seconds | running | {"total": now - self._start}

    def add(self, seconds: dict[str, float]) -> None:
        """Count these too: of the same run, before it was stopped."""
        for part, value in seconds.items():
            self.seconds[part] += value
        self._start -= seconds["total"]
