"""Checkpoints of the trained leaves only: Orbax behind two functions, with a digest per leaf of our own."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxfreeze import freezing
from jaxfreeze.errors import InputError

MEND = "train again with --overwrite"


def _describe(leaves: freezing.Params) -> dict[str, dict[str, Any]]:
    """Shape, dtype and digest of each leaf, as the checkpoint keeps them."""
    digests = freezing.digests(leaves)
    return {
        path: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "digest": digests[path]}
        for path, leaf in leaves.items()
    }


def save(folder: Path, step: int, trained: freezing.Params) -> None:
    """Write folder/<step>/ with the trained leaves and their digests, and wait until it is there."""
    with ocp.CheckpointManager(folder.absolute()) as manager:
        leaves = ocp.args.JsonSave(_describe(trained))
        items = ocp.args.Composite(trained=ocp.args.StandardSave(trained), leaves=leaves)
        if not manager.save(step, args=items, force=True):
            raise RuntimeError(f"{folder}: Orbax did not save step {step}")
        manager.wait_until_finished()


def restore(folder: Path, template: freezing.Params) -> tuple[int, freezing.Params]:
    """(step, trained leaves) of the latest checkpoint, laid out as in `template`, checked leaf by leaf.

    Raises InputError if there is no checkpoint, if its leaves are not those of the template (path, shape, dtype), or
    if a leaf's bytes are not those that were saved.
    """
    with ocp.CheckpointManager(folder.absolute()) as manager:
        step = manager.latest_step()
        if step is None:
            raise InputError(f"{folder}: holds no checkpoint; the run did not finish")
        saved = _read(manager, step, leaves=ocp.args.JsonRestore())
        found = {path: (leaf.get("shape"), leaf.get("dtype")) for path, leaf in saved.items()}
        wanted = {path: (list(leaf.shape), str(leaf.dtype)) for path, leaf in template.items()}
        if found != wanted:
            differing = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
            raise InputError(f"{folder / str(step)}: holds other leaves than this run trains: {', '.join(differing)}")
        shapes = {
            p: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for p, leaf in template.items()
        }
        trained = _read(manager, step, trained=ocp.args.StandardRestore(shapes))
    damaged = [path for path, digest in freezing.digests(trained).items() if saved[path].get("digest") != digest]
    if damaged:
        raise InputError(f"{folder / str(step)}: damaged, other bytes than were saved in {', '.join(damaged)}; {MEND}")
    return step, trained


def _read(manager: ocp.CheckpointManager, step: int, **item: Any) -> dict[str, Any]:
    """One item of a checkpoint, by its name."""
    try:
        return next(iter(manager.restore(step, args=ocp.args.Composite(**item)).values()))
    except Exception as error:  # a damaged file makes Orbax raise ValueError, KeyError, plain Exception and others
        raise InputError(
            f"{manager.directory / str(step)}: damaged, {type(error).__name__} on reading; {MEND}"
        ) from error
