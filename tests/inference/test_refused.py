"""What export and apply_top refuse, by name; and that nothing is ever half-written."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxfreeze.cli import main
from jaxfreeze.errors import InputError
from jaxfreeze.inference import export, model_card
from tests.inference.exported import Exported, files, write_source

WORD = "bert.embeddings.word_embeddings.weight"
DENSE = "bert.pooler.dense.weight"


def flip(file: Path, name: str) -> None:
    """Change the lowest bit of a tensor's first number."""
    tensors = load_file(file)
    tensors[name].reshape(-1).view(np.uint8)[0] ^= 1
    save_file(tensors, file, {"format": "pt"})


def refusal(top: Path, base: Path, output: Path) -> str:
    """The one line that apply_top fails with, having written nothing."""
    before = set(output.parent.iterdir())
    with pytest.raises(InputError) as caught:
        export.apply_top(top, base, output)
    assert set(output.parent.iterdir()) == before
    return str(caught.value)


def test_a_wrong_base_is_refused(bert: Exported, tmp_path: Path) -> None:
    other = shutil.copytree(bert.source, tmp_path / "other")
    flip(other / export.WHOLE, WORD)
    line = refusal(bert.top, other, tmp_path / "out")
    assert f"{other}: not the weights that this top was trained on (with other bits: {WORD});" in line
    assert f"give the folder or hub name of {bert.source}" in line
    rounded = write_source(tmp_path / "rounded", bert.case._replace(dtype=np.float16))
    assert "with other bits: bert.embeddings.LayerNorm.bias, " in refusal(bert.top, rounded, tmp_path / "out")
    roberta = write_source(tmp_path / "roberta", bert.case._replace(family="roberta"))
    assert "missing: bert.embeddings.LayerNorm.bias, " in refusal(bert.top, roberta, tmp_path / "out")
    assert "there is no such folder" in refusal(bert.top, tmp_path / "none", tmp_path / "out")


def drop(file: Path) -> None:
    save_file({name: leaf for name, leaf in load_file(file).items() if name != DENSE}, file)


def add(file: Path) -> None:
    save_file(load_file(file) | {"extra.weight": np.zeros(3, np.float32)}, file)


def reshape(file: Path) -> None:
    save_file(load_file(file) | {DENSE: load_file(file)[DENSE].reshape(-1)}, file)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def forget(file: Path) -> None:
    about = json.loads((file.parent / "jaxfreeze.json").read_text())
    del about["tensors"][WORD]
    (file.parent / "jaxfreeze.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    "damage, line",
    [
        (lambda file: flip(file, DENSE), f"top.safetensors: not the file that was exported (with other bits: {DENSE})"),
        (reshape, f"(with other bits: {DENSE}); copy or export it again"),
        (drop, f"(missing: {DENSE})"),
        (add, "(surplus: extra.weight)"),
        (cut, "top.safetensors: not a whole safetensors file"),
        (lambda file: file.unlink(), "top.safetensors: not a whole safetensors file"),
        (lambda file: (file.parent / "jaxfreeze.json").unlink(), "holds no jaxfreeze.json; expected a folder that"),
        (lambda file: (file.parent / "jaxfreeze.json").write_text("{"), "jaxfreeze.json: not JSON"),
        (lambda file: (file.parent / "jaxfreeze.json").write_text('{"format": 1}'), "jaxfreeze.json: damaged"),
        (lambda file: (file.parent / "jaxfreeze.json").write_text('{"format": 9}'), "format is 9; expected 1"),
        (forget, "jaxfreeze.json: damaged; copy or export it again"),
        (lambda file: (file.parent / "config.json").unlink(), "config.json: no such file"),
    ],
)
def test_a_damaged_top_is_refused(damage: Callable[[Path], object], line: str, bert: Exported, tmp_path: Path) -> None:
    top = shutil.copytree(bert.top, tmp_path / "top")
    damage(top / export.TOP)
    assert line in refusal(top, bert.source, tmp_path / "out")


def test_an_output_in_use_is_refused(bert: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(bert.whole)
    for output in (bert.whole, bert.run):
        assert main(["export", "--run", str(bert.run), "--output", str(output)]) == 2
        printed = capsys.readouterr()
        assert printed.err == f"error: --output {output}: the folder is not empty; give another name\n"
        assert printed.out == ""
    assert "the folder is not empty" in refusal(bert.top, bert.source, bert.whole)
    assert files(bert.whole) == before
    (tmp_path / "empty").mkdir()
    assert main(["export", "--run", str(bert.run), "--output", str(tmp_path / "empty")]) == 0
    assert files(tmp_path / "empty") == before


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_half_written(
    error: BaseException,
    bert: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The disk is full, or somebody presses Ctrl-C, when the weights are written already."""

    def fail(*_: object) -> str:
        assert [path.name for path in tmp_path.rglob(export.WHOLE)] == [export.WHOLE]
        raise error

    monkeypatch.setattr(model_card, "text", fail)
    monkeypatch.setattr(model_card, "of_whole", fail)
    code = main(["export", "--run", str(bert.run), "--output", str(tmp_path / "out")])
    assert code == (2 if isinstance(error, OSError) else 130)
    if isinstance(error, OSError):
        full = f"error: --output {tmp_path}/out: cannot be written (No space left on device)\n"
        assert capsys.readouterr().err == full
    assert not list(tmp_path.iterdir())
    with pytest.raises((InputError, KeyboardInterrupt)):
        export.apply_top(bert.top, bert.source, tmp_path / "out")
    assert not list(tmp_path.iterdir())
