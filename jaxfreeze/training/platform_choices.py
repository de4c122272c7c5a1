"""What is done in one way on a CPU and in another on an accelerator, and the line that says so."""

MOST_SHAPES = 4
STEPS_FOR_A_SHAPE = 300  # on a CPU, through one layer: a shape more costs seconds to compile, and saves a part of each
EXAMPLES_FOR_A_SHAPE = 3_000_000
"""On an accelerator, through one layer: a shape more costs a TPU about a minute to compile, and saves it some 20
microseconds of each, a third of 1 ms for 16 examples (the compiler's estimate for a v5e, BERT-base, k = 3)."""


def most_shapes(platform: str, steps: int, layers: int, batch_size: int) -> int:
    """How many shapes the batches of a run may have: one more where it saves more time than it takes to compile.

    layers: that a step runs through. platform: as `devices.platform_of` names it.
    """
    if platform == "cpu":
        return min(MOST_SHAPES, 1 + steps * layers // STEPS_FOR_A_SHAPE)
    return min(MOST_SHAPES, 1 + steps * layers * batch_size // EXAMPLES_FOR_A_SHAPE)


def note(platform: str, dtype: str, shapes: int) -> str | None:
    """What a person is told of this on an accelerator; None on a CPU. shapes: how many the batches have."""
    if platform == "cpu":
        return None
    compiled = f"on a {platform.upper()} one program is compiled for {shapes} batch shape{'s' * (shapes > 1)}"
    if dtype == "bfloat16":
        return compiled
    saved = "more than half of a step's time" if platform == "tpu" else "time and memory"
    return f"{compiled}; --dtype bfloat16 would save {saved}, as float32 products run in full precision"
