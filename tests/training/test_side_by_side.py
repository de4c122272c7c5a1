"""Runs trained side by side in one program are the runs trained one by one."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxfreeze.config import TrainConfig
from jaxfreeze.training.experiment import begin, get_ready
from jaxfreeze.training.loop import fit
from jaxfreeze.training.preparation import prepare
from jaxfreeze.training.stopwatch import Stopwatch
from jaxfreeze.training.summary import result_of
from tests.folders import make_folder, tiny_rte
from tests.training.trained import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_rte(tmp_path_factory.mktemp("data") / "glue")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make_folder(tmp_path_factory.mktemp("model") / family, family) for family in ("bert", "roberta")}


def config(model: Path, data: Path, seed: int, learning_rate: float, **more: object) -> TrainConfig:
    settings = {"trainable_layers": 1, "max_steps": 7, "max_length": 32, "log_every": 2} | more
    return TrainConfig("rte", str(data), model=str(model), seed=seed, learning_rate=learning_rate, **settings)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("bert", {}),
        ("roberta", {"trainable_layers": 0}),
        ("bert", {"trainable_layers": "all"}),
        ("roberta", {"cache": "host"}),
        ("bert", {"cache": "off"}),
    ],
    ids=["k1", "k0", "all", "host", "off"],
)
def test_side_by_side_is_one_by_one(family: str, folders: dict[str, Path], data: Path, more: dict[str, object]) -> None:
    configs = [
        config(folders[family], data, seed, rate, **more)
        for seed, rate in ((1, 1e-3), (2, 1e-3), (1, 3e-4), (2**32 - 1, 1e-3))
    ]
    together = train(configs)
    losses, norms = [], []
    for number, one in enumerate(configs):
        alone = train([one])
        for path, leaf in alone.leaves.items():
            if not path.endswith("key.bias"):  # its gradient is rounding noise, which Adam scales up
                np.testing.assert_allclose(together.leaves[path][number], leaf, rtol=0, atol=2e-5, err_msg=path)
        losses.append(alone.losses)
        norms.append([line["grad_norm"] for line in alone.figures])
        assert together.score(number) == alone.score()
        result = result_of(together.experiment, together.state.progress, together.watch, {}, {}, number)
        assert (result["seed"], result["steps"]) == (one.seed, 7)
        assert result["examples"] == alone.state.progress.examples
    np.testing.assert_allclose(together.losses, np.mean(losses, axis=0), atol=1e-5, rtol=0)
    np.testing.assert_allclose([line["grad_norm"] for line in together.figures], np.mean(norms, axis=0), rtol=1e-4)
    head = next(x for path, x in together.leaves.items() if path.startswith("head.") and path.endswith(".kernel"))
    assert len({leaf.tobytes() for leaf in head}) == len(configs)  # no run is another's copy


def test_a_run_that_diverges_leaves_the_others_alone(folders: dict[str, Path], data: Path) -> None:
    wild = {"trainable_layers": "all", "max_grad_norm": 1e6, "warmup_ratio": 0.0}
    found = train([config(folders["bert"], data, 1, rate, **wild) for rate in (1e-3, 1e6, 1e-3)])
    assert found.diverged == {1}
    assert all(np.isfinite(leaf[[0, 2]]).all() for leaf in found.leaves.values())
    assert all(np.array_equal(leaf[0], leaf[2]) for leaf in found.leaves.values())


def test_the_frozen_leaves_stay_one_copy(folders: dict[str, Path], data: Path) -> None:
    watch = Stopwatch()
    experiment = prepare([config(folders["bert"], data, seed, 1e-3) for seed in (1, 2)], watch)
    frozen = experiment.model.frozen
    before = {path: (leaf.shape, np.array(leaf).tobytes()) for path, leaf in frozen.items()}
    pointers = {path: leaf.unsafe_buffer_pointer() for path, leaf in frozen.items()}
    state = begin(experiment)
    state = fit(get_ready(experiment, state, watch), state, [])
    assert {path: (leaf.shape, np.array(leaf).tobytes()) for path, leaf in frozen.items()} == before
    assert {path: leaf.unsafe_buffer_pointer() for path, leaf in frozen.items()} == pointers
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(state.trained))
    assert not set(state.trained) & set(frozen)
