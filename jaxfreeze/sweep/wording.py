"""Wording that the search for k and the report share."""

from jaxfreeze.sweep.curves import CONSTANT_ANSWER, Curve, beats_constant_answer
from jaxfreeze.sweep.statistics import Cell


def constant_answer_warning(curve: Curve, cell: Cell) -> str:
    """A sentence for a cell whose score does not beat that of a constant prediction; nothing for any other."""
    if beats_constant_answer(curve, cell):
        return ""
    return (
        f"But a constant prediction scores {100 * CONSTANT_ANSWER[curve.task]:.1f} on GLUE's dev set: that "
        f"anything was learned at k = {cell.layers} is not shown."
    )
