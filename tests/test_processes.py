"""Several real processes at work on one run, on simulated devices that talk over TCP (gloo)."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from jaxfreeze import cli, devices, freezing
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.training import checkpoint
from tests import effort
from tests.folders import empty_cache, make_folder, tiny_rte

ROOT = Path(__file__).parents[1]
STEPS = 12
DEVICES = 2  # of each process
MESH = devices.data_mesh
IMPATIENT = """
import sys
from jaxfreeze import cli, processes
processes.HEARTBEAT_SECONDS = 10  # a third of what it is for users
sys.exit(cli.main())
"""


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


def words(folder: Path, bert: Path, data: Path, out: str, *flags: str) -> list[str]:
    """A short run with these flags, which win."""
    command = ["--task", "rte", "--data_dir", str(data), "--model", str(bert), "--output_dir", str(folder / out)]
    command += ["--max_length", "32", "--learning_rate", "1e-3", "--trainable_layers", "1", "--log_every", "2"]
    return [*command, *flags] if "--max_steps" in flags else [*command, "--max_steps", str(STEPS), *flags]


def places(count: int) -> list[list[str]]:
    """The flags by which so many processes find each other."""
    port = free_port()
    return [
        ["--coordinator", f"127.0.0.1:{port}", "--num_processes", str(count), "--process_id", str(number)]
        for number in range(count)
    ]


def environment_of(cache: Path) -> dict[str, str]:
    return os.environ | {
        "XLA_FLAGS": effort.xla_flags(DEVICES), "JAXFREEZE_CACHE": str(empty_cache(cache)), "PYTHONPATH": str(ROOT)
    }  # fmt: skip


class Runs:
    """The runs of a test, by the names of their folders."""

    def __init__(self, folder: Path, bert: Path, data: Path) -> None:
        self.folder, self.bert, self.data = folder, bert, data

    def words(self, out: str, *flags: str) -> list[str]:
        return words(self.folder, self.bert, self.data, out, *flags)

    def alone(self, out: str, *flags: str) -> str:
        """The run in this process, on the devices that it sees -> what it printed."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert cli.main(self.words(out, *flags)) == 0
        return printed.getvalue()

    def log(self, out: str, kind: str = "train") -> dict[int, dict[str, float]]:
        """By step."""
        lines = (self.folder / out / "log.jsonl").read_text().splitlines()
        return {line["step"]: line for line in map(json.loads, lines) if line["kind"] == kind}

    def score(self, out: str) -> dict[str, float]:
        return json.loads((self.folder / out / "metrics.json").read_text())["metrics"]

    def leaves(self, out: str) -> dict[str, str]:
        """Digests of the trained leaves at the end."""
        run = FinishedRun(self.folder / out)
        (last,) = checkpoint.steps_in(run.folder.checkpoints)
        return freezing.digests(checkpoint.read(run.folder.checkpoints, last, run.model.pretrained).trained)

    def same_training(self, out: str, other: str) -> None:
        ours, theirs = self.log(out), self.log(other)
        assert ours.keys() == theirs.keys()
        for step in ours:
            for name in ("loss", "grad_norm", "learning_rate", "epoch"):
                np.testing.assert_allclose(
                    ours[step][name], theirs[step][name], rtol=2e-5, atol=2e-5, err_msg=f"{step}"
                )
        assert self.score(out) == self.score(other)


class Members:
    """Two processes that are connected, and stay for all tests of this module."""

    def __init__(self) -> None:
        self.places = places(2)
        self.processes: list[subprocess.Popen[str]] = []

    def run(self, runs: Runs, out: str, *flags: str, own: Sequence[str] = ()) -> list[tuple[int, str, str]]:
        """A run in both -> (exit code, standard output, standard error) of each; own: flags of the second alone."""
        if not self.processes:
            command, environment = [sys.executable, "-m", "tests.member"], environment_of(runs.folder / "cache")
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.processes = [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for _ in self.places]
        for process, place, more in zip(self.processes, self.places, ((), own), strict=True):
            job = [[*runs.words(out, *flags), *place, *more], str(empty_cache(runs.folder / "cache"))]
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        return [tuple(json.loads(process.stdout.readline())) for process in self.processes]

    def succeed(self, runs: Runs, out: str, *flags: str) -> str:
        """-> what the first one printed; the other one prints nothing."""
        (code, printed, _), (other, nothing, _) = answers = self.run(runs, out, *flags)
        assert (code, other, nothing) == (0, 0, ""), answers
        return printed


@pytest.fixture(scope="module")
def members() -> Iterator[Members]:
    made = Members()
    yield made
    for process in made.processes:
        process.stdin.close()  # so they end, both at once
    assert [process.wait(60) for process in made.processes] == [0] * len(made.processes)
    for process in made.processes:
        process.stdout.close()


