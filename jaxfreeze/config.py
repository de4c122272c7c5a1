"""What each command is told: frozen dataclasses for flags, YAML files and the run folder's config.yaml."""

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml

from jaxfreeze.errors import InputError, one_of_names, shorten
from jaxfreeze.program import program
from jaxfreeze.settings import Takes, check_limits, convert, expected, settings_of
from jaxfreeze.strict_yaml import read_yaml

FOLDER_FLAGS = ("output_dir", "overwrite", "resume", "checkpoint_every", "keep_last", "wandb", "mlflow")
"""Flags about the folder and the record of one run; none changes its result, and a sweep takes none."""
BEST_FLAGS = ("keep_best", "patience")
"""Flags that make the best step a run's result; a sweep compares last steps and takes none."""
MAX_SEED = 2**32 - 1
FILES = ("train_file", "validation_file", "test_file")
HUB = ("dataset", "dataset_config", "validation_split", "test_split")
OWN_TASKS = ("files", "hub")
"""Values of --task that stand for rows of the user's own."""
OF_TASK = {"files": (*FILES, "no_header"), "hub": (*HUB, "train_split")}
"""Settings about where the rows are that only this task takes."""
OF_OWN_ROWS = (
    *("text_columns", "label_column", "label_names", "label_separator", "objective", "regression", "on_bad_row"),
    "test_share",
)
STANDARD_INPUT = "-"

