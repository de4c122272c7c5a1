"""Commands to functions, and exit codes: 0 done, 2 an input error (one line), 1 anything else (a traceback)."""

import dataclasses
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from jaxfreeze import run_commands
from jaxfreeze.command_config import (
    AXES,
    PER_RUN,
    ClusterConfig,
    SearchConfig,
    SweepConfig,
    check_search,
    check_searches,
    folder_of_search,
)
from jaxfreeze.config import File, Folder, TrainConfig, read_settings
from jaxfreeze.errors import InputError, Stopped, one_of_names
from jaxfreeze.flags import VERSION, Command, asks_for_help, help_text, read
from jaxfreeze.imports import quick_imports
from jaxfreeze.output import guarded
from jaxfreeze.program import program, version
from jaxfreeze.run_folder import RunFolder
from jaxfreeze.settings import MissingError, Takes, make, settings_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command -> its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "train"
    with guarded() as output:
        try:
            _run(name, arguments)
            output.finish()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return 128 + stopped.number  # as shells have it
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130  # 128 + SIGINT
    return 0


def _run(name: str, arguments: list[str]) -> None:
    if name not in COMMANDS:
        raise InputError(f"{name}: not a command; expected {one_of_names(COMMANDS, name)}")
    command = COMMANDS[name]
    if command is TRAIN and arguments == [VERSION]:
        print(f"jaxfreeze {version()}")
        return
    if asks_for_help(arguments):
        print(help_text(command))
        return
    try:
        command.run(read(command, arguments))
    except MissingError as error:
        raise InputError(f"{error}, as in: {program()} {command.example}") from None
    except ValueError as error:
        if "jax" in sys.modules or not _is_jaxs(error):
            raise
        given = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("JAX_")]
        raise InputError(
            f"JAX does not start with {', '.join(given)} ({error}); correct or unset the variable"
        ) from error


def _is_jaxs(error: Exception) -> bool:
    """Whether JAX raised it while it was imported, when it reads its environment variables."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return "jax" in Path(files[-1]).parts


@dataclasses.dataclass(frozen=True)
class FileConfig:
    """A file of flags."""

    config: File | None = None
    """YAML file of any of these flags; flags win over it."""


def _train_config(given: dict[str, Any]) -> TrainConfig:
    """The settings of a run: those in the file that --config names, and flags, which win over it."""
    settings = _read_file(Path(given["config"]), "output_dir" in given) if "config" in given else {}
    if given.keys() & {"trainable", "trainable_layers"}:  # one policy replaces the other
        settings = {name: value for name, value in settings.items() if name not in ("trainable", "trainable_layers")}
    return make(TrainConfig, settings | given)


def _read_file(file: Path, elsewhere: bool) -> dict[str, Any]:
    """The settings in a file. The config.yaml of a run folder means this run, wherever the folder lies by now.

    elsewhere: another folder is asked for.
    """
    settings = read_settings(file)
    folder = RunFolder(file.parent)
    if elsewhere or file.name != folder.config.name or not folder.identity.is_file():
        return settings
    before = Path(settings.get("output_dir") or file.parent)
    if before.resolve() != folder.path.resolve():
        from jaxfreeze import console

        console.say(f"{folder.path}: this run's folder was {before} before; it continues where it is now")
    return settings | {"output_dir": str(folder.path)}


def _train(given: dict[str, Any]) -> None:
    if given.keys() & settings_of(SearchConfig).keys():
        _find_layers(given)
        return
    cluster = make(ClusterConfig, given)
    config = _train_config(given)
    with quick_imports():  # after the flags: --help and mistakes in flags answer without jax
        from jaxfreeze import processes
        from jaxfreeze.training.loop import finetune

    processes.join(cluster if cluster.coordinator else None)
    finetune(config)


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Train 3 of 6 layers of a packaged BERT on generated pairs: minutes on two cores."""

    output_dir: Folder = "runs/demo"
    """Run folder."""
    overwrite: bool = False
    """Delete the run in the folder and start again."""


def _demo(given: dict[str, Any]) -> None:
    flags = dataclasses.asdict(make(DemoConfig, given))
    _train({"task": "demo", "model": "demo", "trainable_layers": 3, **flags})


def _find_layers(given: dict[str, Any]) -> None:
    search = make(SearchConfig, given)
    check_search(search, given)
    config = _train_config(given)
    folder = folder_of_search(config)
    config = dataclasses.replace(config, output_dir=None)
    if search.protocol == "paper":
        with quick_imports():
            from jaxfreeze.sweep import search as paper

        assert search.find_layers is not None  # checked above
        seeds, budget = search.seeds or (1, 2, 3), float(search.budget)
        paper.find_layers(config, search.find_layers, search.confidence, seeds, folder, budget)
        return
    with quick_imports():
        from jaxfreeze.search.conduct import find_layers

    find_layers(config, search, folder)


def _inspect(given: dict[str, Any]) -> None:
    config = _train_config(given)
    with quick_imports():
        from jaxfreeze.training import inspection

    inspection.inspect(config)


