"""The devices of this process: settings before the first array, one mesh, and how arrays lie on it."""

import contextlib
import functools
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxfreeze.config import cache_root

Tree = TypeVar("Tree")
Result = TypeVar("Result")

# Measured with training steps of MiniLM's (k = 2, jax 0.10.2): quicker to compile than the default, and to run.
CPU_COMPILER_OPTIONS: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}


def configure(dtype: str) -> None:
    """Settle what must be settled before the first array: the compile cache, and what float32 means.

    float32 products are float32 products on every device; by default GPUs would take TF32 and TPUs bfloat16.
    """
    jax.config.update("jax_compilation_cache_dir", str(cache_root() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_default_matmul_precision", "highest" if dtype == "float32" else "default")


def compiler_options() -> dict[str, str | bool]:
    """What XLA is told for each program."""
    return CPU_COMPILER_OPTIONS if jax.default_backend() == "cpu" else {}


def jit(function: Callable[..., Result], **how: Any) -> Callable[..., Result]:
    """jax.jit with the compiler options of the backend, which is asked for at the first call, not before."""

    @functools.cache
    def compiled() -> Callable[..., Result]:
        return jax.jit(function, compiler_options=compiler_options(), **how)

    return lambda *inputs: compiled()(*inputs)


def pass_batch_size() -> int:
    """Examples in one step of a pass without training: as many as fill an accelerator, or keep to a CPU's caches."""
    return 32 if jax.default_backend() == "cpu" else 256


def data_mesh(devices: int | None = None) -> Mesh:
    """One axis, `data`, over all local devices (or the first few)."""
    chosen = jax.local_devices()[:devices]
    return jax.make_mesh((len(chosen),), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The leading axis shared out over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def by_part(mesh: Mesh, axis: int) -> NamedSharding:
    """This axis shared out over the devices: for groups of batches, [K, P, ...]."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, "data"))


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Put host arrays on every device of the mesh; each leaf becomes a buffer of its own."""
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), replicated(mesh), may_alias=False), tree)


def describe(mesh: Mesh) -> str:
    """What the mesh is made of, e.g. '1 cpu' or '8 NVIDIA H200'."""
    devices = mesh.devices.ravel()
    return f"{len(devices)} {devices[0].device_kind}"


def peak_memory_bytes() -> int:
    """The most memory used so far: of the fullest device where it says so, else of this process (resident)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(peaks) if peaks else resident * (1 if sys.platform == "darwin" else 1024)


def free_bytes(mesh: Mesh) -> int:
    """Memory free on the fullest device of the mesh; CPU devices share what the host has."""
    stats = [device.memory_stats() or {} for device in mesh.devices.ravel()]
    if all("bytes_limit" in s for s in stats):
        return min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)
    return free_host_bytes() // mesh.size


def free_host_bytes() -> int:
    """Memory that this process can still take: what the machine has, or what is left of its control group."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, StopIteration):  # Linux: also counts what the page cache would give back
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max" where there is none
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, limit - used)
    return free