Folder = Annotated[str, Takes("DIR", path=True)]
File = Annotated[str, Takes("FILE", path=True)]
Name = Annotated[str, Takes("NAME")]
Count = Annotated[int, Takes(low=1)]
Steps = Annotated[int, Takes("STEPS", low=1)]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Fine-tune the last k layers of BERT or another encoder, and prove that the rest did not change."""

    HEADINGS: ClassVar[Mapping[str, str]] = {
        "task": "rows",
        "label_column": "labels",
        "model": "model and what trains",
        "output_dir": "run folder",
        "epochs": "training, log and evaluation",
    }
    """The heading in --help of a field and of those up to the next one listed."""

    task: Annotated[str, Takes("TASK")]
    """cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli (GLUE), demo (generated), files (your own), or hub (see
    --dataset)."""
    data_dir: Folder | None = None
    """GLUE's folder in its classic layout (default: from the hub)."""
    train_file: File | None = None
    """Training rows, for --task files: .csv, .tsv, .jsonl, .parquet, .conll, .gz of these, a pattern, or `-`."""
    validation_file: File | None = None
    """Validation rows, for --task files (default: --validation_share)."""
    test_file: File | None = None
    """Labelled rows, for --task files, scored once at the end."""
    validation_share: Annotated[float, Takes("SHARE", 1e-6, 0.9)] | None = None
    """Share of the training rows held out for validation (default: 0.1 if there are no other validation rows)."""
    test_share: Annotated[float, Takes("SHARE", 1e-6, 0.9)] | None = None
    """Share of own training rows held out as test rows, before those for validation."""
    split_seed: Annotated[int, Takes(low=0, high=MAX_SEED)] = 0
    """Seed of the rows held out; --seed does not change them."""
    dataset: Name | None = None
    """Name of the data set, for --task hub, such as imdb."""
    dataset_config: Name | None = None
    """Configuration of the data set, if it has several."""
    train_split: Name = "train"
    """Its split with training rows."""
    validation_split: Name | None = None
    """Its split with validation rows (default: validation, if it exists)."""
    test_split: Name | None = None
    """Its labelled split that is scored once, at the end."""
    text_columns: Annotated[tuple[str, ...], Takes("NAME [NAME]")] = ()
    """One text column, or two for pairs (default: the only candidate)."""
    no_header: bool = False
    """Own tables have no header row; their columns are called 1, 2, ..."""
    on_bad_row: Literal["error", "skip"] = "error"
    """Whether own rows without a text or label are an error or are skipped."""
    label_column: Annotated[tuple[str, ...], Takes("NAME [NAME ...]")] = ()
    """The label column of own rows; several of 0 and 1 for multi_label."""
    label_names: tuple[Name, ...] = ()
    """Class names of own rows, by id (default: the file's, sorted)."""
    label_separator: Annotated[str, Takes("TEXT")] | None = None
    """Separator of the labels in a cell, for multi_label, as in `joy,love`."""
    objective: Literal["classification", "multi_label", "regression", "tokens"] | None = None
    """Kind of label of own rows (default: inferred from the cells)."""
    regression: bool = False
    """The same as --objective regression."""
    class_weights: Annotated[tuple[str, ...], Takes("balanced|NAME=W [NAME=W ...]")] = ()
    """Weights in the loss: balanced, or numbers for classes by name."""
    label_smoothing: Annotated[float, Takes("SHARE", 0, 0.999)] = 0.0
    """Share of each label that is spread over all classes."""
    metric: Name | None = None
    """The metric that decides: macro_f1, f1:NAME, mae ... (default: the task's)."""
    threshold: Annotated[
        Literal["tuned"] | float, Takes("X|tuned", 1e-6, 1 - 1e-6, "a number between 0 and 1, or tuned")
    ] = 0.5
    """Probability above which multi_label predicts a class, or tuned."""

    model: Annotated[str, Takes("MODEL", path=True)] = "bert-base-uncased"
    """An encoder such as BERT: hub name, local folder, or `demo` (the packaged 6-layer MiniLM)."""
    trainable_layers: Annotated[int | Literal["all"], Takes("K")] | None = None
    """How many of the last encoder layers to train with the head: 0 to the number of layers; all: the embeddings too
    (default: 3)."""
    trainable: tuple[Annotated[str, Takes("REGEX")], ...] = ()
    """Instead of --trainable_layers: train the parameters whose whole path matches one of these regular expressions."""
    frozen_dropout: bool = False
    """Keep dropout on in the frozen layers too, as the paper's runs did."""

    cache: Literal["auto", "device", "host", "disk", "off"] = "auto"
    """Where to keep the frozen layers' output, which is computed once; auto: the fastest place where it fits."""
    cache_budget: Annotated[float, Takes("GB", low=0, high=1e6)] = 50.0
    """Disk space for all trunk caches together, in GB; the least recently used are deleted first."""

    output_dir: Folder | None = None
    """Run folder (default: runs/TASK-MODEL-kK-seedS)."""
    overwrite: bool = False
    """Delete the run in the folder and start again."""
    resume: bool = True
    """Continue an unfinished run in the folder; false: refuse to."""
    checkpoint_every: Steps | None = None
    """Steps between two checkpoints (default: as many as take five minutes)."""
    keep_last: Count = 2
    """How many of the last checkpoints an unfinished run keeps; a finished run keeps its last step."""
    keep_best: bool = False
    """Make the step with the best validation score the result."""
    patience: Count | None = None
    """Stop after N evaluations without a better score; keeps the best."""

    epochs: Count = 3
    """Passes over the training rows."""
    max_steps: Count | None = None
    """Stop after this many optimizer steps instead; the learning rate decays to 0 by then."""
    batch_size: Count = 16
    """Examples in one optimizer step, over all devices."""
    accumulate: Count = 1
    """Split each batch into this many parts, computed one after the other, to save memory."""
    remat: bool = False
    """Recompute activations for the gradients, to save memory."""
    shard_optimizer: bool = False
    """Keep a part of the optimizer's state on each device, to save memory."""
    learning_rate: Annotated[float, Takes("RATE", low=1e-12, high=1e6)] = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Takes(low=0, high=1e6)] = 0.01
    """Weight decay; biases and LayerNorms are left out."""
    warmup_ratio: Annotated[float, Takes("SHARE", low=0, high=1)] = 0.1
    """Share of the steps in which the learning rate rises from 0; it falls linearly to 0 after that."""
    max_grad_norm: Annotated[float, Takes("NORM", low=1e-12, high=1e6)] = 1.0
    """Clip gradients to this global norm, taken over the trained parameters."""
    max_length: Annotated[int, Takes("TOKENS", low=4)] = 128
    """Longest example in tokens, special tokens included; the longer text of a pair is cut first."""
    seed: Annotated[int, Takes(low=0, high=MAX_SEED)] = 42
    """Seed of the fresh head, the shuffling and the dropout."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of frozen weights, products and, on GPUs and TPUs, activations; auto: bfloat16 on those, float32 on CPUs."""

    log_every: Steps = 20
    """Steps between two log lines."""
    eval_every: Steps | None = None
    """Steps between two evaluations on the validation rows (default: only at the end; with --keep_best or --patience
    once per epoch)."""
    wandb: bool = False
    """Log to Weights & Biases too; install jaxfreeze[wandb] for it."""
    mlflow: bool = False
    """Log to MLflow too; install jaxfreeze[mlflow] for it."""

    def __post_init__(self) -> None:
        for name in ("text_columns", "label_column", "trainable", "label_names", "class_weights"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value or ()))
        check_limits(self)
        _check(self)
        if self.trainable_layers is None and not self.trainable:
            object.__setattr__(self, "trainable_layers", 3)

    @property
    def run_folder(self) -> Path:
        """Where the run lies."""
        return Path(self.output_dir or f"runs/{self._run_name()}")

    @property
    def best_counts(self) -> bool:
        """Whether the best step is the result, not the last one."""
        return self.keep_best or self.patience is not None

    def _run_name(self) -> str:
        policy = "custom" if self.trainable else f"k{self.trainable_layers}"
        return f"{self.task}-{Path(self.model).name}-{policy}-seed{self.seed}"


