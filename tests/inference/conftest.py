"""Exported runs, two tiny runs, and a server that answers for them."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jaxfreeze import cli
from jaxfreeze.inference import web
from jaxfreeze.inference.batcher import Batcher
from jaxfreeze.inference.shared_trunk import SharedTrunk
from tests.folders import make_folder, tiny_rte
from tests.inference.exported import CASES, Exported, make
from tests.inference.serving import WORDS, Gate, Running


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return make(CASES[request.param], tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return make(CASES["bert"], tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run on pairs that tells classes apart, and one on single texts that predicts a number."""
    top = tmp_path_factory.mktemp("serve")
    model, glue = make_folder(top / "model", "bert"), tiny_rte(top / "glue")
    rows = "".join(json.dumps({"text": " ".join(WORDS[: 3 + i % 4]), "stars": i % 5 / 2}) + "\n" for i in range(24))
    (top / "rows.jsonl").write_text(rows)
    own = f"--task files --train_file {top}/rows.jsonl --validation_file {top}/rows.jsonl"
    tasks = {
        "rte": f"--task rte --data_dir {glue}",
        "stars": f"{own} --text_columns text --label_column stars --regression",
    }
    for name, flags in tasks.items():
        common = f"--model {model} --trainable_layers 1 --max_steps 2 --max_length 32 --output_dir {top / name}"
        assert cli.main(f"{flags} {common}".split()) == 0
    return [top / name for name in tasks]


@pytest.fixture(scope="session")
def server(runs: list[Path]) -> Iterator[Running]:
    trunk, alone = SharedTrunk(runs), SharedTrunk(runs)
    trunk.compile()
    batcher = Batcher(trunk)
    http = web.http_server(batcher)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=http.run, args=([listener],))
        thread.start()
        yield Running(batcher, listener.getsockname()[1], alone)
        http.should_exit = True
        thread.join(30)
        batcher.close()
    assert not thread.is_alive()


@pytest.fixture
def gate(server: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A closed gate behind which one request waits already, so that what comes now has to queue."""
    made = Gate(server.batcher, monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.ask, {"texts": "the bowl"})
        assert made.entered.wait(10)
        yield made
        made.open.set()
        assert first.result().status in (200, 504)
