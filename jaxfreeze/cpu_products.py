"""Whether this machine's CPU multiplies matrices faster in bfloat16 than in float32: measured once, and kept.

XLA's own products on a CPU convert bfloat16 to float32 first, and gain nothing. oneDNN, which jaxlib's wheels for x86
hold, takes float32 matrices, rounds them to bfloat16 and multiplies them in units made for it, where the CPU has some
(AMX, AVX512-BF16); sums are float32. A program uses it if it is compiled with `OPTIONS`, and no other program does.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jaxlib
import numpy as np

from jaxfreeze import atomic
from jaxfreeze.cache_folder import cache_root
from jaxfreeze.errors import InputError

OPTIONS: dict[str, str | bool] = {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}
"""What XLA is told for a program whose products are to be oneDNN's."""
MODE = "ONEDNN_DEFAULT_FPMATH_MODE"
"""What oneDNN reads, at its first product, to learn whether it may round float32 matrices; a person may set it too."""

NOT_KEPT = ".*not implemented for thunk kind: onednn-fusion"
"""JAX's warning that it cannot keep such a program on disk: each process compiles its own."""

_NEVER_FREED: list[jax.stages.Compiled] = []
"""The measured program. XLA ends the process ("Check failed: available_.size() == num_created_") if a program is freed
before oneDNN's objects are back from its last product, less than a millisecond after its result is there. Programs of
runs are freed later than that; at the end of a process there is a pause, see `speeds`."""
PAUSE = 0.05  # seconds

SIZES = (2048, 384, 1536)  # of the measured product: the feed-forward of MiniLM for 16 examples of 128 tokens
REPEATS = 9
PAYS_FROM = 1.2
MOST_ERROR = 0.01  # of the largest entry; bfloat16 has eight significant bits


def not_set(options: Mapping[str, str | bool]) -> dict[str, str | bool]:
    """Those options of XLA that a person did not set in XLA_FLAGS."""
    return {name: value for name, value in options.items() if name not in _flags()}


def _flags() -> dict[str, str]:
    """XLA_FLAGS by name: {"xla_cpu_use_onednn": "false"}; "" for a flag without a value, which is true."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return {name.removeprefix("--"): value for name, _, value in (flag.partition("=") for flag in flags)}


class Speeds(NamedTuple):
    """Of one product of matrices, in GFLOP/s; bfloat16 is 0 where oneDNN is missing or its results are wrong."""

    float32: float
    bfloat16: float

    @property
    def pays(self) -> bool:
        """Whether bfloat16 is worth its rounding."""
        return self.bfloat16 >= PAYS_FROM * self.float32


@functools.cache
def speeds() -> Speeds:
    """Of this machine, as the cache folder keeps them; measured if it does not, which takes about a second."""
    os.environ.setdefault(MODE, "BF16")
    atexit.register(time.sleep, PAUSE)  # before JAX frees all programs, so that none has just ended
    file = _file()
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        return Speeds(*(float(json.loads(file.read_text())[name]) for name in Speeds._fields))
    found = _measure()
    with contextlib.suppress(OSError, InputError):  # a cache that can only be read: measured again next time
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(file, "cache") as opened:
            json.dump(found._asdict(), opened)
    return found


def _file() -> Path:
    """Named by what the speeds depend on: the CPU, the version of jaxlib, and the person's settings for oneDNN."""
    cpu: list[str] = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):  # Linux
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        cpu += [line for line in lines if line.startswith(("model name", "flags"))]
    flags = sorted((name, value) for name, value in _flags().items() if name in OPTIONS)
    made_of = repr((cpu, jaxlib.__version__, os.environ[MODE], *flags))
    return cache_root() / "cpu" / f"{hashlib.sha256(made_of.encode()).hexdigest()}.json"


def _measure() -> Speeds:
    rows, width, out = SIZES
    random = np.random.default_rng(0)
    inputs = [jax.device_put(random.standard_normal(shape, np.float32)) for shape in ((rows, width), (width, out))]
    plain = jax.jit(lambda x, w: x @ w).lower(*inputs).compile()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", NOT_KEPT)
            fast = jax.jit(lambda x, w: x @ w).lower(*inputs).compile(not_set(OPTIONS))
            _NEVER_FREED.append(fast)
        expected, found = (np.asarray(program(*inputs)) for program in (plain, fast))
    except jax.errors.JaxRuntimeError:  # this XLA has no oneDNN, or calls it by another name
        return Speeds(_speed(_seconds(plain, inputs)), 0.0)
    seconds = [(_seconds(plain, inputs), _seconds(fast, inputs)) for _ in range(REPEATS)]  # in turn
    float32, bfloat16 = (_speed(statistics.median(column)) for column in zip(*seconds, strict=True))
    right = np.abs(found - expected).max() <= MOST_ERROR * np.abs(expected).max()
    return Speeds(float32, bfloat16 if right else 0.0)


def _seconds(program: jax.stages.Compiled, inputs: list[jax.Array]) -> float:
    began = time.perf_counter()
    program(*inputs).block_until_ready()
    return time.perf_counter() - began


def _speed(seconds: float) -> float:
    return round(2 * SIZES[0] * SIZES[1] * SIZES[2] / seconds / 1e9, 1)
