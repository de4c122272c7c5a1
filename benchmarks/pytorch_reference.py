"""The score to match: the last k layers of BERT fine-tuned on GLUE in plain PyTorch (Hugging Face's model, no Trainer).

    python benchmarks/pytorch_reference.py --task rte --data_dir GLUE --model DIR --trainable_layers 2 --seeds 1 2

prints one JSON object a seed. The last k encoder layers, the pooler and the classifier are trained; the embeddings and
the layers below are frozen and run without dropout, or with --frozen_dropout in train mode, as Hugging Face runs them.
--trunk_once computes the frozen layers once for each example (they have no dropout): the same function, in less time.
Linear warm-up from 0 over a tenth of the steps (rounded up), then linear decay to 0; the final model is scored on dev.
"""

import argparse
import csv
import itertools
import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

MAX_LENGTH = 128  # tokens
WARMUP_RATIO = 0.1
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0


class Split(NamedTuple):
    """Examples and their labels."""

    features: list[dict[str, list[int]]]  # per example, unpadded
    labels: torch.Tensor  # [E] class numbers (int64) or, for regression, scores (float32)
    hidden: list[torch.Tensor] | None = None  # per example [length, D]: the state above the frozen layers

    def inputs(self, tokenizer: Any, examples: list[int], device: torch.device) -> dict[str, torch.Tensor]:
        """The model's arguments for these examples, padded to the longest of them, on its device."""
        padded = tokenizer.pad([self.features[i] for i in examples], return_tensors="pt").to(device)
        if self.hidden is None:
            return dict(padded)
        hidden = torch.nn.utils.rnn.pad_sequence([self.hidden[i] for i in examples], batch_first=True)
        return {"inputs_embeds": hidden, "attention_mask": padded["attention_mask"]}


class Step(NamedTuple):
    """What is known of an optimizer step."""

    examples: int
    loss: float  # mean over the batch
    grad_norm: float  # over the trained parameters, before clipping
    learning_rate: float


class Cut(torch.nn.Module):
    """Stands where the embeddings stood, when the state above the frozen layers is given instead of words."""

    def forward(self, inputs_embeds: torch.Tensor, **_: Any) -> torch.Tensor:
        """[B, W, D], as it comes."""
        return inputs_embeds


class Task(NamedTuple):
    """Where a GLUE task lies and what it asks for; no `classes`: regression; the first metric is primary."""

    folder: str
    texts: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    dev_file: str = "dev.tsv"
    header: tuple[str, ...] | None = None  # None: the file has one


PAIR = ("sentence1", "sentence2")
BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
NLI = ("entailment", "neutral", "contradiction")
TASKS = {
    "cola": Task("CoLA", ("sentence",), "label", BINARY, ("matthews",), header=("source", "label", "star", "sentence")),
    "sst2": Task("SST-2", ("sentence",), "label", BINARY, ("accuracy",)),
    "mrpc": Task("MRPC", ("#1 String", "#2 String"), "Quality", BINARY, ("f1", "accuracy")),
    "stsb": Task("STS-B", PAIR, "score", (), ("spearman", "pearson")),
    "qqp": Task("QQP", ("question1", "question2"), "is_duplicate", BINARY, ("f1", "accuracy")),
    "mnli": Task("MNLI", PAIR, "gold_label", NLI, ("accuracy",), dev_file="dev_matched.tsv"),
    "qnli": Task("QNLI", ("question", "sentence"), "label", ENTAILMENT, ("accuracy",)),
    "rte": Task("RTE", PAIR, "label", ENTAILMENT, ("accuracy",)),
    "wnli": Task("WNLI", PAIR, "label", BINARY, ("accuracy",)),
}
METRICS = {
    "accuracy": accuracy_score,
    "f1": f1_score,
    "matthews": matthews_corrcoef,
    "spearman": lambda label, prediction: spearmanr(label, prediction).statistic,
    "pearson": lambda label, prediction: pearsonr(label, prediction).statistic,
}


