"""The score to match on own data: the last k layers of BERT in plain PyTorch, for three kinds of label.

    pip install -e ".[benchmarks]"
    python benchmarks/pytorch_own_data.py --kind classification --train train.csv --test test.csv --model DIR \
        --trainable_layers 3 --seeds 1 2 3 --without RUN/predictions-validation.parquet

prints one JSON object a seed. Kinds and their files:

    classification   CSV with the columns text and category
    multi_label      TSV without a header or quotes: text, numbers of labels joined by commas; --labels: a name a line
    tokens           CoNLL: word, tab, tag; an empty line between sentences

--without leaves out the training rows whose texts are in that file: those that a run of jaxfreeze held out. The frozen
layers run once for each example, without dropout. Settings otherwise as in pytorch_reference.py: AdamW, weight decay
0.01, warm-up over a tenth of the steps, linear decay, clipping to norm 1, 128 tokens; the final model is scored.
"""

import argparse
import csv
import itertools
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
import torch
import transformers
from pytorch_reference import CLIP_NORM, MAX_LENGTH, WARMUP_RATIO, Split, freeze, keep_top, make_optimizer, run_trunk
from sklearn.metrics import accuracy_score, f1_score, label_ranking_average_precision_score

IGNORED = -100  # of the cross-entropy: no label


class Rows(NamedTuple):
    """Examples as a file has them."""

    texts: list[Any]  # a text, or a list of words
    labels: list[Any]  # a name, a list of numbers, or a list of tags


