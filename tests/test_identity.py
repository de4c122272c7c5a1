"""One identity: what it names, and how a difference reads."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from jaxfreeze.identity import Identity, Origin, inputs_of

SOME = Identity({"train": "a", "validation": "b"}, ("no", "yes"), "c", "d", "e")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": {"train": "x", "validation": "b"}}, "different training rows"),
        ({"rows": {"train": "a", "validation": "x"}}, "different validation rows"),
        ({"rows": {"train": "a"}}, "different validation rows"),
        ({"classes": ("yes", "no")}, "different classes (no, yes then, yes, no now)"),
        ({"classes": ()}, "different classes (no, yes then, none now)"),
        ({"tokenizer": "x"}, "different tokenizer"),
        ({"weights": "x"}, "different pretrained weights"),
        ({"encoder": "x"}, "different architecture in config.json"),
        ({"format": 0}, "different format of these records"),
        ({"tokenizer": "x", "weights": "x"}, "different tokenizer, pretrained weights"),
        ({}, ""),
    ],
)
def test_a_difference_in_words(change: dict[str, Any], words: str) -> None:
    assert Origin(SOME, {}).differences(Origin(dataclasses.replace(SOME, **change), {})) == words


def test_every_field_is_compared() -> None:
    for field in dataclasses.fields(Identity):
        other = dataclasses.replace(SOME, **{field.name: {"x": "y"} if field.name == "rows" else ("z",)})
        assert SOME.differences(other), field.name


def test_only_the_splits_that_are_asked_for() -> None:
    other = dataclasses.replace(SOME, rows={"validation": "b"})
    assert SOME.differences(other) == ["training rows"]
    assert SOME.differences(other, ["validation"]) == []


def test_the_files_that_were_touched_and_since_when(tmp_path: Path) -> None:
    file, other = tmp_path / "t.csv", tmp_path / "v.csv"
    file.write_text("a")
    other.write_text("a")
    before = inputs_of([file, other, tmp_path / "gone"])
    assert inputs_of([file, other]) == before
    file.write_text("b")
    os.utime(file, (86400.5, 86400.5))
    now = inputs_of([file, other])
    said = Origin(SOME, before).differences(Origin(dataclasses.replace(SOME, tokenizer="x"), now))
    assert said.startswith(f"different tokenizer ({file} was modified 1970-01-0")
    assert "v.csv" not in said


def test_a_file_with_its_old_size_and_time_is_touched_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a")
    before, times = inputs_of([file]), file.stat()
    while file.stat().st_ctime_ns == times.st_ctime_ns:  # a file system's clock has ticks
        file.write_text("b")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert inputs_of([file]) != before


def test_there_and_back() -> None:
    origin = Origin(SOME, {"t.csv": [1, 2, 3]})
    assert Origin.from_json(origin.as_json()) == origin


@pytest.mark.parametrize("value", [None, [], {}, {"identity": {}, "inputs": {}}, {"identity": 3, "inputs": {}}])
def test_what_is_no_origin(value: Any) -> None:
    with pytest.raises(ValueError, match="no identity"):
        Origin.from_json(value)
