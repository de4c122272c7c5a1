"""The model card, README.md of an exported folder: scores, training, what was frozen, how to load it."""

from pathlib import Path

from huggingface_hub import ModelCardData

from jaxfreeze import freezing
from jaxfreeze.config import TrainConfig, command
from jaxfreeze.data.tasks import HUB, OWN_FILES, Task
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.model.hub import DEMO_PACKAGE

TOP_SECTION, USE_SECTION = "Trained tensors only", "Use"
USE = """\
In transformers:

```python
from transformers import pipeline

classifier = pipeline("{pipeline}", "path/to/this/folder", {settings})
classifier({example})
```

In jaxfreeze it is the start of another run with `--model path/to/this/folder`.
"""
STABLEHLO = """\

In JAX alone, with int32 arrays [batch, length] whose rows begin with their tokens:

```python
from jax import export
model = export.deserialize(open("path/to/this/folder/model.stablehlo", "rb").read())
logits = model.call(input_ids, token_type_ids, attention_mask)
```
"""
TOP = """\
`top.safetensors` holds what the training changed or drew afresh. Put it on its base before it is used:

```python
from jaxfreeze import apply_top

apply_top("path/to/this/folder", base={base!r}, output="path/to/the/whole/model")
```
"""


def text(run: FinishedRun, top_only: bool, with_stablehlo: bool) -> str:
    """The page in Markdown, with the metadata that the hub reads in front."""
    objective = run.task.objective
    pair = '{"text": "...", "text_pair": "..."}' if len(run.task.text_columns) == 2 else '"..."'
    example = f"{pair}, {objective.pipeline_options}" if objective.pipeline_options else pair
    sections = {
        "Scores": _scores(run),
        "Training": _training(run),
        "What was frozen": _frozen(run),
        **({TOP_SECTION: TOP.format(base=run.config.model)} if top_only else {}),
        USE_SECTION: USE.format(pipeline=objective.pipeline, settings=objective.pipeline_settings, example=example)
        + (STABLEHLO if with_stablehlo else ""),
    }
    body = "".join(f"\n## {title}\n\n{content}" for title, content in sections.items())
    return f"---\n{metadata(run.config, run.task).to_yaml()}\n---\n\n{_introduction(run)}{body}"


def of_whole(card: str) -> str:
    """The page of a top, for the whole model that it became."""
    before, _, after = card.partition(f"\n## {TOP_SECTION}\n")
    _, heading, use = after.partition(f"\n## {USE_SECTION}\n")
    return before + heading + use


def metadata(config: TrainConfig, task: Task) -> ModelCardData:
    """What the hub shows and searches by."""
    on_hub = config.model != "demo" and not Path(config.model).expanduser().is_dir()
    return ModelCardData(
        base_model=config.model if on_hub else None,
        datasets=["nyu-mll/glue"] if task.hub_config else None,
        library_name="transformers",
        pipeline_tag=task.objective.pipeline,
        tags=["jaxfreeze"],
    )


def _introduction(run: FinishedRun) -> str:
    model = run.config.model
    base = f"The MiniLM of the package {DEMO_PACKAGE}" if model == "demo" else f"`{model}`"
    return f"# {Path(model).name} on {_data(run)}\n\n{base}, fine-tuned with jaxfreeze: {_trained(run)}.\n"


def _data(run: FinishedRun) -> str:
    if run.config.task == OWN_FILES:
        return Path(str(run.config.train_file)).name
    if run.config.task == HUB:
        return f"{run.config.dataset} {run.config.dataset_config or ''}".strip()
    return f"GLUE {run.task.hub_config}" if run.task.hub_config else "the demo of jaxfreeze"


def _trained(run: FinishedRun) -> str:
    config, layers = run.config, run.model.encoder.num_hidden_layers
    if config.trainable:
        return "the parameters whose path matches " + " or ".join(f"`{pattern}`" for pattern in config.trainable)
    count = config.trainable_layers
    if count == "all":
        return "all parameters"
    if count == 0:
        return "the head alone"
    return f"the last {f'{count} ' if count != 1 else ''}of {layers} layers and the head"


def _scores(run: FinishedRun) -> str:
    rows = "".join(f"| {name} | {value:.4f} |\n" for name, value in run.scores.items())
    tests = run.metrics.get("test_metrics") or {}
    tested = "".join(f"| {name} | {value:.4f} |\n" for name, value in tests.items())
    end = f"\nOn the test rows, after the last step:\n\n| metric | score |\n|---|---|\n{tested}" if tested else ""
    return f"On the validation rows, after step {run.step:,}:\n\n| metric | score |\n|---|---|\n{rows}{end}"


def _training(run: FinishedRun) -> str:
    metrics, config = run.metrics, run.config
    columns = " and ".join(f"`{column}`" for column in run.task.text_columns)
    versions = ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())
    return (
        f"    {command(config)}\n\n"
        f"Data: {_data(run)}; text in {columns}; {run.task.objective.describe()}. "
        f"{metrics['steps']:,} steps, {metrics['examples']:,} examples in {metrics['epochs']:.3g} epochs, at most "
        f"{config.max_length} tokens each, computed in {config.dtype} on {metrics['devices']}.\n\n"
        f"Versions: {versions}.\n"
    )


def _frozen(run: FinishedRun) -> str:
    audit, counts = run.folder.read(run.folder.freeze), run.metrics["parameters"]
    if not audit["frozen"]:
        return "Nothing.\n"
    cut = freezing.describe_cut(run.model.column.cut, run.model.encoder.num_hidden_layers)
    return (
        f"{audit['frozen']:,} of {counts['total']:,} parameters; the cut is {cut}. Their bits did not change: one "
        "SHA-256 over all of them was\n\n"
        f"    {audit['digest_before']} before the run\n    {audit['digest_after']} after it\n\n"
        "Here they have the type and the bytes that the pretrained files have for them. The "
        f"{counts['trainable']:,} trained ones are float32.\n"
    )
