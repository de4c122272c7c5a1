"""Data sets of the hub as own rows: from a folder, from the cache, by whatever their columns are called."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets.arrow_writer import ArrowWriter

from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.training.dataset import Rows, read_rows

NAMES = ["sad", "glad", "rare"]
MOODS = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)})
PLAIN = {"text": [f"text {number}" for number in range(30)], "label": [number % 3 for number in range(30)]}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)


def unreachable(*_: Any, **__: Any) -> None:
    raise ConnectionError("no route")


def rows_of(columns: dict[str, list[Any]] = PLAIN, features: datasets.Features | None = MOODS) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns, features=features)


def saved(folder: Path, **splits: datasets.Dataset) -> str:
    """A folder of Parquet files, one for each split."""
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        rows.to_parquet(folder / f"{name}.parquet")
    return str(folder)


def cached(folder: Path, name: str, config: str, **splits: datasets.Dataset) -> None:
    """The data set as load_dataset leaves it in its cache."""
    base = name.split("/")[-1]
    place = folder / "cache" / name.replace("/", "___") / config / "0.0.0" / "0123abcd"
    place.mkdir(parents=True)
    for split, rows in splits.items():
        with ArrowWriter(path=str(place / f"{base}-{split}.arrow"), features=rows.features) as writer:
            writer.write_table(rows.data.table)
            writer.finalize()
    info = datasets.DatasetInfo(
        features=next(iter(splits.values())).features,
        builder_name="parquet",
        dataset_name=base,
        config_name=config,
        version="0.0.0",
    )
    about = [{"name": split, "num_examples": len(rows), "dataset_name": base} for split, rows in splits.items()]
    info.splits = datasets.SplitDict.from_split_dict(about)
    info.write_to_directory(str(place))


def read(dataset: str, **settings: Any) -> Rows:
    return read_rows(TrainConfig("hub", dataset=dataset, **settings))


def error_of(dataset: str, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        read(dataset, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def labels(rows: Rows) -> list[list[int]]:
    return [np.asarray(split.labels).tolist() for split in (rows.train, *rows.validations, *rows.tests)]


def test_a_folder_with_every_split(tmp_path: Path) -> None:
    few = rows_of({"text": ["a", "b"], "label": [2, 0]})
    folder = saved(tmp_path / "moods", train=rows_of(), validation=few, test=few)
    found = read(folder, test_split="test")
    assert (found.task.text_columns, found.task.label_column) == (("text",), ("label",))
    assert found.task.objective.labels == tuple(NAMES)  # in the data set's order
    assert labels(found) == [PLAIN["label"], [2, 0], [2, 0]]
    assert [split.name for split in (found.train, *found.validations, *found.tests)] == ["train", "validation", "test"]
    assert read(folder).tests == ()
    swapped = read(folder, train_split="validation", validation_split="train")
    assert labels(swapped) == [[2, 0], PLAIN["label"]]
    held = read(folder, validation_share=0.2)
    assert [len(split.texts[0]) for split in (held.train, *held.validations)] == [24, 6]


def test_a_split_is_held_out_where_there_is_none(tmp_path: Path) -> None:
    folder = saved(tmp_path / "moods", train=rows_of())
    assert sorted(labels(read(folder))[1]) == [0, 1, 2]


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    rows_of().save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows_of(), "validation": rows_of()}).save_to_disk(tmp_path / "two")
    one, two = (read(str(tmp_path / name), validation_share=share) for name, share in (("one", 0.1), ("two", None)))
    assert len(one.train.texts[0]) == 27
    assert labels(two) == [PLAIN["label"]] * 2


def test_the_cache_stands_in_for_the_hub(tmp_path: Path) -> None:
    few = rows_of({"text": ["a", "b"], "label": [2, 0]})
    cached(tmp_path, "somebody/moods", "default", train=rows_of(), validation=few)
    for config in (None, "default"):
        found = read("somebody/moods", dataset_config=config)
        assert labels(found) == [PLAIN["label"], [2, 0]]
    assert found.train.texts == (tuple(PLAIN["text"]),)
    line = error_of("somebody/moods", dataset_config="other")
    assert line.startswith("--dataset somebody/moods: cannot be loaded from the Hugging Face hub, its local cache or a")


def test_the_hub_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    splits = datasets.DatasetDict({"train": rows_of()})
    monkeypatch.setattr("datasets.load_dataset", lambda *given, **more: calls.append((*given, more)) or splits)
    assert read("moods", dataset_config="small").task.objective.labels == tuple(NAMES)
    assert calls == [("moods", "small", {"split": None})]


def test_numbers_names_and_lists_as_labels(tmp_path: Path) -> None:
    texts = PLAIN["text"]
    scores = rows_of({"text": texts, "label": [number / 7 for number in range(30)]}, None)
    assert read(saved(tmp_path / "scores", train=scores)).task.objective.kind == "regression"
    words = rows_of({"text": texts, "label": [NAMES[number % 3] for number in range(30)]}, None)
    assert read(saved(tmp_path / "words", train=words)).task.objective.labels == ("glad", "rare", "sad")
    several = datasets.Features({"text": MOODS["text"], "label": datasets.List(MOODS["label"])})
    lists = rows_of({"text": texts, "label": [[0], [0, 1]] * 15}, several)
    found = read(saved(tmp_path / "lists", train=lists, validation=lists))
    assert (found.task.objective.kind, found.task.objective.labels) == ("multi_label", tuple(NAMES))
    assert np.asarray(found.train.labels)[:2].tolist() == [[1, 0, 0], [1, 1, 0]]


def test_pairs_of_texts(tmp_path: Path) -> None:
    features = datasets.Features({"b": MOODS["text"], "kind": MOODS["label"], "a": MOODS["text"]})
    rows = rows_of({"b": ["B", "D"], "kind": [0, 1], "a": ["A", "C"]}, features)
    folder = saved(tmp_path / "pairs", train=rows, validation=rows)
    found = read(folder, text_columns=("a", "b"))
    assert (found.train.texts, found.task.label_column) == ((("A", "C"), ("B", "D")), ("kind",))


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    folder = saved(tmp_path / "moods", train=rows_of())
    assert error_of(folder, test_split="tset") == (
        f"--test_split tset: --dataset {folder} has no such split; expected one of train"
    )
    assert "--train_split dev: " in error_of(folder, train_split="dev")
    wide = rows_of({"id": PLAIN["text"], "text": PLAIN["text"], "mood": PLAIN["label"]}, None)
    folder = saved(tmp_path / "wide", train=wide)
    assert error_of(folder) == (
        f"{folder}, split train: which column is the label? none is called label; give --label_column one of "
        "id, text, mood"
    )
    assert error_of(folder, label_column="mood").endswith("give --text_columns one or two of id, text")
    unlabelled = rows_of({"text": ["a", "b"], "label": [-1, -1]})
    folder = saved(tmp_path / "unlabelled", train=rows_of(), validation=rows_of(), test=unlabelled)
    assert error_of(folder, test_split="test").startswith(f"{folder}, split test: row 1: expected a label")
    assert error_of("nobody/nothing").startswith(
        "--dataset nobody/nothing: cannot be loaded from the Hugging Face hub, its local cache or a folder "
        "(ConnectionError: no route); check the name and --dataset_config"
    )


def test_rows_that_cannot_be_used_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of({"text": ["a", "", "b", "c"], "label": [0, 1, -1, 1]})
    folder = saved(tmp_path / "moods", train=rows, validation=rows)
    assert "row 2: the text in column 'text' is empty" in error_of(folder)
    assert labels(read(folder, on_bad_row="skip")) == [[0, 1], [0, 1]]
    assert "split train: 2 rows left out, first at row 2: the text" in " ".join(capsys.readouterr().out.split())
