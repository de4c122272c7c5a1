"""The Python interface: `from jaxfreeze import finetune, load`."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

from jaxfreeze.command_config import SearchConfig, check_search, folder_of_search
from jaxfreeze.config import TrainConfig, check_settings
from jaxfreeze.errors import InputError
from jaxfreeze.inference.classifier import Classifier, SharedClassifier
from jaxfreeze.inference.ensemble import Ensemble
from jaxfreeze.inference.export import apply_top
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.search import conduct
from jaxfreeze.search.answer import Answer
from jaxfreeze.settings import expanded, settings_of
from jaxfreeze.training import loop

__all__ = ["Answer", "Classifier", "FineTuned", "SharedClassifier", "apply_top", "find_layers", "finetune", "load"]

Run = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """A finished run; `load` takes it as it takes its folder."""

    path: Path
    """The run folder."""
    record: dict[str, Any]
    """The content of metrics.json."""

    @property
    def metrics(self) -> dict[str, float]:
        """Scores on the validation rows, fractions, by name."""
        return self.record["metrics"]

    def __fspath__(self) -> str:
        return str(self.path)


def finetune(task: str, **settings: Any) -> FineTuned:
    """Fine-tune the last k layers, as the command line does, and return the run.

    `task` and `settings` are the flags of `jaxfreeze --help` by their names, such as `trainable_layers=3` (a number, or
    "all"), `model="bert-base-uncased"`, `data_dir`, `learning_rate=5e-5`, `epochs=3`, `seed=42`.

    A finished run is returned without training if its rows, tokenizer and weights have not changed. An unfinished run
    is continued.

    Raises `InputError` for a mistake in settings or files, and `Stopped` after SIGTERM, SIGINT, SIGHUP or SIGUSR1, or
    if standard output was closed.
    """
    texts = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in settings.items()}
    config = TrainConfig(**check_settings({"task": task, **texts}, "finetune"))
    record = loop.finetune(config)
    return FineTuned(config.run_folder, record)


def find_layers(task: str, share: float = 0.95, **settings: Any) -> Answer:
    """Find the smallest k that keeps a share of the best model's quality: its score above the best constant answer's.

    `task` and `settings` are the flags of `jaxfreeze --find_layers` by their names, such as `within=1`,
    `confidence=0.8`, `budget=2`, `seeds=(1, 2, 3)`, `selection_share=0.1`, and those of training except
    `learning_rate`. The search chooses a learning rate and a number of epochs for every k on selection rows; the test
    rows influence no choice. A search that was stopped continues in its `output_dir`.

    Returns what answer.json holds. Raises `InputError` for a mistake in settings or files.
    """
    given = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in settings.items()}
    asked = {name: given.pop(name) for name in list(given) if name in settings_of(SearchConfig)}
    if "find_layers" in asked:
        raise InputError("find_layers: expected the share as share=0.95")
    if asked.get("protocol", "honest") != "honest":
        raise InputError("protocol: expected honest; the paper's is --protocol paper of `jaxfreeze --find_layers`")
    search = SearchConfig(**asked | {"find_layers": share})
    check_search(search, given)
    config = TrainConfig(**check_settings({"task": task, **given}, "find_layers"))
    folder = folder_of_search(config)
    return conduct.find_layers(dataclasses.replace(config, output_dir=None), search, folder)


@overload
def load(run: Run, best: bool = False, *, ensemble: bool = False, calibrated: bool = False) -> Classifier: ...  # type: ignore[overload-overlap]  # a str is a sequence
@overload
def load(
    run: Sequence[Run], best: bool = False, *, ensemble: Literal[True], calibrated: bool = False
) -> Classifier: ...
@overload
def load(
    run: Sequence[Run], best: bool = False, *, ensemble: Literal[False] = False, calibrated: bool = False
) -> SharedClassifier: ...
def load(
    run: Run | Sequence[Run], best: bool = False, *, ensemble: bool = False, calibrated: bool = False
) -> Classifier | SharedClassifier:
    """Open a finished run, or several on one pretrained model, for texts.

    - `run`: a run folder, what `finetune` returned, or a list of them.
    - `best`: for a run of an earlier version, the step that `--keep_best` kept instead of the last one.
    - `ensemble`: the runs, which have the same classes, answer as one, with the mean of their probabilities.
    - `calibrated`: probabilities at the temperature that each run fitted on its validation rows.

    Returns a function from a list of texts, or of pairs of texts, to predictions. For a list of runs that are no
    ensemble, it returns predictions by task.

    Raises `InputError` for a folder without a finished run, for other pretrained weights than those the run was trained
    on, for runs that do not share them, and for `calibrated` if a run has no temperature.
    """
    paths = [_path(run)] if isinstance(run, (str, os.PathLike)) else [_path(one) for one in run]
    trunk = SharedTrunk(paths, best, calibrated)
    if ensemble:
        return Classifier(Ensemble(trunk))
    return Classifier(trunk) if isinstance(run, (str, os.PathLike)) else SharedClassifier(trunk)


def _path(run: Run) -> Path:
    return Path(expanded(os.fspath(run)))
