"""Finished runs of several tasks on one tiny model, and GLUE folders small enough to train on in a second."""

from pathlib import Path

import numpy as np

from jaxfreeze import finetune
from jaxfreeze.data.tasks import TASKS, Task
from jaxfreeze.objectives import Classification

WORDS = ("tools", "clothes", "money", "the", "bowl", "crate", "picture", "from", "holds", "owner", "town", "made")


def write_glue(folder: Path, name: str, rows: int = 24, test_rows: int | None = None) -> None:
    """Every file of a GLUE task in the classic layout, of random words; the label is in the first one."""
    task, random = TASKS[name], np.random.default_rng(0)
    written = set()
    for split, file in task.tsv_files:
        count = rows if split == "train" or split.startswith("validation") else test_rows or rows
        path = folder / file
        if split in written:
            continue
        written.add(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        labelled = split == "train" or split.startswith("validation")
        lines = [_row(task, number, random, labelled) for number in range(count)]
        headless = name == "cola" and labelled
        header = [] if headless else ["\t".join(["index", *task.tsv_columns, *([task.tsv_label] if labelled else [])])]
        path.write_text("".join(f"{line}\n" for line in [*header, *lines]), encoding="utf-8")


def _row(task: Task, number: int, random: np.random.Generator, labelled: bool) -> str:
    classes = task.objective.spellings if isinstance(task.objective, Classification) else ("0.0", "2.5")
    kind = number % len(classes)
    texts = [" ".join([WORDS[kind], *random.choice(WORDS, random.integers(2, 9))]) for _ in task.tsv_columns]
    if task.name == "cola" and labelled:
        return "\t".join(["source", classes[kind], "", *texts])
    return "\t".join([str(number), *texts, *([classes[kind]] if labelled else [])])


def train(folder: Path, model: Path, task: str, name: str | None = None, **settings: object) -> Path:
    """A run of 4 steps on folder/glue -> its folder, folder/name."""
    if not (folder / "glue" / TASKS[task].tsv_files[0][1]).is_file():
        write_glue(folder / "glue", task)
    some = {"trainable_layers": 1} if "trainable" not in settings else {}
    settings = some | {"max_steps": 4, "batch_size": 8, "max_length": 32, "learning_rate": 1e-3} | settings
    return finetune(task, model=model, data_dir=folder / "glue", output_dir=folder / (name or task), **settings).path
