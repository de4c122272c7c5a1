"""What is trained: one run, or several side by side, with its data, model, cache, batches and compiled steps."""

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxfreeze import devices, freezing, processes
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batches import Batch, BatchPlan
from jaxfreeze.data.dispatch import Group, prefetch, stack
from jaxfreeze.data.tasks import Task
from jaxfreeze.training import evaluation, setup, trunk_cache
from jaxfreeze.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from jaxfreeze.training.record import NonFiniteLossError, Progress, Steps, versions
from jaxfreeze.training.setup import Dataset, Model, Stopwatch
from jaxfreeze.training.step import Metrics, compile_train_steps, over_runs

STEPS_PER_DISPATCH = 20
STEPS_FOR_A_SHAPE = 300  # steps through one layer: a shape more costs seconds to compile, and saves a part of each
GROUP_BYTES = 64 << 20  # of states that the host sends in one dispatch
OWN_PATHS = ("output_dir", "data_dir", "train_file", "validation_file", "model")  # each process may have its own


AfterDispatch = Callable[[freezing.Params, optax.OptState, Mapping[str, float] | None], None]
"""Is given the trained leaves, the optimizer state, and the metrics if there was an evaluation; may raise to stop."""


class Run:
    """One run, or several side by side that differ in seed and learning rate: what it works on and has done so far."""

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        watch: Stopwatch,
        mesh: Mesh,
        task: Task,
        model: Model,
        train_set: Dataset,
        validation_sets: list[Dataset],
        cache: trunk_cache.TrunkCache | None = None,
    ) -> None:
        """cache: the one that the sets have their states from already."""
        config, self.side_by_side = configs[0], len(configs) > 1
        self.configs, self.config, self.watch, self.mesh, self.task = tuple(configs), config, watch, mesh, task
        self.model, self.train_set, self.validation_sets = model, train_set, validation_sets
        steps_per_epoch = -(-train_set.store.num_examples // config.batch_size)
        self.total_steps = config.max_steps or config.epochs * steps_per_epoch
        epochs = -(-self.total_steps // steps_per_epoch)
        limit = min(4, 1 + self.total_steps * self._layers_in_a_step() // STEPS_FOR_A_SHAPE)
        seed = tuple(config.seed for config in configs) if self.side_by_side else config.seed
        self.plan = BatchPlan.make(
            train_set.store, config.batch_size, seed, epochs, mesh.size, limit, config.accumulate
        )
        settings = OptimizerConfig(
            config.learning_rate, config.weight_decay, config.warmup_ratio, config.max_grad_norm, self.total_steps
        )
        self.learning_rate = learning_rate_schedule(settings)
        self.optimizer = make_optimizer(settings, model.policy.labels)
        self.program = dataclasses.replace(
            model.program(task), frozen_dropout=config.frozen_dropout, shapes=self.plan.shapes,
            side_by_side=self.side_by_side, accumulate=config.accumulate, remat=config.remat,
        )  # fmt: skip
        self.cache = cache or trunk_cache.plan(
            config, model, self.program, (train_set, *validation_sets), mesh,
            min(self.total_steps * config.batch_size, config.epochs * train_set.store.num_examples),
        )  # fmt: skip
        self.filled = cache is not None
        self.steps: jax.stages.Compiled | None = None
        self.progress = Progress()
        self.pending: list[Metrics] = []  # of the steps since the last log
        self.diverged: set[int] = set()  # numbers of runs side by side whose loss was not finite

    def _layers_in_a_step(self) -> int:
        """Layers that a training step runs through: those above the cut, or all without the trunk cache."""
        cached = self.config.cache != "off" and not self.config.frozen_dropout
        below = max(1, self.model.policy.cut) if cached else 1
        return self.model.encoder.num_hidden_layers + 1 - below

    @classmethod
    def prepare(cls, configs: Sequence[TrainConfig]) -> "Run":
        """Read, check and load everything; raise InputError for whatever is wrong. Writes nothing but token stores."""
        config = configs[0]
        devices.configure(config.dtype)
        watch = Stopwatch()
        mesh = devices.data_mesh()
        processes.check_equal(lambda: _told(config), "start all processes with the same flags and packages")
        task, model, datasets = processes.together(lambda: cls._read(config, watch, mesh))
        processes.check_equal(lambda: _found(model, datasets), "give all processes the same files")
        return cls(configs, watch, mesh, task, model, datasets[0], datasets[1:])

    @classmethod
    def _read(cls, config: TrainConfig, watch: Stopwatch, mesh: Mesh) -> tuple[Task, Model, list[Dataset]]:
        watch.begin("load")
        task, train, validations = setup.read_task(config)
        model = setup.load_model(config, task, mesh)
        watch.begin("tokenize")
        encoder = setup.text_encoder(config, model)
        datasets = [setup.dataset(split, encoder, mesh) for split in (train, *validations)]
        watch.begin(None)
        return task, model, datasets

    def get_ready(self) -> jax.stages.Compiled:
        """Fill the cache, and compile the training steps meanwhile."""
        _ = self.at_start  # several processes start their programs in the same order, so none in the thread
        if self.steps is None:
            with ThreadPoolExecutor(1) as worker:
                compiling = worker.submit(self.compile)
                self.fill_cache()
                self.watch.begin("compile")
                self.steps = compiling.result()
        return self.steps

    def like(self, configs: Sequence[TrainConfig]) -> "Run":
        """Runs that differ from this one in seed and learning rate alone: its data, cache and, if it fits, program."""
        watch = Stopwatch()
        watch.begin("load")
        model = setup.load_model(configs[0], self.task, self.mesh)
        model = dataclasses.replace(model, frozen=self.model.frozen)
        watch.begin(None)
        run = Run(configs, watch, self.mesh, self.task, model, self.train_set, self.validation_sets, self.cache)
        if run.program == self.program:
            run.steps = self.steps
        return run

    def fill_cache(self) -> None:
        """Give every split its states at the cut."""
        if self.filled:
            return
        self.watch.begin("cache")
        sets = (self.train_set, *self.validation_sets)
        self.train_set, *self.validation_sets = [
            trunk_cache.load_or_compute(self.cache, dataset, self.model, self.program, self.mesh) for dataset in sets
        ]
        self.watch.begin(None)

    @property
    def group_size(self) -> int:
        """Steps in one dispatch, at most."""
        size = min(STEPS_PER_DISPATCH, self.config.log_every, self.total_steps)
        layout = self.cache.sent_with_batches(self.train_set)
        if layout is None:
            return size
        count = len(self.configs) * self.config.accumulate
        return max(1, min(size, GROUP_BYTES // (count * layout.largest(self.plan.shapes))))

    def compile(self) -> jax.stages.Compiled:
        """The training steps as a program, from the shapes of what they will be given: the trunk need not have run."""
        batch, data = next(self.batches()), self.cache.announce(self.train_set, self.mesh)
        layout = self.cache.sent_with_batches(self.train_set)
        if layout is not None:
            batch = batch._replace(hidden=layout.empty(batch))
        inputs = (self.program, self.optimizer, *self.at_start, self.model.frozen, data)
        group = self.stack([batch])
        everywhere = devices.replicated(self.mesh)
        steps = compile_train_steps(out_shardings=(everywhere, self.shardings(self.at_start[1]), everywhere))
        return steps.lower(*inputs, group, self.seeds(), np.int32(0)).compile(devices.compiler_options())

    @functools.cached_property
    def at_start(self) -> tuple[freezing.Params, optax.OptState]:
        """Trained leaves and optimizer state before the first step, which takes over their memory."""
        trained = self.initial()
        return trained, self.initial_state(trained)

    def initial(self) -> freezing.Params:
        """The trained leaves before the first step."""
        if not self.side_by_side:
            return self.model.trained
        starts = [self.model.start(config.seed) for config in self.configs]
        return devices.replicate({path: np.stack([start[path] for start in starts]) for path in starts[0]}, self.mesh)

    def initial_state(self, trained: freezing.Params) -> optax.OptState:
        """The optimizer's state before the first step."""

        def init(trained: freezing.Params, frozen: freezing.Params) -> optax.OptState:
            return self.optimizer.init(freezing.combine(trained, frozen))

        for_all = over_runs(self.program, init, (0, None))
        shardings = self.shardings(jax.eval_shape(for_all, trained, self.model.frozen))
        state = jax.jit(for_all, out_shardings=shardings)(trained, self.model.frozen)
        if not self.side_by_side:
            return state
        rates = np.array([config.learning_rate for config in self.configs], np.float32)
        return optax.tree.set(state, step_size=devices.put(rates, devices.replicated(self.mesh)))

    def shardings(self, state: optax.OptState) -> Any:
        """How the optimizer's state lies on the devices: a copy on each, or a part with --shard_optimizer."""
        if self.config.shard_optimizer and not self.side_by_side:
            return devices.sharded(state, self.mesh)
        return jax.tree.map(lambda _: devices.replicated(self.mesh), state)

    def seeds(self) -> jax.Array:
        """What every step's dropout comes from: uint32, [S] side by side."""
        seeds: Any = np.array([config.seed for config in self.configs], np.uint32)
        return devices.put(seeds if self.side_by_side else seeds[0], devices.replicated(self.mesh))

    def go_on(self, trained: freezing.Params, state: optax.OptState, progress: Progress) -> None:
        """Begin at the step after these (arrays on the host, the same in every process), not at the first one."""

        def put(leaf: Any, like: jax.Array) -> jax.Array:
            return leaf if leaf is like else devices.put(leaf, like.sharding, may_alias=False)

        self.at_start = jax.tree.map(put, (trained, state), self.at_start)
        self.progress = progress

    def train(
        self, steps: jax.stages.Compiled, journal: Steps, after_dispatch: AfterDispatch | None = None
    ) -> freezing.Params:
        """Every step left of the run -> the trained leaves, [S, ...] each side by side. One run: NonFiniteLossError."""
        self.watch.begin("train")
        (trained, state), seeds = self.at_start, self.seeds()
        journal.start()
        window = (self.progress.examples, time.perf_counter())
        for batches, group in prefetch(self.groups()):
            trained, state, metrics = steps(
                trained, state, self.model.frozen, self.train_set.data, group, seeds, np.int32(self.progress.steps)
            )
            self.pending.append(Metrics(metrics.loss[: len(batches)], metrics.grad_norm[: len(batches)]))
            for batch in batches:
                self.progress = self.progress.plus(batch, len(self.configs))
            if self.progress.steps % self.config.log_every == 0 or self.finished:
                window = self.log(journal, window)
            evaluated = None
            if self.config.eval_every and self.progress.steps % self.config.eval_every == 0 and not self.finished:
                evaluated = self.evaluate(trained)
                journal.evaluation(self.progress.steps, evaluated)
                self.watch.begin("train")
            if after_dispatch is not None and not self.finished:
                after_dispatch(trained, state, evaluated)
        return trained

    def groups(self) -> Iterator[tuple[list[Batch], Group]]:
        """Every batch of the run, in groups for one dispatch each, on the devices; a log or evaluation ends a group."""
        batches, done = self.batches(self.progress.steps), self.progress.steps
        config = self.config
        given = (config.log_every, config.eval_every, config.checkpoint_every, self.total_steps)
        periods = [period for period in given if period]
        while done < self.total_steps:
            count = min(self.group_size, *(period - done % period for period in periods))
            some = [self.train_set.complete(batch, self.mesh) for batch in itertools.islice(batches, count)]
            yield some, self.stack(some)
            done += count

    def stack(self, batches: list[Batch]) -> Group:
        """Batches for one dispatch, on the devices."""
        group = stack(batches, self.plan.shapes, self.group_size, self.mesh.size)
        return devices.put(group, group.shardings(self.mesh))

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of the run, in order, from that of step `start` on."""
        return itertools.islice(self.plan.batches(start), self.total_steps - start)

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.progress.steps == self.total_steps

    def log(self, journal: Steps, window: tuple[int, float]) -> tuple[int, float]:
        """Fetch what the last steps report, check it, write it down -> (examples, clock) for the next window."""
        losses, norms = (np.concatenate(column) for column in zip(*jax.device_get(self.pending), strict=True))
        self.pending = []
        wrong = ~np.isfinite(losses) | ~np.isfinite(norms)  # [n], or [n, S] side by side
        if self.side_by_side:
            self.diverged |= set(np.flatnonzero(wrong.any(axis=0)).tolist())
        elif wrong.any():
            bad = np.flatnonzero(wrong)
            step = self.progress.steps - len(losses) + int(bad[0]) + 1
            raise NonFiniteLossError(
                f"step {step} of {self.total_steps}: loss {losses[bad[0]]}, gradient norm {norms[bad[0]]}; "
                "try a lower --learning_rate, or --dtype float32"
            )
        now = time.perf_counter()
        figures = {
            "loss": float(losses.mean()),
            "learning_rate": float(self.learning_rate(self.progress.steps - 1)),
            "grad_norm": float(norms.mean()),
            "epoch": self.progress.examples / self.train_set.store.num_examples,
            "examples_per_second": (self.progress.examples - window[0]) / (now - window[1]),
        }
        journal.step(self.progress.steps, figures)
        return self.progress.examples, now

    def evaluate(self, trained: freezing.Params) -> dict[str, float]:
        """Metrics on every validation split."""
        self.watch.begin("eval")
        metrics: dict[str, float] = {}
        params = self.model.params(trained)
        for dataset in self.validation_sets:
            logits = evaluation.predict(self.program, params, dataset, self.mesh)
            metrics |= evaluation.score(self.task, dataset, logits)
        return metrics

    def result(self, metrics: dict[str, float], number: int = 0) -> dict[str, Any]:
        """The content of metrics.json; of runs side by side, that of run `number`, with its share of the seconds."""
        progress, config = self.progress, self.configs[number]
        seconds = {part: value / len(self.configs) for part, value in self.watch.seconds.items()}
        return {
            "task": config.task,
            "model": config.model,
            "labels": list(self.task.labels),
            "num_layers": self.model.encoder.num_hidden_layers,
            "trainable_layers": config.trainable_layers,
            "trainable": list(config.trainable),
            "seed": config.seed,
            "metrics": metrics,
            "primary_metric": self.task.primary_metric,
            "steps": progress.steps,
            "epochs": progress.examples / self.train_set.store.num_examples,
            "examples": progress.examples,
            "seconds": {part: round(value, 3) for part, value in seconds.items()},
            "examples_per_second": progress.examples / seconds["train"],
            "tokens_per_second": progress.tokens / seconds["train"],
            "token_efficiency": progress.tokens / progress.slots,
            "compiled_shapes": [dataclasses.astuple(shape) for shape in self.plan.shapes],
            "parameters": self.model.parameter_counts(),
            "cache": self.cache.place,
            "cache_bytes": self.cache.size,
            "peak_memory_bytes": devices.peak_memory_bytes(),
            "versions": versions(),
            "devices": devices.describe(self.mesh),
        }


def _told(config: TrainConfig) -> dict[str, Any]:
    """The flags that must be the same in all processes, and the versions."""
    flags = json.loads(json.dumps(dataclasses.asdict(config)))
    return {f"--{name}": value for name, value in flags.items() if name not in OWN_PATHS} | versions()


def _found(model: Model, datasets: Sequence[Dataset]) -> dict[str, str]:
    """Digests of what was read."""
    rows = {f"digest of the {dataset.name} rows": dataset.store.digest for dataset in datasets}
    return rows | {"digest of the pretrained weights": freezing.digest_of(freezing.digests(model.params()))}
