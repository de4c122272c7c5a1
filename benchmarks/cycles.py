"""What the compiler for TPUs expects a step to take, read from the text of a compiled program: cycles of the chip."""

import re
from collections import Counter


def estimated_cycles(text: str) -> Counter[str]:
    """The compiler's cycles of one step in the text of a compiled program: all, and those of copies.

    The step is the body of the program's outermost loop; a loop within it counts as often as it goes round. {} where
    the compiler gives none.
    """
    found = re.search(r"^ENTRY .*?\bwhile\(.*?body=%([\w.-]+)", text, re.DOTALL | re.MULTILINE)
    return cycles_of(text, found[1]) if found else Counter()


def cycles_of(text: str, name: str) -> Counter[str]:
    """Of one round of the computation of that name."""
    cycles: Counter[str] = Counter()
    for line in computation(text, name).splitlines():
        if found := re.search(r'%([\w.-]+) = .*"estimated_cycles":"(\d+)"', line):
            cycles["all"] += int(found[2])
            cycles["copies"] += int(found[2]) * found[1].startswith(("copy", "transpose"))
        if loop := re.search(r"\bwhile\(.*condition=%([\w.-]+), body=%([\w.-]+)", line):
            for kind, number in cycles_of(text, loop[2]).items():
                cycles[kind] += rounds(text, loop[1]) * number
    return cycles


def rounds(text: str, condition: str) -> int:
    """How often a loop over a number of parts goes round: as long as its counter is less than a constant."""
    numbers = re.findall(r"= s32\[\]\S* constant\((\d+)\)", computation(text, condition))
    assert len(numbers) == 1, f"{condition}: no loop over a known number of parts"
    return int(numbers[0])


def computation(text: str, name: str) -> str:
    """The text of the computation of that name."""
    found = re.search(rf"^%{re.escape(name)} .*?^}}", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]
