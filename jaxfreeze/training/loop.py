"""One run from config to metrics.json: the disk, the journal, the proof of freezing, and what a person is told."""

import functools
import tempfile
from pathlib import Path
from typing import Any

from jaxfreeze import console, devices, freezing, processes
from jaxfreeze.config import TrainConfig
from jaxfreeze.run_folder import RunFolder, write_json
from jaxfreeze.training import signals
from jaxfreeze.training.keeper import Keeper
from jaxfreeze.training.log import Journal
from jaxfreeze.training.parameter_table import parameter_table
from jaxfreeze.training.run import Run


def finetune(config: TrainConfig) -> dict[str, Any]:
    """Run `python run.py` with this config -> the content of metrics.json. Says so, and does nothing, if it is done.

    An unfinished run goes on from its last good checkpoint. Raises InputError for what a person can mend, and Stopped
    after a signal.
    """
    with processes.exit_if_others_are_lost():
        return _finetune_here(config)


def _finetune_here(config: TrainConfig) -> dict[str, Any]:
    console.console.quiet = not processes.is_first()
    folder = RunFolder(config.run_folder)
    finished = processes.on_first_process(lambda: folder.read(folder.metrics) if folder.is_finished(config) else None)
    if finished is not None:
        console.say(f"{folder.path}: this run is finished; --overwrite runs it again")
        return finished
    with signals.handled() as received, tempfile.TemporaryDirectory() as elsewhere:
        # What every process writes counts in the first one alone: the others write to a folder that goes.
        return _finetune(config, folder if processes.is_first() else RunFolder(Path(elsewhere) / "run"), received)


def _finetune(config: TrainConfig, folder: RunFolder, received: signals.Signals) -> dict[str, Any]:
    run = Run.prepare([config])
    processes.together(lambda: folder.create(config))
    introduce(run)
    before = freezing.digests(run.model.frozen)
    keeper = Keeper(run, folder, received, before)
    if keeper.go_on():
        console.say(f"going on after step {run.progress.steps:,} of {run.total_steps:,}")
    steps = run.get_ready()
    with keeper.writer, Journal(folder, run.total_steps, run.progress.steps, keeper.log_bytes) as journal:
        with received.saving():
            trained = run.train(steps, journal, functools.partial(keeper.after_dispatch, journal))
        run.watch.begin("load")
        after = freezing.digests(run.model.frozen)
        write_json(folder.freeze, freezing.audit(run.model.policy.labels, run.model.params(trained), before, after))
        freezing.check_unmoved(before, after)
        keeper.finish(journal, trained)
        metrics = run.evaluate(trained)
        journal.evaluation(run.total_steps, metrics)
    run.watch.begin(None)
    result = run.result(metrics)
    write_json(folder.metrics, result)
    keeper.writer.keep({run.total_steps, keeper.writer.best})
    conclude(run, result, folder)
    return result


def introduce(run: Run) -> None:
    """Say what will be done."""
    model, store = run.model, run.train_set.store
    counts, layers = model.parameter_counts(), model.encoder.num_hidden_layers
    console.say(
        f"{run.config.task} on {run.config.model}: {store.num_examples:,} examples, {store.num_tokens:,} tokens, "
        f"{run.total_steps:,} steps on {devices.describe(run.mesh)}, {run.config.dtype}"
    )
    if model.fresh:
        console.say(f"drawn at random, not in the pretrained files: {', '.join(model.fresh)}")
    console.say(run.cache.description)
    console.say(
        f"{counts['trainable']:,} of {counts['total']:,} parameters train; the cut is "
        f"{freezing.describe_cut(model.policy.cut, layers)}"
    )


def conclude(run: Run, result: dict[str, Any], folder: RunFolder) -> None:
    """Say what came out."""
    seconds, model = result["seconds"], run.model
    shapes = {path: leaf.shape for path, leaf in model.params().items()}
    table = parameter_table(
        shapes, model.policy.labels, model.encoder.num_hidden_layers, frozen="frozen, bits unchanged"
    )
    console.console.print(table)
    console.say(f"{run.config.task} validation: {console.metrics_line(result['metrics'])}")
    console.say(
        f"{seconds['total']:.0f} s in all: load {seconds['load']:.0f}, tokenize {seconds['tokenize']:.0f}, "
        f"trunk cache {seconds['cache']:.0f}, "
        f"compile {seconds['compile']:.0f}, train {seconds['train']:.0f}, evaluate {seconds['eval']:.0f}; "
        f"{result['examples_per_second']:,.0f} examples/s"
    )
    console.say(f"frozen parameters: {result['parameters']['frozen']:,}, bits unchanged")
    kept, whole = (4 * result["parameters"][name] / 1e6 for name in ("trainable", "total"))
    console.say(f"checkpoint: {kept:,.1f} MB, the trained parameters only (the whole model would take {whole:,.1f} MB)")
    console.say(f"run folder: {folder.path}")
