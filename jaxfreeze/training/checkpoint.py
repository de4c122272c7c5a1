"""Checkpoints that can be believed: Orbax behind a few functions, with a digest of our own for every leaf and word.

    checkpoints/<step>/   the trained leaves, in an unfinished run the optimizer's state too, and what they are

A step has its name once it is whole. Orbax keeps no checksums, so each leaf's digest is kept beside it and compared on
reading, and so is that of the description itself.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxfreeze import console, devices, freezing, processes, removal
from jaxfreeze.errors import InputError, listed
from jaxfreeze.run_folder import STATE_FILES, STEP_FILES, UNFINISHED_STEP

MEND = "train again with --overwrite"
ITEMS = ("trained", "state", "description")
"""The parts of a checkpoint."""
ANYTHING = re.compile(".*")


class OtherLeavesError(InputError):
    """The leaves of a checkpoint are not those that were asked for: another model's, or another version's."""


class Checkpoint(NamedTuple):
    """What an unfinished run needs to continue, or a finished one to be used."""

    step: int
    trained: dict[str, np.ndarray]  # float32
    state: dict[str, np.ndarray]  # the optimizer's leaves by path; none after the last step of a run
    about: dict[str, Any]  # JSON: whatever else steers the rest of the run


class CheckpointWriter:
    """Writes the checkpoints of one run, in the background, and keeps the last ones. Used as a context manager.

    Where several processes are at work on the run, the first one does.

    Where one cannot be written, the person is told, once, and the ones before it stay.
    """

    def __init__(self, folder: Path, keep_last: int) -> None:
        self.folder, self.keep_last = folder, keep_last
        self.best: int | None = None
        self._manager: ocp.CheckpointManager | None = None
        self._writing: int | None = None
        if folder.is_dir():
            for path in folder.iterdir():
                _remove_unfinished(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait()
        self._close()

    @property
    def steps(self) -> list[int]:
        """The steps that are there, oldest first."""
        return steps_in(self.folder)

    def save(
        self, step: int, trained: freezing.Params, state: freezing.Params, about: Mapping[str, Any], best: bool = False
    ) -> bool:
        """Take these leaves to the host and begin to write them -> whether that began well; `wait` says how it ended.

        Waits for the checkpoint before, if that is not written. Every process must call it.

        best: keep this one until a better one comes.
        """
        given = {"trained": trained, "state": state}
        trees = {name: {path: devices.fetch(leaf) for path, leaf in tree.items()} for name, tree in given.items()}
        if not processes.is_first():
            return True
        self.wait()
        self.discard([step])
        # Copies: on a CPU the arrays are views, and while one is held the next step cannot reuse its buffer.
        trees = {name: {path: np.array(leaf) for path, leaf in tree.items()} for name, tree in trees.items()}
        leaves = {name: _describe(tree) for name, tree in trees.items()}
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items() if tree}
        items["description"] = ocp.args.JsonSave(_signed({"leaves": leaves, "about": dict(about)}))
        if best:
            self.best = step
        self._writing = step
        try:
            if self._manager is None:
                self.folder.mkdir(exist_ok=True)
                self._manager = _manager(self.folder)
            if not self._manager.save(step, args=ocp.args.Composite(**items), force=True):
                raise RuntimeError("Orbax refused to save")
        except (OSError, ValueError, RuntimeError) as error:  # Orbax on a full disk: all of these
            self._failed(error)
            return False
        return True

    def wait(self) -> bool:
        """Until the last checkpoint is on disk, the superfluous ones gone -> whether it is there."""
        if self._writing is None:
            return True
        assert self._manager is not None
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except (OSError, ValueError, RuntimeError) as error:  # of the writing in the background
            self._failed(error)
            return False
        self._writing = None
        self.keep({*self.steps[-self.keep_last :], self.best})
        return True

    def keep(self, steps: Collection[int | None]) -> None:
        """Remove all but these steps."""
        self.discard([step for step in self.steps if step not in steps])

    def drop_state(self, step: int) -> None:
        """Remove the optimizer's state of a step: the rest serves inference, but no training continues from it."""
        removal.remove_folder(self.folder / str(step), STATE_FILES)  # which stays, since it is not empty

    def discard(self, steps: Collection[int]) -> None:
        """Remove these steps; one that is half removed has no step's name any more."""
        for folder in (self.folder / str(step) for step in steps):
            if folder.exists():
                if not removal.foreign(folder, STEP_FILES):
                    folder = folder.rename(folder.with_name(f"{folder.name}.removed"))
                removal.remove_folder(folder, STEP_FILES)
                self._close()  # a manager remembers the steps

    def _failed(self, error: Exception) -> None:
        step, self._writing = self._writing, None
        if self.best == step:
            self.best = None
        self._close()
        for path in self.folder.glob(f"{step}.*"):
            _remove_unfinished(path)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        last = f"the last good one is that of step {self.steps[-1]}" if self.steps else "there is none yet"
        console.say(f"the checkpoint of step {step} could not be written ({reason}); {last}")

    def _close(self) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            with contextlib.suppress(Exception):  # what went wrong was reported already, by wait
                manager.close()


