"""Real processes of run.py that get real signals: SIGTERM and SIGINT lose nothing, SIGKILL loses what was not saved."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxfreeze.training import checkpoint
from tests.folders import empty_cache, make_folder, tiny_rte
from tests.training.test_resume import assert_same

ROOT = Path(__file__).parents[2]

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    data, model = tiny_rte(tmp_path / "glue"), make_folder(tmp_path / "tiny", "bert")

    def start(out: str, *flags: str, steps: int = 400) -> subprocess.Popen[str]:
        command = [sys.executable, "run.py", "--task", "rte", "--data_dir", str(data), "--model", str(model)]
        command += ["--output_dir", str(tmp_path / out), "--max_steps", str(steps), "--max_length", "32", *flags]
        environment = {**os.environ, "XLA_FLAGS": "", "JAXFREEZE_CACHE": str(empty_cache(tmp_path / "cache"))}
        return subprocess.Popen(
            [*command, "--log_every", "1", "--trainable_layers", "1"], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def wait_for_step(out: Path, step: int) -> None:
    for _ in range(3000):
        if (out / "log.jsonl").is_file() and (out / "log.jsonl").read_bytes().count(b"\n") >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"{out} did not reach step {step}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_loses_nothing(number: signal.Signals, code: int, start: Start, tmp_path: Path) -> None:
    process = start("parts", steps=2000)
    wait_for_step(tmp_path / "parts", 5)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code
    done = json.loads((tmp_path / "parts" / "log.jsonl").read_text().splitlines()[-1])["step"]
    assert f"{number.name}: saving after the step under way" in out
    command = f"python run.py --config {tmp_path / 'parts' / 'config.yaml'}"
    assert error == f"stopped, saved after step {done} of 2000; to go on: {command}\n"
    assert checkpoint.steps_in(tmp_path / "parts" / "checkpoints") == [done]
    again = start("parts", steps=2000)
    wait_for_step(tmp_path / "parts", done + 1)
    again.send_signal(signal.SIGKILL)
    assert f"going on after step {done:,} of 2,000" in again.communicate()[0]


def test_a_second_interrupt_stops_now(start: Start, tmp_path: Path) -> None:
    process = start("parts", "--checkpoint_every", "1", steps=5000)
    wait_for_step(tmp_path / "parts", 5)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error


def test_a_signal_before_the_first_step(start: Start, tmp_path: Path) -> None:
    process = start("parts")
    for _ in range(3000):
        if (tmp_path / "parts" / "config.yaml").is_file():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    assert error == "stopped by SIGTERM\n"


def test_killed_again_and_again(start: Start, tmp_path: Path) -> None:
    """The short form of benchmarks/torture.py."""
    whole = start("whole", steps=60)
    whole.communicate(timeout=120)
    assert whole.returncode == 0
    random = np.random.default_rng(0)
    for kill in range(3):
        process = start("parts", "--checkpoint_every", "1", steps=60)
        wait_for_step(tmp_path / "parts", 10 * kill + 5)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.communicate()
    last = start("parts", "--checkpoint_every", "1", steps=60)
    last.communicate(timeout=120)
    assert last.returncode == 0
    assert_same(tmp_path / "whole", tmp_path / "parts")
