"""What benchmark scripts print becomes rows of their tables: every reader by hand, on values as JSON gives them."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def readers() -> Iterator[ModuleType]:
    """benchmarks/results_readers.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import results_readers

        yield results_readers


def contestant(seconds: float, cpu_seconds: float, score: float) -> dict[str, Any]:
    """One program, as versus_pytorch.py prints it."""
    scores = {"median": score, "metric": "accuracy"}
    return {
        "seconds": {"median": seconds}, "cpu_seconds": cpu_seconds, "score": scores, "peak_memory_bytes": 3_714_000_000
    }  # fmt: skip


def versus(depths: tuple[int | str, ...], tasks: dict[str, float], **more: Any) -> dict[str, Any]:
    """What versus_pytorch.py prints; `tasks` has Trainer's seconds."""
    ours = contestant(10.04, 20.0, 0.5)
    return {
        "results": [
            {"task": task, "trainable_layers": layers, "jaxfreeze": ours, **more,
             "trainer_bfloat16": contestant(seconds, 30.0, 0.25), "ratios": {}}
            for layers in depths for task, seconds in tasks.items()
        ]
    }  # fmt: skip


TASKS = {"rte": 20.08, "mrpc": 30.12, "stsb": 100.4}
LOWER = {"jaxfreeze_bfloat16": contestant(5.02, 9.0, 0.5004)}
BOTH = LOWER | {"trainer_float32": contestant(40.16, 60.0, 0.4)}
STEP = {"cached": True, "flops": 1e11, "temp_bytes": 1e8, "optimizer_bytes": 1e8, "trainable_layers": 3}
ALL = STEP | {"cached": False, "flops": 5e11, "trainable_layers": "all"}


def point(layers: int | str, rate: float, epochs: int, score: float, seconds: float) -> dict[str, Any]:
    """A setting in answer.json."""
    return {
        "trainable_layers": layers, "learning_rate": rate, "epochs": epochs, "score": score, "low": score - 0.1234,
        "high": score + 0.1, "seconds": seconds, "scores": [score],
    }  # fmt: skip


FULL = point("all", 5e-5, 3, 0.27725, 160.41)
SEARCH = [
    {
        "task": "cola", "seconds": {"search": 2033.8, "reference": 1247.66, "trainer": 352.4}, "price": 1.6301,
        "of_trainer": 0.0577,
        "answer": {
            "runs": 100,
            "front": [FULL, point(0, 0.01, 9, 0.081, 1.728), point(0, 0.01, 3, 0, 0.5)],
            "paper": [point(0, 5e-5, 3, 0.0, 1.387), point(2, 5e-5, 3, 0.15, 37.6), FULL],
        },
    },
    {"median_price": 1.63, "median_of_trainer": 0.058},
]  # fmt: skip


def strong(*milliseconds: float) -> dict[str, Any]:
    """What devices.py prints of times; half of them for the weak scaling."""
    times = {str(2**at): {"batch_size": 8, "ms_per_step": one} for at, one in enumerate(milliseconds)}
    return {"strong": times, "weak": {count: {"ms_per_step": one["ms_per_step"] / 2} for count, one in times.items()}}


def grown(layers: str, epochs: str, cache: str, seconds: float) -> dict[str, Any]:
    """A point of scaling.py."""
    return {
        "k": layers, "epochs": epochs, "examples": "4000", "steps": 750, "cache": cache, "cache_bytes": 104_657_920,
        "seconds": {"cache": 7.7, "train": 13.64}, "process_seconds": seconds, "resident_bytes": 1_590_000_000,
    }  # fmt: skip


CHIP = {
    "family": "bert", "chip": "v5e", "count": 4, "rows": 16, "width": 128, "trainable_layers": 1, "cached": True,
    "shard_optimizer": True, "compile_seconds": 199.3, "memory_bytes": 55_049_000,
    "arithmetic_milliseconds": 0.2, "memory_milliseconds": 0.225,
    "sent_bytes": {"all-gather": 15.4e6, "reduce-scatter": 30.74e6},
}  # fmt: skip
ESTIMATE = {"estimated_milliseconds": 0.6449, "times_floor": 2.868, "copy_share": 0.0091}

