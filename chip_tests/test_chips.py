"""Steps compiled for TPUs and GPUs that are not here: `make test-chips` installs the compilers and runs this.

k = 1 with the trunk cache on the chips, one packed batch, bfloat16; BERT-base in 16 rows of 128 slots if nothing else
is said.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LAYER = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
HEAD = 768 * 768 + 768 + 3 * 768 + 3
TRAINED = 4 * (LAYER + HEAD)  # bytes in float32


def compiled(chip: str, *flags: str) -> dict[str, Any]:
    """What benchmarks/chips.py prints for a chip and these flags."""
    command = [sys.executable, "benchmarks/chips.py", "--chips", chip, "--depths", "1", "--only", "cached", *flags]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    record = json.loads(done.stdout)
    assert "error" not in record, record["error"]
    return record


def test_one_chip_sends_nothing_and_updates_in_place() -> None:
    """Bounds are what was printed on 2026-11-27 (0.573 ms, 2.54 times the floor; 111 MB) and a tenth."""
    record = compiled("v5e", "--counts", "1")
    assert record["donated"]
    assert record["collectives"] == {}
    assert record["memory_bytes"] < 122e6
    assert record["times_floor"] < 2.8
    assert record["copy_share"] < 0.02


def test_four_chips_send_gradients_and_gather_updates() -> None:
    """With the optimizer in parts: updates in float32, gradients in bfloat16 where the compiler finds that enough."""
    record = compiled("v5e", "--counts", "4", "--shard_optimizer")
    sent = record["sent_bytes"]
    assert record["donated"]
    assert sent.keys() == {"all-reduce", "all-gather"}
    assert 0.99 * TRAINED < sent["all-gather"] < 1.01 * TRAINED
    assert 0.49 * TRAINED < sent["all-reduce"] < 1.01 * TRAINED


def test_a_gpu_sends_nothing_and_updates_in_place() -> None:
    """The bound is what was printed on 2026-11-28 (127 MB) and a tenth."""
    record = compiled("h100", "--counts", "1")
    assert record["donated"]
    assert record["collectives"] == {}
    assert record["memory_bytes"] < 140e6


def test_four_gpus_send_gradients() -> None:
    """In bfloat16 where the compiler finds that enough, and nothing else."""
    record = compiled("h100", "--counts", "4")
    assert record["donated"]
    assert record["sent_bytes"].keys() == {"all-reduce"}
    assert 0.49 * TRAINED < record["sent_bytes"]["all-reduce"] < 1.01 * TRAINED


def test_memory_grows_with_the_row_and_not_with_its_square() -> None:
    """ModernBERT, whose last layer sees the whole row: the scores of 4,096 slots at once would take 400 MB more."""
    rows = {width: ("--rows", str(8192 // width), "--width", str(width)) for width in (1024, 4096)}
    short, long = (compiled("h100", "--family", "modernbert", "--counts", "1", *flags) for flags in rows.values())
    assert long["donated"]
    assert long["memory_bytes"] < 1.5 * short["memory_bytes"]
