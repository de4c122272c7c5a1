"""predict: rows in, JSON lines out, in order, whole or not at all, and through pipes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxfreeze.cli import main
from jaxfreeze.inference import predict
from jaxfreeze.inference.shared_trunk import SharedTrunk


def run(tiny_runs: Path, *arguments: str, tasks: tuple[str, ...] = ("rte",)) -> int:
    runs = [word for task in tasks for word in ("--run", str(tiny_runs / task))]
    return main(["predict", *runs, *arguments])


def rows(folder: Path, count: int) -> Path:
    """A table in RTE's layout whose rows are of different lengths."""
    file = folder / f"{count}.tsv"
    lines = [f"{n}\t{'tools ' * (1 + n % 11)}{n}\tmade {'money ' * (n % 5)}\n" for n in range(count)]
    file.write_text("".join(["index\tsentence1\tsentence2\n", *lines]))
    return file


def test_one_run(tiny_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert run(tiny_runs, "--input", str(rows(tmp_path, 2500)), "--output", str(out)) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(2500))
    trunk = SharedTrunk([tiny_runs / "rte"])
    for number in (0, 1, 1023, 1024, 2047, 2499):  # each side of the chunks' borders
        text = f"{'tools ' * (1 + number % 11)}{number}", f"made {'money ' * (number % 5)}"
        logits = trunk.logits(predict_split(*text))["rte"][0]
        np.testing.assert_allclose(lines[number]["logits"], logits, atol=1e-5)
        shares = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(list(lines[number]["probabilities"].values()), shares, atol=1e-5)
        assert list(lines[number]["probabilities"]) == ["entailment", "not_entailment"]
        assert lines[number]["prediction"] == ["entailment", "not_entailment"][int(logits.argmax())]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "2,500 predictions in" in printed.err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def predict_split(*texts: str):
    from jaxfreeze.data.split import Split

    return Split("test", tuple((text,) for text in texts), None)


def test_several_runs(tiny_runs: Path, tmp_path: Path) -> None:
    file, out = rows(tmp_path, 40), tmp_path / "out.jsonl"
    assert run(tiny_runs, "--input", str(file), "--output", str(out), tasks=("cola", "rte", "stsb")) == 0
    together = [json.loads(line) for line in out.read_text().splitlines()]
    assert list(together[0]) == ["index", "cola", "rte", "stsb"]
    assert list(together[0]["stsb"]) == ["prediction", "logits"]  # a number has no probabilities
    assert together[3]["stsb"]["prediction"] == together[3]["stsb"]["logits"][0]
    assert run(tiny_runs, "--input", str(file), "--output", str(out)) == 0
    alone = [json.loads(line)["logits"] for line in out.read_text().splitlines()]
    np.testing.assert_allclose([line["rte"]["logits"] for line in together], alone, atol=1e-5)


def test_pipes(tiny_runs: Path, tmp_path: Path) -> None:
    """A real process: predictions alone on standard output, what is said on standard error."""
    command = [sys.executable, "run.py", "predict", "--run", str(tiny_runs / "cola"), "--input", "-", "--output", "-"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, input=b"tools made\nmoney\n", capture_output=True, cwd=root, env=os.environ)
    assert done.returncode == 0
    assert [json.loads(line)["index"] for line in done.stdout.splitlines()] == [0, 1]
    assert b"2 predictions in standard output" in done.stderr
    # A reader that goes away ends it, without a traceback.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root)
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(b"tools made\n" * 3000)
    assert process.returncode == 141
    assert b"Traceback" not in said


@pytest.mark.parametrize("before", [None, '{"index": 0, "prediction": "x", "logits": [1.0]}\n'])
def test_a_mistake_in_the_last_row_leaves_what_was_there(
    before: str | None, tiny_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = rows(tmp_path, 1500), tmp_path / "out.jsonl"
    if before is not None:
        out.write_text(before)
    with file.open("a") as more:
        more.write("1500\tonly two fields\n")
    assert run(tiny_runs, "--input", str(file), "--output", str(out)) == 2
    error = capsys.readouterr().err
    assert f"error: {file}:1502: expected 3 fields as in the header, found 2" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, *([out.name] if before else [])])
    assert before is None or out.read_text() == before


def test_two_chunks_at_a_time(tiny_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory: what was not asked for is not read, and what was written is not kept."""
    under_way: list[int] = []
    honest = predict.read_chunks

    def counted(*arguments):
        for number, split in enumerate(honest(*arguments, size=10)):
            under_way.append(number)
            yield split

    class Written(io.StringIO):
        def write(self, text: str) -> int:
            assert under_way[-1] <= json.loads(text)["index"] // 10 + 2
            return super().write(text)

    monkeypatch.setattr(predict, "read_chunks", counted)
    monkeypatch.setattr(sys, "stdout", Written())
    assert run(tiny_runs, "--input", str(rows(tmp_path, 95)), "--output", "-") == 0
    assert under_way == list(range(10))
