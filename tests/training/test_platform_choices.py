"""What depends on the platform is chosen by the devices of the mesh, and said in one line on an accelerator."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxfreeze import cpu_products, devices
from jaxfreeze.config import TrainConfig, from_yaml
from jaxfreeze.cpu_products import Speeds
from jaxfreeze.errors import InputError
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import read_config
from jaxfreeze.training import experiment as experiments
from jaxfreeze.training import loop, preparation
from jaxfreeze.training.platform_choices import Arithmetic, arithmetic, most_shapes, note, with_dtype
from jaxfreeze.training.preparation import prepare
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


def test_a_run_keeps_the_dtype_of_the_devices_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_on_an_accelerator: None
) -> None:
    folder, data = make_folder(tmp_path / "bert", "bert"), tiny_rte(tmp_path / "glue", train=40)
    asked = TrainConfig("rte", str(data), model=str(folder), trainable_layers=1, max_length=32)
    runs = {name: dataclasses.replace(asked, output_dir=str(tmp_path / name)) for name in ("cpu", "gpu", "explicit")}
    loop.finetune(runs["cpu"])
    with monkeypatch.context() as patch:
        patch.setattr(devices, "platform", lambda: "gpu")
        assert with_dtype(asked, elsewhere=True).dtype == "float32"
        loop.finetune(runs["gpu"])
        loop.finetune(dataclasses.replace(runs["explicit"], dtype="float32"))
        with pytest.raises(InputError, match="dtype"):
            loop.finetune(runs["cpu"])
    dtypes = {name: from_yaml(tmp_path / name / "config.yaml").dtype for name in runs}
    assert dtypes == {"cpu": "float32", "gpu": "bfloat16", "explicit": "float32"}
    audit = json.loads((tmp_path / "gpu" / "freeze.json").read_text())
    assert {leaf["dtype"] for leaf in audit["parameters"] if leaf["label"] == "frozen"} == {"bfloat16"}
    loop.finetune(runs["cpu"])  # finished
    with pytest.raises(InputError, match="dtype"):
        loop.finetune(runs["gpu"])


def test_what_is_said(tmp_path: Path) -> None:
    encoder = read_config(make_folder(tmp_path / "bert", "bert"))
    assert note(Column(encoder, 2), 4) is None
    on_gpu = Column(encoder, 2, "bfloat16", platform="gpu")
    assert note(on_gpu, 2) == "on a GPU one program is compiled for 2 batch shapes"


@pytest.mark.parametrize(
    ("speeds", "onednn", "said"),
    [
        (Speeds(200.0, 600.0), True, "multiplies matrices in bfloat16 at 600 GFLOP/s, in float32 at 200: products"),
        (Speeds(200.0, 210.0), False, "this CPU gains too little from products in bfloat16: they stay float32"),
    ],
)
def test_bfloat16_on_a_cpu_is_as_fast_as_the_cpu_is(
    speeds: Speeds, onednn: bool, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    cpu_products.speeds()  # oneDNN may round from here on
    monkeypatch.setattr(cpu_products, "speeds", lambda: speeds)
    mesh = devices.data_mesh()
    assert arithmetic("float32", mesh) == Arithmetic("float32", "cpu", None, False)
    assert arithmetic("bfloat16", mesh) == Arithmetic("bfloat16", "cpu", "float32", onednn)
    folder, data = make_folder(tmp_path / "bert", "bert"), tiny_rte(tmp_path / "glue", train=40)
    made, losses = {}, {}
    for dtype, cache in (("float32", "device"), ("bfloat16", "device"), ("bfloat16", "off")):
        config = TrainConfig(
            "rte", str(data), model=str(folder), trainable_layers=1, max_length=32, dtype=dtype, cache=cache,
            output_dir=str(tmp_path / dtype / cache), log_every=1,
        )  # fmt: skip
        made[dtype, cache] = loop.finetune(config)
        losses[dtype, cache] = losses_of(tmp_path / dtype / cache)
        experiment = preparation.prepare([config], Stopwatch())
        program = experiments.compile_steps(experiment, experiments.begin(experiment)).as_text() or ""
        assert ("onednn" in program) == (onednn and dtype == "bfloat16")
    assert said in capsys.readouterr().out
    assert losses["bfloat16", "device"] == pytest.approx(losses["bfloat16", "off"], abs=1e-5)  # no rounding between
    assert losses["bfloat16", "device"] == pytest.approx(losses["float32", "device"], abs=0.02)
    assert losses["bfloat16", "device"] != losses["float32", "device"]  # the frozen leaves are bfloat16 in any case
    assert made["bfloat16", "device"]["devices"] == ("1 cpu with oneDNN" if onednn else "1 cpu")
    assert made["float32", "device"]["devices"] == "1 cpu"


def losses_of(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def test_what_programs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    assert not cpu_products.OPTIONS.keys() & devices.compiler_options().keys()
    assert cpu_products.OPTIONS.items() <= devices.compiler_options(onednn=True).items()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_onednn=false")
    assert "xla_cpu_use_onednn" not in devices.compiler_options(onednn=True)
