"""Kills training processes at random moments until their run is through, and compares the bits with a run left alone.

    python benchmarks/torture.py --kills 50                     # SIGKILL, most of them while a checkpoint is written
    python benchmarks/torture.py --kills 10 --signal TERM       # SIGTERM: nothing may be lost at all
    python benchmarks/torture.py --kills 50 --signal CLOSE      # the terminal is closed: nothing may be lost either
    python benchmarks/torture.py --flips 200                    # single bits in the files of a checkpoint
    python benchmarks/torture.py --cost                         # what saving and going on cost

Real processes of `run.py`, the packaged MiniLM on the demo set, dropout on. Prints a JSON object.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

from versus_pytorch import commit, machine, now

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def command(out: Path, *flags: str) -> list[str]:
    """A run of run.py."""
    run = ["--task", "demo", "--model", "demo", "--trainable_layers", "1", "--log_every", "1", "--output_dir", str(out)]
    return [sys.executable, "run.py", *run, *flags]


def logged_steps(out: Path) -> int:
    """The last step in log.jsonl."""
    file = out / "log.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()[-2:] if file.is_file() else []
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except ValueError:  # torn
            continue
    return 0


def saved_step(out: Path) -> int:
    """The last step of which there is a whole checkpoint."""
    steps = [int(path.name) for path in (out / "checkpoints").glob("*") if path.name.isdigit()]
    return max(steps, default=0)


def digests(out: Path) -> dict[str, str]:
    """The trained leaves of a finished run."""
    from jaxfreeze import freezing
    from jaxfreeze.inference.finished_run import FinishedRun
    from jaxfreeze.training import checkpoint

    run = FinishedRun(out)
    return freezing.digests(checkpoint.read(out / "checkpoints", run.metrics["steps"], run.model.pretrained).trained)


class Victim:
    """A process that will be killed, or whose terminal will be closed."""

    def __init__(self, words: list[str], environment: dict[str, str], end: str) -> None:
        """end: how; a signal without SIG, or CLOSE."""
        self._end, self._master = end, None
        if end != "CLOSE":
            self.process = subprocess.Popen(words, cwd=ROOT, env=environment, **QUIET)
            return
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self._master, False)

    def is_at_work(self) -> bool:
        """Whether it has not ended; reads what it says, as a terminal does."""
        with contextlib.suppress(OSError):  # nothing said, or it has ended
            if self._master is not None:
                os.read(self._master, 1 << 16)
        return self.process.poll() is None

    def end(self) -> int:
        """End it -> its exit code."""
        if self._master is not None:
            os.close(self._master)
        else:
            self.process.send_signal(signal.Signals[f"SIG{self._end}"])
        return self.process.wait()


def kill(options: argparse.Namespace, work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """`options.kills` processes that are killed, and one that ends."""
    dice = random.Random(options.seed)  # of moments, not of secrets
    flags = ("--max_steps", str(options.steps), "--checkpoint_every", "1")
    subprocess.run(command(work / "whole", *flags), cwd=ROOT, env=environment, check=True, **QUIET)
    saving, lost, codes = 0, [], []
    out = work / "parts"
    for turn in range(options.kills):
        victim = Victim(command(out, *flags), environment, options.signal)
        target = max(logged_steps(out), saved_step(out)) + max(1, options.steps // (options.kills + 2) - 1)
        while victim.is_at_work() and logged_steps(out) < min(target, options.steps - 2):
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.15))
        codes.append(victim.end())
        logged = logged_steps(out)
        saving += any(not path.name.isdigit() for path in (out / "checkpoints").glob("*"))
        lost.append(logged - saved_step(out))
        print(f"{turn + 1}/{options.kills}: step {logged}, saved {saved_step(out)}", file=sys.stderr)
    last = subprocess.run(command(out, *flags), cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return {
        "signal": options.signal,
        "processes": options.kills + 1,
        "steps": options.steps,
        "exit_codes": sorted(set(codes)),
        "died_while_saving": saving,
        "steps_lost_at_most": max(lost),
        "went_on": "continuing after step" in last.stdout,
        "same_bits": digests(work / "whole") == digests(out),
    }


def flip(options: argparse.Namespace, work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Single bits over all files of an unfinished run's checkpoint, in proportion to their lengths and in each file."""
    import numpy as np

    from jaxfreeze import devices
    from jaxfreeze.errors import InputError
    from jaxfreeze.training import checkpoint

    devices.configure("float32")
    dice = random.Random(options.seed)
    out = work / "run"
    process = subprocess.Popen(
        command(out, "--max_steps", "1000", "--checkpoint_every", "5"), cwd=ROOT, env=environment, **QUIET
    )
    while saved_step(out) < 10:
        time.sleep(0.01)
    process.kill()
    process.wait()
    step = saved_step(out)
    folder = out / "checkpoints"
    templates = _templates(folder, step)
    sound = checkpoint.read(folder, step, *templates)
    files = sorted(path for path in (folder / str(step)).rglob("*") if path.is_file() and path.stat().st_size)
    outcomes = {"detected": 0, "harmless": 0, "silently wrong": 0}
    for turn in range(options.flips):
        if turn < options.flips // 2:
            file = files[turn % len(files)]
        else:
            file = dice.choices(files, [path.stat().st_size for path in files])[0]
        content = bytearray(file.read_bytes())
        place = dice.randrange(len(content))
        content[place] ^= 1 << dice.randrange(8)
        whole = file.read_bytes()
        file.write_bytes(content)
        try:
            found = checkpoint.read(folder, step, *templates)
            same = found.about == sound.about and all(
                np.asarray(one[path]).tobytes() == np.asarray(leaf).tobytes()
                for one, other in ((found.trained, sound.trained), (found.state, sound.state))
                for path, leaf in other.items()
            )
            outcomes["harmless" if same else "silently wrong"] += 1
        except InputError:
            outcomes["detected"] += 1
        file.write_bytes(whole)
    size = sum(path.stat().st_size for path in files)
    return {"flips": options.flips, "files": len(files), "bytes": size, **outcomes}


