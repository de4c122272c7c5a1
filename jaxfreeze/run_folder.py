"""The folder of one run: what is in it, and when it may be written to."""

import dataclasses
import json
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jaxfreeze import removal
from jaxfreeze.atomic import check_writable, is_temporary, locked, new_file, write_errors
from jaxfreeze.config import FOLDER_FLAGS, TrainConfig, from_yaml, to_yaml
from jaxfreeze.errors import InputError
from jaxfreeze.identity import Origin

_ITEM = r"(ocdbt\.process_\d+/)?(d/[0-9a-f]{32}|manifest\.ocdbt)(\.__lock)?"
_PART = rf"(commit_success\.txt|metadata|_METADATA|_sharding|_strings\.json|array_metadatas/process_\d+|{_ITEM})"
STEP_FILES = re.compile(rf"_CHECKPOINT_METADATA|commit_success\.txt|(description|trained|state)/{_PART}")
"""What Orbax writes for one step of a run."""
STATE_FILES = re.compile(f"state/{_PART}")
"""Of these, the optimizer's state."""
UNFINISHED_STEP = re.compile(r"\d+\.(removed|orbax-checkpoint-tmp[^/]*)")
"""The folder of a step that is half written or half removed."""
EVENT_FILES = re.compile(r"events/events\.out\.tfevents\.[^/]+")
_TOP = r"identity\.json|config\.yaml|freeze\.json|metrics\.json|predictions-\w+\.parquet"
RUN_FILES = re.compile(
    rf"{_TOP}|\.({_TOP})\.writing|log\.jsonl|\.lock|"
    rf"{EVENT_FILES.pattern}|checkpoints/(\d+(\.removed)?/({STEP_FILES.pattern})|\d+\.orbax-checkpoint-tmp[^/]*/.+)"
)
"""All that is ever written into the folder of a run."""
NOT_COMPARED = (*FOLDER_FLAGS, "log_every", "cache", "cache_budget")  # flags that do not change a run's result


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @property
    def identity(self) -> Path:
        """What the run was made of; the mark by which the folder is known as one of ours."""
        return self.path / "identity.json"

    @property
    def lock(self) -> Path:
        """There while a process trains the run."""
        return self.path / ".lock"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder for this process. Raises InputError if another one has it."""
        busy = "another process is training in it; wait for it, or give another folder"
        return locked(self.lock, f"--output_dir {self.path}", busy)

    @property
    def config(self) -> Path:
        """The complete settings of the run, with defaults."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """One JSON object per logged step or evaluation."""
        return self.path / "log.jsonl"

    @property
    def freeze(self) -> Path:
        """Every parameter's label, and the frozen ones' digests before and after."""
        return self.path / "freeze.json"

    @property
    def metrics(self) -> Path:
        """The result; there once the run is finished."""
        return self.path / "metrics.json"

    def predictions(self, split: str) -> Path:
        """What the run answers for each row of a split that it was scored on."""
        return self.path / f"predictions-{split}.parquet"

    @property
    def checkpoints(self) -> Path:
        """Trained leaves, a folder per step."""
        return self.path / "checkpoints"

    def is_finished(self, config: TrainConfig) -> bool:
        """Whether a run with these settings is finished here; if not, it can begin or continue here.

        What it was made of is not compared here: see `check_origin`. Raises InputError if something else is in the way.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--output_dir {self.path}: expected a folder, found a file; give another name")
        if not self.path.is_dir() or all(is_temporary(file) or file == self.lock for file in self.path.iterdir()):
            check_writable(self.path, "--output_dir")
            return False
        if not self.identity.is_file():
            what = "holds no run"
            if self.config.is_file() and self.freeze.is_file():
                what = "its run has no identity.json: an earlier jaxfreeze made it"
            raise InputError(f"--output_dir {self.path}: the folder is not empty and {what}; give another name")
        check_writable(self.path, "--output_dir")
        if config.overwrite:
            given = (config.train_file, config.validation_file, config.test_file, config.data_dir, config.model)
            inputs = [Path(path) for path in given if path]
            removal.check_removable(self.path, RUN_FILES, f"--overwrite: {self.path}", inputs)
            return False
        if not self.config.is_file():  # killed before it was written
            return False
        differences = _differences(self.config, config)
        if differences:
            raise InputError(
                f"--output_dir {self.path}: holds another run ({'; '.join(differences)}); "
                "give another folder, or --overwrite to delete that run"
            )
        if not self.metrics.is_file() and not config.resume:
            raise InputError(f"--output_dir {self.path}: holds this run, unfinished; --overwrite starts it again")
        return self.metrics.is_file()

    def origin(self) -> Origin | None:
        """What the run here was made of; None if there is none, or an earlier jaxfreeze made it. Raises InputError."""
        if not self.identity.is_file():
            return None
        try:
            return Origin.from_json(self.read(self.identity))
        except ValueError as error:
            raise InputError(f"{self.identity}: damaged ({error}); --overwrite runs it again") from error

    def check_origin(self, now: Origin) -> None:
        """Raise InputError if the run here was made of other rows, classes, tokenizer or weights than those of now."""
        then = self.origin()
        if then is not None and (differences := then.differences(now)):
            raise InputError(
                f"--output_dir {self.path}: holds a run with {differences}; restore them, give another folder, or "
                "--overwrite to delete that run"
            )

    def create(self, config: TrainConfig, origin: Origin) -> None:
        """Have identity.json and config.yaml in it; with --overwrite, nothing else of ours."""
        with write_errors(f"--output_dir {self.path}"):
            if config.overwrite and self.path.is_dir():
                self.metrics.unlink(missing_ok=True)  # first: what is left of a run that is deleted is unfinished
                removal.remove(self.path, RUN_FILES, [file.name for file in (self.lock, self.identity, self.config)])
            self.path.mkdir(parents=True, exist_ok=True)
        begins = config.overwrite or not self.config.is_file()
        write_json(self.identity, {"made_by": "jaxfreeze", "kind": "run", **origin.as_json()})
        if begins:
            recorded = dataclasses.replace(config, overwrite=False, resume=True, output_dir=str(self.path))
            with new_file(self.config, "--output_dir") as file:
                file.write(to_yaml(recorded))

    def read(self, file: Path) -> Any:
        """A JSON file of a finished run."""
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: not a file of a finished run ({error})") from error


def _differences(file: Path, config: TrainConfig) -> list[str]:
    """The settings in which a config differs from the config.yaml of a run."""
    here, asked = dataclasses.asdict(from_yaml(file)), dataclasses.asdict(config)
    return [
        f"--{name} was {here[name]}, is {asked[name]}"
        for name in asked
        if name not in NOT_COMPARED and here[name] != asked[name]
    ]


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file of a run folder, indented, atomically."""
    with new_file(path, "--output_dir") as file:
        file.write(json.dumps(value, indent=2) + "\n")