def read_classification(file: Path) -> Rows:
    """CSV."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    return Rows([row["text"] for row in rows], [row["category"] for row in rows])


def read_multi_label(file: Path) -> Rows:
    """TSV."""
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").split("\n") if line]
    return Rows([row[0] for row in rows], [[int(number) for number in row[1].split(",")] for row in rows])


def read_tokens(file: Path) -> Rows:
    """CoNLL."""
    sentences: list[list[list[str]]] = [[]]
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            sentences[-1].append(line.split("\t"))
        elif sentences[-1]:
            sentences.append([])
    kept = [sentence for sentence in sentences if sentence]
    return Rows([[w for w, *_ in sentence] for sentence in kept], [[t[-1] for t in sentence] for sentence in kept])


READERS = {"classification": read_classification, "multi_label": read_multi_label, "tokens": read_tokens}
CLASSES = {
    "classification": transformers.BertForSequenceClassification,
    "multi_label": transformers.BertForSequenceClassification,
    "tokens": transformers.BertForTokenClassification,
}


def without(rows: Rows, file: Path | None) -> Rows:
    """The rows whose texts are not in a parquet file of predictions."""
    if file is None:
        return rows
    table = pyarrow.parquet.read_table(file).to_pylist()
    column = "words" if "words" in table[0] else "text"
    held_out = {_key(row.get(column) or row["1"]) for row in table}
    kept = [number for number, text in enumerate(rows.texts) if _key(text) not in held_out]
    return Rows([rows.texts[i] for i in kept], [rows.labels[i] for i in kept])


def _key(text: Any) -> str:
    return " ".join(text.split() if isinstance(text, str) else text)


def tokenize(rows: Rows, kind: str, names: list[str], tokenizer: Any) -> Split:
    """Features without padding; labels: [E], [E, C], or a list of [length] with IGNORED where no word begins."""
    encoded = tokenizer(rows.texts, truncation=True, max_length=MAX_LENGTH, is_split_into_words=kind == "tokens")
    features = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
    number = {name: place for place, name in enumerate(names)}
    if kind == "classification":
        return Split(features, torch.tensor([number[label] for label in rows.labels]))
    if kind == "multi_label":
        labels = torch.zeros(len(features), len(names))
        for row, some in enumerate(rows.labels):
            labels[row, some] = 1.0
        return Split(features, labels)
    by_token: Any = []
    for row, tags in enumerate(rows.labels):
        words = encoded.word_ids(row)
        firsts = [w is not None and w != before for w, before in zip(words, [None, *words[:-1]], strict=True)]
        by_token.append(torch.tensor([number[tags[w]] if f else IGNORED for w, f in zip(words, firsts, strict=True)]))
    return Split(features, by_token)


def labels_of(split: Split, examples: list[int]) -> torch.Tensor:
    """The labels of these examples, padded where they are by token."""
    if isinstance(split.labels, torch.Tensor):
        return split.labels[examples]
    some = [split.labels[i] for i in examples]
    return torch.nn.utils.rnn.pad_sequence(some, batch_first=True, padding_value=IGNORED)


def train(model: Any, tokenizer: Any, split: Split, args: argparse.Namespace, seed: int) -> int:
    """Train `model` in place; return the number of steps."""
    steps = args.epochs * math.ceil(len(split.features) / args.batch_size)
    optimizer = make_optimizer(model, args.learning_rate)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, math.ceil(WARMUP_RATIO * steps), steps)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(args.epochs):
        for batch in torch.randperm(len(split.features), generator=shuffle).split(args.batch_size):
            examples = batch.tolist()
            labels = labels_of(split, examples).to(model.device)
            model(**split.inputs(tokenizer, examples, model.device), labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, CLIP_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return steps


@torch.no_grad()
def predict(model: Any, tokenizer: Any, split: Split) -> list[np.ndarray]:
    """Logits of each example: [C], or [length, C] by token."""
    model.eval()
    order = sorted(range(len(split.features)), key=lambda i: len(split.features[i]["input_ids"]))
    logits: list[Any] = [None] * len(order)
    for start in range(0, len(order), 64):
        examples = order[start : start + 64]
        found = model(**split.inputs(tokenizer, examples, model.device)).logits.cpu().numpy()
        for i, row in zip(examples, found, strict=True):
            logits[i] = row
    return logits


def score(kind: str, names: list[str], split: Split, logits: list[np.ndarray]) -> dict[str, float]:
    """The metrics of a kind."""
    if kind == "tokens":
        from seqeval.metrics import f1_score as entity_f1

        true, found = [], []
        for labels, row in zip(split.labels, logits, strict=True):
            places = np.flatnonzero(labels.numpy() != IGNORED)
            true.append([names[n] for n in labels.numpy()[places]])
            found.append([names[n] for n in row.argmax(-1)[places]])
        flat = [list(itertools.chain.from_iterable(tags)) for tags in (true, found)]
        return {"entity_f1": float(entity_f1(true, found)), "accuracy": float(accuracy_score(*flat))}
    label, all_logits = split.labels.numpy(), np.stack(logits)
    if kind == "classification":
        found = all_logits.argmax(-1)
        return {
            "accuracy": float(accuracy_score(label, found)),
            "macro_f1": float(f1_score(label, found, average="macro")),
        }
    found = all_logits > 0
    return {
        **{f"{how}_f1": float(f1_score(label, found, average=how, zero_division=0)) for how in ("micro", "macro")},
        "lrap": float(label_ranking_average_precision_score(label, all_logits)),
    }


def main(arguments: list[str]) -> None:
    """Train and score once for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True, choices=READERS)
    parser.add_argument("--train", required=True, type=Path)
    parser.add_argument("--test", required=True, type=Path, nargs="+", help="files to score")
    parser.add_argument("--labels", type=Path, help="for multi_label: the names of the labels, one a line")
    parser.add_argument("--without", type=Path, help="predictions of held-out rows, which are not trained on")
    parser.add_argument("--model", required=True, help="folder of a BERT in Hugging Face's format")
    parser.add_argument("--trainable_layers", required=True, type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda; no TF32")
    args = parser.parse_args(arguments)
    rows = without(READERS[args.kind](args.train), args.without)
    if args.kind == "multi_label":
        names = args.labels.read_text(encoding="utf-8").split()
    else:
        names = sorted(
            set(rows.labels if args.kind == "classification" else itertools.chain.from_iterable(rows.labels))
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    splits = [tokenize(part, args.kind, names, tokenizer) for part in (rows, *map(READERS[args.kind], args.test))]
    problem = {"multi_label": "multi_label_classification", "classification": "single_label_classification"}
    above_trunk: list[Split] = []
    for seed in args.seeds:
        began = time.perf_counter()
        torch.manual_seed(seed)
        model: Any = CLASSES[args.kind].from_pretrained(
            args.model, num_labels=len(names), dtype=torch.float32, problem_type=problem.get(args.kind)
        )
        model.to(args.device)
        freeze(model, args.trainable_layers)
        if not above_trunk:
            above_trunk = [run_trunk(model, tokenizer, split, args.trainable_layers, 64) for split in splits]
        keep_top(model, args.trainable_layers)
        model.train()
        steps = train(model, tokenizer, above_trunk[0], args, seed)
        metrics = {
            file.name: score(args.kind, names, split, predict(model, tokenizer, split))
            for file, split in zip(args.test, above_trunk[1:], strict=True)
        }
        record = {"kind": args.kind, "rows": len(rows.texts), "seed": seed, "steps": steps, "metrics": metrics}
        print(json.dumps({**record, "seconds": round(time.perf_counter() - began, 1)}), flush=True)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main(sys.argv[1:])
