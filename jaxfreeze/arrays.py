"""The type of an array whose kind depends on the place: NumPy on the host, JAX on a device, shapes in a plan."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""np.ndarray, jax.Array or jax.ShapeDtypeStruct: what they share is shape and dtype, which comments beside it give."""
