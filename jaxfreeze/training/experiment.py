"""An experiment: everything that a run, or several side by side, is made of; and its state before the first step."""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxfreeze import devices, freezing, identity, processes
from jaxfreeze.config import TrainConfig, as_json
from jaxfreeze.data.batch import Batch
from jaxfreeze.data.batches import BatchPlan, steps_per_epoch
from jaxfreeze.data.dispatch import Dispatch, stack
from jaxfreeze.data.sources import from_standard_input
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import Task
from jaxfreeze.data.token_store import TextEncoder
from jaxfreeze.identity import Identity, Inputs, Origin
from jaxfreeze.model.hub import model_folder
from jaxfreeze.training import evaluation, platform_choices, trunk_cache
from jaxfreeze.training.dataset import Dataset, make_dataset, read_rows, rows_files_of
from jaxfreeze.training.evaluation import Scored
from jaxfreeze.training.optimizer import OptimizerConfig, Schedule, initial_optimizer_state
from jaxfreeze.training.pretrained import Model, load_model, model_files_of, text_encoder
from jaxfreeze.training.step import Metrics, Program, abstract, compile_train_steps
from jaxfreeze.training.stopwatch import Stopwatch
from jaxfreeze.training.trunk_cache import TrunkCache

STEPS_PER_DISPATCH = 20
DISPATCH_BYTES = 64 << 20  # of states that the host sends in one dispatch
OWN_PATHS = (
    "output_dir",
    "data_dir",
    "train_file",
    "validation_file",
    "test_file",
    "model",
)  # each process may have its own
VERSIONS = ("jaxfreeze", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


class Progress(NamedTuple):
    """What a run has done so far; of runs side by side, one run's share."""

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    slots: int = 0  # tokens computed, empty places included

    def after(self, batches: Sequence[Batch], runs: int) -> "Progress":
        """After these batches too, each of so many runs side by side."""
        counts = np.array([[(b.example >= 0).sum(), (b.index >= 0).sum(), b.index.size] for b in batches])
        examples, tokens, slots = (int(count) for count in counts.sum(axis=0) // runs)
        return Progress(self.steps + len(batches), self.examples + examples, self.tokens + tokens, self.slots + slots)


class TrainState(NamedTuple):
    """A run between two dispatches. A checkpoint is one written down; resuming is beginning from another."""

    trained: freezing.Params  # float32; [S, ...] of runs side by side
    optimizer_state: optax.OptState
    progress: Progress
    unlogged: tuple[Metrics, ...] = ()  # of the steps since the last log line, [n] or [S, n] each; logged by a hook


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What a run works with, or what several runs side by side do, which differ in seed and learning rate alone."""

    configs: tuple[TrainConfig, ...]
    task: Task
    model: Model
    origin: Origin
    frozen_digests: Mapping[str, str]  # of the frozen leaves before the first step, by path
    train_set: Dataset
    validation_sets: tuple[Dataset, ...]
    test_sets: tuple[Dataset, ...]  # scored once, at the end
    mesh: Mesh
    total_steps: int
    plan: BatchPlan
    program: Program
    cache: TrunkCache
    longest: int | None = None  # epochs of the longest of the runs that are to share one program with these
    padding: int = 0  # of the runs side by side, the last ones that only fill the program up

    @property
    def config(self) -> TrainConfig:
        """Of the first run; the others have the same but for seed and learning rate."""
        return self.configs[0]

    @property
    def runs(self) -> int:
        """How many runs there are, without those that only fill the program up."""
        return len(self.configs) - self.padding

    @property
    def side_by_side(self) -> bool:
        """Whether arrays have an axis S for the runs."""
        return len(self.configs) > 1

    @property
    def eval_every(self) -> int | None:
        """Steps between two evaluations: an epoch's where the best step counts and no other number is given."""
        config = self.config
        if config.eval_every is None and config.best_counts:
            return steps_per_epoch(self.train_set.store.num_examples, config.batch_size)
        return config.eval_every

    @property
    def dispatch_size(self) -> int:
        """K: steps in one dispatch, at most."""
        size = min(STEPS_PER_DISPATCH, self.config.log_every)
        layout = self.cache.sent_with_batches(self.train_set)
        if layout is None:
            return size
        count = len(self.configs) * self.config.accumulate
        return max(1, min(size, DISPATCH_BYTES // (count * layout.largest(self.plan.shapes))))

    @property
    def schedules(self) -> list[Schedule]:
        """The learning rates of each run."""
        return [Schedule.of(of.learning_rate, of.warmup_ratio, self.total_steps) for of in self.configs]

    def describe_devices(self) -> str:
        """What the run is computed on, in words."""
        return devices.describe(self.mesh, self.model.column.onednn)

    @functools.cached_property
    def seeds(self) -> jax.Array:
        """What every step's dropout comes from: uint32, [S] side by side."""
        seeds: Any = np.array([config.seed for config in self.configs], np.uint32)
        return devices.put(seeds if self.side_by_side else seeds[0], devices.replicated(self.mesh))


def prepare(configs: Sequence[TrainConfig], watch: Stopwatch, longest: int | None = None) -> Experiment:
    """Read, check and load everything; raise InputError for whatever is wrong. Writes nothing but token stores.

    longest: epochs of the longest of several runs that differ in epochs, seed and learning rate alone and are to share
    one program; None: a single run, whose batches have the shapes that fit its length and seed best.
    """
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


def begin(experiment: Experiment) -> TrainState:
    """The state before the first step. Its arrays are donated to that step; call this again for another run."""
    model, program, mesh = experiment.model, experiment.program, experiment.mesh
    starts = [model.start(config.seed) for config in experiment.configs]
    trained, schedule = starts[0], experiment.schedules[0]
    if experiment.side_by_side:
        trained, schedule = jax.tree.map(
            lambda *leaves: np.stack(leaves), *zip(starts, experiment.schedules, strict=True)
        )
    inputs = (devices.put(schedule, devices.replicated(mesh)), devices.replicate(trained, mesh), model.frozen)
    leaves, tree = abstract(inputs)
    shard = experiment.config.shard_optimizer and not experiment.side_by_side
    init = _compile_initializer(program.optimizer, program.labels, experiment.side_by_side, shard, mesh, leaves, tree)
    return TrainState(inputs[1], init(*inputs), Progress())


@functools.lru_cache(maxsize=64)
def _compile_initializer(
    optimizer: OptimizerConfig, labels: freezing.LabelTuple, side_by_side: bool, shard: bool, mesh: Mesh,
    leaves: tuple[jax.ShapeDtypeStruct, ...], tree: Any,
) -> jax.stages.Compiled:  # fmt: skip
    """initial_optimizer_state for these inputs; shard: a part of the state on each device."""
    inputs = jax.tree.unflatten(tree, leaves)
    init = functools.partial(initial_optimizer_state, optimizer, labels)
    over_runs = jax.vmap(init, (0, 0, None)) if side_by_side else init
    state = jax.eval_shape(over_runs, *inputs)
    places = devices.sharded(state, mesh) if shard else jax.tree.map(lambda _: devices.replicated(mesh), state)
    return jax.jit(over_runs, out_shardings=places).lower(*inputs).compile()


def get_ready(experiment: Experiment, state: TrainState, watch: Stopwatch) -> Experiment:
    """Fill the trunk cache, and compile the training steps meanwhile -> the experiment with its cache filled."""
    with ThreadPoolExecutor(1) as worker:
        compiling = worker.submit(compile_steps, experiment, state)
        experiment = fill_cache(experiment, state.trained, watch)
        with watch.part("compile"):
            compiling.result()
    return experiment


def fill_cache(experiment: Experiment, trained: freezing.Params, watch: Stopwatch) -> Experiment:
    """The experiment with the states at the cut found on disk or computed, for every split."""
    with watch.part("cache"):
        params = experiment.model.params(trained)
        train_set, *scored = (
            trunk_cache.load_or_compute(experiment.cache, dataset, experiment.model.column, params, experiment.mesh)
            for dataset in (experiment.train_set, *experiment.validation_sets, *experiment.test_sets)
        )
    count = len(experiment.validation_sets)
    validation_sets, test_sets = tuple(scored[:count]), tuple(scored[count:])
    return dataclasses.replace(experiment, train_set=train_set, validation_sets=validation_sets, test_sets=test_sets)


def compile_steps(experiment: Experiment, state: TrainState) -> jax.stages.Compiled:
    """The training steps as a program, from the shapes of what they will be given: the cache need not be filled."""
    batch = next(experiment.plan.batches())
    layout = experiment.cache.sent_with_batches(experiment.train_set)
    dispatch = _on_devices(experiment, [batch if layout is None else layout.with_zeros(batch)])
    data = experiment.cache.abstract_data(experiment.train_set, experiment.mesh)
    inputs = (state.trained, state.optimizer_state, experiment.model.frozen, data, dispatch, experiment.seeds)
    return compile_train_steps(experiment.program, experiment.side_by_side, *inputs, np.int32(0))


def dispatches(experiment: Experiment, done: int) -> Iterator[tuple[list[Batch], Dispatch]]:
    """Every batch after the first `done` steps, in dispatches on the devices; logs and evaluations end a dispatch."""
    config, total = experiment.config, experiment.total_steps
    batches = experiment.plan.batches(done)
    periods = [p for p in (config.log_every, experiment.eval_every, config.checkpoint_every, total) if p]
    while done < total:
        count = min(experiment.dispatch_size, *(period - done % period for period in periods))
        some = [experiment.train_set.complete(batch, experiment.mesh) for batch in itertools.islice(batches, count)]
        yield some, _on_devices(experiment, some)
        done += count


def _on_devices(experiment: Experiment, batches: list[Batch]) -> Dispatch:
    dispatch = stack(batches, experiment.plan.shapes, experiment.dispatch_size, experiment.mesh.size)
    return devices.put(dispatch, dispatch.shardings(experiment.mesh))


def evaluate(experiment: Experiment, trained: freezing.Params, answers: list[Scored] | None = None) -> dict[str, float]:
    """Metrics of one run's trained leaves on every validation split; answers: gets what is answered."""
    return _scores(experiment, experiment.task, trained, experiment.validation_sets, answers)


def score_tests(
    experiment: Experiment,
    trained: freezing.Params,
    metrics: Mapping[str, float],
    answers: list[Scored] | None = None,
) -> dict[str, float]:
    """Metrics of one run's trained leaves on every test split; {} without test rows. To be asked once, at the end.

    metrics: what `evaluate` gave, with what was chosen on the validation rows. answers: gets what is answered.
    """
    return _scores(experiment, settled_task(experiment, metrics), trained, experiment.test_sets, answers)


def settled_task(experiment: Experiment, metrics: Mapping[str, float]) -> Task:
    """The task with what was chosen on the validation rows; metrics: what `evaluate` gave."""
    return dataclasses.replace(experiment.task, objective=experiment.task.objective.settled(metrics))


def _scores(
    experiment: Experiment,
    task: Task,
    trained: freezing.Params,
    sets: Sequence[Dataset],
    answers: list[Scored] | None,
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    params = experiment.model.params(trained)
    for dataset in sets:
        logits = evaluation.predict(experiment.model.column, params, dataset, experiment.mesh)
        metrics |= evaluation.score(task, dataset, logits)
        if answers is not None:
            answers.append(Scored(dataset, logits))
    return metrics


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
