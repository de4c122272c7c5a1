"""benchmarks/versus_pytorch.py: its sums, by hand, and that an interrupted benchmark goes on where it stopped."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

VERSUS = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "versus_pytorch.py"))
REPORT = {"metrics": {"accuracy": 0.5}, "primary_metric": "accuracy", "examples": 300, "seconds": {"train": 1.0}}
SECONDS = {"jaxfreeze": 10.0, "jaxfreeze_warm": 5.0, "jaxfreeze_bfloat16": 8.0}
SECONDS |= {"trainer_float32": 20.0, "trainer_bfloat16": 40.0}


def benchmark(monkeypatch: pytest.MonkeyPatch, file: Path, fail_at: int | None = None) -> tuple[list[str], Any]:
    """Run two tasks, two k and three seeds without any process -> (what ran, the arguments)."""
    ran: list[str] = []

    def run_turn(flags: list[str], missing: list[str]) -> Iterator[tuple[str, Any, Any]]:
        for name in missing:
            if len(ran) == fail_at:
                raise KeyboardInterrupt
            ran.append(name)
            seed = int(flags[flags.index("--seed") + 1])
            yield name, VERSUS["Usage"](SECONDS[name] * seed, 1.0, 1000 * seed, ""), REPORT

    monkeypatch.setitem(VERSUS["run_all"].__globals__, "run_turn", run_turn)
    options = "--tasks rte mrpc --trainable_layers 0 all --warm --bfloat16 --data_dir a --model b --output"
    args = VERSUS["parse_arguments"]([*options.split(), str(file)])
    VERSUS["run_all"](args, VERSUS["read_records"](file), lambda record: VERSUS["keep_record"](record, file))
    return ran, args


def test_medians_and_ratios(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran, args = benchmark(monkeypatch, tmp_path / "runs.jsonl")
    assert ran == list(SECONDS) * 12
    summary = VERSUS["summarise"](args, VERSUS["read_records"](tmp_path / "runs.jsonl"))
    first = summary["results"][0]
    assert first["jaxfreeze"]["seconds"] == {"median": 20.0, "all": [10.0, 20.0, 30.0]}
    assert first["jaxfreeze"]["examples_per_second"] == 15.0
    assert first["jaxfreeze"]["peak_memory_bytes"] == 3000
    ratios = {
        "trainer_float32": {"jaxfreeze": 2.0, "jaxfreeze_warm": 4.0, "jaxfreeze_bfloat16": 2.5},
        "trainer_bfloat16": {"jaxfreeze": 4.0, "jaxfreeze_warm": 8.0, "jaxfreeze_bfloat16": 5.0},
    }
    assert first["ratios"] == ratios
    assert summary["median_ratios"] == [{"trainable_layers": layers, **ratios} for layers in (0, "all")]


def test_an_interrupted_benchmark_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    with pytest.raises(KeyboardInterrupt):
        benchmark(monkeypatch, file, fail_at=6)
    ran, _ = benchmark(monkeypatch, file)
    assert ran == (list(SECONDS) * 12)[6:]
    assert benchmark(monkeypatch, file)[0] == []


def test_a_failed_process_says_what_it_wrote() -> None:
    with pytest.raises(RuntimeError, match="exit code 3\nwhy"):
        VERSUS["run_process"](["sh", "-c", "echo why >&2; exit 3"], {})
