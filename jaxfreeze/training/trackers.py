"""Where a run's figures go beside log.jsonl: TensorBoard, Weights & Biases, MLflow, all through one interface."""

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

from jaxfreeze import console, processes, removal
from jaxfreeze.config import FOLDER_FLAGS, TrainConfig, as_json
from jaxfreeze.errors import InputError, in_words
from jaxfreeze.run_folder import EVENT_FILES, RunFolder

if "torch" not in sys.modules:
    sys.modules["torch"] = None  # type: ignore[assignment]  # tensorboardX imports it: seconds, for nothing used here
    from tensorboardX import SummaryWriter

    del sys.modules["torch"]
else:
    from tensorboardX import SummaryWriter

Settings = Mapping[str, str | int | float | bool]
PACKAGES = ("wandb", "mlflow")
"""Flags of trackers that are packages of their own; they have the packages' names."""


class Tracker(Protocol):
    """Is told how a run goes."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Figures after so many optimizer steps, by names such as train/loss."""

    def result(self, scores: Mapping[str, float], step: int) -> None:
        """The final scores, by names such as final/accuracy."""

    def close(self, failed: bool) -> None:
        """Nothing more comes. failed: an error ended the run, or a signal."""


class TensorBoard:
    """Event files in the run folder, with the settings as hyperparameters."""

    def __init__(self, settings: Settings, folder: RunFolder, step: int) -> None:
        """step: the one after which the run begins; events of later steps, from before it was stopped, are hidden."""
        if step == 0:
            removal.remove(folder.path, EVENT_FILES)
        self._settings = dict(settings)
        self._events = SummaryWriter(str(folder.path / "events"), flush_secs=10, purge_step=step + 1 if step else None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def result(self, scores: Mapping[str, float], step: int) -> None:
        """What SummaryWriter.add_hparams writes, in the same file: its second one may have the first one's name."""
        from tensorboardX.summary import hparams

        for summary in hparams(self._settings, dict(scores)):
            self._events.file_writer.add_summary(summary, step)
        self.scalars(scores, step)

    def close(self, failed: bool) -> None:
        self._events.close()


class WeightsAndBiases:
    """A run of wandb. A run that continues after it was stopped is the same one there."""

    def __init__(self, settings: Settings, folder: RunFolder, project: str) -> None:
        if not console.console.is_terminal:
            os.environ.setdefault("WANDB_SILENT", "true")
        wandb, name = _package("wandb"), folder.path.resolve().name
        key = _key(folder)
        self._run = wandb.init(project=project, name=name, id=key, resume="allow", config=dict(settings))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def result(self, scores: Mapping[str, float], step: int) -> None:
        self._run.summary.update(dict(scores))

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class MLflow:
    """A run of MLflow. A run that continues after it was stopped is the same one there."""

    def __init__(self, settings: Settings, folder: RunFolder, project: str) -> None:
        self._mlflow, key = _package("mlflow"), _key(folder)
        self._mlflow.set_experiment(project)
        known = self._mlflow.search_runs(filter_string=f"tags.jaxfreeze = '{key}'", output_format="list")
        if known:
            self._mlflow.start_run(run_id=known[0].info.run_id)
        else:
            self._mlflow.start_run(run_name=folder.path.resolve().name, tags={"jaxfreeze": key})
        self._mlflow.log_params(dict(settings))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        named = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in values.items()}  # what MLflow takes
        self._mlflow.log_metrics(named, step=step)

    def result(self, scores: Mapping[str, float], step: int) -> None:
        self.scalars(scores, step)

    def close(self, failed: bool) -> None:
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


class Guarded:
    """A tracker whose failure ends its own record and not the run."""

    def __init__(self, tracker: Tracker, flag: str) -> None:
        self._tracker: Tracker | None = tracker
        self._flag = flag

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._tell(lambda tracker: tracker.scalars(values, step))

    def result(self, scores: Mapping[str, float], step: int) -> None:
        self._tell(lambda tracker: tracker.result(scores, step))

    def close(self, failed: bool) -> None:
        self._tell(lambda tracker: tracker.close(failed))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except Exception as error:  # noqa: BLE001  # whatever a network or a package raises
            self._tracker = None
            console.say(f"--{self._flag}: {in_words(error)}; the run continues without it, and log.jsonl has all")


SERVICES: dict[str, Callable[[Settings, RunFolder, str], Tracker]] = {"wandb": WeightsAndBiases, "mlflow": MLflow}
PROJECTS = {"wandb": "WANDB_PROJECT", "mlflow": "MLFLOW_EXPERIMENT_NAME"}
"""The environment variable of each that names the project; without it, it is that of the folder around the run's."""


def check_installed(config: TrainConfig) -> None:
    """Raise InputError for a tracker that is asked for without its package."""
    for flag in PACKAGES if processes.is_first() else ():
        if getattr(config, flag):
            _package(flag)


def trackers_of(config: TrainConfig, folder: RunFolder, step: int) -> list[Tracker]:
    """TensorBoard, and those that the flags ask for, which the first process alone tells.

    step: the one after which the run begins. Raises InputError for one that does not start.
    """
    settings, trackers = settings_of_run(config), list[Tracker]()
    for flag in PACKAGES if processes.is_first() else ():
        if getattr(config, flag):
            project = os.environ.get(PROJECTS[flag]) or folder.path.resolve().parent.name or "jaxfreeze"
            try:
                trackers.append(Guarded(SERVICES[flag](settings, folder, project), flag))
            except InputError:
                raise
            except Exception as error:
                raise InputError(f"--{flag}: it does not start ({in_words(error)}); leave it out, or log in") from error
            console.say(f"--{flag}: run {folder.path.resolve().name} of project {project}")
    return [TensorBoard(settings, folder, step), *trackers]


def settings_of_run(config: TrainConfig) -> Settings:
    """The settings that have a value, lists as texts, without those about the run's folder."""
    values: dict[str, Any] = {name: value for name, value in as_json(config).items() if name not in FOLDER_FLAGS}
    texts = {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}
    return {name: value for name, value in texts.items() if value not in (None, "")}


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"--{name}: the package {name} is not installed; run: pip install 'jaxfreeze[{name}]'"
        ) from error


def _key(folder: RunFolder) -> str:
    """The same for a run that continues, another for one that begins again in its folder."""
    begun = f"{folder.path.resolve()} {folder.config.stat().st_mtime_ns}"
    return hashlib.sha256(begun.encode()).hexdigest()[:16]