def _check(config: TrainConfig) -> None:
    """Raise InputError for settings that do not go together."""
    if config.accumulate > config.batch_size:
        raise InputError(
            f"--accumulate {config.accumulate}: more parts than examples, --batch_size {config.batch_size}"
        )
    if config.trainable and config.trainable_layers is not None:
        raise InputError("--trainable and --trainable_layers: expected one policy, found two; leave one out")
    _check_rows(config)
    if config.task in OWN_TASKS:
        _check_labels(config)


def _check_rows(config: TrainConfig) -> None:
    """Raise InputError for settings that do not say where the rows are, or say it twice."""
    known = settings_of(TrainConfig)
    for task, names in (*OF_TASK.items(), ("files or hub", OF_OWN_ROWS)):
        surplus = [f"--{name}" for name in names if getattr(config, name) != known[name].default]
        if surplus and config.task not in task.split(" or "):
            raise InputError(f"{', '.join(surplus)}: only for --task {task}, found --task {config.task}")
    if config.task in OWN_TASKS:
        needed = "train_file" if config.task == "files" else "dataset"
        if not getattr(config, needed):
            raise InputError(f"--task {config.task}: --{needed} missing")
        if config.data_dir is not None:
            raise InputError(f"--data_dir is for GLUE tasks; --task {config.task} reads --{needed}")
        _check_columns(config)
    for what, given in ((what, f"{what}_{source}") for what in ("validation", "test") for source in ("file", "split")):
        if getattr(config, given) is not None and getattr(config, f"{what}_share") is not None:
            raise InputError(
                f"--{what}_share: takes {what} rows out of the training rows, but --{given} gives them; leave one of "
                "the two out"
            )
    if [getattr(config, name) for name in FILES].count(STANDARD_INPUT) > 1:
        raise InputError(f"--{', --'.join(FILES)}: two are -, but standard input can be read once; give a file for one")


