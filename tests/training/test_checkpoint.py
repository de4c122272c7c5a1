"""Checkpoints come back bit for bit or not at all: other leaves and damaged files are refused."""

import gc
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxfreeze import freezing
from jaxfreeze.errors import InputError
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.training import checkpoint
from jaxfreeze.training.checkpoint import CheckpointWriter

RANDOM = np.random.default_rng(0)
KERNEL, BIAS, SCALE = "layers.1.attention.query.kernel", "head.classifier.bias", "layers.1.attention.layer_norm.scale"
# Signed zero, denormals, infinities, and NaNs whose payload and sign are told apart by bits alone.
STRANGE = np.array(
    [0x80000000, 0x00000001, 0x807FFFFF, 0x7F800000, 0xFF800000, 0x7FC12345, 0xFFC00001, 0x3F800000], np.uint32
)
LEAVES = {
    KERNEL: RANDOM.standard_normal((40, 24), np.float32),
    BIAS: STRANGE.view(np.float32),
    SCALE: np.float32(-0.0)[None],
}


STATE = {"1.0.mu.head.classifier.bias": RANDOM.standard_normal(8, np.float32), "count": np.int32(7)[None]}
ABOUT = {"progress": [7, 112], "loss": [0.6931471824645996], "base": "f3"}


def on_device(leaves: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {path: jnp.asarray(leaf) for path, leaf in leaves.items()}


def assert_same_bits(restored: dict[str, jax.Array], leaves: dict[str, np.ndarray]) -> None:
    assert set(restored) == set(leaves)
    for path, leaf in leaves.items():
        assert restored[path].dtype == leaf.dtype
        np.testing.assert_array_equal(np.asarray(restored[path]).view(np.uint32), leaf.view(np.uint32), err_msg=path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of LEAVES at step 7."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    save(folder, 7, on_device(LEAVES))
    return folder


def save(folder: Path, step: int, leaves: dict[str, jax.Array]) -> None:
    with CheckpointWriter(folder, keep_last=2) as writer:
        writer.save(step, leaves, on_device(STATE), ABOUT)


def error_of(folder: Path, template: dict[str, jax.Array]) -> str:
    with pytest.raises(InputError) as caught:
        checkpoint.read(folder, 7, template)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_bit_comes_back(saved: Path):
    zeros = on_device({path: np.zeros_like(leaf) for path, leaf in LEAVES.items()})
    found = checkpoint.read(saved, 7, zeros, on_device(STATE))
    assert found.step == 7
    assert_same_bits(found.trained, LEAVES)
    assert_same_bits(found.state, STATE)
    assert found.about == ABOUT
    assert checkpoint.read(saved, 7, zeros).state == {}


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path):
    folder = tmp_path / "checkpoints"
    kept = []
    with CheckpointWriter(folder, keep_last=2) as writer:
        for step in range(1, 7):
            leaves = {path: leaf * step for path, leaf in LEAVES.items()}
            writer.save(step, on_device(leaves), on_device(STATE), {}, best=step in (1, 3))
            writer.wait()
            kept.append(writer.steps)
    assert kept == [[1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [3, 5, 6]]
    for step in (3, 5, 6):
        assert_same_bits(
            checkpoint.read(folder, step, on_device(LEAVES)).trained,
            {path: leaf * step for path, leaf in LEAVES.items()},
        )


def test_a_save_is_a_copy(tmp_path: Path):
    """The step after it overwrites the arrays while they are still being written."""
    leaves = on_device(LEAVES)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 + 1, tree), donate_argnums=0)
    with CheckpointWriter(tmp_path / "c", keep_last=2) as writer:
        writer.save(7, leaves, {}, {})
        for _ in range(10):
            leaves = overwrite(leaves)
    assert_same_bits(checkpoint.read(tmp_path / "c", 7, on_device(LEAVES)).trained, LEAVES)


def test_the_same_step_again(tmp_path: Path):
    """After a step back, a step may be reached a second time."""
    with CheckpointWriter(tmp_path / "c", keep_last=2) as writer:
        for factor in (1, 2):
            for step in (3, 4):
                writer.save(step, on_device({path: leaf * factor for path, leaf in LEAVES.items()}), {}, {})
    found = checkpoint.read(tmp_path / "c", 4, on_device(LEAVES))
    assert_same_bits(found.trained, {path: leaf * 2 for path, leaf in LEAVES.items()})


