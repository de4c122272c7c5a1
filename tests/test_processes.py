"""Several real processes at work on one run, on simulated devices that talk over TCP (gloo)."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxfreeze.config import TrainConfig
from jaxfreeze.training import checkpoint
from jaxfreeze.training.loop import finetune
from tests.folders import empty_cache, make_folder, tiny_rte

ROOT = Path(__file__).parents[1]
STEPS = 12


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_rte(tmp_path_factory.mktemp("data") / "glue")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


GLOO = (r"\[Gloo\] Rank ", " is connected to ", r" peer ranks\. ", "Expected number of connected peer ranks is : ")
GLOO_SAYS = re.compile(rf"{GLOO[0]}(?:{'|'.join(GLOO)}|\n|\d+(?=\n|\d|{'|'.join(GLOO)}))*")


def without_gloo(out: str) -> str:
    """Standard output without gloo's own lines, whose pieces mix where its threads write at once."""
    return GLOO_SAYS.sub("", out)


class Pair:
    """Processes of one run of run.py, each with some simulated devices."""

    def __init__(self, folder: Path, bert: Path, data: Path) -> None:
        self.folder, self.bert, self.data = folder, bert, data
        self.processes: list[subprocess.Popen[str]] = []

    def start(
        self, out: str, *flags: str, count: int = 2, devices: int = 4, own: dict[int, tuple[str, ...]] | None = None,
        slurm: bool = False, caches: tuple[str, ...] = ("cache", "cache"),
    ) -> "Pair":  # fmt: skip
        """own: flags of single processes, which win; slurm: no flags say where the others are, the environment does."""
        port = free_port()
        for number in range(count):
            command = [sys.executable, "run.py", "--task", "rte", "--data_dir", str(self.data), "--model"]
            command += [str(self.bert), "--output_dir", str(self.folder / out), "--max_length", "32"]
            command += ["--learning_rate", "1e-3", "--trainable_layers", "1", "--log_every", "2", *flags]
            if "--max_steps" not in flags:
                command += ["--max_steps", str(STEPS)]
            command += (own or {}).get(number, ())
            environment = os.environ | {
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
                "JAXFREEZE_CACHE": str(empty_cache(self.folder / caches[number])),
                "PYTHONPATH": str(ROOT),
            }
            if slurm:
                environment |= {
                    "SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": str(count),
                    "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number), "JAX_COORDINATOR_PORT": str(port),
                }  # fmt: skip
            elif count > 1:
                command += ["--coordinator", f"127.0.0.1:{port}", "--num_processes", str(count)]
                command += ["--process_id", str(number)]
            self.processes.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            )  # fmt: skip
        return self

    def ends(self, timeout: float = 120) -> list[tuple[int, str, str]]:
        """(exit code, stdout, stderr) of each, without what gloo says."""
        results = []
        for process in self.processes:
            out, error = process.communicate(timeout=timeout)
            results.append((process.returncode, without_gloo(out), error))
        self.processes = []
        return results

    def succeeds(self) -> list[str]:
        """What each printed."""
        results = self.ends()
        assert [code for code, _, _ in results] == [0] * len(results), results
        return [out for _, out, _ in results]

    def log(self, out: str, kind: str = "train") -> dict[int, dict[str, float]]:
        """By step."""
        lines = (self.folder / out / "log.jsonl").read_text().splitlines()
        return {line["step"]: line for line in map(json.loads, lines) if line["kind"] == kind}

    def wait_for_step(self, out: str, step: int) -> None:
        deadline = time.monotonic() + 90
        while not (file := self.folder / out / "log.jsonl").is_file() or file.read_bytes().count(b"\n") < step // 2:
            assert time.monotonic() < deadline, f"step {step} was not reached"
            assert all(process.poll() is None for process in self.processes), self.ends()
            time.sleep(0.02)


@pytest.fixture
def pair(tmp_path: Path, bert: Path, data: Path) -> Iterator[Pair]:
    made = Pair(tmp_path, bert, data)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


def test_what_gloo_says_is_left_out_and_nothing_else() -> None:
    line = "[Gloo] Rank 3 is connected to 7 peer ranks. Expected number of connected peer ranks is : 7\n"
    end = " peer ranks. Expected number of connected peer ranks is : 7\n"
    mixed = f"[Gloo] Rank [Gloo] Rank 12 is connected to 7{end[:-2]} is connected to 77{end[:-1]}\n\n"
    assert without_gloo(line + mixed + "4 s in all\n" + line + "rte on a model\n") == "4 s in all\nrte on a model\n"
    assert without_gloo("no such folder\n" + line) == "no such folder\n"


def assert_same_training(one: Pair, out: str, other: str) -> None:
    ours, theirs = one.log(out), one.log(other)
    assert ours.keys() == theirs.keys()
    for step in ours:
        for name in ("loss", "grad_norm", "learning_rate", "epoch"):
            np.testing.assert_allclose(ours[step][name], theirs[step][name], rtol=2e-5, atol=2e-5, err_msg=f"{step}")
    assert score(one, out) == score(one, other)


def score(pair: Pair, out: str) -> dict[str, float]:
    return json.loads((pair.folder / out / "metrics.json").read_text())["metrics"]


def leaves(pair: Pair, out: str) -> dict[str, str]:
    """Digests of the trained leaves at the end."""
    from jaxfreeze import freezing
    from jaxfreeze.inference.finished_run import FinishedRun

    run = FinishedRun(pair.folder / out)
    return freezing.digests(checkpoint.read(run.folder.checkpoints, STEPS, run.model.pretrained).trained)


