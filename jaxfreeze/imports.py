"""Imports that take less time. This module loads nothing heavy itself."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """For a command's imports of jax and what needs it: garbage is not looked for meanwhile.

    They make half a million objects that stay, and looking through these again and again took a third of a start.
    """
    if not gc.isenabled() or "jax" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # no later collection looks through them either
        gc.enable()
