"""Fine-tune the last k layers of an encoder in JAX, pay only for those, and prove that the rest did not change.

from jaxfreeze import finetune, load

run = finetune(task="rte", trainable_layers=3)
classifier = load(run)
classifier([("A man plays a guitar.", "Somebody makes music.")])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxfreeze.api import apply_top, find_layers, finetune, load

__all__ = ["apply_top", "find_layers", "finetune", "load"]


def __getattr__(name: str) -> Any:
    """The interface, imported when it is asked for: settings of XLA have to come before the first array."""
    if name == "__version__":
        from jaxfreeze import program

        return program.version()
    if name in __all__:
        from jaxfreeze import api

        return getattr(api, name)
    raise AttributeError(f"module 'jaxfreeze' has no attribute '{name}'")
