"""The three sets of rows of a search: which rows are trained on, which choose, which are reported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jaxfreeze.config import TrainConfig
from jaxfreeze.data.sources import HubRows
from jaxfreeze.errors import InputError
from jaxfreeze.search.rows import in_three_sets
from jaxfreeze.training.dataset import read_rows
from tests.folders import tiny_rte
from tests.training.test_own_rows import rows, write

ALL, OTHER, THIRD = 60, 12, 14


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    folder = tmp_path_factory.mktemp("rows")
    sizes = {"train": ALL, "validation": OTHER, "test": THIRD}
    return {name: str(write(folder / f"{name}.csv", rows(size, seed=size))) for name, size in sizes.items()}


def sets(config: TrainConfig) -> list[set[str]]:
    """The texts to train on, to choose by, and reported."""
    found = read_rows(in_three_sets(config, 0.1))
    (selection,), (reported,) = found.validations, found.tests
    return [{*split.texts[0]} for split in (found.train, selection, reported)]


@pytest.mark.parametrize(
    ("given", "more", "sizes"),
    [
        (("train",), {}, (48, 6, 6)),  # 10% of the rest
        (("train", "validation"), {}, (54, 6, OTHER)),
        (("train", "test"), {}, (54, 6, THIRD)),
        (("train", "validation", "test"), {}, (ALL, OTHER, THIRD)),
        (("train", "validation"), {"test_share": 0.2}, (48, OTHER, 12)),
        (("train",), {"test_share": 0.5}, (27, 3, 30)),
    ],
    ids=str,
)
def test_own_files(given: tuple[str, ...], more: dict[str, Any], sizes: tuple[int, ...], files: Mapping) -> None:
    found = sets(TrainConfig("files", **{f"{name}_file": files[name] for name in given}, **more))
    assert tuple(map(len, found)) == pytest.approx(sizes, abs=1)
    assert sum(map(len, found)) == len(set.union(*found))


def test_glue(tmp_path: Path) -> None:
    data = str(tiny_rte(tmp_path))
    plain = read_rows(TrainConfig("rte", data_dir=data))
    found = sets(TrainConfig("rte", data_dir=data))
    assert found[2] == {*plain.validations[0].texts[0]}
    assert found[0] | found[1] == {*plain.train.texts[0]}
    assert len(found[1]) == 4


@pytest.mark.parametrize("splits", [("train",), ("train", "validation"), ("train", "validation", "test")], ids=str)
def test_the_hub(splits: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HubRows, "_splits", dict.fromkeys(splits))
    config = in_three_sets(TrainConfig("hub", dataset="x"), 0.1)  # a test split may have no labels: it is to be named
    assert (config.validation_split, config.validation_share) == (None, 0.1)
    assert (config.test_split, config.test_share) == (("validation", None) if len(splits) > 1 else (None, 0.1))
    if "test" in splits:
        config = in_three_sets(TrainConfig("hub", dataset="x", test_split="test"), 0.1)
        assert (config.validation_split, config.test_split, config.validation_share) == ("validation", "test", None)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"validation_share": 0.2}, "--validation_share 0.2: --find_layers holds out --selection_share; give that"),
    ],
)
def test_wrong_sets(more: dict[str, Any], line: str, files: Mapping) -> None:
    with pytest.raises(InputError) as error:
        in_three_sets(TrainConfig("files", train_file=files["train"], **more), 0.1)
    assert str(error.value) == line


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"task": "rte", "test_share": 0.1}, "--test_share: only for --task files or hub, found --task rte"),
        (
            {"test_share": 0.1, "test_file": "x.csv"},
            "--test_share: takes test rows out of the training rows, but --test",
        ),
        ({"test_share": 0.0}, "--test_share 0.0: expected 1e-06 to 0.9"),
    ],
)
def test_wrong_test_shares(more: dict[str, Any], line: str) -> None:
    settings = {"task": "files", "train_file": "a.csv"} | more
    if settings["task"] == "rte":
        del settings["train_file"]
    with pytest.raises(InputError) as error:
        TrainConfig(**settings)
    assert str(error.value).startswith(line)


def test_a_share_for_the_test_of_a_plain_run(files: Mapping, capsys: pytest.CaptureFixture[str]) -> None:
    """Other seeds hold out others; the test rows are held out first, so they do not depend on the validation share."""

    def held(**more: Any) -> tuple[set, set]:
        found = read_rows(TrainConfig("files", train_file=files["train"], test_share=0.2, **more))
        return {*found.validations[0].texts[0]}, {*found.tests[0].texts[0]}

    validation, test = held()
    said = " ".join(capsys.readouterr().out.split())
    assert "12 of 60 training rows held out for the test at the end, by --split_seed 0" in said
    assert "5 of 60 training rows held out for validation, by --split_seed 0" in said
    assert (len(validation), len(test)) == (5, 12)
    assert held(validation_share=0.4)[1] == test
    assert held(split_seed=1)[1] != test
    assert held(seed=7, trainable_layers=0) == (validation, test)
