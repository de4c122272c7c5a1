"""Several processes that train one run together: how they find each other, exchange values and share errors.

Each process runs the same program on the same batches; XLA splits the rows of a batch among all their devices. The
first process alone writes to the run folder and to the terminal. With a single process, every function here returns
without communication.
"""

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxfreeze.command_config import ClusterConfig
from jaxfreeze.errors import InputError

Result = TypeVar("Result")
Tree = TypeVar("Tree")

HEARTBEAT_SECONDS = 30  # without a heartbeat for so long a process counts as dead, and all others end
JOIN_SECONDS = 300  # for which processes wait for each other at the start
LOST = (
    "another process of this run is gone, or this one was ended; "
    "the same command in all of them continues from the last checkpoint"
)
LOST_SIGNS = ("Gloo", "NCCL", "UNAVAILABLE", "heartbeat", "Connection")  # in JAX's message about it

REPORTER = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
if not sys.stdin.buffer.read():
    print(sys.argv[1], file=sys.stderr)
"""


def join(cluster: ClusterConfig | None = None) -> None:
    """Connect to the other processes of a run and wait for them; has to be called before the first array is made.

    Without a cluster, JAX finds the others in a SLURM step of several tasks or on a TPU VM; anywhere else this process
    is alone. Raises InputError if the others do not connect.
    """
    found = cluster is not None or in_slurm_step() or _on_tpu()
    if not found or jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM, which is handled by signals.py
    initialize = functools.partial(
        jax.distributed.initialize,
        initialization_timeout=JOIN_SECONDS,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
    try:
        if cluster is None:
            initialize()
        else:
            initialize(cluster.coordinator, cluster.num_processes, cluster.process_id)
    except ValueError:
        if cluster is not None or in_slurm_step():
            raise
        # a TPU that belongs to no pod, as on a notebook's machine: there are no other processes
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the other processes of this run did not connect within {JOIN_SECONDS} s ({reason}); start all of them, "
            "with the same --coordinator and --num_processes and each with its own --process_id"
        ) from error
    if jax.distributed.is_initialized():
        _start_reporter()


def _start_reporter() -> None:
    """Start a process that prints LOST if JAX ends this one, which happens without running any more Python here."""
    reporter = subprocess.Popen([sys.executable, "-c", REPORTER, LOST], stdin=subprocess.PIPE)
    atexit.register(reporter.communicate, b"ended by itself")


@contextlib.contextmanager
def exit_if_others_are_lost() -> Iterator[None]:
    """End this process, with a line, if a computation in this block fails because another process is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or not any(sign in str(error) for sign in LOST_SIGNS):
            raise
        print(str(error).splitlines()[0], file=sys.stderr, flush=True)
        os._exit(1)  # a normal exit would wait for the process that is gone; the reporter prints the line


def in_slurm_step() -> bool:
    """Whether this process is one of several tasks of a SLURM step."""
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in os.environ


def _on_tpu() -> bool:
    devices = (*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*"))
    return importlib.util.find_spec("libtpu") is not None and bool(devices)


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def all_gather(value: Any) -> list[Any]:
    """The values (JSON) of all processes, in the order of their numbers. All of them must call it."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.zeros(1 << int(lengths.max() - 1).bit_length(), np.uint8)  # to a power of two: each size is compiled
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:length])) for row, length in zip(rows, lengths, strict=True)]


def all_true(flag: bool) -> bool:
    """Whether the flag is true in every process. All of them must call it."""
    return all(all_gather(flag))


@contextlib.contextmanager
def shared_errors() -> Iterator[None]:
    """Raise an InputError of this block, in whichever process it occurs, in every process.

    All processes must enter the block. Any other exception passes at once, without an exchange.
    """
    error = None
    try:
        yield
    except InputError as caught:
        error = caught
    messages = all_gather(None if error is None else str(error))
    if error is not None:
        raise error
    for number, message in enumerate(messages):
        if message is not None:
            raise InputError(f"process {number}: {message}")


def on_first_process(function: Callable[[], Any]) -> Any:
    """What the function returns (JSON) in the first process, which alone calls it; its InputError is raised in all."""
    with shared_errors():
        result = function() if is_first() else None
    return all_gather(result)[0]


def broadcast(tree: Tree) -> Tree:
    """The first process's host arrays, bit for bit; the other processes pass arrays of the same shapes and types."""
    if jax.process_count() == 1:
        return tree

    def bits(leaf: Any) -> np.ndarray:
        array = np.ascontiguousarray(leaf)
        return array.reshape(-1).view(np.uint8)  # the broadcast adds zeros, and -0.0 + 0.0 is 0.0

    sent = multihost_utils.broadcast_one_to_all(jax.tree.map(bits, tree))
    return jax.tree.map(lambda leaf, sent: sent.view(leaf.dtype).reshape(leaf.shape), tree, sent)


def check_equal(facts: Callable[[], Mapping[str, Any]], remedy: str) -> None:
    """Raise InputError, in every process, unless the facts (JSON) are the same in all; it names the first that differs.

    remedy: the end of the error line, how to make them equal.
    """
    if jax.process_count() == 1:
        return
    found = all_gather(dict(facts()))
    for name, value in found[0].items():
        for number, other in enumerate(found):
            if other.get(name) != value:
                raise InputError(f"{name}: {value} in process 0, {other.get(name)} in process {number}; {remedy}")


def should_write_to(folder: Path) -> bool:
    """Whether this process has to write files that are the same in all processes into this folder.

    The first process has to, and so does every other one that sees a different folder, as on a disk of its own. All of
    them must call it.
    """
    if jax.process_count() == 1:
        return True
    probe = all_gather(f".seen-by-all-{os.getpid()}-{os.urandom(8).hex()}")[0]
    if is_first():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / probe).touch()
    all_gather(None)  # it is there
    seen = (folder / probe).is_file()
    all_gather(None)  # all have looked
    if is_first():
        (folder / probe).unlink()
    return is_first() or not seen
