"""One run from config to metrics.json: the clock, the disk, the progress, and every other side effect."""

import dataclasses
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batches import Batch, BatchPlan
from jaxfreeze.data.groups import Group, ahead, stack
from jaxfreeze.data.tasks import Task
from jaxfreeze.training import checkpoint, console, evaluation, setup, trunk_cache
from jaxfreeze.training.journal import Journal
from jaxfreeze.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from jaxfreeze.training.run_folder import RunFolder, write_json
from jaxfreeze.training.setup import Dataset, Model, Stopwatch
from jaxfreeze.training.step import Metrics, compiled_train_steps

VERSIONS = ("jaxfreeze", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")

STEPS_PER_DISPATCH = 20
STEPS_FOR_A_SHAPE = 100  # a shape more costs seconds to compile, and saves some part of every step
GROUP_BYTES = 64 << 20  # of states that the host sends in one dispatch


class NonFiniteLossError(Exception):
    """The loss became NaN or infinite."""


class Progress(NamedTuple):
    """What a run has done so far."""

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    slots: int = 0  # tokens computed, empty places included

    def plus(self, batch: Batch) -> "Progress":
        """After one more batch."""
        examples, tokens = int((batch.example >= 0).sum()), int((batch.index >= 0).sum())
        return Progress(self.steps + 1, self.examples + examples, self.tokens + tokens, self.slots + batch.index.size)


def finetune(config: TrainConfig) -> dict[str, Any]:
    """Run `python run.py` with this config -> the content of metrics.json. Says so, and does nothing, if it is done."""
    folder = RunFolder(config.run_folder)
    if folder.check(config):
        console.say(f"{folder.path}: this run is finished; --overwrite runs it again")
        return folder.read(folder.metrics)
    run = Run.prepare(config)
    folder.create(config)
    run.introduce()
    before = freezing.digests(run.model.frozen)
    with ThreadPoolExecutor(1) as worker:
        compiling = worker.submit(run.compile)  # while the trunk runs
        run.fill_cache()
        run.watch.begin("compile")
        steps = compiling.result()
    with Journal(folder, run.total_steps) as journal:
        trained = run.train(steps, journal)
        metrics = run.evaluate(trained)
        journal.evaluation(run.total_steps, metrics)
    run.watch.begin("load")
    after = freezing.digests(run.model.frozen)
    write_json(folder.freeze, freezing.audit(run.model.policy.labels, run.model.params(trained), before, after))
    freezing.check_unmoved(before, after)
    checkpoint.save(folder.checkpoints, run.total_steps, trained)
    run.watch.begin(None)
    result = run.result(metrics)
    write_json(folder.metrics, result)
    run.conclude(result, folder)
    return result


class Run:
    """One run: what it works on, and what it has done so far."""

    def __init__(
        self,
        config: TrainConfig,
        watch: Stopwatch,
        mesh: Mesh,
        task: Task,
        model: Model,
        train_set: Dataset,
        validation_sets: list[Dataset],
    ) -> None:
        self.config, self.watch, self.mesh, self.task = config, watch, mesh, task
        self.model, self.train_set, self.validation_sets = model, train_set, validation_sets
        steps_per_epoch = -(-train_set.store.num_examples // config.batch_size)
        self.total_steps = config.max_steps or config.epochs * steps_per_epoch
        epochs = -(-self.total_steps // steps_per_epoch)
        limit = min(4, 1 + self.total_steps // STEPS_FOR_A_SHAPE)
        self.plan = BatchPlan.make(train_set.store, config.batch_size, config.seed, epochs, mesh.size, limit)
        settings = OptimizerConfig(
            config.learning_rate, config.weight_decay, config.warmup_ratio, config.max_grad_norm, self.total_steps
        )
        self.learning_rate = learning_rate_schedule(settings)
        self.optimizer = make_optimizer(settings, model.policy.labels)
        self.program = model.program(task, config.frozen_dropout, self.plan.shapes)
        self.cache = trunk_cache.plan(
            config, model, self.program, (train_set, *validation_sets), mesh,
            min(self.total_steps * config.batch_size, config.epochs * train_set.store.num_examples),
        )  # fmt: skip
        self.progress = Progress()

    @classmethod
    def prepare(cls, config: TrainConfig) -> "Run":
        """Read, check and load everything; raise InputError for whatever is wrong. Writes nothing but token stores."""
        devices.configure(config.dtype)
        watch = Stopwatch()
        watch.begin("load")
        mesh = devices.data_mesh()
        task, train, validations = setup.read_task(config)
        model = setup.load_model(config, task, mesh)
        watch.begin("tokenize")
        encoder = setup.text_encoder(config, model)
        train_set, *validation_sets = [setup.dataset(split, encoder, mesh) for split in (train, *validations)]
        watch.begin(None)
        return cls(config, watch, mesh, task, model, train_set, validation_sets)

    def introduce(self) -> None:
        """Say what will be done."""
        model, store = self.model, self.train_set.store
        counts, layers = model.parameter_counts(), model.encoder.num_hidden_layers
        console.say(
            f"{self.config.task} on {self.config.model}: {store.num_examples:,} examples, {store.num_tokens:,} tokens, "
            f"{self.total_steps:,} steps on {devices.describe(self.mesh)}, {self.config.dtype}"
        )
        if model.fresh:
            console.say(f"drawn at random, not in the pretrained files: {', '.join(model.fresh)}")
        console.say(self.cache.in_words)
        console.say(
            f"{counts['trainable']:,} of {counts['total']:,} parameters train; the cut is "
            f"{console.cut_in_words(model.policy.cut, layers)}"
        )

    def fill_cache(self) -> None:
        """Give every split its states at the cut."""
        self.watch.begin("cache")
        sets = (self.train_set, *self.validation_sets)
        self.train_set, *self.validation_sets = [
            trunk_cache.serve(self.cache, dataset, self.model, self.program, self.mesh) for dataset in sets
        ]
        self.watch.begin(None)

    @property
    def group_size(self) -> int:
        """Steps in one dispatch, at most."""
        size = min(STEPS_PER_DISPATCH, self.config.log_every, self.total_steps)
        layout = self.cache.sent_with_batches(self.train_set)
        return size if layout is None else max(1, min(size, GROUP_BYTES // layout.largest(self.plan.shapes)))

    def compile(self) -> jax.stages.Compiled:
        """The training steps as a program, from the shapes of what they will be given: the trunk need not have run."""
        batch, data = next(self.batches()), self.cache.announce(self.train_set, self.mesh)
        layout = self.cache.sent_with_batches(self.train_set)
        if layout is not None:
            batch = batch._replace(hidden=layout.empty(batch))
        group = jax.device_put(self.stack([batch]), Group.shardings(self.mesh))
        inputs = (self.program, self.optimizer, self.model.trained, self.initial_state(), self.model.frozen, data)
        lowered = compiled_train_steps.lower(*inputs, group, self.key(), np.int32(0))
        return lowered.compile(devices.compiler_options())

    def initial_state(self) -> optax.OptState:
        """The optimizer's state before the first step."""
        init = jax.jit(self.optimizer.init, out_shardings=devices.replicated(self.mesh))
        return init(self.model.params())

    def key(self) -> jax.Array:
        """The key from which every step's dropout comes."""
        return jax.device_put(jax.random.key(self.config.seed), devices.replicated(self.mesh))

    def train(self, steps: jax.stages.Compiled, journal: Journal) -> freezing.Params:
        """Every step of the run -> the trained leaves. Raises NonFiniteLossError."""
        self.watch.begin("train")
        trained, state, key = self.model.trained, self.initial_state(), self.key()
        journal.start()
        pending: list[Metrics] = []
        window = (0, time.perf_counter())
        for batches, group in ahead(self.groups()):
            trained, state, metrics = steps(
                trained, state, self.model.frozen, self.train_set.data, group, key, np.int32(self.progress.steps)
            )
            pending.append(Metrics(metrics.loss[: len(batches)], metrics.grad_norm[: len(batches)]))
            for batch in batches:
                self.progress = self.progress.plus(batch)
            if self.progress.steps % self.config.log_every == 0 or self.finished:
                window = self.log(journal, pending, window)
                pending = []
            if self.config.eval_every and self.progress.steps % self.config.eval_every == 0 and not self.finished:
                journal.evaluation(self.progress.steps, self.evaluate(trained))
                self.watch.begin("train")
        return trained

    def groups(self) -> Iterator[tuple[list[Batch], Group]]:
        """Every batch of the run, in groups for one dispatch each, on the devices; a log or evaluation ends a group."""
        batches, done = self.batches(), 0
        periods = (self.config.log_every, self.config.eval_every or self.total_steps, self.total_steps)
        while done < self.total_steps:
            count = min(self.group_size, *(period - done % period for period in periods))
            some = [self.train_set.complete(batch) for batch in itertools.islice(batches, count)]
            yield some, jax.device_put(self.stack(some), Group.shardings(self.mesh))
            done += count

    def stack(self, batches: list[Batch]) -> Group:
        """Batches for one dispatch, on the host."""
        return stack(batches, self.plan.shapes, self.group_size, self.mesh.size)

    def batches(self) -> Iterator[Batch]:
        """Every batch of the run, in order."""
        return itertools.islice(iter(self.plan), self.total_steps)

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.progress.steps == self.total_steps

    def log(self, journal: Journal, pending: list[Metrics], window: tuple[int, float]) -> tuple[int, float]:
        """Fetch what the last steps report, check it, write it down -> (examples, clock) for the next window."""
        losses, norms = (np.concatenate(column) for column in zip(*jax.device_get(pending), strict=True))
        bad = np.flatnonzero(~np.isfinite(losses) | ~np.isfinite(norms))
        if bad.size:
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

    def result(self, metrics: dict[str, float]) -> dict[str, Any]:
        """The content of metrics.json."""
        seconds, progress, config = self.watch.seconds, self.progress, self.config
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
            "versions": {name: version(name) for name in VERSIONS},
            "devices": devices.describe(self.mesh),
        }

    def conclude(self, result: dict[str, Any], folder: RunFolder) -> None:
        """Say what came out."""
        seconds, model = result["seconds"], self.model
        shapes = {path: leaf.shape for path, leaf in model.params().items()}
        table = console.parameter_table(
            shapes, model.policy.labels, model.encoder.num_hidden_layers, frozen="frozen, bits unchanged"
        )
        console.console.print(table)
        console.say(f"{self.config.task} validation: {console.metrics_line(result['metrics'])}")
        console.say(
            f"{seconds['total']:.0f} s in all: load {seconds['load']:.0f}, tokenize {seconds['tokenize']:.0f}, "
            f"trunk cache {seconds['cache']:.0f}, "
            f"compile {seconds['compile']:.0f}, train {seconds['train']:.0f}, evaluate {seconds['eval']:.0f}; "
            f"{result['examples_per_second']:,.0f} examples/s"
        )
        console.say(f"frozen parameters: {result['parameters']['frozen']:,}, bits unchanged")
        console.say(f"run folder: {folder.path}")
