"""What a run is told: one frozen dataclass for flags, YAML files and the run folder's config.yaml."""

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from jaxfreeze.errors import InputError, one_of

FOLDER_FLAGS = ("output_dir", "overwrite", "resume", "checkpoint_every", "keep_last", "keep_best")
"""Flags about the folder of one run; none changes its result, and a sweep takes none."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Fine-tune the last k layers of BERT or RoBERTa, and prove that the rest did not move."""

    task: str
    """cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli (GLUE), demo (generated sentences), or files (your own)."""
    data_dir: str | None = None
    """Folder in the classic GLUE layout (DIR/RTE/train.tsv ...); without it GLUE comes from the Hugging Face hub."""
    train_file: str | None = None
    """For --task files: training rows, .csv, .tsv, .jsonl or .parquet."""
    validation_file: str | None = None
    """For --task files: validation rows, in the same form."""
    text_columns: tuple[str, ...] = ()
    """For --task files: the name of one text column, or of two for pairs of texts."""
    label_column: str | None = None
    """For --task files: the name of the label column."""
    label_names: tuple[str, ...] = ()
    """For --task files: class names in id order; without it, those found in the training file, sorted."""
    regression: bool = False
    """For --task files: labels are numbers to predict, not classes."""

    model: str = "bert-base-uncased"
    """A BERT or RoBERTa: hub name, local folder, or `demo` (the packaged 6-layer MiniLM)."""
    trainable_layers: int | Literal["all"] | None = None
    """How many of the last encoder layers train, beside the head: 0 to the number of layers; all: the embeddings too
    (default: 3)."""
    trainable: tuple[str, ...] = ()
    """Another policy instead: regular expressions; the parameters whose whole path one of them matches train."""
    frozen_dropout: bool = False
    """Keep dropout on in the frozen layers too, as the paper's runs did."""

    cache: Literal["auto", "device", "host", "disk", "off"] = "auto"
    """Where the frozen layers' output, computed once, is read from; auto: the fastest place where it fits."""
    cache_budget: float = 50.0
    """Disk space that all trunk caches may take together, in GB; those longest unused make room."""

    output_dir: str | None = None
    """Run folder (default: runs/TASK-MODEL-kK-seedS)."""
    overwrite: bool = False
    """Delete the run that is in the folder, and start again."""
    resume: bool = True
    """Go on with the run in the folder if it is this one, unfinished; false: refuse it."""
    checkpoint_every: int | None = None
    """Steps between two checkpoints (default: as many as take five minutes)."""
    keep_last: int = 2
    """Checkpoints kept of an unfinished run, the last ones; of a finished run its last step is kept."""
    keep_best: bool = False
    """Keep the checkpoint with the best score of --eval_every as well."""

    epochs: int = 3
    """Passes over the training rows."""
    max_steps: int | None = None
    """Stop after this many optimizer steps instead; the learning rate decays to 0 by then."""
    batch_size: int = 16
    """Examples in one optimizer step, over all devices."""
    accumulate: int = 1
    """Parts of a batch, computed in turn, to save memory."""
    remat: bool = False
    """Save memory: recompute activations for the gradients."""
    shard_optimizer: bool = False
    """Save memory: a part of the optimizer's state on each device."""
    learning_rate: float = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.01
    """Decoupled weight decay; biases and LayerNorms are left out."""
    warmup_ratio: float = 0.1
    """Share of the steps in which the learning rate rises from 0; it falls linearly to 0 after that."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this global norm, taken over the trained parameters."""
    max_length: int = 128
    """Longest example in tokens, special tokens included; the longer text of a pair is cut first."""
    seed: int = 42
    """Seed of the fresh head, the shuffling and the dropout."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and frozen weights; trained weights and statistics stay float32."""

    log_every: int = 20
    """Steps between two log lines."""
    eval_every: int | None = None
    """Steps between two evaluations on the validation rows; without it, at the end only."""

    def __post_init__(self) -> None:
        for name in ("text_columns", "trainable", "label_names"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value or ()))
        _check(self)
        if self.trainable_layers is None and not self.trainable:
            object.__setattr__(self, "trainable_layers", 3)

    @property
    def run_folder(self) -> Path:
        """Where the run lies."""
        return Path(self.output_dir or f"runs/{self._run_name()}")

    def _run_name(self) -> str:
        policy = "custom" if self.trainable else f"k{self.trainable_layers}"
        return f"{self.task}-{Path(self.model).name}-{policy}-seed{self.seed}"


