"""The folder of one run: what is in it, and when it may be written to."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from jaxfreeze.atomic import check_writable, is_temporary, new_file, write_errors
from jaxfreeze.config import FOLDER_FLAGS, TrainConfig, from_yaml, to_yaml
from jaxfreeze.errors import InputError

NOT_COMPARED = (*FOLDER_FLAGS, "log_every", "cache", "cache_budget")  # flags that do not change a run's result


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

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

    @property
    def checkpoints(self) -> Path:
        """Trained leaves, a folder per step."""
        return self.path / "checkpoints"

    def is_finished(self, config: TrainConfig) -> bool:
        """Whether this very run is finished here; if not, it can begin or go on here.

        Raises InputError if something else is in the way.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--output_dir {self.path}: expected a folder, found a file; give another name")
        if not self.path.is_dir() or all(map(is_temporary, self.path.iterdir())):
            check_writable(self.path, "--output_dir")
            return False
        if not self.config.is_file():
            raise InputError(f"--output_dir {self.path}: the folder is not empty and holds no run; give another name")
        if config.overwrite:
            return False
        differences = self._differences(config)
        if differences:
            raise InputError(
                f"--output_dir {self.path}: holds another run ({'; '.join(differences)}); "
                "give another folder, or --overwrite to delete that run"
            )
        if not self.metrics.is_file() and not config.resume:
            raise InputError(f"--output_dir {self.path}: holds this run, unfinished; --overwrite starts it again")
        return self.metrics.is_file()

    def _differences(self, config: TrainConfig) -> list[str]:
        here = dataclasses.asdict(from_yaml(self.config))
        asked = dataclasses.asdict(config)
        return [
            f"--{name} was {here[name]}, is {asked[name]}"
            for name in asked
            if name not in NOT_COMPARED and here[name] != asked[name]
        ]

    def create(self, config: TrainConfig) -> None:
        """Have config.yaml in it; with --overwrite, nothing else."""
        with write_errors(f"--output_dir {self.path}"):
            if config.overwrite and self.config.is_file():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
        if not self.config.is_file():
            recorded = dataclasses.replace(config, overwrite=False, resume=True, output_dir=str(self.path))
            with new_file(self.config, "--output_dir") as file:
                file.write(to_yaml(recorded))

    def read(self, file: Path) -> Any:
        """A JSON file of a finished run."""
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: not a file of a finished run ({error})") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file of a run folder, indented, atomically."""
    with new_file(path, "--output_dir") as file:
        file.write(json.dumps(value, indent=2) + "\n")