def test_what_a_killed_process_left_goes(saved: Path, tmp_path: Path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    for name in ("8.orbax-checkpoint-tmp", "6.removed"):
        shutil.copytree(folder / "7", folder / name)
    with CheckpointWriter(folder, keep_last=2) as writer:
        assert writer.steps == [7]
    assert [path.name for path in folder.iterdir()] == ["7"]


class Refusal:
    """A manager whose disk is full: at once, or in the background."""

    def __init__(self, folder: Path, at_once: bool) -> None:
        self.folder, self.at_once = folder, at_once

    def save(self, step: int, **_: object) -> bool:
        (self.folder / f"{step}.orbax-checkpoint-tmp").mkdir(parents=True)
        if self.at_once:
            raise OSError(28, "No space left on device")
        return True

    def wait_until_finished(self) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

    def close(self) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_full_disk_is_reported_and_the_last_good_step_stays(
    at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "c"
    with CheckpointWriter(folder, keep_last=2) as writer:
        writer.save(3, on_device(LEAVES), {}, {})
        assert writer.wait()
        with monkeypatch.context() as patch:
            writer._close()
            patch.setattr(checkpoint.ocp, "CheckpointManager", lambda path, **_: Refusal(path, at_once))
            writer.save(4, on_device(LEAVES), {}, {}, best=True)
            assert writer.wait() == at_once  # what failed at once was reported at once
        assert writer.best is None
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        assert "the checkpoint of step 4 could not be written (" in out
        assert "No space left on device); the last good one is that of step 3" in out
        assert [path.name for path in folder.iterdir()] == ["3"]
        writer.save(5, on_device(LEAVES), {}, {})  # and there is room again
    assert checkpoint.steps_in(folder) == [3, 5]


def test_a_save_that_orbax_refuses_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "save", lambda *_, **__: False)
    with CheckpointWriter(tmp_path / "c", keep_last=2) as writer:
        writer.save(3, on_device(LEAVES), {}, {})
    assert "step 3 could not be written (Orbax refused to save); there is none yet" in capsys.readouterr().out


@pytest.mark.parametrize("spec", [PartitionSpec(), PartitionSpec("data")])
def test_onto_eight_devices(saved: Path, spec):
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    layouts = {path: NamedSharding(mesh, spec if path != SCALE else PartitionSpec()) for path in LEAVES}
    restored = {
        path: jax.device_put(leaf, layouts[path]) for path, leaf in checkpoint.read(saved, 7, LEAVES).trained.items()
    }
    assert_same_bits(restored, LEAVES)
    for path, leaf in restored.items():
        assert leaf.sharding == layouts[path]
        assert len(leaf.addressable_shards) == 8
    # What eight devices have, shared out or in copies, one reads.
    folder = saved.parent / f"from-eight-{len(spec)}"
    save(folder, 1, restored)
    assert_same_bits(checkpoint.read(folder, 1, on_device(LEAVES)).trained, LEAVES)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"head.pooler.bias": np.zeros(3, np.float32)}, ["head.pooler.bias"]),
        ({KERNEL: None}, [KERNEL]),
        ({KERNEL: np.zeros((24, 40), np.float32)}, [KERNEL]),
        ({KERNEL: np.zeros(960, np.float32), BIAS: np.zeros(9, np.float32)}, [BIAS, KERNEL]),
        ({BIAS: np.zeros(8, np.int32)}, [BIAS]),
        ({BIAS: np.zeros(8, jnp.bfloat16)}, [BIAS]),
        ({SCALE: None, "layers.2.attention.layer_norm.scale": LEAVES[SCALE]},
         [SCALE, "layers.2.attention.layer_norm.scale"]),
    ],
)  # fmt: skip
def test_other_leaves_are_refused_by_name(saved: Path, changes, named):
    template = on_device({path: leaf for path, leaf in (LEAVES | changes).items() if leaf is not None})
    assert error_of(saved, template) == (f"{saved / '7'}: holds other leaves than this run trains: {', '.join(named)}")


def test_no_checkpoint(tmp_path: Path):
    nothing = f"{tmp_path}: holds no checkpoint of step 7; train again with --overwrite"
    assert error_of(tmp_path, on_device(LEAVES)) == nothing
    (tmp_path / "7").mkdir()  # a save that came no further
    message = error_of(tmp_path, on_device(LEAVES))
    assert message.startswith(f"{tmp_path / '7'}: damaged, ")
    assert message.endswith(" on reading; train again with --overwrite")


@pytest.mark.parametrize("part", ["description", "trained"])
def test_half_deleted_checkpoint(saved: Path, tmp_path: Path, part):
    folder = shutil.copytree(saved, tmp_path / "copy")
    shutil.rmtree(folder / "7" / part)
    message = error_of(folder, on_device(LEAVES))
    assert message.startswith(f"{folder / '7'}: damaged, ")
    assert message.endswith(" on reading; train again with --overwrite")


def test_a_flipped_bit_in_any_file_is_found(saved: Path, tmp_path: Path):
    """Each file, three places, one bit: either all leaves come back as they were, or it is an InputError."""
    folder = shutil.copytree(saved, tmp_path / "copy")
    template, state = on_device(LEAVES), on_device(STATE)
    messages = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(RANDOM.integers(8))
            file.write_bytes(damaged)
            try:
                found = checkpoint.read(folder, 7, template, state)
                assert_same_bits(found.trained | found.state, LEAVES | STATE)
                assert found.about == ABOUT
            except InputError as error:
                messages[file, place] = str(error)
        file.write_bytes(whole)
    gc.collect()  # the unfinished readings end here, not in a later test
    # The file with the kernel's numbers is larger than all others: there the digest speaks, in the middle at least.
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    place = largest.stat().st_size // 2
    assert messages[largest, place] == (
        f"{folder / '7'}: damaged, other bytes than were saved in {KERNEL}; train again with --overwrite"
    )


def test_three_layers_of_bert_base_are_under_a_quarter_of_it(tmp_path: Path):
    config = EncoderConfig("bert", 30522, 768, 12, 12, 3072, 512, 2, 1e-12, 0)
    shapes = Column(config, 2).shapes()
    labels = freezing.label_layers(shapes, 3, 12)
    whole = sum(4 * math.prod(leaf.shape) for leaf in shapes.values())
    top = {
        path: jnp.asarray(RANDOM.random(leaf.shape, np.float32))
        for path, leaf in shapes.items()
        if labels[path] == freezing.TRAINED
    }
    with CheckpointWriter(tmp_path / "c", keep_last=1) as writer:
        writer.save(1, top, {}, {})
    size = sum(path.stat().st_size for path in (tmp_path / "c").rglob("*") if path.is_file())
    assert whole > 437e6
    assert 0.15 * whole < size < 0.25 * whole
