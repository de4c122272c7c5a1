"""The server and requests that are wrong: each gets its line, and the server goes on."""

import contextlib
import json
import socket

import pytest

from jaxfreeze.inference import web
from tests.inference.serving import HEAD, JSON, Running, check_refused, exchange

DEEP = b'{"texts": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
WRONG = [  # what is wrong, the body, the status, what the line has to say
    ("nothing", b"", 400, "broken JSON (Expecting value"),
    ("no JSON", b"texts=hello", 400, "broken JSON (Expecting value"),
    ("cut off", b'{"texts": ["a', 400, "broken JSON (Unterminated string"),
    ("nested", DEEP, 400, "broken JSON (nested too deeply)"),
    ("no UTF-8", b'{"texts": ["\xff\xfe"]}', 400, "broken JSON ('utf-8' codec can't decode byte 0xff"),
    ("UTF-16", '{"texts": "a"}'.encode("utf-16"), 400, "broken JSON ('utf-8' codec"),
    ("NaN", b'{"texts": ["a"], "tasks": NaN}', 400, "broken JSON (NaN is no number of JSON)"),
    ("Infinity", b'{"texts": -Infinity}', 400, "-Infinity is no number of JSON"),
    ("huge number", b'{"texts": ' + b"9" * 10_000 + b"}", 400, "broken JSON (Exceeds the limit"),
    ("huge float", b'{"texts": 1e999}', 400, "found a number"),
    ("a name twice", b'{"texts": "a", "texts": "b"}', 400, "a name appears twice"),
    ("a list", b'["a"]', 400, 'expected an object {"texts": [...]}, found a list'),
    ("null", b"null", 400, 'expected an object {"texts": [...]}, found null'),
    ("no texts", b"{}", 400, "texts: expected this field, found none"),
    ("another field", b'{"text": "a"}', 400, "field 'text': expected one of texts, tasks; did you mean 'texts'?"),
    ("texts null", b'{"texts": null}', 400, "texts: expected a text, or a list of texts or of pairs, found null"),
    ("texts an object", b'{"texts": {"a": 1}}', 400, "found an object"),
    ("texts true", b'{"texts": true}', 400, "found true or false"),
    ("no text", b'{"texts": []}', 400, "texts: expected at least one text, found an empty list"),
    ("empty text", b'{"texts": ""}', 400, "texts: expected at least one text, found an empty text"),
    ("blank text", b'{"texts": ["a", " "]}', 400, "example 1: the text in column '1' is empty"),
    ("a number", b'{"texts": ["a", 7]}', 400, "example 1: expected a text or a pair of texts, found a int"),
    ("a number in a pair", b'{"texts": [["a", 7]]}', 400, "example 0: expected text in column '2', found int 7"),
    ("three texts", b'{"texts": [["a", "b", "c"]]}', 400, "expected a text or a pair of texts, found 3 texts"),
    ("mixed", b'{"texts": ["a", ["a", "b"]]}', 400, "example 1: expected 1 texts as in the first one, found 2"),
    ("NUL", b'{"texts": ["a\\u0000b"]}', 400, "example 0: the text in column '1' has a NUL character"),
    ("half a surrogate", b'{"texts": ["\\ud83d"]}', 400, "has half a surrogate pair"),
    ("unknown task", b'{"texts": ["a"], "tasks": "RTE"}', 400, "'RTE' is not one of rte, files; did you mean 'rte'?"),
    ("strange task", b'{"texts": "a", "tasks": ["\\ud83d"]}', 400, "tasks: '?' is not one of rte, files"),
    ("no task", b'{"texts": ["a"], "tasks": []}', 400, "expected a name or a list of names, found an empty list"),
    ("task 7", b'{"texts": ["a"], "tasks": 7}', 400, "tasks: expected a name or a list of names, found a number"),
    ("tasks of lists", b'{"texts": ["a"], "tasks": [[]]}', 400, "tasks: expected names, found a list among them"),
    ("long name", json.dumps({"texts": "a", "tasks": "x" * 900_000}).encode(), 400, "xxx...' is not one of"),
    ("many texts", json.dumps({"texts": ["a"] * 1025}).encode(), 413, "at most 1,024 in a request, found 1,025"),
    ("long text", json.dumps({"texts": "a" * 100_001}).encode(), 413, "at most 100,000 characters in a text, found"),
    ("large body", b" " * 1_000_001, 413, "expected a body of at most 1,000,000 bytes, found more"),
]  # fmt: skip


