"""One device for every test, eight simulated ones where sharding is the subject; nothing from the network."""

import gc
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

from tests import effort

os.environ["XLA_FLAGS"] = effort.xla_flags(devices=8)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ |= effort.SHARED_PROGRAMS | effort.NO_LOCATIONS
os.environ["OMP_NUM_THREADS"] = "1"  # the PyTorch reference is small: more threads wait for each other
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has the cache of the process that started it
    os.environ["JAXFREEZE_CACHE"] = tempfile.mkdtemp(prefix="jaxfreeze-tests-")  # not the person's
    effort.begin_with_programs()

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what it puts into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as nohup starts what is to outlive a terminal
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

from pathlib import Path

import jax
import pytest

from jaxfreeze import devices
from jaxfreeze.training import platform_choices, step
from jaxfreeze.training.platform_choices import Arithmetic
from tests.folders import empty_cache, make_folder
from tests.inference.runs import train

gc.set_threshold(20_000, 20, 50)  # as Python has it, looking for garbage takes up to an eighth of the time
TESTS = itertools.count()
CACHE = empty_cache(Path(os.environ["JAXFREEZE_CACHE"]))
effort.share_programs()
MESH = devices.data_mesh


SLOW = (  # modules that train many runs, start processes, or work through very many inputs; the longest first
    *("test_processes", "training/test_traces", "sweep/test_workshop"),  # two drop all compiled programs: few yet
    *("training/test_step", "training/test_trunk_cache", "training/test_stopped"),
    *("inference/test_shared_trunk", "training/test_memory", "sweep/test_runner", "test_flops", "sweep/test_cluster"),
    *("training/test_resume", "training/test_side_by_side", "test_run", "test_stale", "test_walk", "test_fuzz"),
    *("inference/test_export", "inference/test_predict", "inference/test_submission", "test_api"),
    *("inference/test_serve", "test_bad_input", "data/test_batches", "inference/test_serve_wrong", "sweep/test_search"),
    *("inference/test_other_weights", "test_families", "model/test_deberta_v2", "model/test_modernbert"),
    *("model/test_esm", "model/test_attention", "training/test_tokens", "model/test_token_heads"),
    *("training/test_trajectory", "test_hub_run", "test_tour", "training/test_platform_choices", "search/test_several"),
    *("model/test_dropout_effect", "inference/test_tokens", "test_bad_tokens", "training/test_own_rows"),
    *("test_own_labels", "training/test_best"),
    *("failures/test_command", "failures/test_kinds", "inference/test_ensemble", "search/test_conduct"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow modules, which `make test-fast` leaves out, and begin with them."""
    root = Path(__file__).parent
    assert all((root / f"{name}.py").is_file() for name in SLOW)
    order = {name: place for place, name in enumerate(SLOW)}
    names = {item: item.path.relative_to(root).with_suffix("").as_posix() for item in items}
    for item in items:
        if names[item] in order:
            item.add_marker("slow")
    items.sort(key=lambda item: order.get(names[item], len(SLOW)))  # so all workers end at the same time
    gc.freeze()  # what was imported and collected stays: no search for garbage has to look through it


def pytest_sessionfinish() -> None:
    """Leave nothing behind."""
    gc.collect()
    gc.freeze()  # pytest looks five times through all that tests left, for what was not closed: once is enough
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def one_device() -> Iterator[None]:
    """A mesh of one device, for what does not ask for `eight_devices`: programs for eight take longer to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "data_mesh", lambda devices=1: MESH(devices))
        yield


@pytest.fixture(scope="session", autouse=True)
def called_as_run_py() -> Iterator[None]:
    """Messages name the program as it was called: as `python run.py`, not as pytest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py"])
        yield


@pytest.fixture(scope="module")
def eight_devices() -> Iterator[None]:
    """A mesh of all eight simulated devices, for the tests of a module that asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "data_mesh", MESH)
        yield


@pytest.fixture
def as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 is the type of activations, too."""
    monkeypatch.setattr(platform_choices, "arithmetic", lambda dtype, mesh: Arithmetic(dtype, "cpu"))


@pytest.fixture
def own_cache() -> Path:
    """Where token stores, trunk caches and compiled programs of the tests go."""
    return CACHE


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with finished runs rte, cola and stsb on one tiny BERT, `model`, trained on `glue`."""
    folder = tmp_path_factory.mktemp("runs")
    model = make_folder(folder / "model", "bert")
    for task in ("rte", "cola", "stsb"):
        train(folder, model, task)
    return folder


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Let go of compiled programs before their memory maps reach Linux's limit for a process, where XLA crashes."""
    yield
    maps = Path("/proc/self/maps")
    if next(TESTS) % 16:  # to read the maps takes up to 20 ms
        return
    if maps.is_file() and maps.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()
        step.forget_programs()
        gc.collect()
