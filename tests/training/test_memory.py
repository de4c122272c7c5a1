"""What saves memory, or shares it out over the devices, leaves the training as it is."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import collectives
from jaxfreeze import devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.batch import Batch, Shape, Tokens
from jaxfreeze.freezing import cut_of, label_layers
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import read_config
from jaxfreeze.objectives import Classification
from jaxfreeze.training import cost, trunk_cache
from jaxfreeze.training.experiment import begin, compile_steps
from jaxfreeze.training.preparation import prepare
from jaxfreeze.training.stopwatch import Stopwatch
from tests.folders import make_folder, tiny_rte
from tests.training import trained
from tests.training.trained import Trained

pytestmark = pytest.mark.usefixtures("eight_devices")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_rte(tmp_path_factory.mktemp("data") / "glue")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "bert", "bert")


_BASELINES: dict[str, Trained] = {}


def train(model: Path, data: Path, seeds: tuple[int, ...] = (3,), **more: object) -> Trained:
    settings = {"trainable_layers": 1, "max_steps": 7, "max_length": 32, "log_every": 1, "learning_rate": 1e-3} | more
    return trained.train([TrainConfig("rte", str(data), model=str(model), seed=seed, **settings) for seed in seeds])


def baseline(model: Path, data: Path, **more: object) -> Trained:
    """The same without what saves memory; trained once for all tests of this module."""
    key = repr(sorted(more.items()))
    if key not in _BASELINES:
        _BASELINES[key] = train(model, data, **more)
    return _BASELINES[key]


def assert_same(one: Trained, other: Trained) -> None:
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5, atol=1e-5)
    for path, leaf in other.leaves.items():
        if not path.endswith("key.bias"):  # its gradient is rounding noise, which Adam scales up
            np.testing.assert_allclose(one.leaves[path], leaf, rtol=0, atol=2e-5, err_msg=path)
    last = len(one.experiment.configs) - 1
    assert one.score(last) == other.score(last)


@pytest.mark.parametrize(
    ("parts", "more"),
    [(2, {}), (3, {"cache": "host"}), (16, {"trainable_layers": 0}), (4, {"trainable_layers": "all"}),
     (2, {"cache": "off", "seeds": (1, 2)})],
)  # fmt: skip
def test_a_batch_in_parts(parts: int, more: dict, folder: Path, data: Path) -> None:
    """Also the last batch of an epoch, half as large, of which some parts are empty; dropout on."""
    whole, accumulated = baseline(folder, data, **more), train(folder, data, accumulate=parts, **more)
    slots = [result.experiment.plan.shapes[-1].slots for result in (accumulated, whole)]
    assert slots[0] < slots[1] or parts < 4  # 8 rows at the least
    assert_same(accumulated, whole)
    assert accumulated.state.progress.examples == whole.state.progress.examples


@pytest.mark.parametrize("more", [{}, {"accumulate": 2, "seeds": (1, 2)}, {"frozen_dropout": True, "cache": "off"}])
def test_remat(more: dict, folder: Path, data: Path) -> None:
    more = {"trainable_layers": "all"} | more
    assert_same(train(folder, data, remat=True, **more), baseline(folder, data, **more))


def test_remat_keeps_less_for_the_gradients(tmp_path: Path) -> None:
    """By what JAX keeps, not by XLA's temporary memory: on a CPU XLA joins what is computed twice."""
    sizes = {"hidden_size": 128, "num_hidden_layers": 8, "num_attention_heads": 2, "intermediate_size": 512}
    encoder = read_config(make_folder(tmp_path, "bert", max_position_embeddings=128, **sizes))
    column = Column(encoder, 2)
    batch = Batch(*(jax.ShapeDtypeStruct((8, size), np.int32) for size in (128, 128, 2, 2)))
    tokens = Tokens(*(jax.ShapeDtypeStruct((8, 128), np.int32) for _ in range(3)))

    def kept(remat: bool) -> int:
        def backward(params, tokens, batch):
            return jax.vjp(lambda params: column.bind(params).top(tokens, batch, 0, None, remat), params)[1]

        return cost.tree_bytes(jax.eval_shape(backward, column.shapes(), tokens, batch))

    weights = cost.tree_bytes(column.shapes())
    assert kept(True) - weights < 0.25 * (kept(False) - weights)


@pytest.mark.parametrize("more", [{}, {"trainable_layers": "all", "accumulate": 2}])
def test_the_optimizer_sharded(more: dict, folder: Path, data: Path) -> None:
    whole, shared = baseline(folder, data, **more), train(folder, data, shard_optimizer=True, **more)
    assert_same(shared, whole)
    states = [begin(result.experiment) for result in (whole, shared)]
    per_device = [
        sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.optimizer_state))
        for state in states
    ]
    assert per_device[1] < 0.15 * per_device[0]  # an eighth, and what does not divide
    outputs = compile_steps(shared.experiment, states[1]).output_shardings[1]
    divisible = [leaf for leaf in jax.tree.leaves(states[1].optimizer_state) if any(n % 8 == 0 for n in leaf.shape)]
    assert sum(not leaf.is_fully_replicated for leaf in jax.tree.leaves(outputs)) == len(divisible)


