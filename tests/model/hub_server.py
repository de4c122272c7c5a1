"""A hub on this machine, which answers what huggingface_hub asks of the real one about one model."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest

NAME = "owner/model"


class Hub:
    """What the server knows: commits with their files, and pull requests."""

    def __init__(self) -> None:
        self.revisions: dict[str, list[str]] = {}  # revision -> its commits, the last one first
        self.files: dict[str, dict[str, bytes]] = {}  # commit -> its files
        self.requests: list[dict[str, Any]] = []  # pull requests, as the Hub lists them
        self.asked: list[str] = []  # paths, in order
        self.discussions = 200  # the status with which they are answered

    def commit(self, revision: str, files: dict[str, bytes], parent: str = "") -> str:
        """A commit with these files, on top of the last of another revision."""
        sha = hashlib.sha1(repr((revision, len(self.files), sorted(files))).encode()).hexdigest()
        self.revisions[revision] = [sha, *self.revisions.get(parent or revision, [])]
        self.files[sha] = files
        return sha

    def pull_request(self, number: int, title: str, author: str, status: str = "open") -> None:
        self.requests.append(
            {
                "num": number, "title": title, "status": status, "isPullRequest": True, "author": {"name": author},
                "createdAt": "2023-01-01T00:00:00.000Z", "repo": {"name": NAME, "type": "model"},
            }
        )  # fmt: skip

    def answer(self, path: str, query: str) -> tuple[int, Any]:
        """(status, bytes of a file or a value for JSON)."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match parts:
            case ["api", "models", "owner", "model", "revision", revision] if revision in self.revisions:
                return 200, {"id": NAME, "sha": self.revisions[revision][0], "siblings": []}
            case ["api", "models", "owner", "model", "tree", commit] if commit in self.files:
                files = self.files[commit].items()
                return 200, [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files
                ]
            case ["api", "models", "owner", "model", "commits", revision] if revision in self.revisions:
                commits = self.revisions[revision]
                return 200, [
                    {"id": sha, "authors": [], "date": "2023-01-01T00:00:00.000Z", "title": "", "message": ""}
                    for sha in commits
                ]
            case ["api", "models", "owner", "model", "discussions"]:
                status = parse_qs(query)["status"]
                found = [request for request in self.requests if [request["status"]] == status]
                return self.discussions, {"count": len(found), "start": 0, "discussions": found}
            case ["owner", "model", "resolve", commit, name] if name in self.files.get(commit, {}):
                return 200, self.files[commit][name]
        return 404, {"error": "not there"}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            query = urlsplit(self.path).query
            hub.asked.append(path)
            status, found = hub.answer(path, query)
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if isinstance(found, bytes):
                self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", path.split("/")[4])
            else:
                self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A hub that huggingface_hub asks instead of its own, with a cache of its own."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
    try:
        yield hub
    finally:
        huggingface_hub.close_session()
        server.shutdown()
        server.server_close()
        thread.join()
