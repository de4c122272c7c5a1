"""Checkpoints come back bit for bit or not at all: other leaves and damaged files are refused."""

import gc
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxfreeze.errors import InputError
from jaxfreeze.training import checkpoint

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
    checkpoint.save(folder, 7, on_device(LEAVES))
    return folder


def error_of(folder: Path, template: dict[str, jax.Array]) -> str:
    with pytest.raises(InputError) as caught:
        checkpoint.restore(folder, template)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_bit_comes_back(saved: Path):
    zeros = on_device({path: np.zeros_like(leaf) for path, leaf in LEAVES.items()})
    step, restored = checkpoint.restore(saved, zeros)
    assert step == 7
    assert_same_bits(restored, LEAVES)


def test_the_latest_of_two_steps_comes_back(tmp_path: Path):
    later = {path: leaf[::-1].copy() for path, leaf in LEAVES.items()}
    checkpoint.save(tmp_path, 3, on_device(LEAVES))
    checkpoint.save(tmp_path, 12, on_device(later))
    step, restored = checkpoint.restore(tmp_path, on_device(LEAVES))
    assert step == 12
    assert_same_bits(restored, later)


@pytest.mark.parametrize("spec", [PartitionSpec(), PartitionSpec("data")])
def test_onto_eight_devices(saved: Path, spec):
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    layouts = {path: NamedSharding(mesh, spec if path != SCALE else PartitionSpec()) for path in LEAVES}
    template = {path: jax.device_put(jnp.zeros_like(leaf), layouts[path]) for path, leaf in LEAVES.items()}
    _, restored = checkpoint.restore(saved, template)
    assert_same_bits(restored, LEAVES)
    for path, leaf in restored.items():
        assert leaf.sharding == layouts[path]
        assert len(leaf.addressable_shards) == 8
    # And back: what eight devices wrote, one reads.
    folder = saved.parent / f"from-eight-{len(spec)}"
    checkpoint.save(folder, 1, restored)
    assert_same_bits(checkpoint.restore(folder, on_device(LEAVES))[1], LEAVES)


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
    assert error_of(tmp_path, on_device(LEAVES)) == f"{tmp_path}: holds no checkpoint; the run did not finish"
    (tmp_path / "3").mkdir()  # a save that came no further
    message = error_of(tmp_path, on_device(LEAVES))
    assert message.startswith(f"{tmp_path / '3'}: damaged, ")
    assert message.endswith(" on reading; train again with --overwrite")


@pytest.mark.parametrize("part", ["leaves", "trained"])
def test_half_deleted_checkpoint(saved: Path, tmp_path: Path, part):
    folder = shutil.copytree(saved, tmp_path / "copy")
    shutil.rmtree(folder / "7" / part)
    message = error_of(folder, on_device(LEAVES))
    assert message.startswith(f"{folder / '7'}: damaged, ")
    assert message.endswith(" on reading; train again with --overwrite")


def test_a_flipped_bit_in_any_file_is_found(saved: Path, tmp_path: Path):
    """Each file, three places, one bit: either all leaves come back as they were, or it is an InputError."""
    folder = shutil.copytree(saved, tmp_path / "copy")
    template = on_device(LEAVES)
    messages = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(RANDOM.integers(8))
            file.write_bytes(damaged)
            try:
                assert_same_bits(checkpoint.restore(folder, template)[1], LEAVES)
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
    assert len(messages) > 5
