"""Several processes at work on one run: how they find each other, agree, and speak with one voice.

Each runs the same program on the same batches; XLA shares the rows of a batch among all their devices. What only one of
them may do (folders, files, the person's screen) the first one does. Everything here is a matter of course where there
is one process alone.
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

from jaxfreeze.config import ClusterConfig
from jaxfreeze.errors import InputError

Result = TypeVar("Result")
Tree = TypeVar("Tree")

HEARTBEAT_SECONDS = 30  # without a sign of life a process counts as dead, and all others end
JOIN_SECONDS = 300  # that processes wait for each other at the start
LOST = (
    "another process of this run is gone, or this one was ended; "
    "the same command in all of them goes on from the last checkpoint"
)
LOST_SIGNS = ("Gloo", "NCCL", "UNAVAILABLE", "heartbeat", "Connection")  # in what JAX says of it

WITNESS = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if not sys.stdin.buffer.read():
    print(sys.argv[1], file=sys.stderr)
"""


def join(cluster: ClusterConfig | None = None) -> None:
    """Take part in a run of several processes, before the first array; wait for the others.

    Without a cluster: in a SLURM step of several tasks, or on a TPU VM, as JAX finds it there; else alone. Raises
    InputError if the others do not come.
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
        # a TPU that is no part of a pod, as on a notebook's machine: nobody else is to be waited for
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the other processes of this run did not come within {JOIN_SECONDS} s ({reason}); start all of them, with "
            "the same --coordinator and --num_processes and each with its own --process_id"
        ) from error
    if jax.distributed.is_initialized():
        _be_witnessed()


def _be_witnessed() -> None:
    """Have another process say what happened where JAX ends this one, since no Python runs then."""
    witness = subprocess.Popen([sys.executable, "-c", WITNESS, LOST], stdin=subprocess.PIPE)
    atexit.register(witness.communicate, b"ended by itself")


@contextlib.contextmanager
def ending_with_the_others() -> Iterator[None]:
    """End this process, with a line, if a computation in this block fails because another process is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or not any(sign in str(error) for sign in LOST_SIGNS):
            raise
        print(str(error).splitlines()[0], file=sys.stderr, flush=True)
        os._exit(1)  # at the usual end JAX would wait for the one that is gone; the witness speaks


def in_slurm_step() -> bool:
    """Whether this is one of several tasks that SLURM started together."""
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in os.environ


def _on_tpu() -> bool:
    devices = (*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*"))
    return importlib.util.find_spec("libtpu") is not None and bool(devices)


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    return jax.process_index() == 0


def all_gather(value: Any) -> list[Any]:
    """This value (JSON) in every process, by its number. All of them must call it."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.zeros(1 << int(lengths.max() - 1).bit_length(), np.uint8)  # few sizes, each of which is compiled
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:length])) for row, length in zip(rows, lengths, strict=True)]


def everywhere(flag: bool) -> bool:
    """Whether it is so in every process."""
    return all(all_gather(flag))


def least(number: int) -> int:
    """The least of the processes' numbers."""
    return min(all_gather(number))


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


def together(function: Callable[[], Result]) -> Result:
    """`with shared_errors(): return function()`; goes once training no longer calls it."""
    with shared_errors():
        return function()


def on_first_process(function: Callable[[], Any]) -> Any:
    """What the function returns (JSON) in the first process, which alone calls it; its InputError is raised in all."""
    with shared_errors():
        result = function() if is_first() else None
    return all_gather(result)[0]


def broadcast(tree: Tree) -> Tree:
    """Host arrays of the first process, bit for bit; every other one gives arrays of the same shapes and types."""
    if jax.process_count() == 1:
        return tree

    def bits(leaf: Any) -> np.ndarray:
        array = np.ascontiguousarray(leaf)
        return array.reshape(-1).view(np.uint8)  # numbers would be added to zeros, and -0.0 is not -0.0 then

    sent = multihost_utils.broadcast_one_to_all(jax.tree.map(bits, tree))
    return jax.tree.map(lambda leaf, sent: sent.view(leaf.dtype).reshape(leaf.shape), tree, sent)


def agree(facts: Callable[[], Mapping[str, Any]], mend: str) -> None:
    """Raise InputError, in every process, if a fact (JSON) is not the same in all; it names the first that is not."""
    if jax.process_count() == 1:
        return
    found = all_gather(dict(facts()))
    for name, value in found[0].items():
        for number, other in enumerate(found):
            if other.get(name) != value:
                raise InputError(f"{name}: {value} in process 0, {other.get(name)} in process {number}; {mend}")


def writes_to(folder: Path) -> bool:
    """Whether this process is to write what all of them would write alike into this folder: not if the first's is it.

    All of them must call it.
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