@pytest.mark.parametrize("body, status, line", [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_body_is_one_line(server: Running, body: bytes, status: int, line: str) -> None:
    with server.connect() as connection:
        check_refused(server.ask(body, connection=connection), status, line)
        again = server.ask({"texts": "the bowl"}, connection=connection)  # the connection goes on
    server.check("the bowl", again.fields)


@pytest.mark.parametrize(
    "method, path, headers, status, line",
    [
        ("GET", "/nothing", {}, 404, "/nothing: not here; expected one of /, /predict, /tasks, /health"),
        ("POST", "/predictt", JSON, 404, "did you mean '/predict'?"),
        ("POST", "/predict/", JSON, 404, "did you mean '/predict'?"),
        ("GET", "/predict", {}, 405, "/predict: expected POST, found GET"),
        ("OPTIONS", "/predict", {}, 405, "found OPTIONS"),
        ("DELETE", "/tasks", {}, 405, "/tasks: expected GET, HEAD, found DELETE"),
        ("POST", "/predict", {}, 415, "content-type: expected application/json in UTF-8, found none"),
        ("POST", "/predict", {"Content-Type": "text/plain"}, 415, "found text/plain"),
        ("POST", "/predict", {"Content-Type": "application/json; charset=latin-1"}, 415, "charset=latin-1"),
    ],
)
def test_a_wrong_place_or_kind_is_one_line(
    server: Running, method: str, path: str, headers: dict[str, str], status: int, line: str
) -> None:
    with server.connect() as connection:
        reply = exchange(connection, method, path, b'{"texts": "a"}', headers)
        check_refused(reply, status, line)
        assert ("allow" in reply.headers) == (status == 405)
        again = server.ask({"texts": "a"}, {"content-type": "Application/JSON;charset=UTF-8"}, connection)
    assert again.status == 200


def send(server: Running, data: bytes) -> bytes:
    """What the server sends back until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(data)
        parts = []
        while part := raw.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "data, starts, line",
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"HTTP/1.1 400", "expected a request of HTTP/1.1"),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"HTTP/1.1 400", "expected a request of HTTP/1.1"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n", b"HTTP/1.1 400", "expected a request of HTTP/1.1"),
        (HEAD + b"Content-Length: 20\r\n\r\n{", b"HTTP/1.1 504", "expected the whole body within 0.3 s, found 1 bytes"),
        (HEAD, b"", ""),
        (b"", b"", ""),
    ],
    ids=["no HTTP", "long length", "bad chunk", "half a body", "half a head", "nothing"],
)  # fmt: skip
def test_a_bad_connection_ends(
    server: Running, data: bytes, starts: bytes, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "READ_SECONDS", 0.3)
    found = send(server, data)
    assert found.startswith(starts)
    assert bool(found) == bool(starts)
    if line:
        assert line in json.loads(found.partition(b"\r\n\r\n")[2])["error"]
    assert server.ask({"texts": "a"}).status == 200


def test_what_follows_a_refused_head_is_no_defect(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):  # how a closed connection looks depends on the system
            while part := raw.recv(65536):
                if not answer:
                    raw.sendall(b"no number\r\n")
                answer += part
    assert answer.startswith(b"HTTP/1.1 415")
    assert server.ask({"texts": "a"}).status == 200
    assert not caplog.records


def test_a_head_without_end(server: Running) -> None:
    with contextlib.suppress(ConnectionError):  # how far it comes before the server closes depends on the system
        send(server, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 2_000_000)
    assert server.ask({"texts": "a"}).status == 200


def test_a_body_that_claims_a_terabyte(server: Running) -> None:
    with server.connect() as connection:
        reply = exchange(connection, "POST", "/predict", b"{", JSON | {"Content-Length": str(10**12)})
    check_refused(reply, 413, "at most 1,000,000 bytes")
    assert server.ask({"texts": "a"}).status == 200


def test_a_large_body_in_chunks(server: Running) -> None:
    with server.connect() as connection:
        chunks = (b" " * 65536 for _ in range(40))
        check_refused(exchange(connection, "POST", "/predict", chunks, JSON), 413, "at most 1,000,000 bytes")
    assert server.ask({"texts": "a"}).status == 200
