"""Commands to functions, and exit codes: 0 done, 2 an input to mend (one line), 1 anything else (a traceback)."""

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxfreeze import run_commands
from jaxfreeze.cache_folder import cache_root
from jaxfreeze.config import FOLDER_FLAGS, TrainConfig, add_settings, from_flag, read_settings
from jaxfreeze.errors import InputError, Stopped, one_of
from jaxfreeze.flags import EXAMPLES, FIELDS, by_flag, make_parser, parse, spelled_out

DESCRIPTION = """\
Fine-tune the last k layers of BERT or RoBERTa in JAX, and prove that the rest did not move.

commands:
  train      fine-tune; what `python run.py --task ...` does without a command
  --task T --coordinator HOST:PORT --num_processes N --process_id I
             one run on several processes, each started so; TPU pods and SLURM steps need no flags
  --task T --find_layers 0.90 [--confidence 0.9] [--seeds 1 2 3] [--budget 2]
             how many layers keep 90% of full fine-tuning: the full model, then k = 0, 1, 2 ...
  sweep      --config FILE.yaml --output_dir DIR: many runs over one trunk
  report     DIR... --output DIR: figures, tables and the answer: how many layers are enough
  evaluate   --run DIR: load a finished run and score it again
  predict    --run DIR [--run DIR2] --input FILE --output FILE: rows of a table,
             or lines; --glue_submission DIR: the files for GLUE's leaderboard
  export     --run DIR --output DIR: a finished run as a folder that transformers loads
  serve      --run DIR [--run DIR2] [--port 8000]: answers over HTTP, and a page to try it
  cache      list | clear: what is kept on disk because it can be made again
  inspect    the parameter table, the cut, and the memory and FLOPs of a step; trains nothing
"""

AXES = {
    "models": "NAME [NAME ...]",
    "tasks": "TASK [TASK ...]",
    "trainable_layers": "K [K ...]",
    "learning_rates": "RATE [RATE ...]",
    "seeds": "N [N ...]",
}
"""The axes of a sweep, as flags."""

ENGINE = "Where the runs are made: here, or on the Ray cluster at $RAY_ADDRESS, a group of runs on each free place."

SEARCH_FLAGS = ("find_layers", "confidence", "seeds", "budget")
"""What `--find_layers` takes beside the flags of a run."""