def _check(config: TrainConfig) -> None:
    """Raise InputError for a value that no run could have."""
    for name in (
        "epochs",
        "max_steps",
        "batch_size",
        "accumulate",
        "log_every",
        "eval_every",
        "checkpoint_every",
        "keep_last",
    ):
        _within(config, name, 1, math.inf)
    _within(config, "max_length", 4, math.inf)
    _within(config, "seed", 0, 2**32 - 1)
    for name in ("learning_rate", "max_grad_norm"):
        _within(config, name, 1e-12, 1e6)
    _within(config, "weight_decay", 0, 1e6)
    _within(config, "warmup_ratio", 0, 1)
    _within(config, "cache_budget", 0, 1e6)
    if config.accumulate > config.batch_size:
        raise InputError(
            f"--accumulate {config.accumulate}: more parts than examples, --batch_size {config.batch_size}"
        )
    if config.keep_best and config.eval_every is None:
        raise InputError("--keep_best: the best of what? give --eval_every too")
    if config.trainable and config.trainable_layers is not None:
        raise InputError("--trainable and --trainable_layers: expected one policy, found two; leave one out")
    if config.task == "files":
        needed = ("train_file", "validation_file", "text_columns", "label_column")
        missing = [f"--{name}" for name in needed if not getattr(config, name)]
        if missing:
            raise InputError(f"--task files: {', '.join(missing)} missing")
        if len(config.text_columns) > 2:
            raise InputError(f"--text_columns: expected one or two names, found {len(config.text_columns)}")
        if config.data_dir is not None:
            raise InputError("--data_dir is for GLUE tasks; --task files reads --train_file and --validation_file")
        return
    own = ("train_file", "validation_file", "text_columns", "label_column", "label_names", "regression")
    surplus = [f"--{name}" for name in own if getattr(config, name)]
    if surplus:
        raise InputError(f"{', '.join(surplus)}: only for --task files, found --task {config.task}")


def _within(config: TrainConfig, name: str, low: float, high: float) -> None:
    value = getattr(config, name)
    if value is not None and not low <= value <= high:  # also refuses nan
        bound = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        raise InputError(f"--{name} {value}: expected {bound}")


def command(config: TrainConfig) -> str:
    """The command line of a run."""
    words = ["python", "run.py"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == field.default and field.name != "trainable_layers":
            continue
        if isinstance(value, bool):
            words += [f"--{field.name}", *([] if value else ["false"])]
        elif value not in (None, ()):
            words += [f"--{field.name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def as_json(config: TrainConfig) -> dict[str, Any]:
    """A config in JSON's types: lists in place of tuples."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_yaml(config: TrainConfig) -> str:
    """The resolved config as YAML, in the order of the fields."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    return yaml.safe_dump(values, sort_keys=False)


def from_yaml(path: Path) -> TrainConfig:
    """Read a run folder's config.yaml. Raises InputError for anything else."""
    settings = read_settings(path)
    if "task" not in settings:
        raise InputError(f"{path}: not the config.yaml of a run; it names no task")
    return TrainConfig(**settings)


def read_settings(path: Path) -> dict[str, Any]:
    """Some or all fields of a TrainConfig from a YAML file, each of the field's type. Raises InputError."""
    return check_settings(read_yaml(path), str(path))


def read_yaml(path: Path) -> dict[Any, Any]:
    """The mapping in a YAML file; no tag runs anything, no name stands twice. Raises InputError."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # a SafeLoader: no tag runs anything
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: expected a YAML file of settings ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected settings, one `name: value` a line, found {_cut(values)}")
    return values


def from_flag(text: str) -> Any:
    """The value that a flag's text has in YAML: a number, true, null or the text itself."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError:
        return text


def check_settings(values: Mapping[Any, Any], place: str) -> dict[str, Any]:
    """Values by field name, each turned into the field's type. Raises InputError, beginning with `place`."""
    parser = ArgumentParser(exit_on_error=False)
    add_settings(parser)
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    settings = {}
    for name, value in values.items():
        if name not in names:
            raise InputError(f"{place}: no setting '{name}'; expected {one_of(names, str(name))}")
        settings[name] = value
        if type(value) in _kinds(name):
            continue  # the parser would take the text "null" for None
        try:
            settings[name] = parser.parse_object({"task": "", name: value}, defaults=False)[name]
        except ArgumentError:
            settings[name] = None
        if settings[name] is None:
            raise InputError(f"{place}: {name} is {_cut(value)}; expected {expected(name)}")
    return settings


def add_settings(parser: ArgumentParser) -> None:
    """Give a parser a flag for every field, with the field's type, default and docstring."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser.add_class_arguments(TrainConfig, as_group=False)


def expected(name: str) -> str:
    """What a field takes, in words."""
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text (a number, or a word like yes, in quotes)",
        tuple[str, ...]: "a list of texts (numbers, and words like yes, in quotes)",
    }
    kinds = [kind for kind in _kinds(name) if kind is not type(None)]
    return " or ".join(" or ".join(get_args(kind)) if get_origin(kind) is Literal else words[kind] for kind in kinds)


def _kinds(name: str) -> tuple[Any, ...]:
    kind: Any = next(field.type for field in dataclasses.fields(TrainConfig) if field.name == name)
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _cut(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


class _StrictLoader(yaml.SafeLoader):
    """A name that stands twice is an error, not a matter of luck; no alias, for a few make a billion texts."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias '*{event.anchor}': none is read", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = []
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in names:
                raise yaml.constructor.ConstructorError(None, None, f"'{name}' stands there twice", key.start_mark)
            names.append(name)
        return super().construct_mapping(node, deep)
