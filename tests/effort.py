"""How much the tests do, and what they tell XLA so that they do it quickly."""

import importlib.metadata
import os

JAXLIB = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0" + (
    " --xla_cpu_use_fusion_emitters=false" if JAXLIB < (0, 11) else ""  # later ones do not know the flag, and abort
)
"""Tests compile much and compute little: a third of the processor time that XLA's own choice takes to compile."""


def xla_flags(devices: int = 1) -> str:
    """XLA_FLAGS of a process that shall see so many simulated devices."""
    return f"--xla_force_host_platform_device_count={devices} {QUICK_TO_COMPILE}"


def inputs(count: int) -> int:
    """How many random inputs a test tries: a quarter of `count`, which JAXFREEZE_TEST_EFFORT=4 makes the whole."""
    return round(count / 4 * float(os.environ.get("JAXFREEZE_TEST_EFFORT", "1")))