PRINTED: dict[str, tuple[list[Any], list[str]]] = {
    "trainer_10_epochs": (
        [versus(("all",), TASKS), versus((2,), TASKS)],
        [
            "2 RTE 10.0 20.1 2.00 1.50 0.5000 0.2500",
            "2 MRPC 10.0 30.1 3.00 1.50 0.5000 0.2500",
            "2 STS-B 10.0 100.4 10.00 1.50 0.5000 0.2500",
            "2 median - - 3.00 - - -",
            *["all RTE 10.0 20.1 2.00 1.50 0.5000 0.2500", "all MRPC 10.0 30.1 3.00 1.50 0.5000 0.2500"],
            *["all STS-B 10.0 100.4 10.00 1.50 0.5000 0.2500", "all median - - 3.00 - - -"],
        ],
    ),
    "bfloat16_cpu": (
        [versus((1,), {"rte": 20.08}, **LOWER)],
        ["1 RTE 10.0 5.0 20.1 4.00 0.5000 0.5004 0.2500"],
    ),
    "bfloat16_avx512": (
        [versus((1,), {"rte": 20.08, "stsb": 30.12}, **BOTH)],
        ["RTE 10.0 40.2 4.00 5.0 20.1 4.00", "STS-B 10.0 40.2 4.00 5.0 30.1 6.00", "median - - 4.00 - - 5.00"],
    ),
    "mpnet_speed": (
        [{"results": [{
            "task": "rte", "trainable_layers": 3, "jaxfreeze": contestant(584.0, 1108.4, 0.5596),
            "trainer_float32": contestant(1179.0, 2064.2, 0.5487), "ratios": {"trainer_float32": {"jaxfreeze": 2.019}},
        }]}],
        ["jaxfreeze 584.0 1.00 1108 3.71 0.5596", "Trainer 1179.0 2.02 2064 3.71 0.5487"],
    ),
    "flops": (
        [[STEP | {"temp_bytes": 248.7e6, "optimizer_bytes": 174.84e6}, ALL]],
        ["3 yes 100.0 0.200 248.7 174.8", "all no 500.0 1.000 100.0 100.0"],
    ),
    "search": (SEARCH, ["CoLA 2033.8 100 1247.7 352.4 1.63 0.06"]),
    "search_answers": (
        SEARCH,
        [
            "CoLA 0 1e-2 3 0.0 -12.3 to 10.0 5e-5 0.0 0.5 1.4",
            "CoLA 0 1e-2 9 8.1 -4.2 to 18.1 - - 1.7 -",
            "CoLA 2 - 3 - - 5e-5 15.0 - 37.6",
            "CoLA all 5e-5 3 27.7 15.4 to 37.7 5e-5 27.7 160.4 160.4",
        ],
    ),
    "head_first": (
        [
            {"task": "cola", "trainable_layers": 1, "way": "plain", "learning_rate": "5e-4", "head_rate": None,
             "scores": [0.18, 0.1827], "mean": 0.18135, "sd": 0.00191},
            {"task": "cola", "trainable_layers": 1, "way": "decay", "learning_rate": "1e-3", "head_rate": None,
             "scores": [0.17, 0.17], "mean": 0.17, "sd": 0.0, "difference": -0.01135, "standard_error": 0.00135},
        ],
        [
            f"CoLA 1 plain 5e-4 18.1 0.2 {[Decimal('18.0'), Decimal('18.3')]} - -",
            f"CoLA 1 rate halved from layer to layer 1e-3 17.0 0.0 {[Decimal('17.0'), Decimal('17.0')]} -1.1 0.1",
        ],
    ),
    "sweep": (
        [{"seconds": {"sweep": 282.7, "one_by_one": 661.2, "trainer": 1795.1},
          "sweep_as_a_share_of": {"sweep": 1.0, "one_by_one": 0.428, "trainer": 0.157}}],
        ["sweep 282.7 -", "one by one, without the trunk cache 661.2 0.428", "Trainer, one by one 1795.1 0.157"],
    ),
    "predict": (
        [{"jaxfreeze": [817.4, 875.6], "pipeline": {"8": [310.2, 352.9]}, "best_batch_size": 8}],
        ["`run.py predict` - [817, 876]", "pipeline 8 [310, 353]"],
    ),
    "shared_trunk": (
        [{"seconds": {"1 together": 3.43, "3 together": 3.99, "3 apart": 10.66},
          "of one task": {"1 together": 1.0, "3 together": 1.134, "3 apart": 3.1}}],
        ["1 3.43 1.00 - -", "3 3.99 1.13 10.66 3.10"],
    ),
    "devices_time": ([strong(58.8, 75.2), strong(46.4, 72)], ["1 58.8 46.4 29.4 23.2", "2 75.2 72.0 37.6 36.0"]),
    "devices_bytes": (
        [{"bytes": {"0": {"all-reduce": 2_300_000, "all-gather": 51_000}, "all": {"all-reduce": 437_900_000}},
          "share_of_all": {"0": 0.0054, "all": 1.0}}],
        ["0 2.4 0.0054", "all 437.9 1.0000"],
    ),
    "devices_packing": (
        [{"packing": {"16": {"ms_per_batch": 0.0712, "seconds_for_shapes": 0.31},
                      "2048": {"ms_per_batch": 28.716, "seconds_for_shapes": 13.46}}}],
        ["16 0.0712 0.3", "2048 28.7 13.5"],
    ),
    "scaling": (
        [grown("3", "3", "device", 28.6), grown("all", "3", "off", 59.1), grown("3", "1", "device", 19.6),
         grown("3", "3", "device", 99.9)],
        ["3 1 19.6 7.7 13.6 104.7 1.59", "3 3 28.6 7.7 13.6 104.7 1.59", "all 3 59.1 - 13.6 - 1.59"],
    ),
    "gpu_steps_h200": (
        [{"records": [
            {"batch_size": 16, "trainable_layers": 3, "cached": {"milliseconds": 1.366, "examples_per_second": 11656.7},
             "pytorch": {"milliseconds": 10.66, "examples_per_second": 1498.6, "share_of_peak": 0.0312},
             "pytorch_graphs": {"error": "RuntimeError: no"}},
            {"batch_size": 128, "trainable_layers": "all",
             "uncached": {"milliseconds": 11.8, "examples_per_second": 10846.0, "share_of_peak": 0.2341}},
        ]}],
        ["3 16 cached 1.37 11657 7.80 -", "3 16 PyTorch 10.7 1499 - 0.031", "all 128 jaxfreeze 11.8 10846 - 0.234"],
    ),
    "chips": (
        [CHIP | ESTIMATE, CHIP | {"cached": False, "shard_optimizer": False, "sent_bytes": {}}, {"error": "no room"}],
        [
            "bert, 16 x 128 4 x v5e 1 cached, optimizer sharded 199.3 55.0 0.9% 0.645 0.225 2.87 15.4 and 30.7",
            "bert, 16 x 128 4 x v5e 1 computed 199.3 55.0 - - 0.225 - nothing",
        ],
    ),
}  # fmt: skip
SAME = {"trainer_3_epochs": "trainer_10_epochs", "trainer_bfloat16": "trainer_10_epochs"}
"""Tables with the reader of another one."""


def test_every_reader_is_tried(readers: ModuleType) -> None:
    assert readers.READERS.keys() == PRINTED.keys() | SAME.keys()
    assert all(readers.READERS[name] is readers.READERS[other] for name, other in SAME.items())


@pytest.mark.parametrize("name", [*PRINTED, *SAME])
def test_rows(name: str, readers: ModuleType) -> None:
    import results

    columns = results.read(results.FOLDER / f"{name}.json")["columns"]
    printed, expected = PRINTED[SAME.get(name, name)]
    rows = readers.READERS[name](printed)
    assert [column for column in columns if not any(column in row for row in rows)] == []
    if name in PRINTED:
        cells = [[row.get(column) for column in columns] for row in rows]
        assert [" ".join("-" if cell is None else str(cell) for cell in row) for row in cells] == expected


def test_significant_digits(readers: ModuleType) -> None:
    values = {0.0712: "0.0712", 0.000456789: "0.000457", 10: "10.0", 999.6: "1000", 5283.0: "5280"}
    assert {value: str(readers.significant(value)) for value in values} == values