def steps_in(folder: Path) -> list[int]:
    """The steps of which there is a checkpoint, oldest first, whole or not."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit() and _holds_a_step(path))


def _holds_a_step(path: Path) -> bool:
    return path.is_dir() and (not any(path.iterdir()) or any((path / name).exists() for name in ITEMS))


def _remove_unfinished(path: Path) -> None:
    """Delete a step that a killed process left half written or half removed; nothing if the path is none."""
    if path.is_dir() and not path.is_symlink() and UNFINISHED_STEP.fullmatch(path.name):
        removal.remove_folder(path, STEP_FILES if path.name.endswith(".removed") else ANYTHING)


def read(folder: Path, step: int, trained: freezing.Params, state: freezing.Params | None = None) -> Checkpoint:
    """The checkpoint of a step on the host, checked leaf by leaf against `trained` and `state`.

    Its state is empty if no template for it is given, or if it was saved after the last step of a run. Raises
    OtherLeavesError if its leaves are not those of the templates (path, shape, dtype), and InputError if anything in it
    has other bytes than were saved.
    """
    path = folder / str(step)
    if not path.is_dir():
        raise InputError(f"{folder}: holds no checkpoint of step {step}; {MEND}")
    templates = {"trained": trained, "state": state or {}}
    with _manager(folder) as manager:
        description = _opened(path, _read(manager, step, description=ocp.args.JsonRestore()))
        if not description["leaves"]["state"]:
            templates["state"] = {}
        for name, template in templates.items():
            saved = description["leaves"][name]
            found = {leaf: (about["shape"], about["dtype"]) for leaf, about in saved.items()}
            wanted = {leaf: (list(value.shape), str(value.dtype)) for leaf, value in template.items()}
            if template and found != wanted:
                differing = sorted(leaf for leaf in {*found, *wanted} if found.get(leaf) != wanted.get(leaf))
                raise OtherLeavesError(f"{path}: holds other leaves than this run trains: {listed(differing)}")
        trees = {name: _read(manager, step, **{name: _like(tree)}) if tree else {} for name, tree in templates.items()}
    digests = {(name, leaf): d for name, tree in trees.items() for leaf, d in freezing.digests(tree).items()}
    damaged = [
        leaf for (name, leaf), digest in digests.items() if description["leaves"][name][leaf]["digest"] != digest
    ]
    if damaged:
        raise InputError(f"{path}: damaged, other bytes than were saved in {', '.join(damaged)}; {MEND}")
    return Checkpoint(step, trees["trained"], trees["state"], description["about"])


def _manager(folder: Path) -> ocp.CheckpointManager:
    """Orbax, for this process alone."""
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process-{this}"
    )
    return ocp.CheckpointManager(
        folder.absolute(), options=ocp.CheckpointManagerOptions(create=False, multiprocessing_options=alone)
    )


def _like(template: freezing.Params) -> ocp.args.StandardRestore:
    return ocp.args.StandardRestore({path: np.empty(leaf.shape, leaf.dtype) for path, leaf in template.items()})


def _describe(leaves: freezing.Params) -> dict[str, dict[str, Any]]:
    """Shape, dtype and digest of each leaf, as the checkpoint keeps them."""
    digests = freezing.digests(leaves)
    return {
        path: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "digest": digests[path]}
        for path, leaf in leaves.items()
    }


def _signed(content: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(content, sort_keys=True)
    return {"content": text, "digest": hashlib.sha256(text.encode()).hexdigest()}


def _opened(path: Path, signed: Any) -> dict[str, Any]:
    text, digest = (str(signed.get(name)) for name in ("content", "digest"))
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise InputError(f"{path}: damaged, other bytes than were saved in its description; {MEND}")
    return json.loads(text)


def _read(manager: ocp.CheckpointManager, step: int, **item: Any) -> Any:
    """One item of a checkpoint, by its name."""
    try:
        return next(iter(manager.restore(step, args=ocp.args.Composite(**item)).values()))
    except Exception as error:  # a damaged file makes Orbax raise ValueError, KeyError, plain Exception and others
        raise InputError(
            f"{manager.directory / str(step)}: damaged, {type(error).__name__} on reading; {MEND}"
        ) from error
