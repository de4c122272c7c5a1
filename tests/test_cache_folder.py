"""The cache folder: entries are whole or not there, the longest unused make room, and all of it can go."""

import os
from pathlib import Path

import pytest

from jaxfreeze import atomic, cache_folder
from jaxfreeze.cache_folder import cache_root
from jaxfreeze.cli import main


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXFREEZE_CACHE", str(tmp_path / "cache"))


def digest(letter: str) -> str:
    return 64 * letter


def add(name: str, size: int, used: float) -> Path:
    folder = cache_root() / "trunk" / digest(name)
    with cache_folder.new_entry(folder, {"model": name}) as temporary:
        (temporary / "hidden").write_bytes(bytes(size))
    os.utime(folder, (used, used))
    return folder


def names() -> set[str]:
    return {entry.path.name[0] for entry in cache_folder.entries()}


def test_an_entry_is_whole_or_not_there() -> None:
    folder = cache_root() / "trunk" / digest("a")

    def fail() -> None:
        with cache_folder.new_entry(folder, {}) as temporary:
            (temporary / "hidden").write_bytes(b"half")
            assert not cache_folder.is_whole(folder)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(folder.parent.iterdir())
    add("a", 10, 1)
    assert cache_folder.is_whole(folder)
    assert folder.stat().st_mtime > 1  # used now


def test_what_a_dead_process_left_goes_and_what_a_living_one_writes_stays() -> None:
    parent = cache_root() / "trunk"
    dead = parent / f"{atomic.WRITING}-dead1234"
    dead.mkdir(parents=True)
    with cache_folder.new_entry(parent / digest("a"), {}) as alive:
        assert not dead.exists()
        add("b", 10, 1)
        assert alive.is_dir()
    assert names() == {"a", "b"}


def test_the_longest_unused_make_room() -> None:
    size = 100 + len('{"model": "a"}')
    a, b, c = add("a", 100, used=3), add("b", 100, used=1), add("c", 100, used=2)
    cache_folder.make_room(need=1, budget=3 * size + 1)
    assert names() == {"a", "b", "c"}
    assert cache_folder.room(3 * size).obstacle(1) == ""
    cache_folder.make_room(need=1, budget=3 * size)
    assert names() == {"a", "c"}
    assert cache_folder.room(3 * size, wanted=[c]).obstacle(2 * size) == ""
    cache_folder.make_room(2 * size, budget=3 * size, wanted=[c])
    assert names() == {"c"}
    assert cache_folder.room(2 * size, wanted=[c]).obstacle(size) == ""
    assert "--cache_budget" in cache_folder.room(2 * size - 1, wanted=[c]).obstacle(size)
    assert "GB free" in cache_folder.room(10**19).obstacle(10**18)
    assert names() == {"c"}
    assert a != b


def test_room_is_made_without_a_look_at_other_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands of compiled programs, and every run asks for room."""
    folder = add("a", 10, used=1)
    for kind in ("xla", "tokens"):
        (cache_root() / kind).mkdir()
    honest, looked = cache_folder._size, []
    monkeypatch.setattr(cache_folder, "_size", lambda folder: looked.append(folder) or honest(folder))
    cache_folder.room(100)
    cache_folder.make_room(1, 100)
    assert {*looked} == {folder}


def test_an_entry_that_another_process_removes_meanwhile_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    add("a", 10, used=1)
    gone = add("b", 10, used=2)
    honest = cache_folder._size

    def removed_meanwhile(folder: Path) -> int:
        if folder == gone:
            cache_folder.remove(folder)
        return honest(folder)

    monkeypatch.setattr(cache_folder, "_size", removed_meanwhile)
    assert names() == {"a"}


def test_list_and_clear(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list"]) == 0
    assert "empty" in capsys.readouterr().out
    add("a", 2_000_000, used=1)
    assert main(["cache", "list"]) == 0
    out = capsys.readouterr().out
    assert "trunk" in out
    assert "2.0 MB" in out
    assert "model a" in out
    assert main(["cache", "clear"]) == 0
    assert "2.0 MB" in capsys.readouterr().out
    assert not cache_root().exists()
    assert main(["cache", "list"]) == 0
    assert "empty" in capsys.readouterr().out


FOREIGN = (
    *("tokens/api.txt", "xla/dump.hlo", "trunk/notes/done.json"),
    *(f"trunk/{64 * 'b'}/notes.txt", f"tokens/{64 * 'c'}"),
)


@pytest.mark.parametrize("name", FOREIGN)
def test_clear_removes_nothing_where_somebody_elses_file_lies(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    add("b", 10, used=1)
    file = cache_root() / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    assert main(["cache", "clear"]) == 2
    assert Path(name).name in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert "b" in names()
    file.unlink()
    assert main(["cache", "clear"]) == 0
    assert "b" not in names()


def test_clear_leaves_what_lies_beside_our_folders_and_what_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    beside = tmp_path / "cache" / "plan.txt"
    beside.write_text("mine")
    with cache_folder.new_entry(cache_root() / "trunk" / digest("a"), {}) as writing:
        (writing / "hidden").write_bytes(b"half")
        assert main(["cache", "clear"]) == 0
        assert (writing / "hidden").is_file()
    assert names() == {"a"}
    assert beside.read_text() == "mine"


def test_clear_refuses_the_folder_one_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    add("a", 10, used=1)
    monkeypatch.chdir(cache_root() / "trunk")
    assert main(["cache", "clear"]) == 2
    assert names() == {"a"}


def test_clear_leaves_the_empty_folder_one_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_root().mkdir()
    monkeypatch.chdir(cache_root())
    assert main(["cache", "clear"]) == 0
    assert cache_root().is_dir()


def test_make_room_never_takes_a_file_of_somebody_else() -> None:
    mine = add("a", 100, used=1) / "notes.txt"
    mine.write_text("mine")
    cache_folder.make_room(need=1, budget=1)
    assert mine.read_text() == "mine"
    assert not names()


@pytest.mark.parametrize(("value", "root"), [("", "home/.cache/jaxfreeze"), (" ", "home/.cache/jaxfreeze"),
    ("~/jf", "home/jf"), ("$SOME/jf", "some/jf"), ("${SOME}", "some")])  # fmt: skip
def test_the_variable_means_a_path(value: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SOME", str(tmp_path / "some"))
    monkeypatch.setenv("JAXFREEZE_CACHE", value)
    assert cache_root() == tmp_path / root


@pytest.mark.parametrize("words", ([], ["purge"], ["list", "clear"]))
def test_what_cache_takes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", *words]) == 2
    error = capsys.readouterr().err
    assert "list or clear" in error
    assert error.count("\n") == 1
