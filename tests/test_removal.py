"""Deleting takes what was written by us, by name, and refuses where anything else lies."""

import re
from pathlib import Path

import pytest

from jaxfreeze import removal
from jaxfreeze.errors import InputError
from jaxfreeze.run_folder import RUN_FILES, STEP_FILES

OURS = re.compile(r"a\.txt|deep/\d+/b\.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "deep/1/b.txt", "deep/2/b.txt"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("ours")
    return tmp_path / "out"


def test_all_of_it_goes_and_the_folder_stays(folder: Path) -> None:
    removal.check_removable(folder, OURS, "--overwrite")
    removal.remove(folder, OURS)
    assert not list(folder.iterdir())
    removal.remove_folder(folder, OURS)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["mine.txt", "deep/1/mine.txt", "deep/x/b.txt", ".hidden", "deep/a.txt", "a.txt.bak"])
def test_another_file_is_refused_by_name_and_never_deleted(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    with pytest.raises(InputError, match=rf"^--overwrite: holds files .* \({name}\); nothing was deleted"):
        removal.check_removable(folder, OURS, "--overwrite")
    removal.remove(folder, OURS)
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] == [name]


@pytest.mark.parametrize("name", ["a.txt", "deep/3", "deep/1/b.txt"])
def test_a_link_is_somebody_elses(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "b.txt").write_text("mine")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    assert removal.foreign(folder, OURS) == [name]
    removal.remove(folder, OURS)
    assert (folder / name).is_symlink()
    assert (target / "b.txt").read_text() == "mine"


def test_the_folder_one_stands_in_and_those_above_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "deep" / "1")
    with pytest.raises(InputError, match="holds the current folder"):
        removal.check_removable(folder, OURS, "--overwrite")
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="is the current folder"):
        removal.check_removable(Path(), OURS, "--overwrite")


def test_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(InputError, match="is the home folder"):
        removal.check_removable(folder, OURS, "--overwrite")


def test_what_is_read_lies_in_it(folder: Path) -> None:
    with pytest.raises(InputError, match=r"a.txt, which is an input; nothing was deleted"):
        removal.check_removable(folder, OURS, "--overwrite", [folder / "a.txt"])


@pytest.mark.parametrize(
    "name",
    [
        *(".config.yaml", "metrics.json.writing", ".metrics.json", "log.jsonl.writing", ".lock.writing"),
        *("notes.md", "config.yml", "config.yaml.bak", "exported/config.json", "checkpoints/mine.txt"),
        *("checkpoints/best/trained/d/x", "checkpoints/10/notes.txt", "checkpoints/10/trained/notes.txt"),
        *("checkpoints/10.bak/description/metadata", "events/notes.txt", "checkpoints/metadata"),
    ],
)
def test_what_a_run_does_not_write(name: str) -> None:
    assert not RUN_FILES.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["metrics.json", ".metrics.json.writing", ".config.yaml.writing", ".lock", "log.jsonl"]
)
def test_what_a_run_writes(name: str) -> None:
    assert RUN_FILES.fullmatch(name)


@pytest.mark.parametrize("name", ["trained/d/notes", "d/0123", "notes.txt", "state/", "trained/x/manifest.ocdbt"])
def test_what_a_checkpoint_does_not_hold(name: str) -> None:
    assert not STEP_FILES.fullmatch(name)
