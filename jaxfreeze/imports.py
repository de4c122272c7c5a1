"""Imports that take less time. This module itself loads nothing heavy."""

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


only_a_command = False
"""Whether this process runs a command and nothing else. A program that imports the package may need PyTorch later."""


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """For the first import of a package that would import another one, `name`, only because it is installed.

    transformers takes 1.2 s longer to import where it finds PyTorch, which no tokenizer uses. What was imported so
    stays as it is, so this is done only in a process that runs a command and nothing else.
    """
    if not only_a_command or name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say that there is no such module
    try:
        yield
    finally:
        del sys.modules[name]  # other packages ask for it in their own ways, and None would surprise them