def load_split(task: Task, path: Path, tokenizer: Any) -> Split:
    """Read and tokenize a file."""
    texts, labels = [], []
    with path.open(encoding="utf-8-sig", newline="") as file:  # -sig: MRPC starts with a byte-order mark
        rows = csv.DictReader(file, task.header, delimiter="\t", quoting=csv.QUOTE_NONE)
        for row in rows:
            try:
                label = row[task.label]
                labels.append(task.classes.index(label) if task.classes else float(label))
                texts.append([row[column].strip() for column in task.texts])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                expected = f"columns {task.texts} and {task.label!r}, the latter in {task.classes or 'numbers'}"
                raise ValueError(f"{path}, line {rows.line_num}: expected {expected}, found {row}") from error
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*columns, truncation=True, max_length=MAX_LENGTH)
    features = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
    return Split(features, torch.tensor(labels, dtype=torch.int64 if task.classes else torch.float32))


def freeze(model: Any, trainable_layers: int | str) -> list[torch.nn.Module]:
    """Freeze the embeddings and all but the last `trainable_layers` layers ("all": nothing); return what is frozen."""
    if trainable_layers == "all":
        return []
    encoder = model.base_model  # bert, mpnet ...
    layers = encoder.encoder.layer
    if trainable_layers not in range(len(layers) + 1):
        raise ValueError(f"--trainable_layers: expected 0..{len(layers)} or all, found {trainable_layers}")
    frozen = [encoder.embeddings, *layers[: len(layers) - int(trainable_layers)]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


@torch.no_grad()
def run_trunk(model: Any, tokenizer: Any, split: Split, trainable_layers: int, batch_size: int) -> Split:
    """The split with the state above the frozen layers, without dropout."""
    model.eval()
    hidden: list[Any] = [None] * len(split.features)
    order = sorted(range(len(hidden)), key=lambda i: len(split.features[i]["input_ids"]))
    for start in range(0, len(order), batch_size):
        examples = order[start : start + batch_size]
        states = model.base_model(
            **split.inputs(tokenizer, examples, model.device), output_hidden_states=True
        ).hidden_states
        for i, state in zip(examples, states[len(model.base_model.encoder.layer) - trainable_layers], strict=True):
            hidden[i] = state[: len(split.features[i]["input_ids"])].clone()
    return split._replace(hidden=hidden)


def keep_top(model: Any, trainable_layers: int) -> None:
    """Take the frozen layers out of the model, which is then fed with their result."""
    encoder = model.base_model
    encoder.embeddings = Cut()
    encoder.encoder.layer = encoder.encoder.layer[len(encoder.encoder.layer) - trainable_layers :]


def make_optimizer(model: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """AdamW over the trained parameters, with weight decay on all but biases and LayerNorm."""
    groups: dict[float, list[torch.nn.Parameter]] = {WEIGHT_DECAY: [], 0.0: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[0.0 if name.endswith("bias") or "LayerNorm" in name else WEIGHT_DECAY].append(parameter)
    parameters = [{"params": group, "weight_decay": decay} for decay, group in groups.items()]
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)


def shuffled(split: Split, batch_size: int, seed: int) -> Iterator[list[int]]:
    """The examples of every batch, epoch after epoch without end; an epoch's last batch may be smaller."""
    shuffle = torch.Generator().manual_seed(seed)
    while True:
        for batch in torch.randperm(len(split.features), generator=shuffle).split(batch_size):
            yield batch.tolist()


def loss_of(model: Any, tokenizer: Any, split: Split, examples: list[int]) -> torch.Tensor:
    """The mean loss of these examples."""
    labels = split.labels[examples].to(model.device)
    return model(**split.inputs(tokenizer, examples, model.device), labels=labels).loss


def train(
    model: Any, tokenizer: Any, split: Split, args: argparse.Namespace, batches: Iterator[list[int]]
) -> Iterator[Step]:
    """Train `model` in place, each module in the mode it is in, one step for each Step that is asked for."""
    steps = min(args.epochs * math.ceil(len(split.features) / args.batch_size), args.max_steps or sys.maxsize)
    optimizer = make_optimizer(model, args.learning_rate)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, math.ceil(WARMUP_RATIO * steps), steps)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for batch in itertools.islice(batches, steps):
        loss = loss_of(model, tokenizer, split, batch)
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        learning_rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield Step(len(batch), loss.item(), float(grad_norm), learning_rate)


def score(task: Task, labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Labels [E] and logits [E, C] -> every metric of the task, as a fraction, not in percent."""
    prediction = logits.argmax(-1) if task.classes else logits[:, 0]
    return {name: float(METRICS[name](labels, prediction)) for name in task.metrics}


@torch.no_grad()
def predict(model: Any, tokenizer: Any, split: Split, batch_size: int) -> np.ndarray:
    """Logits of every example, float32 [E, C]; leaves the model without dropout."""
    model.eval()
    chunks = [chunk.tolist() for chunk in torch.arange(len(split.features)).split(batch_size)]
    return torch.cat([model(**split.inputs(tokenizer, chunk, model.device)).logits for chunk in chunks]).cpu().numpy()


class Training(NamedTuple):
    """A model before its first step, in the modes in which it trains, and its rows."""

    task: Task
    tokenizer: Any
    model: Any
    train_set: Split
    dev_set: Split


def prepare(
    args: argparse.Namespace,
    seed: int,
    above_trunk: list[Split],
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
) -> Training:
    """Load model and rows. `above_trunk` keeps what the seeds share: the splits with their state, with --trunk_once."""
    torch.set_num_threads(args.threads)
    task = TASKS[args.task]
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    torch.manual_seed(seed)  # for the classifier's first weights, then for dropout
    model_class: Any = transformers.AutoModelForSequenceClassification  # Any: its annotations miss the second result
    model, info = model_class.from_pretrained(
        args.model,
        num_labels=len(task.classes) or 1,
        dtype=dtype,
        attn_implementation=attention,
        output_loading_info=True,
    )
    if missing := [name for name in info["missing_keys"] if not name.startswith("classifier.")]:
        raise ValueError(f"{args.model}: expected an encoder (of BERT, with its pooler), found no {sorted(missing)}")
    model.to(args.device)
    frozen = freeze(model, args.trainable_layers)
    splits = above_trunk
    if not splits:
        paths = [args.data_dir / task.folder / name for name in ("train.tsv", task.dev_file)]
        splits = [load_split(task, path, tokenizer) for path in paths]
        if not task.classes:
            splits = [split._replace(labels=split.labels.to(dtype)) for split in splits]
        if args.trunk_once:
            above_trunk += [run_trunk(model, tokenizer, s, args.trainable_layers, args.batch_size) for s in splits]
            splits = above_trunk
    if args.trunk_once:
        keep_top(model, args.trainable_layers)
    model.train()
    for module in [] if args.frozen_dropout else frozen:
        module.eval()
    return Training(task, tokenizer, model, *splits)


def run(args: argparse.Namespace, seed: int, above_trunk: list[Split]) -> dict[str, Any]:
    """Train and score one model; return the object that is printed. `above_trunk` keeps what the seeds share."""
    started = time.perf_counter()
    task, tokenizer, model, train_set, dev_set = prepare(args, seed, above_trunk)
    train_started = time.perf_counter()
    steps = list(train(model, tokenizer, train_set, args, shuffled(train_set, args.batch_size, seed)))
    eval_started = time.perf_counter()
    metrics = score(task, dev_set.labels.numpy(), predict(model, tokenizer, dev_set, args.batch_size))
    ended = time.perf_counter()
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    return {
        **{name: getattr(args, name) for name in ("task", "trainable_layers", "frozen_dropout", "trunk_once")},
        "seed": seed,
        "metrics": metrics,
        "primary_metric": task.metrics[0],
        "steps": len(steps),
        "seconds": {"train": eval_started - train_started, "eval": ended - eval_started, "total": ended - started},
        "examples_per_second": sum(step.examples for step in steps) / (eval_started - train_started),
        "versions": {**versions, "python": platform.python_version()},
    }


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the classic GLUE layout")
    parser.add_argument(
        "--model",
        required=True,
        help="folder of a BERT or its like (base_model.encoder.layer) in Hugging Face's format",
    )
    parser.add_argument("--trainable_layers", required=True, type=lambda text: text if text == "all" else int(text))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max_steps", type=int, help="end after so many steps, the schedule shortened to match")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--frozen_dropout", action="store_true", help="dropout in the frozen layers as well")
    parser.add_argument(
        "--trunk_once", action="store_true", help="compute the frozen layers once; they have no dropout"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda; no TF32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(arguments)
    if args.trunk_once and (args.frozen_dropout or args.trainable_layers == "all"):
        parser.error("--trunk_once: only with --trainable_layers k and without --frozen_dropout")
    return args


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    options = parse_arguments(sys.argv[1:])
    shared: list[Split] = []
    for number in options.seeds:
        print(json.dumps(run(options, number, shared)), flush=True)
