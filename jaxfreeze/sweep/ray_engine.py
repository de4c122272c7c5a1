"""Makes the runs of a sweep on a Ray cluster: one Ray task for each group, retried elsewhere if its node is lost."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxfreeze.errors import InputError
from jaxfreeze.sweep import runner
from jaxfreeze.sweep.grid import Group
from jaxfreeze.sweep.progress import SweepProgress
from jaxfreeze.sweep.workshop import Outcome

RETRIES = 5  # of a group whose node or process was lost
PASSED_ON = ("JAXFREEZE_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "JAX_PLATFORMS")  # to workers; access tokens are not


def make_groups(groups: Sequence[Group], progress: SweepProgress) -> Iterator[Outcome]:
    """Make the runs of these groups on the cluster at $RAY_ADDRESS, or on a local one; yields outcomes as they end.

    A group takes one GPU, or all TPU chips or CPUs of a node. Raises InputError if Ray is not installed or no node has
    one of these.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError('--engine ray: Ray is not installed; pip install "jaxfreeze[ray]"') from error
    settings = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, runtime_env={"env_vars": settings})
    try:
        # One process per group: its devices are those that Ray assigned, and its compiled programs end with it.
        remote = ray.remote(max_calls=1, max_retries=RETRIES, **resources(ray.nodes()))(make_group)
        waiting = [remote.remote(group, str(Path.cwd())) for group in groups]
        while waiting:
            ended, waiting = ray.wait(waiting)
            yield from _outcomes_of(ray, ended[0])
    finally:
        ray.shutdown()


def _outcomes_of(ray: Any, ended: Any) -> list[Outcome]:
    try:
        return ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from error
        raise


def resources(nodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The resources that a group requests, from those of the nodes."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus, tpus, cpus = ([int(node[kind]) for node in alive if node.get(kind)] for kind in ("GPU", "TPU", "CPU"))
    if gpus:
        return {"num_gpus": 1}
    if tpus:
        return {"resources": {"TPU": min(tpus)}}
    if cpus:
        return {"num_cpus": min(cpus)}
    raise InputError("--engine ray: no node of the cluster has a GPU, a TPU or a CPU to give")


def make_group(group: Group, folder: str) -> list[Outcome]:
    """Runs in a worker: make the runs of a group, in the folder where the sweep was started."""
    os.chdir(folder)  # flags may name files from there
    from jaxfreeze import console

    console.console.quiet = True
    return list(runner.make_groups([group], SweepProgress([group])))
