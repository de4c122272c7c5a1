"""The products of a CPU in bfloat16: measured once, kept, and never those of a program that did not ask for them."""

import atexit
import gc
import json
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxfreeze import cache_folder, cpu_products, devices
from jaxfreeze.cli import main
from jaxfreeze.cpu_products import Speeds


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXFREEZE_CACHE", str(tmp_path / "cache"))
    cpu_products.speeds.cache_clear()


def kept() -> list[Path]:
    return [path for path in (cache_folder.cache_root() / "cpu").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("speeds", "pays"),
    [(Speeds(200.0, 600.0), True), (Speeds(200.0, 239.0), False), (Speeds(200.0, 241.0), True), (Speeds(9, 0), False)],
)
def test_it_pays_where_it_is_clearly_faster(speeds: Speeds, pays: bool) -> None:
    assert speeds.pays == pays


def test_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    honest = cpu_products._measure
    monkeypatch.setattr(cpu_products, "_measure", lambda: measured.append(1) or honest())
    first = cpu_products.speeds()
    assert first.float32 > 0
    (file,) = kept()
    devices.configure("bfloat16")
    cpu_products.speeds.cache_clear()
    assert cpu_products.speeds() == first  # as in another process
    assert len(measured) == 1
    file.write_text(json.dumps({"float32": 100, "bfloat16": 300}))
    devices.configure("bfloat16")
    cpu_products.speeds.cache_clear()
    assert cpu_products.speeds() == Speeds(100, 300)
    for damaged in ("", "{", "[]", '{"float32": 1}', '{"float32": null, "bfloat16": 1}'):
        file.write_text(damaged)
        cpu_products.speeds.cache_clear()
        assert cpu_products.speeds().float32 > 0
    assert len(measured) == 6
    monkeypatch.setenv(cpu_products.MODE, "STRICT")  # which a person may set: another question, another file
    devices.configure("bfloat16")
    cpu_products.speeds.cache_clear()
    cpu_products.speeds()
    assert len(kept()) == 2


def test_a_cache_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    assert cpu_products.speeds().float32 > 0


def test_the_measured_program_is_never_freed() -> None:
    """Freed at once, one program in some hundreds ends the process; see `_NEVER_FREED`."""
    client = jax.devices()[0].client
    gc.collect()
    before = len(client.live_executables())
    for measured in (1, 2):
        cpu_products._measure()
        gc.collect()
        assert len(client.live_executables()) == before + measured


def test_a_process_ends_some_time_after_its_last_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pause two of 24 processes that ended with a product were ended by XLA."""
    registered: list[tuple[object, ...]] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    cpu_products.speeds()
    assert registered == [(time.sleep, cpu_products.PAUSE)]
    assert cpu_products.PAUSE >= 0.05


def test_cache_clear_takes_it_along(tmp_path: Path) -> None:
    cpu_products.speeds()
    assert kept()
    assert main(["cache", "clear"]) == 0
    assert not kept()


def test_an_xla_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_products, "OPTIONS", {"xla_cpu_use_the_other_library": True})
    assert cpu_products.speeds().bfloat16 == 0
    assert not cpu_products.speeds().pays


def test_what_a_person_tells_xla_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's programs keep to XLA_FLAGS, so the measured one does; with other flags it is measured again."""
    asked: list[object] = []
    honest = jax.stages.Lowered.compile

    def compile(lowered: jax.stages.Lowered, options: object = None) -> jax.stages.Compiled:
        asked.append(options)
        return honest(lowered, None)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile)
    without = {"xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    for flags, expected in (
        ("--xla_cpu_use_onednn=false", [None, without]),  # the product in float32, and in bfloat16
        ("", [None, cpu_products.OPTIONS]),
        ("--xla_cpu_use_onednn --xla_dump_to=", [None, without]),  # a flag without a value is true
        ("--xla_force_host_platform_device_count=1", []),  # has nothing to do with it: kept
    ):
        monkeypatch.setenv("XLA_FLAGS", flags)
        cpu_products.speeds.cache_clear()
        asked.clear()
        cpu_products.speeds()
        assert asked == expected, flags


def test_wrong_results_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_products, "MOST_ERROR", -1.0)
    assert cpu_products.speeds().bfloat16 == 0


def test_a_program_that_did_not_ask_keeps_its_bits() -> None:
    random = np.random.default_rng(1)
    x, w = (random.standard_normal(shape, np.float32) for shape in ((64, 96), (96, 32)))
    plain = jax.jit(lambda x, w: x @ w).lower(x, w).compile()
    exact = x.astype(np.float64) @ w.astype(np.float64)
    before = np.asarray(plain(x, w))
    cpu_products.speeds()
    devices.configure("bfloat16")
    program = jax.jit(lambda x, w: x @ w).lower(x, w).compile(cpu_products.OPTIONS)
    fast = np.asarray(program(x, w))
    after = np.asarray(jax.jit(lambda x, w: x @ w + 0).lower(x, w).compile()(x, w))
    np.testing.assert_array_equal(after, before)
    np.testing.assert_allclose(before, exact, atol=1e-5)
    np.testing.assert_allclose(fast, exact, atol=0.01 * np.abs(exact).max())
    cpu_products._NEVER_FREED.append(program)
