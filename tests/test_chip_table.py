"""A device is found by what it calls itself, as JAX 0.10 reports it; a v5p by the beginning of a v5e's name."""

import pytest

from benchmarks.chip_table import chip_of, peak_of


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("TPU v4", 275), ("TPU v5 lite", 197), ("TPU v5", 459), ("TPU v5p", 459), ("TPU v6 lite", 918),
        ("TPU7x", 1153.5), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H200", 989), ("NVIDIA A100-SXM4-80GB", 312),
    ],
)  # fmt: skip
def test_peaks(kind: str, teraflops: float) -> None:
    assert peak_of(kind) == 1e12 * teraflops


def test_no_peak_is_made_up() -> None:
    assert chip_of("cpu") is peak_of("NVIDIA L4") is None
