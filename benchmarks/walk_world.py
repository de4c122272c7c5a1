"""The world of benchmarks/walk.py: a tree of folders with the program's files and a person's, and its changes."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

OURS = (
    *("identity.json", "config.yaml", "log.jsonl", "freeze.json", "metrics.json", "results.jsonl"),
    *("report.md", "report.html", "report.json"),
)

Snapshot = dict[Path, str]


def digest(path: Path) -> str:
    """Of a file's bytes, or of where a link points."""
    return f"-> {path.readlink()}" if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()


class World:
    """The tree, which is the current folder; paths are relative to it."""

    def __init__(self, root: Path, pristine: Path) -> None:
        """root: of the tree, new. pristine: a model folder."""
        self.root, self._pristine = root.resolve(), pristine
        self.foreign: Snapshot = {}
        """A person's files and links, and exports and predictions, which nothing may change once they are written."""
        self.runs: dict[Path, Any] = {}
        """What is known of run folders; it moves with them."""
        self.history: list[str] = []
        for name in ("data", "runs"):
            (root / name).mkdir(parents=True)
        os.chdir(root)
        shutil.copytree(pristine, "model")
        vocabulary = json.loads(Path("model/tokenizer.json").read_text())["model"]["vocab"]
        self.words = sorted(word for word in vocabulary if word.isalpha() and len(word) > 3)[:40]

    def snapshot(self) -> Snapshot:
        """Every file and link of the tree."""
        found = {}
        for folder, folders, files in os.walk("."):
            for name in (*files, *(name for name in folders if Path(folder, name).is_symlink())):
                path = Path(folder, name)
                found[path] = digest(path)
        return found

    def folders_inside(self, *names: str) -> list[Path]:
        """Real folders in these, at any depth."""
        return sorted(
            path for name in names for path in Path(name).rglob("*") if path.is_dir() and not path.is_symlink()
        )

    def plant(self, path: Path, content: bytes) -> None:
        """A person's file, unless something is there, or it has the name of a file of ours in a folder of ours."""
        inside = path.parent.resolve()
        if path.name in OURS and any((path.parent / name).is_file() for name in OURS):
            return
        if os.path.lexists(path) or not inside.is_relative_to(self.root) or inside.is_relative_to(self.root / "model"):
            return
        with contextlib.suppress(OSError):  # a file where a folder would have to be
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            real = path.parent.resolve().relative_to(self.root) / path.name
            self.foreign[real] = digest(path)
            self.history.append(f"plant {path} {content!r}")

    def link(self, link: Path, target: Path) -> None:
        """A person's link to one of the folders, unless something is there."""
        if not os.path.lexists(link) and link.parent.is_dir():
            link.symlink_to(self.root / target)
            real = link.parent.resolve().relative_to(self.root) / link.name
            self.foreign[real] = digest(link)
            self.history.append(f"ln -s {target} {link}")

    def move(self, folder: Path, target: Path, copied: bool) -> None:
        """A run folder elsewhere, with all that is in it."""
        if not folder.is_dir() or folder.is_symlink() or target.resolve().is_relative_to(folder.resolve()):
            return
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree(folder, target, symlinks=True) if copied else folder.rename(target))
        for known in (self.foreign, self.runs):
            for path in [path for path in known if path.is_relative_to(folder)]:
                value = known[path] if copied else known.pop(path)  # type: ignore[attr-defined]
                known[target / path.relative_to(folder)] = value  # type: ignore[index]
        self.history.append(f"{'cp -r' if copied else 'mv'} {folder} {target}")

    def write_rows(self, name: str, rows: Sequence[tuple[str, str]]) -> None:
        """data/NAME.csv."""
        with Path(f"data/{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
        self.history.append(f"rows of {name}: {' '.join(label for _, label in rows)}")

    def rows(self, name: str) -> list[tuple[str, str]]:
        """Of data/NAME.csv."""
        with Path(f"data/{name}.csv").open(newline="") as file:
            return [(text, label) for text, label in csv.reader(file)][1:]

    def touch(self, name: str) -> None:
        """The same bytes, another time."""
        os.utime(name)
        self.history.append(f"touch {name}")

    def change_weights(self, part: str, factor: float) -> None:
        """Scale the tensors of a part of the model."""
        tensors = load_file("model/model.safetensors")
        changed = {name: tensor * np.float32(factor if part in name else 1) for name, tensor in tensors.items()}
        save_file(changed, "model/model.safetensors", {"format": "pt"})
        self.history.append(f"weights {part} x {factor}")

    def change_config(self, values: dict[str, Any]) -> None:
        """Another function of the same tensors."""
        path = Path("model/config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        self.history.append(f"model/config.json {values}")

    def swap_words(self, one: str, other: str) -> None:
        """A tokenizer that gives each of two words the other's number."""
        path = Path("model/tokenizer.json")
        content = json.loads(path.read_text())
        vocabulary = content["model"]["vocab"]
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
        path.write_text(json.dumps(content))
        self.history.append(f"tokenizer: {one} and {other} change places")

    def restore_model(self) -> None:
        """The model as it was in the beginning."""
        shutil.copytree(self._pristine, "model", dirs_exist_ok=True)
        self.history.append("the first model again")
