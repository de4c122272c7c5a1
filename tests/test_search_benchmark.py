"""benchmarks/search.py: its ratios by hand, and that it goes on where it stopped."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = str(Path(__file__).parents[1] / "benchmarks" / "search.py")
ANSWER = {"trainable_layers": 2, "runs": 50}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(Path(FILE).parent))
    return runpy.run_path(FILE)


def test_ratios(benchmark: dict[str, Any]) -> None:
    found = {"search": {"seconds": 190.04, "answer": ANSWER}, "reference": {"seconds": 100}, "trainer": {"seconds": 40}}
    assert benchmark["conclude"]("rte", found) == {
        "task": "rte",
        "seconds": {"search": 190.0, "reference": 100, "trainer": 40},
        "answer": ANSWER,
        "price": 1.9,
        "of_trainer": 0.095,
    }
    del found["search"]
    assert benchmark["conclude"]("rte", found) == {"task": "rte", "seconds": {"reference": 100, "trainer": 40}}


def test_goes_on_where_it_stopped(
    benchmark: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, str]] = []

    def maker(name: str) -> Any:
        def make(options: Any, task: str) -> dict[str, Any]:
            if len(ran) == 4:
                raise KeyboardInterrupt
            ran.append((task, name))
            return {"seconds": 10.0, "answer": ANSWER} if name == "search" else {"seconds": 5.0}

        return make

    for name in benchmark["CONTESTANTS"]:
        monkeypatch.setitem(benchmark["MADE_BY"], name, maker(name))
    command = f"search.py --data_dir a --model b --output {tmp_path}/out --tasks rte cola"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(KeyboardInterrupt):
        benchmark["main"]()
    first, ran[:] = ran[:], []
    benchmark["main"]()
    assert [*first, *ran] == [(task, name) for task in ("rte", "cola") for name in benchmark["CONTESTANTS"]]
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"median_price": 2.0, "median_of_trainer": 0.04}
