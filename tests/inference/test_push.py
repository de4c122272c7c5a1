"""`push` against a hub on this machine: what is published, and the one line for all that can go wrong."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from jaxfreeze import hub_client
from jaxfreeze.cli import main
from tests.model import hub_server

TOKEN = "hf_" + "q7Zk" * 8
REPOSITORY = "models/me/tiny"
# huggingface_hub's own way of sending a large file without Xet
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


@pytest.fixture(scope="module")
def exported(tiny_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push") / "exported"
    assert main(["export", "--run", str(tiny_runs / "rte"), "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hub_server.Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with hub_server.serving(monkeypatch, tmp_path / "cache") as hub:
        hub.token, hub.owner = TOKEN, "me"
        yield hub


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_exported_folder_is_published_and_nothing_else(
    exported: Path, tmp_path: Path, the_hub: hub_server.Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "exported"
    shutil.copytree(exported, folder)
    (folder / ".env").write_text("a secret")
    (folder / "rows.csv").write_text("rows of customers")
    assert main(["push", "--exported", str(folder), "--repo", "tiny"]) == 0
    assert the_hub.latest(REPOSITORY) == contents(exported)
    assert REPOSITORY not in the_hub.private
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith(f"{the_hub.endpoint}/me/tiny: {len(contents(exported))} files, ")
    assert captured.out.count("\n") == 1
    assert TOKEN not in captured.out


def test_a_run_is_exported_and_published(tiny_runs: Path, exported: Path, the_hub: hub_server.Hub) -> None:
    """Twice: the second time nothing has changed. The export does not stay."""
    for _ in range(2):
        command = ["push", "--run", str(tiny_runs / "rte"), "--repo", "me/tiny", "--private", "true"]
        assert main(command) == 0
        assert the_hub.latest(REPOSITORY) == contents(exported)
        assert the_hub.private == {REPOSITORY}


def test_the_published_model_is_one_that_a_run_begins_with(exported: Path, the_hub: hub_server.Hub) -> None:
    from jaxfreeze.model import hub

    assert main(["push", "--exported", str(exported), "--repo", "me/tiny"]) == 0
    found = hub.model_folder("me/tiny")
    assert (found / "model.safetensors").read_bytes() == (exported / "model.safetensors").read_bytes()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["push", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert TOKEN not in captured.err
    return captured.err


def test_private_never_publishes_in_the_open(
    exported: Path, the_hub: hub_server.Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    the_hub.commit("main", {"README.md": b"old"}, repository=REPOSITORY)
    line = refused(capsys, "--exported", str(exported), "--repo", "me/tiny", "--private")
    assert "--private: me/tiny exists and is public" in line
    assert the_hub.latest(REPOSITORY) == {"README.md": b"old"}


@pytest.mark.parametrize("path", ["/api/repos/create", "/preupload/main", "/large/", "/commit/main"])
@pytest.mark.parametrize(
    "status, line",
    [
        (401, "the hub does not accept the token: give another in HF_TOKEN, or run `hf auth login` ("),
        (403, "the token may not write there: give one with write access"),
        (404, "the hub knows no such place: check the name ("),
    ],
)
def test_what_the_hub_answers_is_one_line(
    path: str, status: int, line: str, exported: Path, the_hub: hub_server.Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever it is answered; nothing was published."""
    the_hub.status = lambda asked: status if path in asked or asked.endswith("/models/me/tiny") else None
    assert f"--repo me/tiny: {line}" in refused(capsys, "--exported", str(exported), "--repo", "me/tiny")
    assert not the_hub.revisions or the_hub.latest(REPOSITORY) == {}


def test_a_hub_that_fails_or_is_gone_is_one_line(
    exported: Path, the_hub: hub_server.Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--exported", str(exported), "--repo", "me/tiny")
    the_hub.status = lambda path: 500
    assert "--repo me/tiny: the hub cannot be reached, or fails: try again later (" in refused(capsys, *given)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "(ConnectError: " in refused(capsys, *given)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    assert "(OfflineModeIsEnabled: " in refused(capsys, *given)


def test_another_owners_name_is_one_line(
    exported: Path, the_hub: hub_server.Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "--exported", str(exported), "--repo", "you/tiny")
    assert "--repo you/tiny: the token may not write there" in line


@pytest.mark.parametrize("token", ["hf_zwölf" + "q7Zk" * 8, "hf_\x01" + "q7Zk" * 8])
def test_a_token_that_no_header_takes_is_not_printed(
    token: str,
    exported: Path,
    the_hub: hub_server.Hub,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert "q7Zk" not in refused(capsys, "--exported", str(exported), "--repo", "me/tiny")
    assert main(["--task", "demo", "--model", "me/tiny"]) == 2  # reading says as little
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "q7Zk" not in line


def test_an_error_that_repeats_the_token_is_shown_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As HTTP libraries word it, by its text or by its bytes."""
    monkeypatch.setenv("HF_TOKEN", TOKEN + "\x01")
    for form in (TOKEN + "\x01", repr((TOKEN + "\x01").encode())[2:-1]):
        said = hub_client.reason(ValueError(f"Illegal header value 'Bearer {form}'"))
        assert said == "ValueError: Illegal header value 'Bearer [token]'"


def test_without_a_token_nothing_is_asked(
    tiny_runs: Path, the_hub: hub_server.Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    line = refused(capsys, "--run", str(tiny_runs / "rte"), "--repo", "me/tiny")
    assert "expected a token of the hub in HF_TOKEN, found none; or run `hf auth login`" in line
    assert the_hub.asked == []


def test_wrong_arguments_are_one_line(
    tiny_runs: Path, exported: Path, tmp_path: Path, the_hub: hub_server.Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    run, half = str(tiny_runs / "rte"), tmp_path / "half"
    assert "as in: python run.py push --run runs/demo --repo my-model" in refused(capsys, "--run", run)
    assert "expected --run or --exported, found none" in refused(capsys, "--repo", "a")
    both = ("--run", run, "--exported", str(exported), "--repo", "a")
    assert "expected --run or --exported, found both" in refused(capsys, *both)
    assert "--token: no such flag" in refused(capsys, "--run", run, "--repo", "a", "--token", "x")
    assert "nowhere: there is no such folder" in refused(capsys, "--exported", "nowhere", "--repo", "a")
    assert f"--run {tmp_path}: holds no run" in refused(capsys, "--run", str(tmp_path), "--repo", "a")
    assert f"{run}: holds no jaxfreeze.json" in refused(capsys, "--exported", run, "--repo", "a")
    assert "expected NAME or OWNER/NAME" in refused(capsys, "--exported", str(exported), "--repo", "a b")
    shutil.copytree(exported, half)
    (half / "model.safetensors").unlink()
    line = refused(capsys, "--exported", str(half), "--repo", "a")
    assert "holds no model.safetensors or top.safetensors; export the run again" in line
    assert the_hub.revisions == {}
