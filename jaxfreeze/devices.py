"""The devices of all processes: settings before the first array, one mesh, and how arrays lie on it."""

import contextlib
import functools
import os
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.extend import backend
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxfreeze import cpu_products
from jaxfreeze.cache_folder import cache_root
from jaxfreeze.errors import InputError, shorten

Tree = TypeVar("Tree")
Result = TypeVar("Result")

# Measured with training steps of MiniLM's (k = 2, jax 0.10.2): quicker to compile than the default, and to run.
CPU_COMPILER_OPTIONS: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}

PLATFORM_VARIABLES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES", "JAX_CPU_COLLECTIVES_IMPLEMENTATION")
"""Environment variables by which JAX finds its devices."""


def configure(dtype: str) -> None:
    """Settle what must be settled before the first array: the compile cache, and what float32 means.

    float32 products are float32 products on every device; by default GPUs would take TF32 and TPUs bfloat16.
    """
    jax.config.update("jax_compilation_cache_dir", str(cache_root() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    warnings.filterwarnings("ignore", cpu_products.NOT_KEPT, UserWarning)
    jax.config.update("jax_default_matmul_precision", "highest" if dtype == "float32" else "default")
    platform()


def platform() -> str:
    """Where arrays are by default: cpu, gpu or tpu. Raises InputError if JAX finds no device of the kind asked for."""
    try:
        return jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the latter for CUDA on a machine without a GPU
        asked = [f"{name}={os.environ[name]}" for name in PLATFORM_VARIABLES if os.environ.get(name)]
        reason = shorten(" ".join(str(error).partition(" (set JAX_PLATFORMS")[0].split()), 200)
        raise InputError(
            f"{', '.join(asked) or 'JAX'}: no such device can be used here{f' ({reason})' if reason else ''}; this "
            f"machine has {_platforms_here()}; name one of those, or unset the variable"
        ) from error


def platform_of(mesh: Mesh) -> str:
    """Where the devices of a mesh are, which need not be here: cpu, gpu or tpu."""
    return mesh.devices.flat[0].platform


def _platforms_here() -> str:
    """The platforms that JAX detects; the setting of JAX_PLATFORMS is restored afterwards."""
    asked = jax.config.jax_platforms  # type: ignore[attr-defined]  # made from its own list
    jax.config.update("jax_platforms", "")
    try:
        return ", ".join(sorted(backend.backends()))
    except (RuntimeError, AssertionError):
        return "none that JAX finds"
    finally:
        jax.config.update("jax_platforms", asked)
        backend.clear_backends()


def compiler_options(mesh: Mesh | None = None, onednn: bool = False) -> dict[str, str | bool]:
    """What XLA is told for each program on a mesh; what XLA_FLAGS says of the same option goes before it.

    onednn: whether a CPU is to do float32 products in bfloat16, see cpu_products.py.
    """
    if (platform() if mesh is None else platform_of(mesh)) != "cpu":
        return {}
    return cpu_products.not_set(CPU_COMPILER_OPTIONS | (cpu_products.OPTIONS if onednn else {}))


class Jitted(Generic[Result]):
    """jax.jit with the compiler options of the backend, which is asked for at the first call, not before.

    The first argument of the function is static: a column, or several that are computed alike; see `compiler_options`
    for its `onednn`.
    """

    def __init__(self, function: Callable[..., Result], **how: Any) -> None:
        """how: what else jax.jit is told."""
        self._with_products = functools.cache(
            lambda onednn: jax.jit(function, compiler_options=compiler_options(onednn=onednn), **how)
        )

    def _function(self, columns: Any) -> Any:
        return self._with_products((columns[0] if isinstance(columns, tuple) else columns).onednn)

    def __call__(self, columns: Any, *inputs: Any) -> Result:
        """What the function returns."""
        return self._function(columns)(columns, *inputs)

    def compile(self, columns: Any, *inputs: Any) -> None:
        """Compile what a call with such inputs will find compiled."""
        self._function(columns).lower(columns, *inputs).compile()


def pass_batch_size() -> int:
    """Examples in one step of a pass without training: as many as fill an accelerator, or keep to a CPU's caches."""
    return 32 if platform() == "cpu" else 256


def data_mesh(devices: int | None = None) -> Mesh:
    """One axis, `data`, over all devices of all processes (or the first few)."""
    chosen = jax.devices()[:devices]
    return jax.make_mesh((len(chosen),), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def mesh_of(tree: Any) -> Mesh | None:
    """Of the devices on which the arrays of a tree lie; None if they say nothing of places."""
    sharding = jax.tree.leaves(tree)[0].sharding
    return None if sharding is None else sharding.mesh


def by_row(mesh: Mesh) -> NamedSharding:
    """The leading axis shared out over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def by_part(mesh: Mesh, axis: int) -> NamedSharding:
    """This axis shared out over the devices: for groups of batches, [K, P, ...]."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, "data"))


def sharded(tree: Any, mesh: Mesh) -> Any:
    """For each array the sharding that gives every device an equal part, where one of its axes divides into them."""

    def leaf(array: Any) -> NamedSharding:
        axis = next((axis for axis, size in enumerate(array.shape) if size % mesh.size == 0), None)
        return replicated(mesh) if axis is None else by_part(mesh, axis)

    return jax.tree.map(leaf, tree)


def put(tree: Tree, shardings: Any, may_alias: bool | None = None) -> Tree:
    """Host arrays, the same in every process, onto the devices; of each array a device gets its own part alone.

    shardings: one for all leaves, or a tree of them. may_alias: whether an array may share the host's memory.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings, may_alias=may_alias)

    def leaf(array: Any, sharding: NamedSharding) -> jax.Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda array: leaf(array, shardings), tree)
    return jax.tree.map(lambda sharding, part: put(part, sharding), shardings, tree)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Put host arrays on every device of the mesh; each leaf becomes a buffer of its own."""
    return put(jax.tree.map(np.asarray, tree), replicated(mesh), may_alias=False)


def fetch(array: Any) -> np.ndarray:
    """A whole array on the host, wherever its parts lie. If not all of them lie here, every process must call it."""
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def own_parts(mesh: Mesh) -> np.ndarray:
    """Which of the parts of a batch, one for each device, are this process's: bool [P]."""
    return np.array([device.process_index == jax.process_index() for device in mesh.devices.ravel()])


def describe(mesh: Mesh, onednn: bool = False) -> str:
    """What computes, e.g. '1 cpu', '1 cpu with oneDNN', '8 NVIDIA H200' or '8 TPU v4 of 2 processes'."""
    devices, processes = mesh.devices.ravel(), jax.process_count()
    several = f" of {processes} processes" if processes > 1 else ""
    return f"{len(devices)} {devices[0].device_kind}{several}{' with oneDNN' if onednn else ''}"


def peak_memory_bytes() -> int:
    """The most memory used so far: of the fullest device where it says so, else of this process (resident)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(peaks) if peaks else resident * (1 if sys.platform == "darwin" else 1024)


def free_bytes(mesh: Mesh) -> int:
    """Memory free on the fullest of this process's devices; CPU devices share what the host has."""
    stats = [device.memory_stats() or {} for device in mesh.local_devices]
    if all("bytes_limit" in s for s in stats):
        return min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)
    return free_host_bytes() // len(stats)


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
