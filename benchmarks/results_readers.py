"""What scripts of benchmarks/ print, as rows of the tables in benchmarks/results/.

A reader gets the JSON values that the commands of a table printed, in order, and gives rows by column. It may give more
columns than a table has; a column that a row lacks stays empty. Figures are rounded here.
"""

import statistics
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from jaxfreeze.freezing import ALL, Layers, order
from jaxfreeze.search import terms

Row = dict[str, Any]


def rounded(value: float, digits: int) -> Decimal:
    """The number with so many digits behind the point."""
    return Decimal(f"{value:.{digits}f}")


def significant(value: float, digits: int = 3) -> Decimal:
    """The number rounded to so many significant digits."""
    return Decimal(f"{Decimal(f'{value:.{digits - 1}e}'):f}")


def rows_of_versus(printed: list[Any]) -> list[Row]:
    """versus_pytorch.py: a row for a k and a task; where there are several tasks, one with the medians of the ratios.

    `ratio` is Trainer's time over jaxfreeze's in float32, in whichever precision Trainer ran.
    """
    rows = []
    results = [result for one in printed for result in one["results"]]
    for layers in sorted({result["trainable_layers"] for result in results}, key=order):
        found = [_versus(result) for result in results if result["trainable_layers"] == layers]
        if len(found) > 1:
            ratios = [name for name in found[0] if name.startswith("ratio") and name != PROCESSOR]
            medians = {name: statistics.median(row[name] for row in found) for name in ratios}
            found.append({"k": layers, "task": "median", **medians})
        rows += [{name: _rounded(name, cell) for name, cell in row.items()} for row in found]
    return rows


PROCESSOR = "ratio of processor time"


def _versus(result: Row) -> Row:
    """The cells of a k and a task, not rounded."""
    ours, lower = result["jaxfreeze"], result.get("jaxfreeze_bfloat16")
    seconds, score = ours["seconds"]["median"], ours["score"]["median"]
    row = {"k": result["trainable_layers"], "task": terms.task(result["task"])}
    row |= {"jaxfreeze, s": seconds, "float32, s": seconds, "score": score, "score in float32": score}
    if lower:
        row |= {"bfloat16, s": lower["seconds"]["median"], "score in bfloat16": lower["score"]["median"]}
    for precision, same in (("bfloat16", lower), ("float32", ours)):
        if peer := result.get(f"trainer_{precision}"):
            theirs = peer["seconds"]["median"]
            row |= {"Trainer, s": theirs, f"Trainer in {precision}, s": theirs, "ratio": theirs / seconds}
            row |= {"Trainer's score": peer["score"]["median"], PROCESSOR: peer["cpu_seconds"] / ours["cpu_seconds"]}
            if same:
                row[f"ratio in {precision}"] = theirs / same["seconds"]["median"]
    return row


def _rounded(column: str, cell: Any) -> Any:
    if not isinstance(cell, float):
        return cell
    return rounded(cell, 1 if column.endswith(", s") else 2 if column.startswith("ratio") else 4)


def rows_of_contestants(printed: list[Any]) -> list[Row]:
    """versus_pytorch.py with one task and one k: a row for each program."""
    ((result,),) = (one["results"] for one in printed)
    return [
        {
            "contestant": "Trainer" if name == "trainer_float32" else name,
            "seconds": rounded(figures["seconds"]["median"], 1),
            "ratio": rounded(figures["seconds"]["median"] / result["jaxfreeze"]["seconds"]["median"], 2),
            "processor seconds": round(figures["cpu_seconds"]),
            "peak memory, GB": rounded(figures["peak_memory_bytes"] / 1e9, 2),
            figures["score"]["metric"]: rounded(figures["score"]["median"], 4),
        }
        for name, figures in result.items() if isinstance(figures, dict) and "cpu_seconds" in figures
    ]  # fmt: skip


def rows_of_flops(printed: list[Any]) -> list[Row]:
    """flops.py: a row for each step that it compiles."""
    (records,) = printed
    full = next(record["flops"] for record in records if record["trainable_layers"] == "all")
    return [
        {
            "trainable_layers": record["trainable_layers"], "cached": "yes" if record["cached"] else "no",
            "GFLOP": rounded(record["flops"] / 1e9, 1), "of full": rounded(record["flops"] / full, 3),
            "temporary MB": rounded(record["temp_bytes"] / 1e6, 1),
            "optimizer MB": rounded(record["optimizer_bytes"] / 1e6, 1),
        }
        for record in records
    ]  # fmt: skip


def rows_of_searches(printed: list[Any]) -> list[Row]:
    """search.py: a row for each task. Its last line has medians only."""
    return [
        {
            "task": terms.task(line["task"]), "search, s": rounded(line["seconds"]["search"], 1),
            "runs": line["answer"]["runs"], "full model alone, s": rounded(line["seconds"]["reference"], 1),
            "Trainer, s a run": rounded(line["seconds"]["trainer"], 1),
            "search over full model alone": rounded(line["price"], 2),
            "search over as many Trainer runs": rounded(line["of_trainer"], 2),
        }
        for line in printed if "task" in line
    ]  # fmt: skip


