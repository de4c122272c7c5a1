"""Tiny runs of every kind of source, exported whole and as a top, and ways to look at what was written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import transformers
from safetensors.numpy import load_file, save_file

from jaxfreeze.cli import main
from jaxfreeze.config import from_yaml
from jaxfreeze.data.split import Split
from jaxfreeze.inference import export
from jaxfreeze.inference.finished_run import FinishedRun
from tests.folders import make_folder
from tests.reference import pytorch

MAX_LENGTH = 24
MOODS = ("down", "flat", "up")
BELOW = r"{base}\.embeddings\..*|{base}\.encoder\.layer\.0\..*"  # what k = 1 of 2 layers freezes
Names = Callable[[str], str]


def same(name: str) -> str:
    return name


def old(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def bare(name: str) -> str:
    return re.sub(r"^(bert|roberta)\.", "", name)


class Case(NamedTuple):
    """A run: its source as it lies on disk, its flags, and what is frozen in it, by Hugging Face name."""

    family: str
    dtype: type
    named: Names
    sharded: bool
    flags: str
    frozen: str = BELOW
    count: int = 21


CLASSES, SCORES = "--label_column mood", "--label_column stars --regression"
CASES = {
    "bert": Case("bert", np.float32, same, False, f"{CLASSES} --text_columns a b --trainable_layers 1"),
    "roberta, bfloat16, sharded": Case(
        "roberta", ml_dtypes.bfloat16, bare, True, f"{CLASSES} --text_columns a b --trainable_layers 1"
    ),
    "bert, float16, old names, a number": Case(
        "bert", np.float16, old, False, f"{SCORES} --text_columns a --trainable_layers 1"
    ),
    "roberta, old names, sharded, a number": Case(
        "roberta", np.float32, old, True, f"{SCORES} --text_columns a b --trainable_layers 1"
    ),
    "bert, frozen at random": Case(
        "bert",
        np.float16,
        bare,
        False,
        f"{CLASSES} --text_columns a --trainable .*\\.bias",
        r"bert\.(embeddings|encoder)\..*\.weight",
        20,
    ),
    "roberta, nothing frozen": Case(
        "roberta", np.float16, same, False, f"{CLASSES} --text_columns a b --trainable_layers all", "nothing", 0
    ),
}


class Exported(NamedTuple):
    """A finished run, its source, and what was exported of it."""

    case: Case
    source: Path
    run: Path
    whole: Path
    top: Path
    rows: list[dict[str, Any]]  # the validation rows


def write_source(folder: Path, case: Case) -> Path:
    """A model folder whose weights have the case's type, names and number of files."""
    make_folder(folder, case.family, num_labels=5)
    tensors = {case.named(name): leaf.astype(case.dtype) for name, leaf in load_file(folder / export.WHOLE).items()}
    if case.named is bare:  # the encoder alone
        tensors = {name: leaf for name, leaf in tensors.items() if not name.startswith(("classifier.", "pooler."))}
    (folder / export.WHOLE).unlink()
    parts = [dict(list(tensors.items())[i::2]) for i in range(2)] if case.sharded else [tensors]
    files = [f"model-{i}.safetensors" for i in range(len(parts))] if case.sharded else [export.WHOLE]
    for part, file in zip(parts, files, strict=True):
        save_file(part, folder / file, {"format": "pt"})
    if case.sharded:
        index = {name: file for part, file in zip(parts, files, strict=True) for name in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def write_rows(file: Path, count: int) -> list[dict[str, Any]]:
    """Rows that can be learned; one text is longer than a run takes."""
    random = np.random.default_rng(count)
    words = ["the", "bowl", "crate", "picture", "from", "holds", "owner", "town", "made"]
    rows = []
    for i in range(count):
        a = " ".join([("tools", "clothes", "money")[i % 3], *random.choice(words, 60 if i == 5 else 1 + i % 7)])
        b = " ".join(random.choice(words, 3))
        rows.append({"a": a, "b": b, "mood": MOODS[i % 3], "stars": float(i % 3) + float(random.random())})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def train(folder: Path, source: Path, flags: str) -> Path:
    files = f"--task files --train_file {folder}/train.jsonl --validation_file {folder}/dev.jsonl"
    sizes = f"--max_steps 6 --max_length {MAX_LENGTH} --batch_size 8 --learning_rate 1e-3"
    run = folder / "run"
    arguments = [*f"{files} {sizes} --model {source} --output_dir {run}".split(), *flags.split()]
    assert main(arguments) == 0
    return run


def make(case: Case, folder: Path) -> Exported:
    source = write_source(folder / "source", case)
    write_rows(folder / "train.jsonl", 32)
    rows = write_rows(folder / "dev.jsonl", 13)
    run = train(folder, source, case.flags)
    for name, flags in (("whole", []), ("top", ["--top_only"])):
        assert main(["export", "--run", str(run), "--output", str(folder / name), *flags]) == 0
    return Exported(case, source, run, folder / "whole", folder / "top", rows)


def raw(folder: Path, pattern: str = "model*.safetensors") -> dict[str, tuple[str, list[int], bytes]]:
    """(type, shape, bytes) of every tensor, read from the files by their layout."""
    found = {}
    for file in folder.glob(pattern):
        content = file.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:begin])
        header.pop("__metadata__", None)
        for name, about in header.items():
            start, stop = about["data_offsets"]
            found[name] = (about["dtype"], about["shape"], content[begin + start : begin + stop])
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts_of(exported: Exported) -> tuple[list[str], ...]:
    """The validation texts, by column."""
    return tuple(
        [row[column] for row in exported.rows] for column in from_yaml(exported.run / "config.yaml").text_columns
    )


def run_logits(exported: Exported) -> np.ndarray:
    texts = tuple(map(tuple, texts_of(exported)))
    return FinishedRun(exported.run).logits(Split("validation", texts, None))[1]


def their_model(folder: Path) -> Any:
    pytorch()
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()


def their_logits(exported: Exported) -> np.ndarray:
    """transformers' tokenizer and model from the exported folder alone; the length comes from there too."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported.whole)
    batch = tokenizer(*texts_of(exported), truncation=True, padding=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == MAX_LENGTH
    with pytorch().no_grad():
        return their_model(exported.whole)(**batch).logits.numpy()
