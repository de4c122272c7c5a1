"""Eight simulated devices for every test, and nothing from the network."""

import gc
import os
from collections.abc import Iterator

# Tests compile much and compute little: machine code is not optimised, the program before it is.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # the PyTorch reference is small: more threads wait for each other

from pathlib import Path

import jax
import pytest

from jaxfreeze import devices

devices.CPU_COMPILER_OPTIONS["xla_backend_optimization_level"] = "0"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Token stores go to a folder of the test session, not to the person's."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("JAXFREEZE_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Let go of compiled programs before their memory maps reach Linux's limit for a process, where XLA crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.is_file() and maps.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()
        gc.collect()
