"""Checkpoints of the trained leaves only: Orbax behind two functions, with a digest per leaf of our own."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from jaxfreeze import freezing
from jaxfreeze.errors import InputError


def save(folder: Path, step: int, trained: freezing.Params) -> None:
    """Write folder/<step>/ with the trained leaves and their digests, and wait until it is there."""
    with ocp.CheckpointManager(folder.absolute()) as manager:
        items = ocp.args.Composite(
            trained=ocp.args.StandardSave(trained), digests=ocp.args.JsonSave(freezing.digests(trained))
        )
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
        saved = manager.item_metadata(step).trained or {}
        found = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in dict(saved).items()}
        wanted = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in template.items()}
        if found != wanted:
            differing = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
            raise InputError(f"{folder / str(step)}: holds other leaves than this run trains: {', '.join(differing)}")
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), template
        )
        items = ocp.args.Composite(trained=ocp.args.StandardRestore(abstract), digests=ocp.args.JsonRestore())
        restored = manager.restore(step, args=items)
    damaged = [path for path, digest in freezing.digests(restored.trained).items() if restored.digests[path] != digest]
    if damaged:
        raise InputError(f"{folder / str(step)}: damaged, other bytes than were saved in {', '.join(damaged)}")
    return step, restored.trained
