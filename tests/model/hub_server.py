"""A hub on this machine: what huggingface_hub and `datasets` ask of the real one, for reading and for publishing."""

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.hf_api
import pytest

NAME = "owner/model"
MODEL = f"models/{NAME}"
KINDS = ("models", "datasets")
Answer = tuple[int, Any]
"""Status, and bytes of a file or a value for JSON."""


class Hub:
    """What the server knows: commits with their files, pull requests, who may write; and how it misbehaves."""

    def __init__(self) -> None:
        self.revisions: dict[tuple[str, str], list[str]] = {}  # repository, revision -> commits, the last one first
        self.files: dict[str, dict[str, bytes]] = {}  # commit -> its files
        self.requests: list[dict[str, Any]] = []  # pull requests, as the Hub lists them
        self.asked: list[str] = []  # paths, in order
        self.credentials: set[str] = set()  # that it was shown
        self.discussions = 200  # the status with which they are answered
        self.renamed: dict[str, str] = {}  # short name -> full name
        self.status: Callable[[str], int | None] = lambda path: None  # in place of an answer
        self.seconds = 0.0  # before each answer
        self.cut = ""  # the ending of the files of which half is sent
        self.token, self.owner = "", ""  # who may write, and under which name
        self.private: set[str] = set()  # repositories
        self.large: dict[str, bytes] = {}  # SHA-256 -> content that was uploaded apart

    def commit(self, revision: str, files: dict[str, bytes], parent: str = "", repository: str = MODEL) -> str:
        """A commit with these files, on top of the last of another revision."""
        sha = hashlib.sha1(repr((repository, revision, len(self.files), sorted(files))).encode()).hexdigest()
        self.revisions[repository, revision] = [sha, *self.revisions.get((repository, parent or revision), [])]
        self.files[sha] = files
        return sha

    def pull_request(self, number: int, title: str, author: str, status: str = "open") -> None:
        self.requests.append(
            {
                "num": number, "title": title, "status": status, "isPullRequest": True, "author": {"name": author},
                "createdAt": "2023-01-01T00:00:00.000Z", "repo": {"name": NAME, "type": "model"},
            }
        )  # fmt: skip

    def latest(self, repository: str) -> dict[str, bytes]:
        """The files of a repository."""
        return self.files[self.revisions[repository, "main"][0]]

    def _sha(self, repository: str, revision: str) -> str:
        """The commit that a branch or a commit means; KeyError if there is none."""
        known = {sha for (name, _), commits in self.revisions.items() if name == repository for sha in commits}
        return revision if revision in known else self.revisions[repository, revision][0]

    def answer(self, path: str, query: str, asked: bytes) -> Answer:
        """What a GET, or a POST with this body, is answered with."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        try:
            match parts:
                case ["api", kind, owner, name, *what] if kind in KINDS:
                    return self._api(f"{kind}/{owner}/{name}", what, query, asked)
                case ["datasets", owner, name, "resolve", revision, *file]:
                    return 200, self.files[self._sha(f"datasets/{owner}/{name}", revision)]["/".join(file)]
                case [owner, name, "resolve", revision, *file]:
                    return 200, self.files[self._sha(f"models/{owner}/{name}", revision)]["/".join(file)]
                case [_, _, "info", "lfs", "objects", "batch"]:
                    return 200, {"transfer": "basic", "objects": [*map(self._place, json.loads(asked)["objects"])]}
                case ["api", "repos", "create"]:
                    return self._create(json.loads(asked))
                case ["api", "validate-yaml"]:
                    return 200, {"errors": [], "warnings": []}
        except KeyError:
            pass
        return 404, {"error": "not there"}

    def _api(self, repository: str, what: list[str], query: str, asked: bytes) -> Answer:
        match what:
            case [] | ["revision", _]:
                sha = self._sha(repository, (*what, "main")[1 if what else 0])
                names = [{"rfilename": name} for name in self.files[sha]]
                about = {"id": repository.partition("/")[2], "sha": sha, "siblings": names}
                return 200, about | {"private": repository in self.private, "tags": []}
            case ["tree", revision, *folder]:
                return 200, self._listed(self._sha(repository, revision), "".join(f"{part}/" for part in folder))
            case ["paths-info", revision]:
                wanted = parse_qs(asked.decode()).get("paths", []) or json.loads(asked)["paths"]
                return 200, [one for one in self._listed(self._sha(repository, revision)) if one["path"] in wanted]
            case ["commits", revision]:
                common = {"authors": [], "date": "2023-01-01T00:00:00.000Z", "title": "", "message": ""}
                return 200, [{"id": sha, **common} for sha in self.revisions[repository, revision]]
            case ["discussions"]:
                status = parse_qs(query)["status"]
                found = [request for request in self.requests if [request["status"]] == status]
                return self.discussions, {"count": len(found), "start": 0, "discussions": found}
            case ["preupload", _]:
                files = [(file["path"], file["path"].endswith(".safetensors")) for file in json.loads(asked)["files"]]
                modes = [{"path": path, "uploadMode": "lfs" if large else "regular"} for path, large in files]
                return 200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]}
            case ["commit", revision]:
                return 200, self._commit(repository, revision, asked)
        return 404, {"error": "not there"}

    def _listed(self, commit: str, folder: str = "") -> list[dict[str, Any]]:
        """The files and folders under a folder, as the hub lists them."""
        found = {}
        for name, content in self.files[commit].items():
            for parent in name.split("/")[:-1]:
                found[parent] = {"type": "directory", "path": parent, "oid": "0" * 40, "size": 0}
            oid = hashlib.sha1(content).hexdigest()
            found[name] = {"type": "file", "path": name, "size": len(content), "oid": oid}
        return [about for name, about in found.items() if name.startswith(folder)]

    def _create(self, wanted: dict[str, Any]) -> Answer:
        owner = wanted["organization"] or self.owner
        if owner != self.owner:
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        url, repository = {"url": f"{self.endpoint}/{owner}/{wanted['name']}"}, f"models/{owner}/{wanted['name']}"
        if (repository, "main") in self.revisions:
            return 409, url | {"error": "You already created this model repo"}
        self.commit("main", {}, repository=repository)
        if wanted.get("visibility") == "private":
            self.private.add(repository)
        return 200, url

    def _place(self, content: dict[str, Any]) -> dict[str, Any]:
        return {**content, "actions": {"upload": {"href": f"{self.endpoint}/large/{content['oid']}"}}}

    def _commit(self, repository: str, revision: str, asked: bytes) -> dict[str, Any]:
        files = dict(self.latest(repository))
        for line in map(json.loads, asked.splitlines()):
            match line:
                case {"key": "file", "value": {"path": path, "content": text, "encoding": "base64"}}:
                    files[path] = base64.b64decode(text)
                case {"key": "lfsFile", "value": {"path": path, "oid": oid}}:
                    files[path] = self.large[oid]
        sha = self.commit(revision, files, repository=repository)
        return {"commitUrl": f"{self.endpoint}/{repository.partition('/')[2]}/commit/{sha}", "commitOid": sha}

    endpoint = ""
    """Its address."""


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, urlsplit(self.path).query
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            hub.asked.append(path)
            hub.credentials.add(str(self.headers["Authorization"]))
            time.sleep(hub.seconds)
            short = next((name for name in hub.renamed if f"/{name}/" in path and hub.renamed[name] not in path), None)
            refused = hub.status(path)
            if refused is not None:
                unknown = {"X-Error-Code": "RepoNotFound"} if refused in (401, 404) else {}  # as for a private one
                self.send(refused, {"error": "as the test wants it"}, **unknown)
            elif short is not None:
                self.send(307, {}, Location=self.path.replace(f"/{short}/", f"/{hub.renamed[short]}/"))
            elif path.startswith("/large/"):
                hub.large[path.rpartition("/")[2]] = body
                self.send(200, {})
            elif (
                self.command == "POST"
                and "paths-info" not in path
                and self.headers["Authorization"] != (f"Bearer {hub.token}")
            ):
                self.send(401, {"error": "Invalid username or password."})
            else:
                status, found = hub.answer(path, query, body)
                self.send(status, found, **(self.about(path, found) if isinstance(found, bytes) else {}))

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

        def about(self, path: str, content: bytes) -> dict[str, str]:
            """The headers that describe a file of a repository."""
            commit = path.partition("/resolve/")[2].split("/")[0]
            repository = path.partition("/resolve/")[0].strip("/")
            kind = "" if repository.startswith("datasets/") else "models/"
            return {
                "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                "X-Repo-Commit": hub._sha(kind + repository, commit),
                "Accept-Ranges": "bytes",
            }

        def send(self, status: int, found: Any, **headers: str) -> None:
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            first = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
            if first and isinstance(found, bytes):
                status, headers["Content-Range"] = 206, f"bytes {first}-{len(content) - 1}/{len(content)}"
                content = content[first:]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/octet-stream" if found is content else "application/json")
            self.end_headers()
            if self.command == "HEAD":
                return
            cut = hub.cut and isinstance(found, bytes) and urlsplit(self.path).path.endswith(hub.cut)
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = self.close_connection or bool(cut)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """A hub at `hub.endpoint`, for processes that are given it as HF_ENDPOINT."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that gave up is no news
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, cache: Path, given: Hub | None = None) -> Iterator[Hub]:
    """A hub, or the one given, that huggingface_hub asks in this process in place of its own, with an empty cache."""
    with running() if given is None else contextlib.nullcontext(given) as hub:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its storage speaks another protocol
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.endpoint)
        try:
            yield hub
        finally:
            huggingface_hub.close_session()


@contextlib.contextmanager
def serving_data_sets(monkeypatch: pytest.MonkeyPatch, home: Path, given: Hub | None = None) -> Iterator[Hub]:
    """The same, for `datasets` too; home: as HF_HOME has it."""
    import datasets

    with serving(monkeypatch, home / "hub", given) as hub:
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}"
        monkeypatch.setattr(datasets.config, "HUB_DATASETS_URL", template)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
        monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", home / "datasets" / "downloads")
        yield hub
