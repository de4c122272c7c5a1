"""What the tests tell XLA."""

QUICK_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""Tests compile much and compute little: a third of the processor time that XLA's own choice takes to compile."""


def flags(devices: int = 1) -> str:
    """XLA_FLAGS of a process that shall see so many simulated devices."""
    return f"--xla_force_host_platform_device_count={devices} {QUICK_TO_COMPILE}"
