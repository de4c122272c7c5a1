"""An experiment: everything that a run, or several side by side, is made of; and its state before the first step."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batch import Batch
from jaxfreeze.data.batches import BatchPlan, steps_per_epoch
from jaxfreeze.data.dispatch import Dispatch, stack
from jaxfreeze.data.tasks import Task
from jaxfreeze.identity import Origin
from jaxfreeze.training import evaluation, trunk_cache
from jaxfreeze.training.dataset import Dataset
from jaxfreeze.training.evaluation import Scored
from jaxfreeze.training.optimizer import OptimizerConfig, Schedule, initial_optimizer_state
from jaxfreeze.training.pretrained import Model
from jaxfreeze.training.step import Metrics, Program, abstract, compile_train_steps
from jaxfreeze.training.stopwatch import Stopwatch
from jaxfreeze.training.trunk_cache import TrunkCache

STEPS_PER_DISPATCH = 20
DISPATCH_BYTES = 64 << 20  # of states that the host sends in one dispatch


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


def get_ready(
    experiment: Experiment, state: TrainState, watch: Stopwatch, also: Callable[[Experiment], None] | None = None
) -> Experiment:
    """Fill the trunk cache, and compile the training steps meanwhile -> the experiment with its cache filled.

    also: compiles what else the experiment will need, in the same time.
    """
    with ThreadPoolExecutor(1) as worker:
        compiling = worker.submit(compile_steps, experiment, state)
        experiment = fill_cache(experiment, state.trained, watch)
        with watch.part("compile"):
            if also is not None:
                also(experiment)
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
    predictor = evaluation.one_run(experiment.model.column, experiment.model.params(trained))
    for dataset in sets:
        logits = evaluation.predict(predictor, dataset, experiment.mesh)
        metrics |= evaluation.score(task, dataset, logits)
        if answers is not None:
            answers.append(Scored(dataset, logits))
    return metrics
