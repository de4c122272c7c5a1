"""The config: its defaults, its YAML there and back, and every file that is shipped."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from jaxfreeze.config import TrainConfig, from_yaml, read_settings, to_yaml
from jaxfreeze.errors import InputError
from tests.sweep.test_grid import SWEEPS

CONFIGS = Path(__file__).parent.parent / "configs"
SHIPPED = [file for file in sorted(CONFIGS.rglob("*.yaml")) if "task" in yaml.safe_load(file.read_text())]


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults() -> None:
    config = TrainConfig(task="rte")
    assert config.trainable_layers == 3
    assert (config.model, config.dtype, config.seed) == ("bert-base-uncased", "auto", 42)
    assert (config.epochs, config.max_steps, config.batch_size, config.max_length) == (3, None, 16, 128)
    assert (config.learning_rate, config.weight_decay, config.warmup_ratio) == (5e-5, 0.01, 0.1)
    assert config.run_folder == Path("runs/rte-bert-base-uncased-k3-seed42")
    assert TrainConfig(task="rte", model="/x/roberta", seed=1).run_folder == Path("runs/rte-roberta-k3-seed1")


def test_a_pattern_is_a_policy_of_its_own() -> None:
    config = TrainConfig(task="rte", trainable=(".*",))
    assert config.trainable_layers is None
    assert config.run_folder.name == "rte-bert-base-uncased-custom-seed42"
    with pytest.raises(InputError, match="expected one policy, found two"):
        TrainConfig(task="rte", trainable=(".*",), trainable_layers=0)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig(task="rte").seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(task="mnli"),
        TrainConfig(task="rte", trainable_layers="all", learning_rate=3e-5, max_steps=7, weight_decay=0.0),
        TrainConfig(task="cola", trainable=(r".*\.bias", r"[h]ead\..*"), data_dir="no", model="007", overwrite=True),
        TrainConfig(
            task="files",
            train_file="a.csv",
            validation_file="b: c.csv",
            text_columns=("yes", "1e3"),
            label_column=("null",),
            label_names=("0", "1", "~", "\u00fc"),
        ),
    ],
    ids=lambda config: config.task,
)
def test_yaml_there_and_back(config: TrainConfig, tmp_path: Path) -> None:
    file = written(tmp_path, to_yaml(config))
    assert from_yaml(file) == config
    assert list(yaml.safe_load(to_yaml(config))) == [field.name for field in dataclasses.fields(TrainConfig)]


def test_there_are_shipped_configs() -> None:
    """Those of a run are parsed here, those of a sweep in sweep/test_grid.py."""
    assert SHIPPED
    assert sorted({*SHIPPED, *SWEEPS}) == sorted(CONFIGS.rglob("*.y*ml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_shipped_configs(file: Path) -> None:
    config = from_yaml(file)
    assert from_yaml(file) == TrainConfig(**read_settings(file)) == config
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    for word in (f"python run.py --config configs/{file.relative_to(CONFIGS)}", "Expected: ", "Cost: "):
        assert any(word in line for line in header), f"{file}: the header lacks '{word}'"


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, "learning_rate: 5e-5\nweight_decay: 0\nmax_steps: null\n"))
    assert settings == {"learning_rate": 5e-5, "weight_decay": 0.0, "max_steps": None}
    assert isinstance(settings["weight_decay"], float)


REFUSED = [
    ("task: rte\nepoch: 3\n", "no setting 'epoch'; expected one of task, .* did you mean 'epochs'?"),
    ("task: rte\n4: 3\n", "no setting '4'"),
    ("task: rte\nepochs: x\n", "epochs is 'x'; expected a whole number"),
    ("task: rte\nepochs: 1.5\n", "epochs is 1.5; expected a whole number"),
    ("task: rte\nepochs:\n", "epochs is nothing; expected a whole number"),
    ("task: rte\nlearning_rate: [1]\n", r"learning_rate is \[1\]; expected a number"),
    ("task: rte\nregression: 1\n", "regression is 1; expected true or false"),
    ("task: rte\ndtype: float16\n", "dtype is 'float16'; expected auto or float32 or bfloat16"),
    ("task: rte\ntrainable_layers: some\n", "trainable_layers is 'some'; expected a whole number or all"),
    ("task: rte\ntrainable: 3\n", "trainable is 3; expected a list of texts"),
    ("task: files\nlabel_names: [no, yes]\n", r"label_names is \[False, True\]; expected a list of texts .*in quotes"),
    ("task: 3\n", "task is 3; expected text"),
    ("task: rte\non_bad_row: drop\n", "on_bad_row is 'drop'; expected error or skip"),
    ("epochs: 3\n", "it names no task"),
    ("", "expected settings, one `name: value` per line, found nothing"),
    ("- task\n", r"found \['task'\]"),
    ("task: [rte\n", "expected a YAML file of settings .*line 2"),
    ("task: rte\nepochs: 1\ntask: rte\n", "'task' appears twice .*line 3"),
    ("task: 2020-99-99\n", "expected a YAML file of settings"),
    ("task: !!python/object/apply:os.getcwd []\n", "expected a YAML file of settings .*python/object/apply"),
    ("[" * 1500, "expected a YAML file of settings"),
]


@pytest.mark.parametrize("text, expected", REFUSED, ids=[text[:40].strip() or "empty" for text, _ in REFUSED])
def test_refused(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected) as error:
        from_yaml(written(tmp_path, text))
    assert str(error.value).startswith(f"{tmp_path / 'config.yaml'}: ")
    assert "\n" not in str(error.value)


def test_not_utf8_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"task: \xfc\n")
    for name in ("latin.yaml", "none.yaml", "."):
        with pytest.raises(InputError, match="expected a YAML file of settings"):
            from_yaml(tmp_path / name)
