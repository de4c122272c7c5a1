"""What a result depends on beside its settings: rows, classes, tokenizer, weights. One value names it and is compared.

Comparing is cheap where nothing was touched: the files that were read are looked up by size and times first, and read
again only if those differ.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

FORMAT = 1
"""Of what is written down; raise it when the meaning of a digest changes."""

Inputs = dict[str, list[int]]
"""Path -> [size in bytes, modification time, change time in ns] of every file that was read."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """Digests (SHA-256, hex) of all that a result was made of. Two results with equal ones may stand side by side."""

    rows: Mapping[str, str]
    """By split: of its texts and labels."""
    classes: tuple[str, ...]
    """In id order; () where labels are numbers."""
    tokenizer: str
    """Of the files that make texts to tokens."""
    weights: str
    """Of the pretrained weights, without those that are drawn at random."""
    encoder: str
    """Of the architecture, as config.json gives it."""
    format: int = FORMAT

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` wrote. Raises ValueError for anything else."""
        try:
            return cls(**{**value, "classes": tuple(value["classes"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"no identity: {error}") from error

    def as_json(self) -> dict[str, Any]:
        """In JSON types."""
        return {**dataclasses.asdict(self), "classes": list(self.classes)}

    def differences(self, now: "Identity", splits: Iterable[str] | None = None) -> list[str]:
        """In what another identity differs, in words. splits: whose rows are compared; None: all that either has."""
        names = {**self.rows, **now.rows} if splits is None else splits
        found = [f"{_split(name)} rows" for name in names if self.rows.get(name) != now.rows.get(name)]
        words = _WORDS
        if self.classes != now.classes:
            found.append(f"classes ({_shown(self.classes)} then, {_shown(now.classes)} now)")
            words = {name: what for name, what in _WORDS.items() if name != "weights"}  # the head is loaded for classes
        return found + [what for name, what in words.items() if getattr(self, name) != getattr(now, name)]


class Origin(NamedTuple):
    """What a result was made of, and the files that this was read from."""

    identity: Identity
    inputs: Inputs

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """What `as_json` wrote. Raises ValueError for anything else."""
        try:
            return cls(Identity.from_json(value["identity"]), dict(value["inputs"]))
        except (TypeError, KeyError) as error:
            raise ValueError(f"no identity and inputs: {error}") from error

    def as_json(self) -> dict[str, Any]:
        """In JSON types."""
        return {"identity": self.identity.as_json(), "inputs": self.inputs}

    def differences(self, now: "Origin", splits: Iterable[str] | None = None) -> str:
        """In what another result differs, in words, with the files that were touched; nothing if it does not differ."""
        found = self.identity.differences(now.identity, splits)
        files = touched(self.inputs, now.inputs)
        return f"different {', '.join(found)}{f' ({files})' if files else ''}" if found else ""


_WORDS = {
    "tokenizer": "tokenizer",
    "weights": "pretrained weights",
    "encoder": "architecture in config.json",
    "format": "format of these records",
}


def inputs_of(files: Iterable[Path]) -> Inputs:
    """Sizes and times of those of the files that are there; a link counts as what it points to."""
    found = {}
    for file in files:
        try:
            about = file.stat()
        except OSError:
            continue
        found[str(file)] = [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
    return found


def touched(then: Mapping[str, list[int]], now: Mapping[str, list[int]]) -> str:
    """Which files are others than before, and since when, for the end of an error line; nothing if none is."""
    words = []
    for path, about in now.items():
        if then.get(path) != about:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about[1] / 1e9))
            words.append(f"{path} was modified {when}" if path in then else f"{path} is new")
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def _split(name: str) -> str:
    return "training" if name == "train" else name.replace("_", " ")


def _shown(classes: tuple[str, ...]) -> str:
    return f"{', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}" if classes else "none"
