"""Runs on `pytorch_model.bin` and `flax_model.msgpack` are those of the same model as safetensors."""

import json
import shutil
from pathlib import Path

import pytest
from flax import serialization
from safetensors.numpy import load_file

from jaxfreeze.cli import main
from jaxfreeze.model.files import read_json
from tests import reference
from tests.folders import make_folder
from tests.inference.runs import train
from tests.model.test_flax_file import nested


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in three forms, a run on each, and their exports."""
    folder = tmp_path_factory.mktemp("forms")
    make_folder(folder / "safetensors", "bert")
    torch, file = reference.pytorch(), folder / "safetensors" / "model.safetensors"
    state = {name: torch.tensor(leaf) for name, leaf in load_file(file).items()}
    for form in ("bin", "msgpack"):
        shutil.copytree(folder / "safetensors", folder / form)
        (folder / form / "model.safetensors").unlink()
    torch.save(state, folder / "bin" / "pytorch_model.bin")
    (folder / "msgpack" / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(nested(state)))
    for form in ("safetensors", "bin", "msgpack"):
        run = train(folder, folder / form, "rte", f"run_{form}")
        assert main(["export", "--run", str(run), "--output", str(folder / f"exported_{form}")]) == 0
    return folder


@pytest.mark.parametrize("form", ["bin", "msgpack"])
def test_the_run_and_its_export_are_those_of_safetensors(form: str, folder: Path) -> None:
    identities = [read_json(folder / f"run_{which}" / "identity.json") for which in ("safetensors", form)]
    assert identities[0]["identity"] == identities[1]["identity"]
    name = {"bin": "pytorch_model.bin", "msgpack": "flax_model.msgpack"}[form]
    assert {Path(path).name for path in identities[1]["inputs"]} >= {"config.json", name}
    exported = [(folder / f"exported_{which}" / "model.safetensors").read_bytes() for which in ("safetensors", form)]
    assert exported[0] == exported[1]


def test_other_weights_are_noticed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch, file = reference.pytorch(), folder / "bin" / "pytorch_model.bin"
    sound = file.read_bytes()
    state = torch.load(file)
    state["bert.embeddings.LayerNorm.bias"] += 1
    torch.save(state, file)
    arguments = ["export", "--run", str(folder / "run_bin"), "--output", str(tmp_path / "x")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "different pretrained weights" in error
    assert f"{file} was modified" in error
    file.write_bytes(sound)
    assert main(arguments) == 0
    assert json.loads((tmp_path / "x" / "jaxfreeze.json").read_text())["base"] == str(folder / "bin")
