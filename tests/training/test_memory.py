"""What saves memory, or shares it out over the devices, leaves the training as it is."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxfreeze import devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batches import Batch, Shape, Tokens
from jaxfreeze.freezing import cut_of, label_layers
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.training import cost, trunk_cache
from jaxfreeze.training.inspection import abstract_step
from jaxfreeze.training.run import Run
from jaxfreeze.training.setup import Policy
from tests.folders import make_folder, tiny_rte
from tests.training.test_side_by_side import Losses


class Trained(NamedTuple):
    run: Run
    steps: jax.stages.Compiled
    leaves: dict[str, np.ndarray]
    losses: list[float]
    score: dict[str, float]


@pytest.fixture(scope="module", params=("bert", "roberta"))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / request.param, request.param)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_rte(tmp_path / "glue")


def train(model: Path, data: Path, seeds: tuple[int, ...] = (3,), **more: object) -> Trained:
    settings = {"trainable_layers": 1, "max_steps": 7, "max_length": 32, "log_every": 1, "learning_rate": 1e-3} | more
    configs = [TrainConfig("rte", str(data), model=str(model), seed=seed, **settings) for seed in seeds]
    run, losses = Run.prepare(configs), Losses()
    steps = run.get_ready()
    trained = run.train(steps, losses)
    leaves = {path: np.asarray(leaf) for path, leaf in trained.items()}
    score = run.evaluate({path: leaf[-1] for path, leaf in trained.items()} if len(seeds) > 1 else trained)
    return Trained(run, steps, leaves, [line["loss"] for line in losses.figures], score)


def assert_same(one: Trained, other: Trained) -> None:
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5, atol=1e-5)
    for path, leaf in other.leaves.items():
        if not path.endswith("key.bias"):  # its gradient is rounding noise, which Adam scales up
            np.testing.assert_allclose(one.leaves[path], leaf, rtol=0, atol=2e-5, err_msg=path)
    assert one.score == other.score


@pytest.mark.parametrize(
    ("parts", "more"),
    [(2, {}), (3, {"cache": "host"}), (16, {"trainable_layers": 0}), (4, {"trainable_layers": "all"}),
     (2, {"cache": "off", "seeds": (1, 2)})],
)  # fmt: skip
def test_a_batch_in_parts(parts: int, more: dict, folder: Path, data: Path) -> None:
    """Also the last batch of an epoch, half as large, of which some parts are empty; dropout on."""
    whole, accumulated = train(folder, data, **more), train(folder, data, accumulate=parts, **more)
    assert accumulated.run.plan.shapes[-1].slots < whole.run.plan.shapes[-1].slots or parts < 4  # 8 rows at the least
    assert_same(accumulated, whole)
    assert accumulated.run.progress.examples == whole.run.progress.examples


@pytest.mark.parametrize("more", [{}, {"accumulate": 2, "seeds": (1, 2)}, {"frozen_dropout": True, "cache": "off"}])
def test_remat(more: dict, folder: Path, data: Path) -> None:
    more = {"trainable_layers": "all"} | more
    assert_same(train(folder, data, remat=True, **more), train(folder, data, **more))


def test_remat_keeps_less_for_the_gradients() -> None:
    """By what JAX keeps, not by XLA's temporary memory: on a CPU XLA joins what is computed twice."""
    encoder = EncoderConfig("bert", 1000, 128, 8, 2, 512, 128, 2, 1e-12, 0)
    column = Column(encoder, 2)
    params = column.shapes()
    batch = Batch(*(jax.ShapeDtypeStruct((8, size), np.int32) for size in (128, 128, 2, 2)))
    tokens = Tokens(*(jax.ShapeDtypeStruct((8, 128), np.int32) for _ in range(3)))

    def kept(remat: bool) -> int:
        def backward(params, tokens, batch):
            return jax.vjp(lambda params: column.bind(params).top(tokens, batch, 0, None, remat), params)[1]

        return cost.tree_bytes(jax.eval_shape(backward, params, tokens, batch))

    weights = cost.tree_bytes(params)
    assert kept(True) - weights < 0.25 * (kept(False) - weights)


@pytest.mark.parametrize("more", [{}, {"trainable_layers": "all", "accumulate": 2}])
def test_the_optimizer_shared_out(more: dict, folder: Path, data: Path) -> None:
    whole, shared = train(folder, data, **more), train(folder, data, shard_optimizer=True, **more)
    assert_same(shared, whole)
    per_device = [
        sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(result.run.initial_state(
            devices.replicate(result.leaves, result.run.mesh)))) for result in (whole, shared)
    ]  # fmt: skip
    assert per_device[1] < 0.15 * per_device[0]  # an eighth, and what does not divide
    outputs = [leaf for leaf in jax.tree.leaves(shared.steps.output_shardings[1]) if not leaf.is_fully_replicated]
    assert len(outputs) > 10


@pytest.mark.parametrize("layers", [0, 1])
def test_the_cache_shared_out(layers: int, folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Where a whole copy on each device does not fit, each has a part."""
    whole = train(folder, data, trainable_layers=layers)
    size = whole.run.cache.size
    monkeypatch.setattr(devices, "free_bytes", lambda mesh: size)  # a half may be used: of eight parts four
    assert trunk_cache.SHARE == 0.5
    shared = train(folder, data, trainable_layers=layers)
    assert shared.run.cache.sharded
    assert "read from device memory, a part on each device, found on disk" in shared.run.cache.description
    hidden = shared.run.train_set.data.hidden
    assert {shard.data.shape[0] for shard in hidden.addressable_shards} == {
        -(-whole.run.cache.layouts["train"].rows // 8)
    }
    assert_same(shared, whole)
    monkeypatch.setattr(devices, "free_bytes", lambda mesh: size // 8)
    assert Run.prepare([whole.run.config]).cache.place == "host"


def test_a_device_sends_its_gradients_and_nothing_else() -> None:
    """BERT-base, by the compiled program: with k = 3 under a fifth of what full fine-tuning sends."""
    encoder = EncoderConfig("bert", 30522, 768, 12, 12, 3072, 512, 2, 1e-12, 0)
    shapes = Column(encoder, 2).shapes()
    shape, sent, trained = Shape(8, 32, 2), {}, {}
    for depth in (3, "all"):
        labels = label_layers(list(shapes), depth, 12)
        step = abstract_step(encoder, 2, Policy(labels, cut_of(labels, 12)), shape, "float32", cached=True)
        sent[depth] = cost.sent_bytes(*step, shape, devices.data_mesh())
        trained[depth] = sum(4 * leaf.size for path, leaf in shapes.items() if labels[path] == "trained")
    assert {*sent[3], *sent["all"]} == {"all-reduce"}
    for depth, size in trained.items():
        assert size <= sent[depth]["all-reduce"] <= size + 64  # and the loss, and the number of examples
    assert sent[3]["all-reduce"] < sent["all"]["all-reduce"] / 5


def test_collectives_are_counted() -> None:
    text = """
      %r.1 = (f32[768,2]{1,0}, bf16[3]{0}) all-reduce(%a, %b), channel_id=1
      ROOT %g = s32[8]{0} all-gather-start(%c), dimensions={0}
      %n = pred[] all-reduce(%d)
      %sum = f32[9]{0} add(%r, %all-reduce.3)
    """
    assert cost.collectives(text) == {"all-reduce": 4 * 768 * 2 + 2 * 3, "all-gather": 32}
