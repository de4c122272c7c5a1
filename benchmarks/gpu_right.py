"""Is training right on this device? Frozen bits, trunk cache, packing, logits against transformers, and a resume.

    python benchmarks/gpu_right.py --data_dir GLUE --model DIR           # one GPU or TPU, or a CPU
    python benchmarks/gpu_right.py --data_dir GLUE --model DIR --max_steps 40 --rows 64      # a trial on a CPU

DIR is a local BERT in Hugging Face's format. A copy of it is made whose frozen weights hold -0.0 and a denormal. All
runs train on RTE, dropout on. Prints a JSON line for each check as it is done, and all of them at the end:

    frozen       per run: whether every frozen leaf kept its bits (the run's own digests of the device's buffers)
    cached       a run from the trunk cache against the same run without it
    packed       a run of packed rows against the same run with one example in a row
    repeated     the same run a second time: whether it has the same bits
    resumed      a run stopped by SIGTERM that goes on, against the same run undisturbed: whether it has the same bits
    logits       the exported run in transformers against `jaxfreeze.load`, in float32, and in bfloat16 both against
                 transformers in float32

A comparison of two runs reports `loss` and `weights`: the largest difference of a logged loss, and of a trained weight
relative to the largest step that any weight of its leaf took.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

import jaxfreeze
from jaxfreeze import console
from jaxfreeze.data import batches, packing
from jaxfreeze.data.batch import Shape
from jaxfreeze.errors import Stopped
from jaxfreeze.inference.export import export

RUNS = {
    "float32": {"trainable_layers": 1, "cache": "device"},
    "float32, cache off": {"trainable_layers": 1, "cache": "off"},
    "float32, one example a row": {"trainable_layers": 1, "cache": "device"},
    "float32, again": {"trainable_layers": 1, "cache": "device"},
    "float32, stopped": {"trainable_layers": 1, "cache": "device", "checkpoint_every": 10},
    "bfloat16": {"trainable_layers": 1, "cache": "device", "dtype": "bfloat16"},
    "bfloat16, cache off": {"trainable_layers": 1, "dtype": "bfloat16", "cache": "off"},
    "all": {"trainable_layers": "all"},
    "all, again": {"trainable_layers": "all"},
}


def planted(model: Path, folder: Path) -> Path:
    """A copy of the model, float32, in which every matrix of the first layer begins with -0.0 and a denormal."""
    shutil.copytree(model, folder)
    tensors = {
        name: leaf.astype(np.float32) if leaf.dtype.kind == "f" else leaf
        for name, leaf in load_file(folder / "model.safetensors").items()
    }
    for name, leaf in tensors.items():
        if "layer.0." in name and leaf.ndim == 2:
            leaf.reshape(-1)[:2] = (-0.0, 1e-39)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@contextlib.contextmanager
def one_example_a_row() -> Iterator[None]:
    """Within this block every batch has one shape, and each of its rows holds one example."""

    def shapes(lengths: np.ndarray, *_: int, **__: int) -> tuple[Shape, ...]:
        return (Shape(lengths.shape[1], -(-int(lengths.max()) // 8) * 8, 1),)

    with (
        mock.patch.object(batches, "choose_shapes", shapes),
        mock.patch.object(batches, "with_room", lambda shapes, *_: shapes),
        mock.patch.object(packing, "rows_within", lambda lengths, _: [[place] for place in range(len(lengths))]),
    ):
        yield


@contextlib.contextmanager
def stop_after(log: Path, step: int) -> Iterator[None]:
    """This process gets SIGTERM as soon as the run's log holds this step."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            lines = log.read_text().splitlines() if log.is_file() else []
            if any(f'"step": {number},' in line for line in lines for number in range(step, step + 200)):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def losses(run: Path) -> np.ndarray:
    """The logged losses of a run."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return np.array([line["loss"] for line in lines if "loss" in line])


class Checks:
    """All runs in one folder, and what has been found so far."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.model = planted(Path(options.model), folder / "model")
        self.start = load_file(self.model / "model.safetensors")
        self.found: dict[str, Any] = {}

    def note(self, name: str, value: Any) -> None:
        """Keep a finding, and print it."""
        self.found[name] = value
        print(json.dumps({name: value}), flush=True)

    def train(self, name: str) -> Path:
        """Make a run, to its end."""
        out = self.folder / name.replace(", ", "-").replace(" ", "_")
        began = time.perf_counter()
        run = jaxfreeze.finetune(
            "rte", data_dir=self.options.data_dir, model=str(self.model), output_dir=str(out), seed=1, log_every=5,
            learning_rate=1e-4, epochs=100, max_steps=self.options.max_steps, **{"dtype": "float32"} | RUNS[name],
        )  # fmt: skip
        proof = json.loads((out / "freeze.json").read_text())
        score = run.metrics[run.record["primary_metric"]]
        self.note(
            f"frozen: {name}",
            {
                "unchanged": proof["unchanged"],
                "frozen": proof["frozen"],
                "cache": run.record["cache"],
                "score": round(score, 4),
                "last_loss": float(losses(out)[-1]),
                "seconds": round(time.perf_counter() - began, 1),
                "train_seconds": run.record["seconds"]["train"],
            },
        )
        return out

    def weights(self, run: Path) -> dict[str, np.ndarray]:
        """Every tensor of a run as `export` writes it."""
        folder = run.with_name(f"{run.name}.exported")
        if not folder.exists():
            export(run, folder)
        return load_file(folder / "model.safetensors")

    def compare(self, name: str, one: Path, other: Path) -> None:
        """Two runs that should be the same."""
        first, second = self.weights(one), self.weights(other)
        start = {key.removeprefix("bert."): value for key, value in self.start.items()}
        worst = 0.0
        for key, leaf in first.items():
            before = start.get(key.removeprefix("bert."))
            if before is None or key.endswith("key.bias"):  # its gradient is rounding noise
                continue
            step = np.abs(leaf - before).max()
            if step > 0:
                worst = max(worst, float(np.abs(leaf - second[key]).max() / step))
        same = all(np.array_equal(leaf.view(np.uint8), second[key].view(np.uint8)) for key, leaf in first.items())
        loss = float(np.abs(losses(one) - losses(other)).max())
        self.note(name, {"same_bits": same, "loss": loss, "weights": worst})

    def stopped(self, whole: Path) -> None:
        """A run that is stopped and goes on."""
        name = "float32, stopped"
        out = self.folder / name.replace(", ", "-")
        step = self.options.max_steps // 4
        with stop_after(out / "log.jsonl", step), contextlib.suppress(Stopped):
            self.train(name)
        finished = (out / "metrics.json").is_file()
        at = max((int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdigit()), default=None)
        self.note("stopped", {"asked_at": step, "saved_at": at, "finished": finished})
        if not finished:
            self.compare("resumed", self.train(name), whole)

    def logits(self, name: str, run: Path) -> None:
        """A run against transformers."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.weights(run)  # exports it
        folder = str(run.with_name(f"{run.name}.exported"))
        lines = (Path(self.options.data_dir) / "RTE" / "dev.tsv").read_text().splitlines()[1:]
        pairs = [tuple(line.split("\t")[1:3]) for line in lines[: self.options.rows]]
        ours = jaxfreeze.load(run).logits(pairs)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"

        def theirs(dtype: Any) -> np.ndarray:
            model = AutoModelForSequenceClassification.from_pretrained(folder).to(device, dtype).eval()
            found = []
            for begin in range(0, len(pairs), 64):
                columns = list(zip(*pairs[begin : begin + 64], strict=True))
                batch = tokenizer(
                    *map(list, columns), truncation="longest_first", max_length=128, padding=True, return_tensors="pt"
                ).to(device)
                with torch.no_grad():
                    found.append(model(**batch).logits.float().cpu().numpy())
            return np.concatenate(found)

        exact = theirs(torch.float32)
        result = {"largest": float(np.abs(exact).max()), "ours": float(np.abs(ours - exact).max())}
        if name == "bfloat16":
            result["transformers_bfloat16"] = float(np.abs(theirs(torch.bfloat16) - exact).max())
        self.note(f"logits: {name}", result)


def main() -> None:
    """Make the runs, the most telling ones first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--max_steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=277, help="of the validation rows, for the logits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, console.on_stderr():
        os.environ["JAXFREEZE_CACHE"] = f"{work}/cache"
        checks = Checks(options, Path(work))
        whole = checks.train("float32")
        checks.compare("cached", whole, checks.train("float32, cache off"))
        checks.stopped(whole)
        checks.logits("float32", whole)
        half = checks.train("bfloat16")
        checks.logits("bfloat16", half)
        with one_example_a_row():
            checks.compare("packed", checks.train("float32, one example a row"), whole)
        checks.compare("repeated", checks.train("float32, again"), whole)
        checks.compare("cached, bfloat16", half, checks.train("bfloat16, cache off"))
        everything = checks.train("all")
        checks.compare("repeated, all", everything, checks.train("all, again"))
        kind = jax.local_devices()[0].device_kind
    versions = {name: version(name) for name in ("jax", "flax", "optax", "transformers")}
    print(json.dumps({"device": kind, "versions": versions, "max_steps": options.max_steps, **checks.found}))


if __name__ == "__main__":
    main()
