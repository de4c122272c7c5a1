"""Runs whose model and rows come from the hub, against one on this machine: fetched, offline, slow and broken."""

import io
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow
import pytest
from pyarrow import parquet

from jaxfreeze.cli import main
from jaxfreeze.data import hub_rows
from jaxfreeze.data.readers import read_split
from jaxfreeze.data.tasks import TASKS
from jaxfreeze.model import hub
from tests import effort
from tests.folders import make_folder
from tests.inference.runs import WORDS
from tests.model import hub_server

ROOT = Path(__file__).parents[1]
TOKEN = "hf_" + "q7Zk" * 8
GLUE, BERT = "datasets/nyu-mll/glue", "models/google-bert/bert-base-uncased"
SPLITS = {"train": 24, "validation_matched": 9, "validation_mismatched": 6}
NLI = ["entailment", "neutral", "contradiction"]


def mnli_rows(count: int) -> bytes:
    """A split as Parquet, as the hub has it; the label is in the premise's first word."""
    label = [number % 3 for number in range(count)]
    columns = {
        "premise": [f"{WORDS[kind]} {WORDS[number % len(WORDS)]}" for number, kind in enumerate(label)],
        "hypothesis": ["the bowl"] * count,
        "label": label,
        "idx": list(range(count)),
    }
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def glue_card() -> bytes:
    """README.md of the data set: its configuration mnli."""
    features = [f"  - name: {name}\n    dtype: string" for name in ("premise", "hypothesis")]
    names = "".join(f"\n          '{number}': {name}" for number, name in enumerate(NLI))
    features += [f"  - name: label\n    dtype:\n      class_label:\n        names:{names}"]
    features += ["  - name: idx\n    dtype: int32"]
    files = "".join(f"\n  - split: {name}\n    path: mnli/{name}-*" for name in SPLITS)
    return "\n".join(
        ["---", "dataset_info:", "- config_name: mnli", "  features:", *features,
         f"configs:\n- config_name: mnli\n  data_files:{files}", "---", ""]
    ).encode()  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a tiny BERT as long as the default --max_length."""
    folder = make_folder(
        tmp_path_factory.mktemp("hub") / "bert", "bert", max_position_embeddings=128, num_hidden_layers=4
    )
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def fill(the_hub: hub_server.Hub, bert: dict[str, bytes]) -> None:
    """Give a hub the model under its full name, and GLUE."""
    the_hub.renamed["bert-base-uncased"] = BERT.removeprefix("models/")
    the_hub.commit("main", bert, repository=BERT)
    tables = {f"mnli/{name}-00000-of-00001.parquet": mnli_rows(count) for name, count in SPLITS.items()}
    the_hub.commit("main", {"README.md": glue_card(), **tables}, repository=GLUE)
    the_hub.token, the_hub.owner = TOKEN, "me"


COMMAND = ("--task", "mnli", "--trainable_layers", "3")


def in_a_process(folder: Path, home: Path, endpoint: str) -> str:
    """`python run.py --task mnli --trainable_layers 3` in a folder with run.py in it -> what it prints."""
    folder.mkdir()
    shutil.copy(ROOT / "run.py", folder)
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": effort.xla_flags(devices=1), **own}
    words = [sys.executable, "run.py", *COMMAND]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # no bars of the libraries' in a file either
    return done.stdout


def score_line(said: str) -> str:
    """What a run says of its validation rows."""
    return next(line for line in said.splitlines() if line.startswith("mnli validation: "))


# huggingface_hub's own way of sending a large file without Xet
@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
def test_the_literal_command(
    bert: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fetches, trains, scores both sets, exports and publishes; then, without the hub, the same from the cache."""
    first, home = tmp_path / "first", tmp_path / "home"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_server.running() as server:
        fill(server, bert)
        said = in_a_process(first, home, server.endpoint)
        assert re.fullmatch(r"mnli validation: accuracy 0\.\d+, accuracy_mismatched 0\.\d+", score_line(said))
        monkeypatch.chdir(first)
        with hub_server.serving_data_sets(monkeypatch, home, server):
            run = "runs/mnli-bert-base-uncased-k3-seed42"
            assert main(["export", "--run", run, "--output", "exported"]) == 0
            assert main(["push", "--exported", "exported", "--repo", "mnli"]) == 0
            assert server.latest("models/me/mnli") == {
                file.name: file.read_bytes() for file in Path("exported").iterdir()
            }
            monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
            monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
            huggingface_hub.close_session()
            asked = len(server.asked)
            (tmp_path / "second").mkdir()
            monkeypatch.chdir(tmp_path / "second")
            capfd.readouterr()
            assert main([*COMMAND]) == 0
            assert len(server.asked) == asked
    again = capfd.readouterr()
    assert again.err == ""
    assert score_line(again.out) == score_line(said)
    assert TOKEN not in said + again.out


@pytest.fixture
def the_hub(bert: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    monkeypatch.chdir(tmp_path)
    with hub_server.serving_data_sets(monkeypatch, tmp_path / "home") as server:
        fill(server, bert)
        yield server


def refused(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that the command ends in, with nothing of a run left behind."""
    assert main([*COMMAND]) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert not Path("runs").exists()
    return line


def check_sound(bert: dict[str, bytes]) -> None:
    """All that a run reads is what the hub has."""
    folder = hub.model_folder("bert-base-uncased")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == bert
    for name, count in SPLITS.items():
        assert len(read_split(TASKS["mnli"], name, None).texts[0]) == count


ROWS = "cannot load 'mnli' of nyu-mll/glue from the Hugging Face hub or its local cache ("
WEIGHTS = "--model bert-base-uncased: no such folder, and "


@pytest.mark.parametrize(
    "status, line", [(500, "the hub cannot be reached ("), (401, "no such model"), (404, "no such model")]
)
@pytest.mark.parametrize("part", ["datasets", "bert"])
def test_a_refusal_is_one_line_and_passes(
    status: int, line: str, part: str, the_hub: hub_server.Hub, bert: dict[str, bytes],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    the_hub.status = lambda path: status if part in path else None
    said = refused(capfd)
    assert (ROWS in said) if part == "datasets" else (WEIGHTS in said and line in said)
    assert str(status) in said or part == "bert"
    the_hub.status = lambda path: None
    check_sound(bert)


@pytest.mark.parametrize("cut", ["matched-00000-of-00001.parquet", "model.safetensors", "tokenizer.json"])
def test_half_a_file_is_never_used(
    cut: str,
    the_hub: hub_server.Hub,
    bert: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither at once, nor without the hub after it; what is fetched afterwards is whole."""
    monkeypatch.setattr(huggingface_hub.file_download, "time", types.SimpleNamespace(sleep=lambda seconds: None))
    the_hub.cut = cut
    where = ROWS if cut.endswith("parquet") else WEIGHTS
    assert where in refused(capfd)
    the_hub.status = lambda path: 500
    assert where in refused(capfd)
    the_hub.cut, the_hub.status = "", lambda path: None
    check_sound(bert)


def test_slow_is_not_unreachable(
    the_hub: hub_server.Hub, bert: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers may take longer than the hub has time to be reached in."""
    monkeypatch.setattr(hub_rows, "CONNECT_SECONDS", 0.05)
    the_hub.seconds = 0.1
    check_sound(bert)