CLUSTER_FLAGS = ("coordinator", "num_processes", "process_id")
"""How the processes of one run find each other."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command -> its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "train"
    try:
        if command not in COMMANDS:
            raise InputError(f"{command}: not a command; expected {one_of(COMMANDS, command)}")
        COMMANDS[command](arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.number  # as shells have it
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130  # 128 + SIGINT
    return 0


def _train(arguments: list[str]) -> None:
    if "--find_layers" in {flag for flag, _ in by_flag(arguments)}:
        _find_layers(arguments)
        return
    cluster, arguments = _cluster(arguments)
    config = _train_config("train", DESCRIPTION, arguments)
    from jaxfreeze import processes  # after the flags: --help and mistakes in flags answer without jax
    from jaxfreeze.training.loop import finetune

    processes.join(cluster and processes.Cluster(*cluster))
    finetune(config)


def _cluster(arguments: list[str]) -> tuple[tuple[str, int, int] | None, list[str]]:
    """(coordinator, processes, number of this one), if the flags name them, and the other arguments."""
    flags = by_flag(arguments)
    found = {flag.removeprefix("--"): values for flag, values in flags if flag.removeprefix("--") in CLUSTER_FLAGS}
    rest = [text for flag, values in flags if flag.removeprefix("--") not in CLUSTER_FLAGS for text in (flag, *values)]
    if not found:
        return None, arguments
    missing = [f"--{name}" for name in CLUSTER_FLAGS if len(found.get(name, ())) != 1]
    if missing:
        raise InputError(f"{missing[0]}: expected one value; several processes take --{', --'.join(CLUSTER_FLAGS)}")
    where, count, number = found["coordinator"][0], *(from_flag(found[name][0]) for name in CLUSTER_FLAGS[1:])
    if not re.fullmatch(r"[^:\s]+:\d{1,5}", where):
        raise InputError(f"--coordinator {where}: expected HOST:PORT of the first process, such as 10.0.0.2:8476")
    if type(count) is not int or count < 1:
        raise InputError(f"--num_processes {count}: expected a whole number of at least 1")
    if type(number) is not int or not 0 <= number < count:
        raise InputError(f"--process_id {number}: expected 0 to {count - 1}, each in one of the {count} processes")
    return (where, count, number), rest


def _find_layers(arguments: list[str]) -> None:
    """`--find_layers SHARE [--confidence SHARE] [--seeds N ...] [--budget TIMES]` beside the flags of a run."""
    flags = by_flag(arguments)
    found = {flag.removeprefix("--"): values for flag, values in flags if flag.removeprefix("--") in SEARCH_FLAGS}
    rest = [(flag, values) for flag, values in flags if flag.removeprefix("--") not in SEARCH_FLAGS]
    not_taken = {"trainable_layers", "trainable", "seed", "eval_every", *FOLDER_FLAGS, *CLUSTER_FLAGS} - {"output_dir"}
    found_too = sorted({flag for flag, _ in rest} & {f"--{name}" for name in not_taken})
    if found_too:
        raise InputError(f"{found_too[0]}: not with --find_layers, which tries numbers of layers and --seeds itself")
    target, confidence = (_share(name, found.get(name, ["0.9"])) for name in ("find_layers", "confidence"))
    seeds = [from_flag(text) for text in found.get("seeds", ["1", "2", "3"])]
    if not seeds or len(set(seeds)) < len(seeds) or not all(type(s) is int and 0 <= s < 2**32 for s in seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: expected whole numbers, each once")
    budget = from_flag(found["budget"][0]) if len(found.get("budget", ())) == 1 else found.get("budget", 2)
    if not isinstance(budget, (int, float)) or isinstance(budget, bool) or not budget > 1:
        raise InputError(
            f"--budget {' '.join(found['budget'])}: expected a number above 1, the cost of the search as a multiple of "
            "that of its full runs"
        )
    config = _train_config("train", DESCRIPTION, [text for flag, values in rest for text in (flag, *values)])
    folder = Path(config.output_dir or f"runs/find_layers-{config.task}-{Path(config.model).name}")
    from jaxfreeze.sweep.search import find_layers

    find_layers(dataclasses.replace(config, output_dir=None), target, confidence, seeds, folder, budget)


def _share(name: str, values: list[str]) -> float:
    value = from_flag(values[0]) if len(values) == 1 else None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1:
        raise InputError(f"--{name} {' '.join(values)}: expected a share between 0 and 1, such as 0.9")
    return float(value)


def _inspect(arguments: list[str]) -> None:
    config = _train_config(
        "inspect", "Print what would train, the cut, and what a step costs; trains nothing.", arguments
    )
    from jaxfreeze.training.inspection import inspect

    inspect(config)


def _sweep(arguments: list[str]) -> None:
    about = """Train every combination of models, tasks, trainable_layers, learning_rates and seeds. The axes, and any
        training flag by its name, stand in the YAML file or on the command line, which wins. A sweep that was stopped
        goes on where it was."""
    parser = make_parser("sweep", about, usage="python run.py sweep --config FILE --output_dir DIR [flags]")
    parser.add_argument("--config", type=str, metavar="FILE", help="YAML file of the axes and of training flags.")
    parser.add_argument("--output_dir", type=str, metavar="DIR", required=True, help="Folder for results.jsonl.")
    parser.add_argument("--dry_run", action="store_true", help="Print the plan and what it costs; train nothing.")
    parser.add_argument("--line_search", action="store_true", help="Run the file's section line_search instead.")
    parser.add_argument("--part", type=str, metavar="I/N", help="Make the I-th of N parts alone; `report` merges them.")
    parser.add_argument("--engine", type=str, metavar="{local,ray}", default="local", help=ENGINE)
    for name, metavar in AXES.items():
        parser.add_argument(f"--{name}", type=str, metavar=metavar, help=f"Axis {name}.")
    from jaxfreeze.sweep.grid import LISTS, read_grid

    own = {"config", "output_dir", "dry_run", "line_search", "part", "engine", "h", "help"}
    flags = by_flag(arguments)
    ours = [(flag, values) for flag, values in flags if flag.lstrip("-") in own or not flag.startswith("--")]
    options = parse(parser, [text for flag, values in ours for text in (flag, *values)]).as_dict()
    settings: dict[str, Any] = {}
    for flag, values in flags:
        name = flag.removeprefix("--")
        if name not in own and flag.startswith("--"):
            if not values and FIELDS.get(name) is not bool:
                raise InputError(f"{flag}: expected a value, found none")
            items = [from_flag(value) for value in values]
            several = name in LISTS or FIELDS.get(name) == tuple[str, ...]
            settings[name] = items if several else items[0] if items else True
    file = Path(options["config"]) if options.get("config") else None
    grid = read_grid(file, settings, options.get("line_search", False))
    part, engine = _part(options.get("part")), options.get("engine", "local")
    if engine not in ("local", "ray"):
        raise InputError(f"--engine {engine}: expected {one_of(('local', 'ray'), engine)}")
    from jaxfreeze.sweep import ray_engine, runner

    make_groups = ray_engine.make_groups if engine == "ray" else runner.make_groups
    dry_run = options.get("dry_run", False)
    runner.sweep(grid, Path(options["output_dir"]), dry_run, part and runner.Part(*part), make_groups)


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--part {text}: expected I/N with I from 1 to N, such as 3/16")
    return int(found[1]), int(found[2])


def _report(arguments: list[str]) -> None:
    parser = make_parser(
        "report",
        "Write report.html, report.md and figures about the finished runs in some folders.",
    )
    parser.add_argument("folders", type=str, nargs="+", metavar="DIR", help="Folders of sweeps or of single runs.")
    parser.add_argument("--output", type=str, metavar="DIR", required=True, help="Folder for the report.")
    options = parse(parser, arguments)
    from jaxfreeze.report.report import report

    report([Path(folder) for folder in options.folders], Path(options.output))


def _cache(arguments: list[str]) -> None:
    """Token stores, trunk caches, compiled programs: list them, or clear them all."""
    parser = make_parser(
        "cache",
        "Token stores, trunk caches and compiled programs: `list` them, or `clear` them all.",
    )
    parser.add_argument("what", type=str, help="list or clear")
    if {"-h", "--help"} & set(arguments):
        parse(parser, arguments)
    if len(arguments) != 1 or arguments[0] not in ("list", "clear"):
        raise InputError(f"cache {' '.join(arguments)}: expected list or clear, as in: {EXAMPLES['cache']}")
    from jaxfreeze import cache_folder

    if arguments == ["clear"]:
        print(f"{cache_folder.clear() / 1e6:,.1f} MB freed in {cache_root()}")
        return
    entries = cache_folder.entries()
    print("\n".join([f"{cache_root()}:{'' if entries else ' empty'}", *map(cache_folder.describe, entries)]))


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "sweep": _sweep,
    "report": _report,
    "evaluate": run_commands.evaluate,
    "predict": run_commands.predict,
    "export": run_commands.export,
    "serve": run_commands.serve,
    "cache": _cache,
    "inspect": _inspect,
}


def _train_config(command: str, description: str, arguments: list[str]) -> TrainConfig:
    parser = make_parser(command, description, usage="python run.py [command] --task TASK [flags]")
    parser.add_argument(
        "--config", type=str, metavar="FILE", help="YAML file of any of these flags; flags win over it."
    )
    add_settings(parser)
    flags = by_flag(arguments)
    settings = {}
    for file in (values[0] for flag, values in flags if flag == "--config" and values):
        settings = read_settings(Path(file))
    if {"--trainable", "--trainable_layers"} & {flag for flag, _ in flags}:  # one policy replaces the other
        settings = {name: value for name, value in settings.items() if name not in ("trainable", "trainable_layers")}
    options = parse(parser, spelled_out(flags), settings).as_dict()
    options.pop("config", None)
    return TrainConfig(**options)
