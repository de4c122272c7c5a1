"""The time to beat: the last k layers of BERT fine-tuned on GLUE by Hugging Face's Trainer, on a CPU, at its best.

    pip install -e ".[benchmarks]"
    python benchmarks/pytorch_trainer.py --task rte --data_dir GLUE --model DIR --trainable_layers 2 --dtype float32

prints one JSON line. The last k encoder layers, the pooler and the classifier are trained (all: everything); the rest
has requires_grad off and runs in train mode, as Trainer runs it. Batches are padded to their longest example and
grouped by length, the optimizer is fused, nothing is saved or reported, and the final model is scored once. --dtype
bfloat16 is autocast: the weights stay float32. versus_pytorch.py runs this file as one side of its comparison.

Eager attention is the default, for it trains a little faster: with dropout on, PyTorch has no fused kernel on a CPU. On
a machine that does other work too, set OMP_WAIT_POLICY=PASSIVE, or threads that wait for each other burn whole time
slices (RTE steps with 2 threads on 2 busy cores: 2.4 s, passive 0.5 s).
"""

import argparse
import json
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import torch
import transformers
from pytorch_reference import TASKS, WARMUP_RATIO, WEIGHT_DECAY, Split, Task, freeze, load_split, score

EVAL_BATCH_SIZE = 64


def to_rows(split: Split) -> list[dict[str, Any]]:
    """One dict an example, as Trainer wants it: tokens and label."""
    return [features | {"labels": label.item()} for features, label in zip(split.features, split.labels, strict=True)]


def training_arguments(args: argparse.Namespace, output_dir: str) -> transformers.TrainingArguments:
    """The settings of the run; what is not named has Trainer's default, as fused AdamW and clipping to 1.0."""
    return transformers.TrainingArguments(
        output_dir=output_dir,
        num_train_epochs=args.epochs,
        max_steps=args.max_steps or -1,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=EVAL_BATCH_SIZE,
        learning_rate=args.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=WARMUP_RATIO,
        weight_decay=WEIGHT_DECAY,
        seed=args.seed,
        use_cpu=True,
        bf16=args.dtype == "bfloat16",
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def make_trainer(args: argparse.Namespace, task: Task, output_dir: str, tokenizer: Any, train: Split) -> Any:
    """The model, frozen below its last k layers, in a Trainer."""
    settings = training_arguments(args, output_dir)
    transformers.set_seed(args.seed)  # before the classifier is drawn
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        args.model, num_labels=len(task.classes) or 1, dtype=torch.float32, attn_implementation=args.attention
    )
    freeze(model, args.trainable_layers)
    trainer = transformers.Trainer(
        model=model,
        args=settings,
        train_dataset=to_rows(train),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=lambda result: score(task, np.asarray(result.label_ids), np.asarray(result.predictions)),
    )
    trainer.remove_callback(transformers.PrinterCallback)  # stdout is for the one JSON line
    return trainer


def evaluate(trainer: Any, task: Task, dev: Split) -> dict[str, float]:
    """Every metric of the task on the dev set, which is read from the longest example to the shortest.

    Trainer's own grouping by length mixes a small set, so that every batch is as wide as a long example.
    """
    trainer.args.train_sampling_strategy = "sequential"
    rows = sorted(to_rows(dev), key=lambda row: len(row["input_ids"]), reverse=True)
    result = trainer.evaluate(rows)
    return {name: result[f"eval_{name}"] for name in task.metrics}


def run(args: argparse.Namespace, output_dir: str) -> dict[str, Any]:
    """Train and score one model; return the object that is printed."""
    torch.set_num_threads(args.threads)
    task = TASKS[args.task]
    clock = [time.perf_counter()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    train, dev = [
        load_split(task, args.data_dir / task.folder / name, tokenizer) for name in ("train.tsv", task.dev_file)
    ]
    clock.append(time.perf_counter())
    trainer = make_trainer(args, task, output_dir, tokenizer, train)
    clock.append(time.perf_counter())
    trainer.train()
    clock.append(time.perf_counter())
    metrics = evaluate(trainer, task, dev)
    clock.append(time.perf_counter())
    steps = trainer.state.global_step
    per_epoch = len(trainer.get_train_dataloader())
    epochs, rest = divmod(steps, per_epoch)  # only the last batch of an epoch may be smaller
    parts = {name: round(clock[i + 1] - clock[i], 3) for i, name in enumerate(("tokenize", "load", "train", "eval"))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **{name: getattr(args, name) for name in ("task", "trainable_layers", "dtype", "attention", "threads", "seed")},
        "metrics": metrics,
        "primary_metric": task.metrics[0],
        "steps": steps,
        "examples": epochs * len(train.features) + rest * args.batch_size,
        "seconds": {**parts, "total": round(clock[-1] - clock[0], 3)},
        "peak_memory_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, accelerate)}
        | {"python": platform.python_version()},
    }


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the classic GLUE layout")
    parser.add_argument("--model", required=True, help="folder of a BERT model in Hugging Face's format")
    parser.add_argument("--trainable_layers", required=True, type=lambda text: text if text == "all" else int(text))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--attention", choices=("eager", "sdpa"), default="eager")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max_steps", type=int, help="end after so many steps, the schedule shortened to match")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(parse_arguments(sys.argv[1:]), folder)))