def rows_of_answers(printed: list[Any]) -> list[Row]:
    """search.py: a row for each k and number of epochs, at its own learning rate and at the full model's."""
    rows = []
    for line in printed:
        if "task" not in line:
            continue
        points: dict[tuple[Any, int], Row] = {}
        for name, columns in (("front", _own_rate), ("paper", _full_rate)):
            for point in line["answer"][name]:
                row = points.setdefault((point["trainable_layers"], point["epochs"]), {})
                row |= {"task": terms.task(line["task"]), "k": str(point["trainable_layers"])}
                row |= {"epochs": point["epochs"], **columns(point)}
        rows += [points[key] for key in sorted(points, key=lambda key: (order(key[0]), key[1]))]
    return rows


def _own_rate(point: Row) -> Row:
    return {
        "its own rate": terms.rate(point["learning_rate"]), "score": rounded(100 * point["score"], 1),
        "95% interval": f"{100 * point['low']:.1f} to {100 * point['high']:.1f}",
        "seconds of a run": rounded(point["seconds"], 1),
    }  # fmt: skip


def _full_rate(point: Row) -> Row:
    return {
        "the full model's rate": terms.rate(point["learning_rate"]),
        "score at that rate": rounded(100 * point["score"], 1), "seconds at that rate": rounded(point["seconds"], 1),
    }  # fmt: skip


def rows_of_ways(printed: list[Any]) -> list[Row]:
    """head_first.py: a row for each task, k and way to train; scores x 100."""
    return [
        {
            "task": terms.task(one["task"]), "k": one["trainable_layers"], "way": WAYS_TO_TRAIN[one["way"]],
            "learning rate": one["learning_rate"], "score": rounded(100 * one["mean"], 1),
            "sd": rounded(100 * one["sd"], 1), "seeds": [rounded(100 * score, 1) for score in one["scores"]],
            **{
                name: rounded(100 * one[name.replace(" ", "_")], 1)
                for name in ("difference", "standard error") if name.replace(" ", "_") in one
            },
        }
        for one in printed
    ]  # fmt: skip


WAYS_TO_TRAIN = {"plain": "plain", "head_first": "head first", "decay": "rate halved from layer to layer"}
WAYS = {
    "sweep": "sweep", "one_by_one": "one by one, without the trunk cache", "trainer": "Trainer, one by one"
}  # fmt: skip


def rows_of_sweep(printed: list[Any]) -> list[Row]:
    """sweep.py: a row for each way to make the runs."""
    (found,) = printed
    return [
        {
            "way": WAYS[name], "seconds": rounded(seconds, 1),
            "the sweep's share": None if name == "sweep" else rounded(found["sweep_as_a_share_of"][name], 3),
        }
        for name, seconds in found["seconds"].items()
    ]  # fmt: skip


def rows_of_predict(printed: list[Any]) -> list[Row]:
    """predict.py: a row for `predict`, and one for each batch size of the pipeline."""
    (found,) = printed
    rates = [("`run.py predict`", None, found["jaxfreeze"])]
    rates += [("pipeline", int(size), values) for size, values in found["pipeline"].items()]
    return [
        {"program": name, "batch": size, "rows per second": [round(value) for value in values]}
        for name, size, values in rates
    ]


def rows_of_shared_trunk(printed: list[Any]) -> list[Row]:
    """shared_trunk.py: a row for each number of runs."""
    (found,) = printed
    seconds, ratios = found["seconds"], found["of one task"]
    columns = {"together": ("together, s", "of one"), "apart": ("each by itself, s", "each by itself, of one")}
    rows: dict[int, Row] = {}
    for name in seconds:
        count, way = name.split()
        row = rows.setdefault(int(count), {"runs": int(count)})
        row |= dict(zip(columns[way], (rounded(seconds[name], 2), rounded(ratios[name], 2)), strict=True))
    return [rows[count] for count in sorted(rows)]


def rows_of_device_times(printed: list[Any]) -> list[Row]:
    """devices.py --only time, once without --shard_optimizer and once with it: a row for each number of devices."""
    plain, sharded = printed
    return [
        {
            "devices": int(count),
            **{
                f"{name}{of}": rounded(found[name][count]["ms_per_step"], 1)
                for name in ("strong", "weak")
                for of, found in (("", plain), (", --shard_optimizer", sharded))
            },
        }
        for count in plain["strong"]
    ]


def rows_of_device_bytes(printed: list[Any]) -> list[Row]:
    """devices.py --only bytes: a row for each depth."""
    (found,) = printed
    return [
        {
            "trained layers": depth if depth == "all" else int(depth),
            "MB": rounded(sum(sent.values()) / 1e6, 1), "of all": rounded(found["share_of_all"][depth], 4),
        }
        for depth, sent in found["bytes"].items()
    ]  # fmt: skip


