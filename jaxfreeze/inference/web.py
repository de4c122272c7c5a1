"""The server's HTTP side: what it answers, and for each thing that can be wrong with a request one line as JSON."""

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from importlib import resources
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from jaxfreeze.errors import InputError, one_of_names, shorten
from jaxfreeze.inference.batcher import Answer, Batcher
from jaxfreeze.inference.request import MOST_BYTES, TooLargeError, read_request
from jaxfreeze.inference.texts import Row

MOST_UNDER_WAY = 256  # requests that are read or wait for their answer; what is beyond is refused at once
READ_SECONDS = 10  # for the head of a request, and for its body
ANSWER_SECONDS = 30
JSON_TYPE = re.compile(r'application/json\s*(;\s*charset="?utf-8"?\s*)?', re.IGNORECASE)


class Service:
    """What answers: the runs, the batcher and the counts that /health shows."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self._tasks = batcher.trunk.tasks
        self._page = resources.files("jaxfreeze.inference").joinpath("page.html").read_text(encoding="utf-8")
        self._began = time.monotonic()
        self._under_way = 0

    def application(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", self.page, methods=["GET"]),
            Route("/tasks", self.tasks, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/predict", self.predict, methods=["POST"]),
        ]
        handlers: dict[Any, Any] = {
            InputError: _wrong_input,
            HTTPException: _refused,
            ClientDisconnect: _gone,
            Exception: _defect,
        }
        application = Starlette(routes=routes, exception_handlers=handlers)
        application.router.redirect_slashes = False
        return application

    async def page(self, _: Request) -> Response:
        """GET /: where a person types a text."""
        return HTMLResponse(self._page)

    async def tasks(self, _: Request) -> Response:
        """GET /tasks: what can be asked."""
        return JSONResponse({"tasks": self.batcher.trunk.about()})

    async def health(self, _: Request) -> Response:
        """GET /health: that it is alive, and how busy."""
        counts = {name: getattr(self.batcher, name) for name in ("waiting", "requests", "texts", "passes")}
        uptime = round(time.monotonic() - self._began, 1)
        return JSONResponse({"status": "ok", "under_way": self._under_way, **counts, "uptime_seconds": uptime})

    async def predict(self, request: Request) -> Response:
        """POST /predict: the answers of the runs that are asked."""
        kind = request.headers.get("content-type", "none")
        if not JSON_TYPE.fullmatch(kind):
            raise HTTPException(415, f"content-type: expected application/json in UTF-8, found {shorten(kind)}")
        with self._place():
            asked = read_request(await _body(request), self._tasks, self.batcher.trunk.reads_words)
            answer = await self._answer(request, asked.rows)
        every = self.batcher.trunk.predictions(answer)
        found = {name: every[name] for name in asked.tasks}
        return JSONResponse({"predictions": {name: [one.as_json() for one in all_] for name, all_ in found.items()}})

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """A place among the requests under way."""
        if self._under_way >= MOST_UNDER_WAY:
            line = f"busy: expected at most {MOST_UNDER_WAY} requests at a time, found as many; try again in a second"
            raise HTTPException(503, line, {"Retry-After": "1"})
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _answer(self, request: Request, rows: list[Row]) -> Answer:
        """The outputs of every run. A client that has gone, or waited too long, is taken from the queue."""
        answer = asyncio.wrap_future(self.batcher.submit(rows))
        gone = asyncio.ensure_future(request.receive())  # nothing comes after the body but the end of the connection
        try:
            await asyncio.wait((answer, gone), timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if answer.done() and (error := answer.exception()):
                raise HTTPException(500, f"the answer failed ({type(error).__name__}); the server's log says why")
            if answer.done():
                return answer.result()
            if gone.done():
                raise ClientDisconnect
            line = f"expected an answer within {ANSWER_SECONDS} s, found none; send fewer texts, or try again later"
            raise HTTPException(504, line)
        finally:
            gone.cancel()
            answer.cancel()


class Connection(H11Protocol):
    """uvicorn's connection, which also closes one that begins a request and stops sending, and refuses in JSON."""

    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due."""
        super().connection_made(transport)
        self._too_late = self.loop.call_later(READ_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Between two answers what began must become a request in time, be it a head or the rest of a refused body."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._on_time()
        elif self._too_late is None:
            self._too_late = self.loop.call_later(READ_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._on_time()
        super().connection_lost(exc)

    def _on_time(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer was sent already, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = b'{"error":"expected a request of HTTP/1.1, found something else"}'
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class UntilASignal(uvicorn.Server):
    """uvicorn's server raises the signal once more when all is answered; here the process ends with exit code 0."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGTERM and SIGINT; a second one does not wait for the answers."""
        self.force_exit = self.should_exit
        self.should_exit = True


def http_server(batcher: Batcher) -> UntilASignal:
    """The server of a batcher's answers; its `run` takes the sockets that it accepts connections from."""
    config = uvicorn.Config(
        Service(batcher).application(),
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=READ_SECONDS + ANSWER_SECONDS,
    )
    return UntilASignal(config)


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")  # h11 lets only digits pass
    too_large = HTTPException(
        413, f"expected a body of at most {MOST_BYTES:,} bytes, found more; send several requests"
    )
    if int(length) > MOST_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise too_large
    except TimeoutError:
        line = f"expected the whole body within {READ_SECONDS} s, found {len(body):,} bytes"
        raise HTTPException(504, line, {"Connection": "close"}) from None
    return bytes(body)


def _error(status: int, line: str, headers: Any = None) -> Response:
    return JSONResponse({"error": line}, status, headers)


async def _wrong_input(_: Request, error: InputError) -> Response:
    return _error(413 if isinstance(error, TooLargeError) else 400, str(error))


async def _refused(request: Request, error: HTTPException) -> Response:
    line, path = error.detail, shorten(request.url.path)
    if error.status_code == 404:
        line = f"{path}: not here; expected {one_of_names(('/', '/predict', '/tasks', '/health'), path)}"
    if error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {})["Allow"].split(", ")))
        line = f"{path}: expected {allowed}, found {shorten(request.method)}"
    return _error(error.status_code, line, error.headers)


async def _gone(_: Request, __: ClientDisconnect) -> Response:
    return _error(400, "the client has gone")  # nobody reads it


async def _defect(_: Request, error: Exception) -> Response:
    return _error(500, f"a defect of the server ({type(error).__name__}); its log says more")