def _templates(folder: Path, step: int) -> tuple[Any, Any]:
    """Zeros of the shapes that the checkpoint's own description names."""
    import jax.numpy as jnp
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(folder.absolute()) as manager:
        saved = manager.restore(step, args=ocp.args.Composite(description=ocp.args.JsonRestore()))["description"]
    leaves = json.loads(saved["content"])["leaves"]
    trained, state = (
        {path: jnp.zeros(leaf["shape"], leaf["dtype"]) for path, leaf in leaves[name].items()}
        for name in ("trained", "state")
    )
    return trained, state


def cost(options: argparse.Namespace, work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Seconds of training with and without checkpoints, in turn; seconds until the first step, fresh and resumed."""
    flags = ("--max_steps", str(options.steps), "--trainable_layers", "3")
    every = {"never": "1000000", "default": None, "each_20_steps": "20"}
    seconds: dict[str, list[float]] = {name: [] for name in every}
    for turn in range(options.repeats):
        for name, steps in every.items():
            out = work / f"{name}-{turn}"
            more = () if steps is None else ("--checkpoint_every", steps)
            subprocess.run(command(out, *flags, *more), cwd=ROOT, env=environment, check=True, **QUIET)
            seconds[name].append(json.loads((out / "metrics.json").read_text())["seconds"]["train"])
    starts: dict[str, list[float]] = {"fresh": [], "resumed": []}
    for turn in range(options.repeats):
        out = work / f"start-{turn}"
        for name in starts:
            begin, logged = time.perf_counter(), logged_steps(out)
            process = subprocess.Popen(
                command(out, *flags, "--checkpoint_every", "20"), cwd=ROOT, env=environment, **QUIET
            )
            while logged_steps(out) <= logged:
                time.sleep(0.005)
            starts[name].append(time.perf_counter() - begin)
            while saved_step(out) < 20:
                time.sleep(0.01)
            process.kill()
            process.wait()
            keep = max(saved_step(out), 0)
            lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            (out / "log.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= keep))
        shutil.rmtree(out)
    return {"steps": options.steps, "seconds_of_training": seconds, "seconds_to_the_first_step": starts}


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT", "HUP", "USR1", "CLOSE"), default="KILL")
    parser.add_argument("--flips", type=int)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results: dict[str, Any] = {"date": now(), "commit": commit(), "machine": machine()}
    for name, measure, asked in (
        ("kill", kill, options.kills),
        ("flip", flip, options.flips),
        ("cost", cost, options.cost),
    ):
        if asked:
            with tempfile.TemporaryDirectory() as folder:
                environment = {**os.environ, "JAXFREEZE_CACHE": f"{folder}/cache"}
                results[name] = measure(options, Path(folder), environment)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