def _check_columns(config: TrainConfig) -> None:
    """Raise InputError for columns that cannot be meant."""
    if len(config.text_columns) > 2:
        raise InputError(f"--text_columns: expected one or two names, found {len(config.text_columns)}")
    for flag in ("text_columns", "label_column") if config.no_header else ():
        named = [name for name in getattr(config, flag) if not re.fullmatch(r"[1-9][0-9]*", name)]
        if named:
            raise InputError(
                f"--{flag} {shorten(named[0])}: with --no_header columns are called by their numbers, from 1; give a "
                "number, or leave --no_header out"
            )


def _check_labels(config: TrainConfig) -> None:
    """Raise InputError for flags about the labels that do not go together."""
    if config.regression and config.objective not in (None, "regression"):
        raise InputError(f"--regression and --objective {config.objective}: expected one kind of label, found two")
    kind = "regression" if config.regression else config.objective
    several = len(config.label_column) > 1
    for flag, given in (("label_column with several names", several), ("label_separator", config.label_separator)):
        if given and kind not in (None, "multi_label"):
            raise InputError(f"--{flag}: only for labels of the kind multi_label, found {kind}; leave it out")
    for flag in ("label_separator", "label_names") if several else ():
        if getattr(config, flag):
            raise InputError(f"--{flag}: not with several label columns, whose names are the classes; leave it out")
    if twice := [name for name in config.label_column if config.label_column.count(name) > 1]:
        raise InputError(f"--label_column: '{shorten(twice[0])}' appears twice; expected each column once")
    if kind == "tokens" and re.search(r"\.[ct]sv(\.gz)?$", config.train_file or ""):
        raise InputError(
            f"--objective tokens: {config.train_file} has plain texts; expected .conll, .jsonl, .json or .parquet with "
            "a list of words and a list of tags in each row"
        )
    if kind == "regression" and config.label_names:
        raise InputError("--label_names: not with --regression, whose labels are numbers")
    _check_label_names(config.label_names)


def _check_label_names(names: tuple[str, ...]) -> None:
    """Raise InputError for class names that cannot be meant."""
    if len(names) == 1:
        raise InputError(f"--label_names {names[0]}: expected two classes or more, found one; name the others too")
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(f"--label_names: '{shorten(name)}' appears twice; expected each class once")


def command(config: TrainConfig) -> str:
    """The command line of a run."""
    words = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == field.default and field.name != "trainable_layers":
            continue
        if isinstance(value, bool):
            words += [f"--{field.name}", *([] if value else ["false"])]
        elif value not in (None, ()):
            words += [f"--{field.name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return f"{program()} {shlex.join(words)}"


def as_json(config: TrainConfig) -> dict[str, Any]:
    """A config in plain JSON types, as results.jsonl holds it: tuples are lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_yaml(config: TrainConfig) -> str:
    """The resolved config as YAML, in the order of the fields."""
    return yaml.safe_dump(as_json(config), sort_keys=False)


def from_yaml(path: Path) -> TrainConfig:
    """Read a run folder's config.yaml. Raises InputError for anything else."""
    settings = read_settings(path)
    if "task" not in settings:
        raise InputError(f"{path}: not the config.yaml of a run; it names no task")
    return TrainConfig(**settings)


def read_settings(path: Path) -> dict[str, Any]:
    """Some or all fields of a TrainConfig from a YAML file, each of the field's type. Raises InputError."""
    return check_settings(read_yaml(path), str(path))


def check_settings(values: Mapping[Any, Any], place: str) -> dict[str, Any]:
    """Values by field name, each turned into the field's type. Raises InputError, beginning with `place`."""
    known = settings_of(TrainConfig)
    settings = {}
    for name, value in values.items():
        if name not in known:
            raise InputError(f"{place}: no setting '{name}'; expected {one_of_names(known, str(name))}")
        kind = known[name].kind
        try:
            settings[name] = convert(kind, value)
        except ValueError:
            found = "nothing" if value is None else shorten(repr(value))
            raise InputError(f"{place}: {name} is {found}; expected {expected(kind, value)}") from None
    return settings