def _sweep(given: dict[str, Any]) -> None:
    config = make(SweepConfig, given)
    with quick_imports():
        from jaxfreeze.sweep import ray_engine, runner
        from jaxfreeze.sweep.grid import read_grid

    others = {*settings_of(SweepConfig), *OF_SEARCHES} - {*AXES}
    settings = {name: value for name, value in given.items() if name not in others}
    file, folder = None if config.config is None else Path(config.config), Path(config.output_dir)
    part = None if config.part is None else runner.Part(*map(int, config.part.split("/")))
    if given.keys() & OF_SEARCHES.keys():
        from jaxfreeze.search.several import find_layers_of_each, read_searches

        search = make(SearchConfig, {name: value for name, value in given.items() if name in OF_SEARCHES})
        check_searches(search, given)
        searches, search = read_searches(file, settings, search)
        engine = ray_engine.make_groups if config.engine == "ray" else None
        find_layers_of_each(searches, search, folder, part, engine)
        return
    grid = read_grid(file, settings, config.line_search)
    make_groups = ray_engine.make_groups if config.engine == "ray" else runner.make_groups
    runner.sweep(grid, folder, config.dry_run, part, make_groups)


def _refuse_in_sweep(name: str) -> None:
    from jaxfreeze.sweep.grid import check_name

    check_name(name, f"--{name}")


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Write a report about searches and finished runs: how many layers are enough, and why."""

    folders: Annotated[tuple[Folder, ...], Takes("DIR [DIR ...]", expected="DIR", positional=True)]
    """Folders of searches, sweeps or single runs."""
    output: Folder
    """Folder for report.html, report.md and the figures."""


def _report(given: dict[str, Any]) -> None:
    config = make(ReportConfig, given)
    from jaxfreeze.report.report import report

    report([Path(folder) for folder in config.folders], Path(config.output))


@dataclasses.dataclass(frozen=True)
class CacheConfig:
    """List or clear what is kept on disk: token stores, trunk caches and compiled programs."""

    action: Annotated[Literal["list", "clear"], Takes("{list,clear}", expected="list or clear", positional=True)]
    """list: print each entry and its size. clear: delete them all."""


def _cache(given: dict[str, Any]) -> None:
    config = make(CacheConfig, given)
    from jaxfreeze import cache_folder

    root = cache_folder.cache_root()
    if config.action == "clear":
        print(f"{cache_folder.clear() / 1e6:,.1f} MB freed in {root}")
        return
    entries = cache_folder.entries()
    print("\n".join([f"{root}:{'' if entries else ' empty'}", *map(cache_folder.describe, entries)]))


IN_ALL_RUNS = {name: setting for name, setting in settings_of(TrainConfig).items() if name not in (*AXES, *PER_RUN)}
OF_SEARCHES = {
    name: setting for name, setting in settings_of(SearchConfig).items() if name not in ("seeds", "protocol")
}
OTHERS = (
    Command("demo", _demo, (DemoConfig,), "demo --output_dir runs/demo"),
    Command(
        "sweep",
        _sweep,
        (SweepConfig,),
        "sweep --config configs/sweep.yaml --output_dir runs/sweep",
        {
            "how many layers are enough? A search for each model and task, in place of the combinations": OF_SEARCHES,
            "training flags, the same for all runs": IN_ALL_RUNS,
        },
        refuse=_refuse_in_sweep,
    ),
    Command("report", _report, (ReportConfig,), "report runs/sweep --output runs/sweep/report"),
    Command("evaluate", run_commands.evaluate, (run_commands.EvaluateConfig,), "evaluate --run runs/demo"),
    Command(
        "predict",
        run_commands.predict,
        (run_commands.PredictConfig,),
        "predict --run runs/demo --input test.tsv --output predictions.jsonl",
    ),
    Command(
        "export",
        run_commands.export,
        (run_commands.ExportConfig,),
        "export --run runs/demo --output exported",
    ),
    Command("serve", run_commands.serve, (run_commands.ServeConfig,), "serve --run runs/demo --port 8000"),
    Command("cache", _cache, (CacheConfig,), "cache list"),
    Command(
        "inspect",
        _inspect,
        (FileConfig, TrainConfig),
        "inspect --task demo --model demo --trainable_layers 3",
        about="Print what would train, and the memory and FLOPs of a step; train nothing.",
    ),
    Command("compare", run_commands.compare, (run_commands.CompareConfig,), "compare runs/first runs/second"),
    Command(
        "push",
        run_commands.push,
        (run_commands.PushConfig,),
        "push --run runs/demo --repo my-model --private",
    ),
)
DESCRIPTION = """\
Fine-tune the last k layers of BERT or another encoder in JAX, and prove that the rest is unchanged.

commands:
  train     Fine-tune; the word `train` may be left out.
""" + "\n".join(f"  {command.name:<10}{command.summary}" for command in OTHERS)
TRAIN = Command(
    "train",
    _train,
    (FileConfig, TrainConfig),
    "--task demo --model demo --trainable_layers 3",
    {
        "how many layers are enough? Every k at its own learning rate": settings_of(SearchConfig),
        "one run on several processes (TPU pods and SLURM steps need no flags)": settings_of(ClusterConfig),
    },
    DESCRIPTION,
)
COMMANDS = {command.name: command for command in (TRAIN, *OTHERS)}
