"""Files that a download left undone: a Git LFS pointer and a link to nothing, and nothing else, are called that."""

from pathlib import Path

import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.fetched import check_fetched

POINTER = b"version https://git-lfs.github.com/spec/v1"


@pytest.mark.parametrize("end", [b"\noid sha256:ab\nsize 3\n", b"\r\noid sha256:ab\r\nsize 3\r\n", b""])
def test_a_pointer(end: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a file.json"
    file.write_bytes(POINTER + end)
    with pytest.raises(InputError, match=f"^{file}: a Git LFS pointer, not the file itself; run `git lfs pull` in"):
        check_fetched(file)
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(InputError, match="link: a Git LFS pointer"):
        check_fetched(tmp_path / "link")


@pytest.mark.parametrize("target", ["gone", "../gone/too", "/nowhere/at/all", "link"])
def test_a_link_to_nothing(target: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(InputError, match=f"^{tmp_path / 'link'}: a link to {target}, which does not exist; fetch"):
        check_fetched(tmp_path / "link")


@pytest.mark.parametrize("content", [b"", b"version 1", b"{}", b" " + POINTER, b"# " + POINTER])
def test_anything_else_passes(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    (tmp_path / "link").symlink_to(file)
    for path in (file, tmp_path / "link", tmp_path, tmp_path / "not there"):
        check_fetched(path)
