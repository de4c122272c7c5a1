"""How much the tests do, and what they tell XLA so that they do it quickly."""

import importlib.metadata
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

JAXLIB = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1" + (
    " --xla_cpu_use_fusion_emitters=false" if JAXLIB < (0, 11) else ""  # later ones do not know the flag, and abort
)
"""Tests compile much and compute little: a third of the processor time that XLA's own choice takes to compile."""


PROGRAMS = Path(__file__).parents[1] / "build" / "test-programs"
"""Compiled programs, kept from one run of the tests to the next, which then takes half as long. `make clean` removes
them."""
MOST_BYTES = 2 << 30
"""Of programs; beyond it, those of earlier versions of the code are many."""
SHARED_PROGRAMS = {"JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none"}
"""Environment in which all cache folders find the same programs; otherwise JAX's keys have the folder in them."""

NO_LOCATIONS = {"JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0"}
"""Environment in which no part of a program says from which line it comes: a tenth less time to lower it."""


def begin_with_programs() -> None:
    """Make the folder of compiled programs, empty if it has grown too large."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    if sum(file.stat().st_size for file in PROGRAMS.iterdir()) > MOST_BYTES:
        shutil.rmtree(PROGRAMS)
        PROGRAMS.mkdir()


def share_programs() -> None:
    """Let processes with several simulated devices share compiled programs.

    JAX's keys have a fingerprint of the devices in them, which such processes do not have in common. What kind of
    devices they are takes its place.
    """
    from jax._src import cache_key

    cache_key._hash_accelerator_config = cache_key._hash_devices


COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX's name of the event that a program was compiled, or found on disk."""


def compiled_until(patch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[int]:
    """From now on, with nothing compiled yet: how many programs there are before and after each call of a function.

    module, name: of the function, which a caller finds there. The list gets two numbers for each call.
    """
    import jax

    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **more: compiled.append(event))
    honest: Callable[..., Any] = getattr(module, name)
    counts: list[int] = []

    def counted(*inputs: Any) -> Any:
        counts.append(compiled.count(COMPILED))
        answer = honest(*inputs)
        counts.append(compiled.count(COMPILED))
        return answer

    patch.setattr(module, name, counted)
    jax.clear_caches()
    return counts


def xla_flags(devices: int = 1) -> str:
    """XLA_FLAGS of a process that shall see so many simulated devices."""
    return f"--xla_force_host_platform_device_count={devices} {QUICK_TO_COMPILE}"


def inputs(count: int) -> int:
    """How many random inputs a test tries: a quarter of `count`, which JAXFREEZE_TEST_EFFORT=4 makes the whole."""
    return round(count / 4 * float(os.environ.get("JAXFREEZE_TEST_EFFORT", "1")))
