"""Serves finished runs over HTTP: loads them, listens, and shuts down cleanly on a signal."""

import importlib.util
import socket
from collections.abc import Sequence
from pathlib import Path

from jaxfreeze import console
from jaxfreeze.errors import InputError
from jaxfreeze.inference.batcher import Batcher
from jaxfreeze.inference.ensemble import open_runs

PACKAGES = ("starlette", "uvicorn")


def serve(
    paths: Sequence[Path],
    best: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    ensemble: bool = False,
    calibrated: bool = False,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; requests under way are answered before it ends.

    paths: run folders on one pretrained model. best: as FinishedRun has it. port: 0 takes a free one. ensemble: the
    runs answer as one. calibrated: probabilities at each run's temperature. Raises InputError for folders that hold no
    such runs, for a port in use, and without the packages of the extra `serve`.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'serve: {missing[0]} is not installed; pip install -e ".[serve]"')
    with console.on_stderr(), _listening(host, port) as listener:
        trunk = open_runs(paths, best, ensemble, calibrated)
        console.say(f"compiling for {', '.join(trunk.tasks)}")
        trunk.compile()
        from jaxfreeze.inference.web import http_server  # after the check that its packages are there

        batcher = Batcher(trunk)
        server = http_server(batcher)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        console.say(f"{address} answers for {', '.join(trunk.tasks)}; Ctrl-C ends it")
        server.run([listener])
        batcher.close()


def _listening(host: str, port: int) -> socket.socket:
    """A socket that already listens: clients that connect while the runs are being loaded wait for their answer."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or "no such host").partition(" (")[0]
        raise InputError(f"--host {host} --port {port}: cannot listen there ({reason}); give another") from None
