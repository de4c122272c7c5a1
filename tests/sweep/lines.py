"""Lines of a results.jsonl that no training made."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxfreeze.config import TrainConfig

METRIC = {"cola": "matthews_correlation", "mrpc": "f1", "qqp": "f1", "stsb": "spearman"}


def line(
    score: float,
    layers: int | str,
    seed: int,
    task: str = "mrpc",
    model: str = "demo",
    num_layers: int = 6,
    **more: Any,
) -> dict[str, Any]:
    """One finished run; `more` replaces or adds entries, settings of the config among them."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    settings = {name: more.pop(name) for name in list(more) if name in names and name != "learning_rate"}
    rate = more.pop("learning_rate", 5e-5)
    own = {"data_dir": "glue"} if task not in ("demo", "files") else {}
    config = TrainConfig(
        **{
            **own,
            "task": task,
            "model": model,
            "trainable_layers": layers,
            "seed": seed,
            "learning_rate": rate,
            **settings,
        }
    )
    depth = num_layers + 1 if layers == "all" else int(layers)
    trained = 148_994 + 1_774_464 * min(depth, num_layers) + 11_918_592 * (layers == "all")
    total = 148_994 + 1_774_464 * num_layers + 11_918_592
    metric = METRIC.get(task, "accuracy")
    seconds = 10.0 + 12.0 * depth
    record = {
        "task": task,
        "model": model,
        "labels": ["0", "1"],
        "num_layers": num_layers,
        "trainable_layers": layers,
        "trainable": [],
        "seed": seed,
        "metrics": {metric: score},
        "primary_metric": metric,
        "steps": 690,
        "epochs": 3.0,
        "examples": 11004,
        "seconds": {"total": seconds + 20, "load": 3.0, "tokenize": 2.0, "compile": 9.0, "cache": 3.0, "train": seconds,
                    "eval": 3.0},
        "examples_per_second": 11004 / seconds,
        "parameters": {"total": total, "trainable": trained, "frozen": total - trained},
        "cache": "device",
        "cache_bytes": 1_000_000,
        "peak_memory_bytes": 2_000_000_000,
        "versions": {"jaxfreeze": "0.1.0", "jax": "0.10.2"},
        "devices": "1 CPU device",
        "learning_rate": rate,
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "flops_per_step": 1e9 * (1 + 4 * depth),
        "date": "2026-11-24T10:00:00+00:00",
    }  # fmt: skip
    return {**record, **more}


def lines(scores: Mapping[int | str, Iterable[float]], **more: Any) -> list[dict[str, Any]]:
    """Runs of one curve: scores by k, for the seeds 1, 2, 3 ..."""
    return [line(score, k, seed, **more) for k, own in scores.items() for seed, score in enumerate(own, 1)]


def write(folder: Path, records: Iterable[Mapping[str, Any]], tail: str = "") -> Path:
    """A sweep folder with these lines in it -> the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(record)}\n" for record in records) + tail
    (folder / "results.jsonl").write_text(text, encoding="utf-8")
    return folder
