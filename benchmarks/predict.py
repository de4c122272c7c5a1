"""`run.py predict` against transformers' text-classification pipeline: rows a second, and memory as the rows grow.

    python benchmarks/predict.py        # some twenty minutes on two cores; needs the extra `benchmarks`

One run (MiniLM, k = 2, one step on the demo set: what it answers does not matter here) and the same model exported for
transformers. The rows are the demo's pairs, or those of `--input` (JSON lines with the columns premise and hypothesis),
repeated as often as need be. Each program is a process of its own, in turn; rows a second are counted without the start
of the process, for both. The pipeline is taken in each of `--batch_sizes`, and the best of them counts. Then `predict`
alone on `--many` rows: seconds and most resident memory, which must not grow with the rows. Prints a JSON object.
"""

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def pipeline_rate(model: str, rows: Path, batch_size: int) -> float:
    """Rows a second of transformers' pipeline, float32, padded to the longest row of each batch."""
    import torch
    from transformers import AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(model)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, dtype=torch.float32, top_k=None)

    def texts() -> Iterator[dict[str, str]]:
        with rows.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield {"text": row["premise"], "text_pair": row["hypothesis"]}

    start, count = time.perf_counter(), 0
    for _ in classify(texts(), batch_size=batch_size, truncation=True, max_length=128):
        count += 1
    return count / (time.perf_counter() - start)


def predict(run: Path, rows: Path) -> dict[str, float]:
    """`run.py predict` as a process: rows a second as it says, seconds in all, most resident memory in MB."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "run.py"), "predict", "--run", str(run), "--input", str(rows), "--output"]
    process = subprocess.Popen([*command, str(rows.with_name("predictions.jsonl"))], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(said)
    rate = re.findall(r"([\d,]+) a second$", said.strip())[0].replace(",", "")
    return {
        "rows_per_second": float(rate), "seconds": time.perf_counter() - start, "peak_mb": usage.ru_maxrss / 1024
    }  # fmt: skip


def write_rows(path: Path, count: int, source: str | None) -> Path:
    """`count` rows of pairs."""
    if source is not None:
        lines = Path(source).read_text(encoding="utf-8").splitlines()
    else:
        from jaxfreeze.data.demo import demo_split

        pairs = zip(*demo_split("train").texts, strict=True)
        lines = [json.dumps({"premise": a, "hypothesis": b}) for a, b in pairs]
    path.write_text("".join(f"{line}\n" for line in itertools.islice(itertools.cycle(lines), count)))
    return path


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--input", help="other rows: JSON lines with premise and hypothesis")
    parser.add_argument("--rows", type=int, default=10_000, help="for the comparison")
    parser.add_argument("--many", type=int, default=100_000, help="for `predict` alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        model, rows, size = options.child
        print(pipeline_rate(model, Path(rows), int(size)))
        return
    from versus_pytorch import commit, machine, now

    from jaxfreeze import console, finetune
    from jaxfreeze.inference.export import export

    with tempfile.TemporaryDirectory() as name, console.on_stderr():
        folder = Path(name)
        run = finetune("demo", model=options.model, trainable_layers=2, max_steps=1, output_dir=folder / "run").path
        export(run, folder / "model")
        rows = write_rows(folder / "rows.jsonl", options.rows, options.input)

        def peer(size: int) -> float:
            command = [sys.executable, __file__, "--child", str(folder / "model"), str(rows), str(size)]
            return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)

        ours, theirs = [], {size: [] for size in options.batch_sizes}
        for _ in range(options.rounds):
            ours.append(predict(run, rows))
            for size, rates in theirs.items():
                rates.append(peer(size))
        some = predict(run, write_rows(folder / "some.jsonl", options.many // 10, options.input))
        many = predict(run, write_rows(folder / "many.jsonl", options.many, options.input))
    best = max(theirs, key=lambda size: statistics.median(theirs[size]))
    ratios = [mine["rows_per_second"] / rate for mine, rate in zip(ours, theirs[best], strict=True)]
    result: dict[str, Any] = {"date": now(), "commit": commit(), "machine": machine(), "rows": options.rows}
    result["jaxfreeze"] = [round(mine["rows_per_second"], 1) for mine in ours]
    result["pipeline"] = {size: [round(rate, 1) for rate in rates] for size, rates in theirs.items()}
    result |= {"best_batch_size": best, "median_ratio": round(statistics.median(ratios), 3)}
    for count, alone in ((options.many // 10, some), (options.many, many)):
        result[f"{count} rows"] = {name: round(value, 1) for name, value in alone.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
