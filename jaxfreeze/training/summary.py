"""What a person is told of a run before and after it, and the content of metrics.json."""

import dataclasses
from typing import Any

from jaxfreeze import console, devices, freezing
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.training import platform_choices
from jaxfreeze.training.experiment import Experiment, Progress
from jaxfreeze.training.parameter_table import parameter_table
from jaxfreeze.training.preparation import versions
from jaxfreeze.training.stopwatch import Stopwatch


def introduce(experiment: Experiment) -> None:
    """Say what will be done."""
    config, model, store = experiment.config, experiment.model, experiment.train_set.store
    counts = model.parameter_counts()
    console.say(
        f"{config.task} on {config.model}: {store.num_examples:,} examples, {store.num_tokens:,} tokens, "
        f"{experiment.total_steps:,} steps on {experiment.describe_devices()}, {config.dtype}"
    )
    on_platform = platform_choices.note(model.column, len(experiment.plan.shapes))
    for note in (*model.notes, *([on_platform] if on_platform else [])):
        console.say(note)
    console.say(experiment.cache.describe())
    console.say(
        f"{counts['trainable']:,} of {counts['total']:,} parameters train; the cut is "
        f"{freezing.describe_cut(model.column.cut, model.column.num_layers)}"
    )


def result_of(
    experiment: Experiment,
    progress: Progress,
    watch: Stopwatch,
    metrics: dict[str, float],
    test_metrics: dict[str, float],
    number: int = 0,
) -> dict[str, Any]:
    """The content of metrics.json; of runs side by side, that of run `number`, with its share of the seconds.

    metrics: on the validation rows; test_metrics: on the test rows, {} without.
    """
    config, model, objective = experiment.configs[number], experiment.model, experiment.task.objective
    seconds = {part: value / experiment.runs for part, value in watch.seconds().items()}
    return {
        "task": config.task,
        "model": config.model,
        "objective": objective.kind,
        "labels": list(objective.labels),
        "text_columns": list(experiment.task.text_columns),
        "label_column": list(experiment.task.label_column),
        "num_layers": model.column.num_layers,
        "trainable_layers": config.trainable_layers,
        "trainable": list(config.trainable),
        "seed": config.seed,
        "metrics": {name: value for name, value in metrics.items() if name not in objective.kept()},
        **objective.settled(metrics).kept(),
        "test_metrics": test_metrics,
        "primary_metric": objective.primary_metric,
        "steps": progress.steps,
        "epochs": progress.examples / experiment.train_set.store.num_examples,
        "examples": progress.examples,
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
        "examples_per_second": progress.examples / seconds["train"],
        "tokens_per_second": progress.tokens / seconds["train"],
        "token_efficiency": progress.tokens / progress.slots,
        "compiled_shapes": [dataclasses.astuple(shape) for shape in experiment.plan.shapes],
        "parameters": model.parameter_counts(),
        "cache": experiment.cache.place,
        "cache_bytes": experiment.cache.size,
        "peak_memory_bytes": devices.peak_memory_bytes(),
        "versions": versions(),
        "devices": experiment.describe_devices(),
    }


def which_step(experiment: Experiment, result: dict[str, Any]) -> str:
    """Why a step that is not the last one counts, and why the run ended there."""
    metric, best, patience = result["primary_metric"], result["best_step"], experiment.config.patience
    counts = f"step {best:,} counts, with the best {metric}, {result['metrics'][metric]:.4f}"
    if not result["stopped_early"]:
        return f"{counts} (after the last step {result['last_metrics'][metric]:.4f})"
    evaluations = f"{patience} evaluation{'s' if patience != 1 else ''} in a row without a better {metric}"
    return f"stopped after step {result['steps']:,} of {experiment.total_steps:,}: {evaluations}; {counts}"


def conclude(experiment: Experiment, result: dict[str, Any], folder: RunFolder) -> None:
    """Say what came out."""
    seconds, column = result["seconds"], experiment.model.column
    shapes = {path: leaf.shape for path, leaf in column.shapes().items()}
    frozen = "frozen, bits unchanged"
    console.console.print(parameter_table(shapes, experiment.model.labels, column.num_layers, frozen))
    if result["best_step"] != result["steps"]:
        console.say(which_step(experiment, result))
    console.say(f"{experiment.config.task} validation: {console.metrics_line(result['metrics'])}")
    if result["test_metrics"]:
        console.say(f"{experiment.config.task} test: {console.metrics_line(result['test_metrics'])}")
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
