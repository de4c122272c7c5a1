"""The server, real and on a real port: its answers are those of the runs alone, whoever else asks."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxfreeze import cli
from jaxfreeze.data.request_batches import request_batches, request_shapes
from jaxfreeze.data.token_store import TokenStore
from jaxfreeze.inference import web
from jaxfreeze.inference.batcher import TEXTS_PER_PASS
from jaxfreeze.objectives import Classification
from tests.inference.serving import HEAD, JSON, WORDS, Gate, Running, check_refused, exchange

ROOT = Path(cli.__file__).parent.parent


def some_texts(count: int, pairs: bool, seed: int) -> list[Any]:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 30))) for _ in range(2 * count)]
    return list(zip(texts[:count], texts[count:], strict=True)) if pairs else texts[:count]


@pytest.mark.parametrize("texts", ["the bowl holds tools", some_texts(5, False, 1), some_texts(70, True, 2)])
def test_an_answer_is_that_of_the_runs_alone(server: Running, texts: Any) -> None:
    reply = server.ask({"texts": texts})
    assert reply.status == 200
    server.check(texts, reply.fields)
    for one in reply.fields["predictions"]["rte"]:
        assert set(one) == {"prediction", "probabilities", "logits"}
        assert one["prediction"] == max(one["probabilities"], key=one["probabilities"].__getitem__)
        assert sum(one["probabilities"].values()) == pytest.approx(1)
    assert all(one["prediction"] == one["logits"][0] for one in reply.fields["predictions"]["files"])


@pytest.mark.parametrize("tasks", ["files", ["rte"], ["files", "rte", "files"], None])
def test_the_tasks_that_are_asked(server: Running, tasks: Any) -> None:
    reply = server.ask({"texts": ["the town"], "tasks": tasks})
    names = ("rte", "files") if tasks is None else tuple(dict.fromkeys([tasks] if isinstance(tasks, str) else tasks))
    server.check(["the town"], reply.fields, names)


def test_what_can_be_asked(server: Running, runs: list[Path]) -> None:
    rte, stars = server.get("/tasks")["tasks"]
    assert rte["labels"] == ["entailment", "not_entailment"]
    assert rte["text_columns"] == ["sentence1", "sentence2"]
    assert rte["trainable_layers"] == 1
    assert rte["score"] == json.loads((runs[0] / "metrics.json").read_text())["metrics"]
    assert (stars["name"], stars["labels"], stars["text_columns"]) == ("files", "regression", ["text"])
    health = server.get("/health")
    assert (health["status"], health["under_way"], health["waiting"]) == ("ok", 0, 0)


def test_the_page_needs_nothing_else(server: Running) -> None:
    with server.connect() as connection:
        connection.request("GET", "/")
        reply = connection.getresponse()
        page = reply.read().decode()
    assert reply.getheader("content-type") == "text/html; charset=utf-8"
    assert "/predict" in page
    assert not re.search(r"https?://|<link|\bsrc=|@import|url\(", page)


def test_requests_that_wait_are_joined(server: Running, gate: Gate) -> None:
    """Pairs and single texts, small and large, from many clients at once; none holds the others up."""
    asked = [some_texts(1 + i % 4, i % 3 == 0, i) for i in range(40)] + [some_texts(5 * TEXTS_PER_PASS, True, 99)]
    before = server.batcher.passes
    with ThreadPoolExecutor(len(asked)) as pool:
        replies = [pool.submit(server.ask, {"texts": texts}) for texts in asked]
        server.until(lambda health: health["waiting"] == len(asked))
        assert server.get("/health")["under_way"] == len(asked) + 1
        gate.open.set()
        for texts, reply in zip(asked, replies, strict=True):
            assert reply.result().status == 200
            server.check(texts, reply.result().fields)
    sizes = [len(rows) for rows in gate.passes]
    assert len(sizes) == server.batcher.passes - before <= 10  # 42 requests of 420 texts
    assert sum(sizes) == 1 + sum(map(len, asked))
    assert max(sizes) == TEXTS_PER_PASS
    assert all(len({len(row) for row in rows}) == 1 for rows in gate.passes)


def test_a_client_that_goes_away_costs_the_others_nothing(server: Running, gate: Gate) -> None:
    aborted = json.dumps({"texts": ["the crate of somebody who left"]}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(aborted) + aborted)
        server.until(lambda health: health["waiting"] == 1)
    server.until(lambda health: health["under_way"] == 1)
    with socket.create_connection(("127.0.0.1", server.port)) as raw:  # and one that goes with half a body
        raw.sendall(HEAD + b"Content-Length: 9\r\n\r\n{")
        server.until(lambda health: health["under_way"] == 2)
    server.until(lambda health: health["under_way"] == 1)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(server.ask, {"texts": ["the owner", "the town"]})
        server.until(lambda health: health["under_way"] == 2)
        gate.open.set()
        server.check(["the owner", "the town"], reply.result().fields)
    assert gate.passes == [[("the bowl",)], [("the owner",), ("the town",)]]


def test_a_full_queue_refuses(server: Running, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_UNDER_WAY", 3)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.ask, {"texts": "the town"}) for _ in range(2)]
        server.until(lambda health: health["waiting"] == 2)
        reply = server.ask({"texts": "the town"})
        check_refused(reply, 503, "busy: expected at most 3 requests at a time, found as many")
        assert reply.headers["retry-after"] == "1"
        gate.open.set()
        assert [one.result().status for one in waiting] == [200, 200]
    assert server.ask({"texts": "the town"}).status == 200


def test_an_answer_that_does_not_come_in_time(server: Running, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ANSWER_SECONDS", 0.2)
    check_refused(server.ask({"texts": "the crate"}), 504, "expected an answer within 0.2 s, found none")
    monkeypatch.undo()  # the passes too, but the one that is held up
    gate.open.set()
    server.check("the owner", server.ask({"texts": "the owner"}).fields)
    assert gate.passes == [[("the bowl",)]]
    assert server.get("/health")["waiting"] == 0


def test_a_pass_that_fails(server: Running, gate: Gate, capfd: pytest.CaptureFixture[str]) -> None:
    """Its cause gets a line, stderr the traceback, and those that were joined with it get their answers."""
    with ThreadPoolExecutor(3) as pool:
        asked = ["the owner", "poison", "the town"]
        replies = [pool.submit(server.ask, {"texts": text}) for text in asked]
        server.until(lambda health: health["waiting"] == 3)
        gate.open.set()
        check_refused(replies[1].result(), 500, "the answer failed (FloatingPointError); the server's log says why")
        for place in (0, 2):
            server.check(asked[place], replies[place].result().fields)
    errors = capfd.readouterr().err
    assert errors.count("Traceback") == 1
    assert "FloatingPointError: poison" in errors
    check_refused(server.ask({"texts": ["the town"] * 100 + ["poison"] * 100}), 500, "FloatingPointError")
    server.check("the owner", server.ask({"texts": "the owner"}).fields)


def test_a_defect_is_one_line_too(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("private")

    with monkeypatch.context() as patch:
        patch.setattr(Classification, "predictions", fail)
        check_refused(server.ask({"texts": "a"}), 500, "a defect of the server (ZeroDivisionError)")
    deadline = time.monotonic() + 10
    while "private" not in caplog.text:  # the answer goes out first
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.ask({"texts": "a"}).status == 200


def test_every_shape_is_compiled_before_the_first_request() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        longest, most_rows, devices = (
            random.choice([24, 128, 300, 1500]),
            random.choice([1, 6, 8]),
            random.choice([1, 3]),
        )
        lengths = random.integers(2, longest + 1, random.integers(1, 60))
        start = np.concatenate([[0], np.cumsum(lengths)])
        empty = np.zeros(start[-1], np.int32)
        store = TokenStore(empty, empty, empty, start, np.full(len(lengths), -1))
        shapes = {(shape.rows, shape.width, shape.segments) for shape in request_shapes(longest, most_rows, devices)}
        for batch in request_batches(store, most_rows, devices):
            assert (*batch.index.shape, batch.first.shape[1]) in shapes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_answers(runs: list[Path], number: signal.Signals, own_cache: Path) -> None:
    flags = [text for run in runs for text in ("--run", str(run))]
    command = [sys.executable, "run.py", "serve", *flags, "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stdout
        lines = [process.stderr.readline() for _ in range(2)]
        ready = re.fullmatch(r"http://127\.0\.0\.1:(\d+) answers for rte, files; Ctrl-C ends it\n", lines[1])
        assert ready, lines + process.stderr.readlines()
        texts = [" ".join(WORDS * 4)] * 1024
        connections = [HTTPConnection("127.0.0.1", int(ready[1]), timeout=60) for _ in range(3)]
        for connection in connections:
            connection.request("POST", "/predict", json.dumps({"texts": texts}), JSON)
        with contextlib.closing(HTTPConnection("127.0.0.1", int(ready[1]), timeout=60)) as other:
            while exchange(other, "GET", "/health").fields["under_way"] < len(connections):
                pass
        process.send_signal(number)
        for connection in connections:
            reply = connection.getresponse()
            assert reply.status == 200
            assert len(json.loads(reply.read())["predictions"]["rte"]) == len(texts)
            connection.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
        assert process.stdout.read() == ""


WRONG_FLAGS = [
    ("", "--run: expected the folder of a finished run, found none"),
    ("--run {run} --port 65536", "--port 65536: expected 0 to 65535"),
    ("--run {run} --port -1", "--port -1: expected 0 to 65535"),
    ("--run {run} --port http", "--port http: expected 0 to 65535"),
    ("--run {run} --prot 80", "--prot: no such flag; did you mean '--port'?"),
    ("--run {run} --host=", "--host: expected a name or an address"),
    ("--run {run} --host no..where", "--host no..where --port 8000: cannot listen there"),
    ("--run {run}/none --port 0", "/none: there is no such folder"),
    ("--run {run} --run {run} --port 0", "two runs are called 'rte'"),
    ("--run {run} --port {port}", "--host 127.0.0.1 --port {port}: cannot listen there (Address already in use)"),
]


@pytest.mark.parametrize("flags, line", WRONG_FLAGS, ids=[flags for flags, _ in WRONG_FLAGS])
def test_wrong_flags(
    server: Running, runs: list[Path], flags: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"run": runs[0], "port": server.port}
    assert cli.main(["serve", *flags.format(**names).split()]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("error: ")
    assert line.format(**names) in errors[-1]


def test_without_its_packages(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", "--run", str(runs[0])]) == 2
    assert capsys.readouterr().err == 'error: serve: uvicorn is not installed; pip install -e ".[serve]"\n'
