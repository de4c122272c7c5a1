"""Runs trained side by side in one program are the runs trained one by one."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxfreeze.config import TrainConfig
from jaxfreeze.training.run import Run
from tests.folders import make_folder, tiny_rte


class Losses:
    """Notes what every logged step reports."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []

    def start(self) -> None: ...

    def step(self, step: int, figures: dict[str, float]) -> None:
        self.figures.append(dict(figures))

    def evaluation(self, step: int, metrics: dict[str, float]) -> None: ...


@pytest.fixture(scope="module", params=("bert", "roberta"))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / request.param, request.param)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_rte(tmp_path / "glue")


def config(model: Path, data: Path, seed: int, learning_rate: float, **more: object) -> TrainConfig:
    settings = {"trainable_layers": 1, "max_steps": 7, "max_length": 32, "log_every": 2} | more
    return TrainConfig("rte", str(data), model=str(model), seed=seed, learning_rate=learning_rate, **settings)


def trained(configs: list[TrainConfig]) -> tuple[Run, dict[str, np.ndarray], list[dict[str, float]]]:
    run, journal = Run.prepare(configs), Losses()
    leaves = run.train(run.get_ready(), journal)
    return run, {path: np.asarray(leaf) for path, leaf in leaves.items()}, journal.figures


@pytest.mark.parametrize(
    "more",
    [{}, {"trainable_layers": 0}, {"trainable_layers": "all"}, {"cache": "host"}, {"cache": "off"}],
    ids=["k1", "k0", "all", "host", "off"],
)
def test_side_by_side_is_one_by_one(folder: Path, data: Path, more: dict[str, object]) -> None:
    configs = [
        config(folder, data, seed, rate, **more) for seed, rate in ((1, 1e-3), (2, 1e-3), (1, 3e-4), (2**32 - 1, 1e-3))
    ]
    together, leaves, figures = trained(configs)
    losses, norms = [], []
    for number, one in enumerate(configs):
        alone, wanted, alone_figures = trained([one])
        for path, leaf in wanted.items():
            if not path.endswith("key.bias"):  # its gradient is rounding noise, which Adam scales up
                np.testing.assert_allclose(leaves[path][number], leaf, rtol=0, atol=2e-5, err_msg=path)
        losses.append([line["loss"] for line in alone_figures])
        norms.append([line["grad_norm"] for line in alone_figures])
        assert together.evaluate({p: leaf[number] for p, leaf in leaves.items()}) == alone.evaluate(wanted)
        result = together.result({}, number)
        assert (result["seed"], result["steps"], result["examples"]) == (one.seed, 7, alone.progress.examples)
    np.testing.assert_allclose([line["loss"] for line in figures], np.mean(losses, axis=0), atol=1e-5, rtol=0)
    np.testing.assert_allclose([line["grad_norm"] for line in figures], np.mean(norms, axis=0), rtol=1e-4)
    head = next(leaf for path, leaf in leaves.items() if path.startswith("head.") and path.endswith(".kernel"))
    assert len({leaf.tobytes() for leaf in head}) == len(configs)  # no run is another's copy


def test_a_run_that_diverges_leaves_the_others_alone(folder: Path, data: Path) -> None:
    wild = {"trainable_layers": "all", "max_grad_norm": 1e6, "warmup_ratio": 0.0}
    configs = [config(folder, data, 1, rate, **wild) for rate in (1e-3, 1e6, 1e-3)]
    run, leaves, _ = trained(configs)
    assert run.diverged == {1}
    assert all(np.isfinite(leaf[[0, 2]]).all() for leaf in leaves.values())
    assert all(np.array_equal(leaf[0], leaf[2]) for leaf in leaves.values())


def test_the_frozen_leaves_stay_one_copy(folder: Path, data: Path) -> None:
    run = Run.prepare([config(folder, data, seed, 1e-3) for seed in (1, 2)])
    before = {p: (leaf.shape, np.array(leaf).tobytes()) for p, leaf in run.model.frozen.items()}
    pointers = {p: leaf.addressable_shards[0].data.unsafe_buffer_pointer() for p, leaf in run.model.frozen.items()}
    leaves = run.train(run.get_ready(), Losses())
    assert {p: (leaf.shape, np.array(leaf).tobytes()) for p, leaf in run.model.frozen.items()} == before
    assert {
        p: leaf.addressable_shards[0].data.unsafe_buffer_pointer() for p, leaf in run.model.frozen.items()
    } == pointers
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(leaves))
    assert not set(leaves) & set(run.model.frozen)
