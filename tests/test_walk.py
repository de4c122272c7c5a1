"""The short form of benchmarks/walk.py: commands, changes and a person's files at random."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_nothing_is_lost_and_nothing_is_stale() -> None:
    walk = [sys.executable, "benchmarks/walk.py", "--sequences", "3", "--seed", "100"]
    done = subprocess.run(walk, cwd=ROOT, capture_output=True, text=True, check=False)
    *faults, summary = map(json.loads, done.stdout.splitlines())
    assert faults == []
    assert summary["commands"] == 36
    assert done.returncode == 0
