"""How time, memory and disk grow: with k, with the epochs, and with the number of examples.

    python benchmarks/scaling.py --vary k                    # 0 1 2 3 all
    python benchmarks/scaling.py --vary epochs               # 1 3 10
    python benchmarks/scaling.py --vary examples             # 4,000 40,000 400,000
    python benchmarks/scaling.py --vary examples --values 400000 --random 4 128 --cache disk --max_steps 100

Each point is a fresh process (`python run.py --task files ...`) with an empty cache folder, on rows of common words
with MNLI's distribution of lengths. Prints a JSON object a point: seconds by part, examples/s, bytes of the trunk
cache, most resident memory of the process. --random L D: not the packaged MiniLM but L layers of width D with random
weights, for numbers of examples that MiniLM's pass would take hours for.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from versus_pytorch import run_process

LENGTH_QUANTILES = (5, 19, 24, 29, 33, 37, 42, 47, 54, 64, 128)
"""Tokens of an MNLI pair at every tenth of the distribution: training rows, BERT's tokenizer, at most 128."""
VALUES = {"k": ["0", "1", "2", "3", "all"], "epochs": ["1", "3", "10"], "examples": ["4000", "40000", "400000"]}
CLASSES = ("no", "yes")


def write_rows(file: Path, count: int, words: list[str], seed: int) -> None:
    """Two columns of text and a label, tab-separated; three tokens of each row are special ones."""
    random = np.random.default_rng(seed)
    lengths = np.interp(random.random(count), np.linspace(0, 1, len(LENGTH_QUANTILES)), LENGTH_QUANTILES).astype(int)
    with file.open("w", encoding="utf-8") as out:
        out.write("first\tsecond\tlabel\n")
        for length in lengths - 3:
            chosen = [words[number] for number in random.integers(0, len(words), length)]
            half = max(1, 2 * length // 3)
            label = CLASSES[random.integers(0, 2)]
            out.write(f"{' '.join(chosen[:half])}\t{' '.join(chosen[half:]) or chosen[0]}\t{label}\n")


def common_words(folder: Path) -> list[str]:
    """Words that are one token each."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return [word for word in vocabulary if word.isascii() and word.isalpha() and word.islower()][:8000]


def write_random_model(folder: Path, source: Path, layers: int, width: int) -> Path:
    """A BERT of this size with random weights and the tokenizer of `source`."""
    from safetensors.numpy import save_file

    from jaxfreeze.model import weights
    from jaxfreeze.model.classifier import Column
    from jaxfreeze.model.hub import read_config

    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config |= {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 4 * width}
    config |= {"num_attention_heads": max(1, width // 32)}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    random = np.random.default_rng(0)
    tensors = {}
    for path, leaf in Column(read_config(folder), len(CLASSES)).shapes().items():
        name, transposed = weights.hugging_face_name(path, config["model_type"])
        shape = leaf.shape[::-1] if transposed else leaf.shape
        tensors[name] = np.ones(shape, np.float32) if path.endswith(".scale") else _normal(random, shape)
    save_file(tensors, folder / "model.safetensors")
    return folder


def _normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.normal(0, 0.02, shape).astype(np.float32)


def measure(options: argparse.Namespace, value: str, model: Path, work: Path) -> dict[str, object]:
    """One point."""
    setting = {"k": options.trainable_layers, "epochs": options.epochs, "examples": options.examples}
    setting[options.vary] = value
    words = common_words(model)
    for name, count in (("train", int(setting["examples"])), ("validation", 1000)):
        write_rows(work / f"{name}.tsv", count, words, seed=len(name))
    flags = {
        "task": "files", "train_file": work / "train.tsv", "validation_file": work / "validation.tsv",
        "label_column": "label", "model": model, "trainable_layers": setting["k"], "epochs": setting["epochs"],
        "cache": options.cache, "dtype": options.dtype, "output_dir": work / "run",
    }  # fmt: skip
    if options.max_steps:
        flags["max_steps"] = options.max_steps
    command = [sys.executable, "run.py", "--text_columns", "first", "second", "--overwrite"]
    command += [str(part) for name, flag in flags.items() for part in (f"--{name}", flag)]
    usage = run_process(command, {**os.environ, "JAXFREEZE_CACHE": str(work / "cache")})
    metrics = json.loads((work / "run" / "metrics.json").read_text(encoding="utf-8"))
    return {
        **setting,
        **{name: metrics[name] for name in ("steps", "cache", "cache_bytes", "seconds", "examples_per_second")},
        "process_seconds": round(usage.seconds, 1),
        "resident_bytes": usage.peak_memory_bytes,
    }


def main() -> None:
    """Measure every value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vary", required=True, choices=VALUES)
    parser.add_argument("--values", nargs="+", help="instead of the usual ones")
    parser.add_argument("--trainable_layers", default="3")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--examples", default="4000")
    parser.add_argument("--max_steps", help="stop after so many steps, to measure the cache rather than the training")
    parser.add_argument("--cache", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--random", nargs=2, type=int, metavar=("L", "D"), help="layers and width of a random model")
    parser.add_argument("--work_dir", type=Path, help="where the rows and the cache go for the time of a point")
    options = parser.parse_args()
    from jaxfreeze.model.hub import model_folder

    for value in options.values or VALUES[options.vary]:
        with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
            model = model_folder("demo")
            if options.random:
                model = write_random_model(Path(folder) / "model", model, *options.random)
            print(json.dumps(measure(options, value, model, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