def alone(pair: Pair, out: str, **more: object) -> None:
    """The same run in this process, on its eight devices."""
    settings = {"trainable_layers": 1, "max_steps": STEPS, "max_length": 32, "log_every": 2} | more
    finetune(
        TrainConfig("rte", str(pair.data), model=str(pair.bert), learning_rate=1e-3,
                    output_dir=str(pair.folder / out), **settings)
    )  # fmt: skip


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--cache", "off", "--accumulate", "2", "--remat"),
        ("--cache", "host", "--shard_optimizer"),
        ("--cache", "disk", "--trainable_layers", "0", "--eval_every", "4"),
    ],
    ids=" ".join,
)
def test_two_processes_train_as_one_does(flags: tuple[str, ...], pair: Pair) -> None:
    first, second = pair.start("pair", *flags).succeeds()
    assert "on 8 cpu of 2 processes" in first
    assert "bits unchanged" in first
    assert second == ""  # one voice
    more = {
        flag.removeprefix("--"): value for flag, value in zip(flags, (*flags[1:], ""), strict=False) if flag[0] == "-"
    }
    kinds: dict[str, type] = {"accumulate": int, "eval_every": int, "trainable_layers": int}
    alone(pair, "alone", **{n: kinds.get(n, str)(v) if v[:2] not in ("", "--") else True for n, v in more.items()})
    assert_same_training(pair, "pair", "alone")
    if not flags:
        pair.start("one", count=1, devices=1).succeeds()
        assert_same_training(pair, "pair", "one")
        pair.start("again", caches=("own-0", "own-1")).succeeds()  # nothing shared but the run folder
        assert leaves(pair, "again") == leaves(pair, "pair")
        assert {n: line["loss"] for n, line in pair.log("again").items()} == {
            n: line["loss"] for n, line in pair.log("pair").items()
        }


def test_a_signal_to_one_process_stops_both(pair: Pair) -> None:
    """After the same step, which is saved."""
    pair.start("pair", "--max_steps", "400").wait_for_step("pair", 6)
    pair.processes[1].send_signal(signal.SIGTERM)
    ended = pair.ends()
    assert [code for code, _, _ in ended] == [143, 143], ended
    (done,) = checkpoint.steps_in(pair.folder / "pair" / "checkpoints")
    for _, _, error in ended:
        assert f"stopped, saved after step {done} of 400; to go on, in every process: python run.py --config" in error
        assert len(error.splitlines()) == 1


def test_a_checkpoint_of_two_processes_goes_on_in_two_on_one_device_and_on_four(pair: Pair) -> None:
    """In two with the bits of a run without a stop; elsewhere with the same losses."""
    alone(pair, "alone", shard_optimizer=True)
    flags = ("--shard_optimizer", "--checkpoint_every", "4")
    pair.start("pair", *flags).wait_for_step("pair", 6)
    for process in pair.processes:
        process.kill()
    pair.ends()
    steps = checkpoint.steps_in(pair.folder / "pair" / "checkpoints")
    assert steps
    shutil.copytree(pair.folder / "pair", pair.folder / "resumed")
    first, _ = pair.start("resumed", *flags).succeeds()
    assert f"going on after step {steps[-1]} of {STEPS}" in first
    assert "last digits" not in first
    pair.start("whole", *flags).succeeds()
    assert leaves(pair, "resumed") == leaves(pair, "whole")
    for devices in (1, 4):
        shutil.copytree(pair.folder / "pair", pair.folder / f"on-{devices}")
        (out,) = pair.start(f"on-{devices}", *flags, count=1, devices=devices).succeeds()
        assert f"going on after step {steps[-1]} of {STEPS}" in out
        assert "the last digits may differ" in out
        assert_same_training(pair, f"on-{devices}", "alone")


def test_one_process_is_killed(pair: Pair) -> None:
    """The other one says so and ends; both, started again, go on."""
    flags = ("--checkpoint_every", "2", "--max_steps", "400")
    pair.start("pair", *flags).wait_for_step("pair", 6)
    pair.processes[1].kill()
    begun = time.monotonic()
    (code, _, error), _ = pair.ends()
    assert time.monotonic() - begun < 60
    assert code != 0
    assert "another process of this run is gone" in error
    steps = checkpoint.steps_in(pair.folder / "pair" / "checkpoints")
    pair.start("pair", *flags).wait_for_step("pair", steps[-1] + 4)
    for process in pair.processes:
        process.send_signal(signal.SIGTERM)
    (code, out, _), _ = pair.ends()
    assert code == 143
    assert f"going on after step {steps[-1]} of 400" in out


def test_one_host_has_other_data(pair: Pair, tmp_path: Path) -> None:
    other = tiny_rte(tmp_path / "other")
    file = other / "RTE" / "train.tsv"
    file.write_text(file.read_text().replace("bowl", "crate", 1))
    for code, _, error in pair.start("pair", own={1: ("--data_dir", str(other))}).ends():
        assert code == 2
        assert error.startswith("error: digest of the train rows: ")
        assert "in process 1; give all processes the same files" in error
    assert not (pair.folder / "pair").exists()


def test_one_process_has_other_flags(pair: Pair) -> None:
    for code, _, error in pair.start("pair", own={1: ("--seed", "7")}).ends():
        assert code == 2
        assert error == (
            "error: --seed: 42 in process 0, 7 in process 1; start all processes with the same flags and packages\n"
        )


def test_a_mistake_of_one_process_ends_all(pair: Pair) -> None:
    (first, _, error), (second, _, own) = pair.start("pair", own={1: ("--model", "./nowhere")}).ends()
    assert (first, second) == (2, 2)
    assert error == "error: process 1: --model ./nowhere: there is no such folder\n"
    assert own == "error: --model ./nowhere: there is no such folder\n"


def test_in_a_slurm_step(pair: Pair) -> None:
    first, second = pair.start("pair", slurm=True).succeeds()
    assert "on 8 cpu of 2 processes" in first
    assert second == ""
