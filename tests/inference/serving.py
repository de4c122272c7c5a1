"""A server under test and its clients."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxfreeze.data.split import Split
from jaxfreeze.inference.batcher import Batcher
from jaxfreeze.inference.outputs import Outputs
from jaxfreeze.inference.shared_trunk import SharedTrunk
from jaxfreeze.inference.texts import checked_rows

JSON = {"Content-Type": "application/json"}
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"  # the length is to follow
WORDS = ("the", "bowl", "crate", "picture", "holds", "owner", "town", "tools", "clothes")


class Running(NamedTuple):
    """A server under test, and the same runs alone."""

    batcher: Batcher
    port: int
    alone: SharedTrunk

    def ask(self, body: Any, headers: dict[str, str] = JSON, connection: HTTPConnection | None = None) -> "Reply":
        data = body if isinstance(body, bytes) else json.dumps(body)
        if connection is not None:
            return exchange(connection, "POST", "/predict", data, headers)
        with self.connect() as own:
            return exchange(own, "POST", "/predict", data, headers)

    def connect(self) -> contextlib.closing[HTTPConnection]:
        return contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=20))

    def get(self, path: str) -> dict[str, Any]:
        with self.connect() as connection:
            return exchange(connection, "GET", path).fields

    def until(self, reached: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until /health says so."""
        deadline = time.monotonic() + 10
        while not reached(self.get("/health")):
            assert time.monotonic() < deadline, self.get("/health")
            time.sleep(0.01)

    def check(self, texts: Any, fields: dict[str, Any], tasks: tuple[str, ...] = ("rte", "files")) -> None:
        """Compare an answer with that of the runs alone."""
        rows = checked_rows([texts] if isinstance(texts, str) else texts)
        expected = self.alone.logits(Split("test", tuple(zip(*rows, strict=True)), None))
        assert list(fields["predictions"]) == list(tasks)
        for task in tasks:
            found = np.array([one["logits"] for one in fields["predictions"][task]])
            np.testing.assert_allclose(found, expected[task], atol=1e-5, rtol=0)


class Reply(NamedTuple):
    status: int
    fields: dict[str, Any]
    headers: dict[str, str]


def exchange(
    connection: HTTPConnection, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Reply:
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    return Reply(reply.status, json.loads(reply.read()), {name.lower(): value for name, value in reply.getheaders()})


class Gate:
    """Holds the passes of a batcher up until it is opened."""

    def __init__(self, batcher: Batcher, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.passes: list[list[tuple[str, ...]]] = []
        self._honest = batcher.trunk.outputs
        monkeypatch.setattr(batcher.trunk, "outputs", self._outputs)

    def _outputs(self, split: Split) -> dict[str, Outputs]:
        self.entered.set()
        assert self.open.wait(30)
        rows = list(zip(*split.texts, strict=True))
        self.passes.append(rows)
        if any("poison" in text for row in rows for text in row):
            raise FloatingPointError("poison")
        return self._honest(split)


def check_refused(reply: Reply, status: int, line: str) -> None:
    assert reply.status == status
    assert set(reply.fields) == {"error"}
    error = reply.fields["error"]
    assert line in error
    assert len(error) < 250
    assert "\n" not in error
    assert "Traceback" not in error