class Pair:
    """Two processes of run.py for one run."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, out: str, *flags: str, slurm: bool = False, program: Sequence[str] = ("run.py",)) -> "Pair":
        """slurm: no flags say where the others are, the environment does; and nothing but the run folder is shared."""
        port = str(free_port())
        for number, place in enumerate(places(2)):
            environment = environment_of(self.runs.folder / (f"cache-{number}" if slurm else "cache"))
            if slurm:
                environment |= {
                    "SLURM_JOB_ID": port, "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
                    "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number), "JAX_COORDINATOR_PORT": port,
                }  # fmt: skip
            command = [sys.executable, *program, *self.runs.words(out, *flags), *(() if slurm else place)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            self.processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
        return self

    def ends(self, timeout: float = 120) -> list[tuple[int, str, str]]:
        """(exit code, stdout, stderr) of each, without what gloo says."""
        results = []
        for process in self.processes:
            out, error = process.communicate(timeout=timeout)
            results.append((process.returncode, without_gloo(out), error))
        self.processes = []
        return results

    def wait_for_step(self, out: str, step: int) -> None:
        deadline = time.monotonic() + 90
        while (
            not (file := self.runs.folder / out / "log.jsonl").is_file() or file.read_bytes().count(b"\n") < step // 2
        ):
            assert time.monotonic() < deadline, f"step {step} was not reached"
            assert all(process.poll() is None for process in self.processes), self.ends()
            time.sleep(0.02)


@pytest.fixture
def runs(tmp_path: Path, bert: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setenv("JAXFREEZE_CACHE", str(empty_cache(tmp_path / "cache")))
    return Runs(tmp_path, bert, data)


@pytest.fixture
def pair(runs: Runs) -> Iterator[Pair]:
    made = Pair(runs)
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
def test_two_processes_train_as_one_does(flags: tuple[str, ...], members: Members, runs: Runs) -> None:
    printed = members.succeed(runs, "pair", *flags)
    assert f"on {2 * DEVICES} cpu of 2 processes" in printed
    assert "bits unchanged" in printed
    runs.alone("alone", *flags)
    runs.same_training("pair", "alone")


def test_in_a_slurm_step(pair: Pair, members: Members, runs: Runs) -> None:
    """With caches of their own: the same bits."""
    (code, printed, _), (other, nothing, _) = ended = pair.start("slurm", slurm=True).ends()
    assert (code, other, nothing) == (0, 0, ""), ended
    assert f"on {2 * DEVICES} cpu of 2 processes" in printed
    members.succeed(runs, "pair")
    assert runs.leaves("slurm") == runs.leaves("pair")
    losses = [{step: line["loss"] for step, line in runs.log(out).items()} for out in ("slurm", "pair")]
    assert losses[0] == losses[1]


def test_a_signal_to_one_process_stops_both(pair: Pair, runs: Runs) -> None:
    """After the same step, which is saved."""
    pair.start("pair", "--max_steps", "400").wait_for_step("pair", 6)
    pair.processes[1].send_signal(signal.SIGTERM)
    ended = pair.ends()
    assert [code for code, _, _ in ended] == [143, 143], ended
    (done,) = checkpoint.steps_in(runs.folder / "pair" / "checkpoints")
    for _, _, error in ended:
        assert (
            f"stopped, saved after step {done} of 400; to continue, in every process: python run.py --config" in error
        )
        assert len(error.splitlines()) == 1


def test_one_process_is_killed(pair: Pair, members: Members, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one says so and ends. In two again, the bits of a run without a stop; elsewhere the same losses."""
    flags = ("--shard_optimizer", "--checkpoint_every", "4", "--max_steps", "24")
    pair.start("pair", *flags, program=("-c", IMPATIENT)).wait_for_step("pair", 6)
    pair.processes[1].kill()
    begun = time.monotonic()
    (code, _, error), _ = pair.ends()
    assert time.monotonic() - begun < 40
    assert code != 0
    assert "another process of this run is gone" in error
    step = checkpoint.steps_in(runs.folder / "pair" / "checkpoints")[-1]
    for other in ("on-one", "on-four"):
        shutil.copytree(runs.folder / "pair", runs.folder / other)

    printed = members.succeed(runs, "pair", *flags)
    assert f"continuing after step {step} of 24" in printed
    assert "last digits" not in printed
    members.succeed(runs, "whole", *flags)
    assert runs.leaves("pair") == runs.leaves("whole")
    for other, count in (("on-one", 1), ("on-four", 4)):
        monkeypatch.setattr(devices, "data_mesh", lambda count=count: MESH(count))
        printed = runs.alone(other, *flags)
        assert f"continuing after step {step} of 24" in printed
        assert "the last digits may differ" in printed
        runs.same_training(other, "whole")


def test_one_host_has_other_data(members: Members, runs: Runs, tmp_path: Path) -> None:
    other = tiny_rte(tmp_path / "other")
    file = other / "RTE" / "train.tsv"
    file.write_text(file.read_text().replace("bowl", "crate", 1))
    for code, _, error in members.run(runs, "pair", own=("--data_dir", str(other))):
        assert code == 2
        assert error.startswith("error: digest of the train rows: ")
        assert "in process 1; give all processes the same files" in error
    assert not (runs.folder / "pair").exists()


def test_one_process_has_other_flags(members: Members, runs: Runs) -> None:
    for code, _, error in members.run(runs, "pair", own=("--seed", "7")):
        assert code == 2
        assert error == (
            "error: --seed: 42 in process 0, 7 in process 1; start all processes with the same flags and packages\n"
        )


def test_a_mistake_of_one_process_ends_all(members: Members, runs: Runs) -> None:
    (first, _, error), (second, _, own) = members.run(runs, "pair", own=("--model", "./nowhere"))
    assert (first, second) == (2, 2)
    assert error == "error: process 1: --model ./nowhere: there is no such folder\n"
    assert own == "error: --model ./nowhere: there is no such folder\n"