@pytest.mark.parametrize("layers", [0, 1])
def test_the_cache_sharded(layers: int, folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a whole copy on each device does not fit, each has a part."""
    whole = baseline(folder, data, trainable_layers=layers)
    size = whole.experiment.cache.size
    monkeypatch.setattr(devices, "free_bytes", lambda mesh: int(size / 8 / trunk_cache.SHARE) + 1)  # an eighth fits
    shared = train(folder, data, trainable_layers=layers)
    assert shared.experiment.cache.sharded
    assert "read from device memory, a part on each device, found on disk" in shared.experiment.cache.describe()
    states = getattr(shared.experiment.train_set.data, shared.experiment.cache.layouts["train"].leaf)
    rows = -(-whole.experiment.cache.layouts["train"].rows // 8)
    assert {shard.data.shape[0] for shard in states.addressable_shards} == {rows}
    assert_same(shared, whole)
    monkeypatch.setattr(devices, "free_bytes", lambda mesh: int(size / 16 / trunk_cache.SHARE))
    assert prepare(whole.experiment.configs, Stopwatch()).cache.place == "host"


def test_a_device_sends_its_gradients_and_nothing_else(tmp_path: Path) -> None:
    """By the compiled program: the trained leaves' gradients, the loss and the number of examples."""
    encoder = read_config(make_folder(tmp_path, "bert"))
    shape, labelled = Shape(8, 32, 2), Column(encoder, 2).shapes()
    for depth in (1, "all"):
        labels = label_layers(list(labelled), depth, encoder.num_hidden_layers)
        column = Column(encoder, 2, cut=cut_of(labels, encoder.num_hidden_layers))
        sent = collectives.sent_bytes(column, Classification(("no", "yes")), labels, shape, devices.data_mesh())
        trained_bytes = sum(4 * leaf.size for path, leaf in labelled.items() if labels[path] == "trained")
        assert set(sent) == {"all-reduce"}
        assert trained_bytes <= sent["all-reduce"] <= trained_bytes + 64


def test_a_sharded_optimizer_gathers_the_updates_and_leaves_the_rest_of_the_step_alone(tmp_path: Path) -> None:
    """By the compiled program: the collectives of a step without it, and the update of each leaf that is in parts."""
    encoder, mesh = read_config(make_folder(tmp_path, "bert")), devices.data_mesh()
    shapes = Column(encoder, 2).shapes()
    labels = label_layers(list(shapes), 1, encoder.num_hidden_layers)
    column = Column(encoder, 2, cut=cut_of(labels, encoder.num_hidden_layers))
    whole, shared = (
        collectives.collectives(
            collectives.compiled_step(
                column, Classification(("no", "yes")), labels, Shape(8, 32, 2), mesh, shard_optimizer=shard
            ).as_text()
        )
        for shard in (False, True)
    )
    trained = (leaf for path, leaf in shapes.items() if labels[path] == "trained")
    in_parts = [4 * leaf.size for leaf in trained if any(size % mesh.size == 0 for size in leaf.shape)]
    gathered = [one for one in shared if one.kind == "all-gather"]
    assert sorted(one.bytes for one in gathered) == sorted(in_parts)
    assert sorted(one for one in shared if one not in gathered) == sorted(whole)


def test_three_layers_of_bert_base_are_under_a_fifth_of_it(tmp_path: Path) -> None:
    """So are the gradients that a device sends, by the test above."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    values = {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, **sizes}
    (tmp_path / "config.json").write_text(json.dumps(values))
    shapes = Column(read_config(tmp_path), 2).shapes()
    labels = label_layers(shapes, 3, 12)
    assert (
        sum(leaf.size for path, leaf in shapes.items() if labels[path] == "trained")
        < sum(leaf.size for leaf in shapes.values()) / 5
    )


def test_collectives_are_counted() -> None:
    text = """
      %r.1 = (f32[768,2]{1,0}, bf16[3]{0}) all-reduce(%a, %b), channel_id=1
      %s = f32[5]{0} all-reduce-start(%e), channel_id=2
      ROOT %g = ((s32[2]{0}, f32[1]{0}), (s32[8]{0}, f32[4]{0})) all-gather-start(%c, %f), dimensions={0}
      %n = pred[] all-reduce(%d)
      %sum = f32[9]{0} add(%r, %all-reduce.3)
    """
    assert collectives.by_kind(collectives.collectives(text)) == {
        "all-reduce": 4 * 768 * 2 + 2 * 3 + 4 * 5, "all-gather": 4 * 8 + 4 * 4
    }  # fmt: skip


def test_a_collective_that_runs_beside_other_work_counts_once() -> None:
    """As XLA for TPUs writes it: begun in one fusion, ended in another, and named in what it is fused with."""
    text = """
    %async_collective_fusion.1 (param.1: f32[192,768]) -> (f32[768,768], u32[]) {
      %all-gather.7 = f32[768,768]{1,0:T(8,128)S(1)} all-gather(%param.1), channel_id=34, dimensions={0}
    }
    %async_collective_fusion.2 (param.2: f32[192,768], param.3: bf16[64,768]) -> (f32[768,768], bf16[64,768]) {
      %all-gather.8 = f32[768,768]{1,0:T(8,128)S(1)} all-gather(%param.2), channel_id=34, dimensions={0}
      %convolution.4 = bf16[64,768]{1,0} convolution(%param.3, %param.4), dim_labels=bf_io->bf
    }
    %async_collective_fusion.3 (param.5: (f32[768,768], u32[])) -> f32[768,768] {
      %all-gather.9 = f32[768,768]{1,0:T(8,128)S(1)} all-gather(%param.5), channel_id=34, dimensions={0}
    }
    ENTRY %main {
      %all-gather.10 = f32[768,768]{1,0} all-gather(%param.6), channel_id=35, dimensions={0}
      %all-reduce.2 = f32[2]{0} all-reduce(%param.7), to_apply=%add
      %all-reduce.3 = f32[2]{0} all-reduce(%param.8), to_apply=%add
    }
    """
    one = collectives.Collective("all-gather", 4 * 768 * 768)
    assert collectives.collectives(text) == [one, one, *[collectives.Collective("all-reduce", 8)] * 2]
