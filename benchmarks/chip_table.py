"""What accelerators can do at best, from the makers' data sheets: arithmetic, memory, and how fast it is read."""

from typing import NamedTuple


class Chip(NamedTuple):
    """One device, as JAX counts devices."""

    teraflops: float
    """Dense bfloat16 products, in TFLOP/s."""
    gigabytes: float
    """Its memory, in GB; GiB of a TPU."""
    gigabytes_per_second: float
    """How fast that memory is read."""
    gigahertz: float | None = None
    """Its clock, where the peak and the number of multipliers give it."""


CHIPS = {
    "A100": Chip(312, 80, 2039),
    "H100": Chip(989, 80, 3350),
    "H200": Chip(989, 141, 4800),
    "TPU v4": Chip(275, 32, 1228, 1.05),
    "TPU v5 lite": Chip(197, 16, 819, 1.5),
    "TPU v5": Chip(459, 95, 2765, 1.75),
    "TPU v6 lite": Chip(918, 32, 1638, 1.75),
    "TPU7x": Chip(2307 / 2, 192 / 2, 7380 / 2),  # a chip is two devices
}
"""By what a device calls itself; a v5e is "TPU v5 lite", a v5p "TPU v5"."""


def chip_of(device_kind: str) -> Chip | None:
    """The chip whose name is the longest part of what a device calls itself; None for one that is not listed."""
    return CHIPS.get(max((name for name in CHIPS if name in device_kind), key=len, default=""))


def peak_of(device_kind: str) -> float | None:
    """Dense bfloat16 products of a device, in FLOP/s; None for one that is not listed."""
    chip = chip_of(device_kind)
    return None if chip is None else 1e12 * chip.teraflops
