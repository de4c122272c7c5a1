"""Sentences whose words have labels, small enough to train on in a second, and the runs on them."""

import json
from pathlib import Path

import numpy as np

from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig

WORDS = ("tools", "clothes", "the", "bowl", "crate", "from", "holds", "made", "crates", "bowls")
TAGS = ("B-LOC", "B-PER", "I-LOC", "O")
"""In id order."""
MAX_LENGTH = 32
Sentence = tuple[tuple[str, ...], tuple[str, ...]]


def sentences(count: int, seed: int = 0, longest: int = 8) -> list[Sentence]:
    """Words and tags that can be learned; some words are several tokens."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = [str(word) for word in random.choice(WORDS, random.integers(1, longest + 1))]
        tags = ["B-PER" if word == "crates" else "O" for word in words]
        if random.random() < 0.7:
            place = int(random.integers(0, len(words) + 1))
            words[place:place], tags[place:place] = ["town", "owner"], ["B-LOC", "I-LOC"]
        made.append((tuple(words), tuple(tags)))
    return made


def write_conll(file: Path, some: list[Sentence]) -> Path:
    """One word a line."""
    blocks = ["".join(f"{word} X {tag}\n" for word, tag in zip(*one, strict=True)) for one in some]
    file.write_text("\n".join(blocks), encoding="utf-8")
    return file


def write_jsonl(file: Path, some: list[Sentence], names: tuple[str, str] = ("words", "labels")) -> Path:
    """One sentence a line."""
    file.write_text("".join(json.dumps(dict(zip(names, one, strict=True))) + "\n" for one in some))
    return file


def write_rows(folder: Path, train: int = 40, validation: int = 11) -> Path:
    """train.conll and dev.conll in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_conll(folder / "train.conll", sentences(train))
    write_conll(folder / "dev.conll", sentences(validation, seed=1))
    return folder


def settings(model: Path, data: Path, out: Path, **more: object) -> dict[str, object]:
    """What a run on the files of `write_rows` is told: a few steps, dropout on."""
    files = {"train_file": str(data / "train.conll"), "validation_file": str(data / "dev.conll")}
    columns = {"text_columns": ("words",), "label_column": ("labels",), "objective": "tokens"}
    sizes = {"max_steps": 6, "batch_size": 8, "max_length": MAX_LENGTH, "learning_rate": 1e-3, "log_every": 2}
    where = {"task": "files", "model": str(model), "output_dir": str(out), "trainable_layers": 1}
    return {**where, **files, **columns, **sizes} | more


def config(model: Path, data: Path, out: Path, **more: object) -> TrainConfig:
    """The same, checked."""
    return TrainConfig(**settings(model, data, out, **more))  # type: ignore[arg-type]


def train(model: Path, data: Path, out: Path, **more: object) -> Path:
    """A run by the command line -> its folder."""
    words = []
    for name, value in settings(model, data, out, **more).items():
        words += [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    assert main(words) == 0
    return out
