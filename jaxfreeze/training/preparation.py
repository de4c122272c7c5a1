"""How an experiment is prepared: files are read and checked, the model is loaded, and the parts are put together."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jax.sharding import Mesh

from jaxfreeze import devices, freezing, identity, processes
from jaxfreeze.config import TrainConfig, as_json
from jaxfreeze.data.batches import BatchPlan, steps_per_epoch
from jaxfreeze.data.sources import from_standard_input
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import Task
from jaxfreeze.data.token_store import TextEncoder
from jaxfreeze.identity import Identity, Inputs, Origin
from jaxfreeze.model.hub import model_folder
from jaxfreeze.training import platform_choices, trunk_cache
from jaxfreeze.training.dataset import Dataset, make_dataset, read_rows, rows_files_of
from jaxfreeze.training.experiment import Experiment
from jaxfreeze.training.optimizer import OptimizerConfig
from jaxfreeze.training.pretrained import Model, load_model, model_files_of, text_encoder
from jaxfreeze.training.step import Program
from jaxfreeze.training.stopwatch import Stopwatch
from jaxfreeze.training.trunk_cache import TrunkCache

OWN_PATHS = ("output_dir", "data_dir", "train_file", "validation_file", "test_file", "model")
"""Flags that each process may set in its own way."""
VERSIONS = ("jaxfreeze", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def prepare(configs: Sequence[TrainConfig], watch: Stopwatch, longest: int | None = None) -> Experiment:
    """Read, check and load everything; raise InputError for whatever is wrong. Writes nothing but token stores.

    longest: epochs of the longest of several runs that differ in epochs, seed and learning rate alone and are to share
    one program; None: a single run, whose batches have the shapes that fit its length and seed best.
    """
    configs = [platform_choices.with_dtype(config) for config in configs]
    config = configs[0]
    devices.configure(config.dtype)
    mesh = devices.data_mesh()
    arithmetic = platform_choices.arithmetic(config.dtype, mesh)
    processes.check_equal(lambda: _settings(config), "start all processes with the same flags and packages")
    with processes.shared_errors():
        with watch.part("load"):
            inputs = identity.inputs_of(rows_files_of(config))  # before: what is written meanwhile counts as touched
            task, train, validations, tests = read_rows(config)
            inputs |= identity.inputs_of(model_files_of(model_folder(config.model)))
            model = load_model(config, task.objective, mesh, arithmetic)
        with watch.part("tokenize"):
            encoder = text_encoder(config, model.folder, model.encoder, task.objective)
            splits = (train, *validations, *tests)
            train_set, *scored = (make_dataset(split, encoder, mesh) for split in splits)
            found = identity_of(task, model, encoder, splits)
    processes.check_equal(lambda: _flat(found), "give all processes the same files")
    with watch.part("load"):
        digests = freezing.digests(model.frozen)
    origin = Origin(found, inputs)
    sets = (train_set, tuple(scored[: len(validations)]), tuple(scored[len(validations) :]))
    return _experiment(tuple(configs), task, model, origin, digests, *sets, mesh, longest=longest)


def inputs_of(config: TrainConfig) -> Inputs:
    """The files that a run is made of, as they are now."""
    return identity.inputs_of([*rows_files_of(config), *model_files_of(model_folder(config.model))])


def untouched(origin: Origin, config: TrainConfig) -> bool:
    """Whether no file that a result was made of was touched since; never for rows from the hub or standard input."""
    has_files = config.task == "demo" or bool(rows_files_of(config))
    return has_files and not from_standard_input(config) and origin.inputs == inputs_of(config)


def identity_of(task: Task, model: Model, encoder: TextEncoder, splits: Sequence[Split]) -> Identity:
    """What a run on these splits depends on, beside its settings."""
    architecture = hashlib.sha256(repr(model.encoder).encode()).hexdigest()
    rows = {split.name: split.digest for split in splits}
    return Identity(rows, task.objective.labels, encoder.tokenizer_digest, model.digest, architecture)


def alike(experiment: Experiment, configs: Sequence[TrainConfig], width: int = 1) -> Experiment:
    """Runs that differ from those of an experiment in seed, learning rate and epochs: on its data, model and cache.

    Runs with another number of trainable layers share the rows and tokens, and have a model and a cache of their own.
    width: how many runs side by side the program is to have at least; the last run is repeated, to no purpose but that.
    """
    padding = max(0, width - len(configs))
    return dataclasses.replace(_alike(experiment, (*configs, *[configs[-1]] * padding)), padding=padding)


def _alike(experiment: Experiment, configs: tuple[TrainConfig, ...]) -> Experiment:
    of, config = experiment, configs[0]
    sets = (of.train_set, of.validation_sets, of.test_sets)
    if (config.trainable_layers, config.trainable) == (of.config.trainable_layers, of.config.trainable):
        shared = (of.model, of.origin, of.frozen_digests, *sets, of.mesh, of.cache, of.longest)
        return _experiment(configs, of.task, *shared)
    model = load_model(
        config, of.task.objective, of.mesh, platform_choices.arithmetic(config.dtype, of.mesh), of.model.digest
    )
    new = freezing.digests({path: leaf for path, leaf in model.frozen.items() if path not in of.frozen_digests})
    digests = {path: new.get(path) or of.frozen_digests[path] for path in model.frozen}
    train_set, *scored = (dataset.without_states() for dataset in (of.train_set, *of.validation_sets, *of.test_sets))
    count = len(of.validation_sets)
    sets = (train_set, tuple(scored[:count]), tuple(scored[count:]))
    return _experiment(configs, of.task, model, of.origin, digests, *sets, of.mesh, longest=of.longest)


def _experiment(
    configs: tuple[TrainConfig, ...],
    task: Task,
    model: Model,
    origin: Origin,
    frozen_digests: Mapping[str, str],
    train_set: Dataset,
    validation_sets: tuple[Dataset, ...],
    test_sets: tuple[Dataset, ...],
    mesh: Mesh,
    cache: TrunkCache | None = None,
    longest: int | None = None,
) -> Experiment:
    config, store = configs[0], train_set.store
    in_epoch = steps_per_epoch(store.num_examples, config.batch_size)
    total_steps = config.max_steps or config.epochs * in_epoch
    if cache is None:
        examples = min(total_steps * config.batch_size, config.epochs * store.num_examples)
        splits = (train_set, *validation_sets, *test_sets)
        cache = trunk_cache.plan(config, model.column, frozen_digests, splits, mesh, examples)
    steps = total_steps if longest is None else max(total_steps, longest * in_epoch)
    plan = BatchPlan.make(
        store,
        config.batch_size,
        tuple(config.seed for config in configs),
        -(-total_steps // in_epoch),
        mesh.size,
        platform_choices.most_shapes(model.column.platform, steps, _layers_in_a_step(config, model), config.batch_size),
        config.accumulate,
        cache.first_tokens,
        any_seed=longest is not None,
    )
    program = Program(
        model.column,
        task.objective,
        tuple(sorted(model.labels.items())),
        OptimizerConfig(config.weight_decay, config.max_grad_norm),
        plan.shapes,
        config.frozen_dropout,
        config.accumulate,
        config.remat,
    )
    made_of = (task, model, origin, frozen_digests, train_set, validation_sets, test_sets, mesh)
    return Experiment(configs, *made_of, total_steps, plan, program, cache, longest)


def _layers_in_a_step(config: TrainConfig, model: Model) -> int:
    """Layers that a training step runs through: those above the cut, or all without the trunk cache."""
    cached = config.cache != "off" and not config.frozen_dropout
    return model.column.num_layers + 1 - (max(1, model.column.cut) if cached else 1)


@functools.cache
def versions() -> dict[str, str]:
    """Of the packages that a result depends on; "not installed": jaxfreeze run from its folder alone."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _settings(config: TrainConfig) -> dict[str, Any]:
    """The flags that must be the same in all processes, and the versions."""
    return {f"--{name}": value for name, value in as_json(config).items() if name not in OWN_PATHS} | versions()


def _flat(of: Identity) -> dict[str, Any]:
    """By what an error calls each part."""
    rows = {f"digest of the {name} rows": digest for name, digest in of.rows.items()}
    whole = {"tokenizer": of.tokenizer, "pretrained weights": of.weights, "config.json": of.encoder}
    return rows | {"classes": list(of.classes)} | {f"digest of the {what}": d for what, d in whole.items()}
