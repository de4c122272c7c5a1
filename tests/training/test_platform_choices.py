"""What depends on the platform is chosen by the devices of the mesh, and said in one line on an accelerator."""

from pathlib import Path

import pytest

from jaxfreeze import devices
from jaxfreeze.config import TrainConfig
from jaxfreeze.training.experiment import prepare
from jaxfreeze.training.platform_choices import most_shapes, note
from jaxfreeze.training.stopwatch import Stopwatch
from jaxfreeze.training.summary import introduce
from tests.folders import make_folder, tiny_rte

MNLI, RTE = 392_702, 2_490  # training rows


@pytest.mark.parametrize(
    ("platform", "rows", "layers", "batch_size", "shapes"),
    [
        ("cpu", RTE, 1, 16, 2), ("cpu", RTE, 6, 16, 4), ("cpu", MNLI, 1, 16, 4),
        ("tpu", RTE, 12, 16, 1), ("tpu", MNLI, 1, 16, 1), ("tpu", MNLI, 3, 16, 2), ("tpu", MNLI, 3, 128, 2),
        ("gpu", MNLI, 12, 16, 4), ("gpu", 10 * MNLI, 12, 16, 4),
    ],
)  # fmt: skip
def test_shapes_of_three_epochs(platform: str, rows: int, layers: int, batch_size: int, shapes: int) -> None:
    assert most_shapes(platform, 3 * rows // batch_size, layers, batch_size) == shapes


def test_a_mesh_of_an_accelerator_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its devices say tpu; nothing is compiled here."""
    folder, data = make_folder(tmp_path / "bert", "bert"), tiny_rte(tmp_path / "glue", train=400)
    config = TrainConfig("rte", str(data), model=str(folder), trainable_layers="all", max_length=32, epochs=20)
    here = prepare([config], Stopwatch())
    introduce(here)
    assert "--dtype" not in capsys.readouterr().out
    monkeypatch.setattr(devices, "platform_of", lambda mesh: "tpu")
    there = prepare([config], Stopwatch())
    introduce(there)
    assert [of.model.column.platform for of in (here, there)] == ["cpu", "tpu"]
    assert [len(of.plan.shapes) for of in (here, there)] == [4, 1]
    lines = [line for line in capsys.readouterr().out.splitlines() if "--dtype bfloat16" in line]
    assert len(lines) == 1
    assert "1 batch shape;" in lines[0]


def test_what_is_said() -> None:
    assert note("cpu", "float32", 4) is None
    assert note("gpu", "bfloat16", 2) == "on a GPU one program is compiled for 2 batch shapes"