def rows_of_packing(printed: list[Any]) -> list[Row]:
    """devices.py --only packing: a row for each batch size."""
    (found,) = printed
    return [
        {
            "examples in a batch": int(size), "packing, ms": significant(one["ms_per_batch"]),
            "choosing shapes, s": rounded(one["seconds_for_shapes"], 1),
        }
        for size, one in found["packing"].items()
    ]  # fmt: skip


def rows_of_scaling(printed: list[Any]) -> list[Row]:
    """scaling.py: a row for each k and number of epochs; what was measured twice counts once, the first time."""
    rows: dict[tuple[Layers, int], Row] = {}
    for one in printed:
        cached = one["cache"] != "off"
        layers: Layers = ALL if one["k"] == ALL else int(one["k"])
        rows.setdefault((layers, int(one["epochs"])), {
            "k": layers, "epochs": int(one["epochs"]),
            "whole process, s": rounded(one["process_seconds"], 1),
            "trunk cache, s": rounded(one["seconds"]["cache"], 1) if cached else None,
            "training, s": rounded(one["seconds"]["train"], 1),
            "trunk cache, MB": rounded(one["cache_bytes"] / 1e6, 1) if cached else None,
            "peak memory, GB": rounded(one["resident_bytes"] / 1e9, 2),
        })  # fmt: skip
    return [rows[key] for key in sorted(rows, key=lambda key: (order(key[0]), key[1]))]


CONTESTANTS = {"pytorch": "PyTorch", "pytorch_graphs": "PyTorch, CUDA graphs"}


def rows_of_gpu(printed: list[Any]) -> list[Row]:
    """gpu.py: a row for each k, batch size and contestant that could run."""
    rows = []
    for record in (record for one in printed for record in one["records"]):
        figures = {name: cell for name, cell in record.items() if isinstance(cell, dict) and "error" not in cell}
        names = CONTESTANTS | ({"uncached": "jaxfreeze"} if record["trainable_layers"] == "all" else {})
        for name, found in figures.items():
            row = {"k": record["trainable_layers"], "batch": record["batch_size"], "contestant": names.get(name, name)}
            row["ms per step"] = significant(found["milliseconds"])
            row["examples/s"] = round(found["examples_per_second"])
            if name not in CONTESTANTS and "pytorch" in figures:
                row["times PyTorch"] = significant(figures["pytorch"]["milliseconds"] / found["milliseconds"])
            if "share_of_peak" in found:
                row["share of peak"] = rounded(found["share_of_peak"], 3)
            rows.append(row)
    return rows


def rows_of_chips(printed: list[Any]) -> list[Row]:
    """chips.py: a row for each step that compiled; without the estimate where the compiler gave none."""
    rows = []
    for one in (one for one in printed if "error" not in one):
        row = {
            "model": f"{one['family']}, {one['rows']} x {one['width']}",
            "device": f"{one['count']} x {one['chip']}",
            "k": one["trainable_layers"],
            "states": ("cached" if one["cached"] else "computed") + ", optimizer sharded" * one["shard_optimizer"],
            "compile, s": rounded(one["compile_seconds"], 1),
            "memory, MB": significant(one["memory_bytes"] / 1e6),
            "floor, ms": rounded(max(one["arithmetic_milliseconds"], one["memory_milliseconds"]), 3),
            "sent, MB": " and ".join(f"{size / 1e6:.1f}" for size in one["sent_bytes"].values()) or "nothing",
        }  # fmt: skip
        if "estimated_milliseconds" in one:
            row["estimate, ms"] = rounded(one["estimated_milliseconds"], 3)
            row |= {"times floor": rounded(one["times_floor"], 2), "copies": f"{100 * one['copy_share']:.1f}%"}
        rows.append(row)
    return rows


READERS: dict[str, Callable[[list[Any]], list[Row]]] = {
    **dict.fromkeys(
        ("trainer_3_epochs", "trainer_10_epochs", "trainer_bfloat16", "bfloat16_cpu", "bfloat16_avx512"), rows_of_versus
    ),
    "mpnet_speed": rows_of_contestants,
    "flops": rows_of_flops,
    "search": rows_of_searches,
    "search_answers": rows_of_answers,
    "head_first": rows_of_ways,
    "sweep": rows_of_sweep,
    "predict": rows_of_predict,
    "shared_trunk": rows_of_shared_trunk,
    "devices_time": rows_of_device_times,
    "devices_bytes": rows_of_device_bytes,
    "devices_packing": rows_of_packing,
    "scaling": rows_of_scaling,
    "gpu_steps_h200": rows_of_gpu,
    "chips": rows_of_chips,
}
"""By name of the table. Rows of the others are entered by hand."""
