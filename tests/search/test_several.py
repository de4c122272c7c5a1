"""`sweep --find_layers`: a search for each model and task, in folders that `report` finds."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxfreeze import cli
from jaxfreeze.command_config import SearchConfig
from jaxfreeze.config import TrainConfig
from jaxfreeze.report.report import report
from jaxfreeze.search import answer_file, several
from jaxfreeze.sweep import ray_engine
from tests.folders import make_folder
from tests.report import answers

Made = list[tuple[TrainConfig, SearchConfig, Path, Any]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def roberta(bert: Path) -> Path:
    return make_folder(bert.parent / "roberta", "roberta")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """What every search was asked; none is made."""
    calls: Made = []
    monkeypatch.setattr(several, "find_layers", lambda *asked: calls.append(asked))
    return calls


@pytest.fixture
def sweep(bert: Path, roberta: Path, tmp_path: Path) -> Callable[..., int]:
    models = [str(bert), str(roberta)]

    def run(*more: str) -> int:
        given = ["--models", *models, "--tasks", "rte", "mrpc", "--data_dir", "glue", "--output_dir", f"{tmp_path}/out"]
        return cli.main(["sweep", *given, "--find_layers", "0.9", *more])

    return run


def test_a_search_for_each_model_and_task(
    sweep: Callable[..., int], made: Made, bert: Path, roberta: Path, tmp_path: Path
) -> None:
    assert sweep("--seeds", "4", "5", "--budget", "3", "--epochs", "2") == 0
    asked = [(config.task, config.model, folder.name) for config, _, folder, _ in made]
    assert asked == [
        (task, str(model), f"{task}-{model.name}") for task in ("rte", "mrpc") for model in (bert, roberta)
    ]
    for config, search, folder, engine in made:
        assert (config.epochs, config.data_dir, config.output_dir) == (2, "glue", None)
        assert search == SearchConfig(find_layers=0.9, seeds=(4, 5), budget=3)
        assert folder.parent == tmp_path / "out"
        assert engine is None


def test_default_seeds_are_the_searchs_own(sweep: Callable[..., int], made: Made) -> None:
    assert sweep() == 0
    assert {search.seeds for _, search, _, _ in made} == {()}


def test_parts_share_the_searches(sweep: Callable[..., int], made: Made) -> None:
    whole = [sweep("--part", f"{number}/3") for number in (1, 2, 3)]
    assert whole == [0, 0, 0]
    assert len({folder for _, _, folder, _ in made}) == len(made) == 4


def test_tasks_of_a_slurm_step_take_parts(
    sweep: Callable[..., int], made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-4]")
    assert sweep() == 2
    assert "--part $((SLURM_PROCID + 1))/$SLURM_NTASKS" in capsys.readouterr().err
    assert not made
    assert sweep("--part", "1/4") == 0
    assert len(made) == 1


def test_on_ray(sweep: Callable[..., int], made: Made) -> None:
    assert sweep("--engine", "ray") == 0
    assert {engine for *_, engine in made} == {ray_engine.make_groups}


def test_from_a_file(made: Made, bert: Path, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"models: [{bert}]\ntasks: [rte]\nseeds: [7, 8]\ndata_dir: glue\nmax_length: 32\n")
    assert cli.main(f"sweep --config {file} --output_dir {tmp_path}/out --find_layers 0.9 --within 2".split()) == 0
    ((config, search, folder, _),) = made
    assert (config.max_length, search.seeds, search.within, folder.name) == (32, (7, 8), 2, f"rte-{bert.name}")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("--trainable_layers 1 2", "--trainable_layers: --find_layers chooses among its own; leave it out"),
        ("--learning_rates 1e-4", "--learning_rates: --find_layers chooses among its own; leave it out"),
        ("--dry_run", "--dry_run: not with --find_layers"),
        ("--line_search", "--line_search: not with --find_layers"),
        ("--seeds 1", "--seeds 1: one seed does not show how seeds differ"),
        ("--models no/where/a no/where/b/a", "models: no/where/a and no/where/b/a would share the folder rte-a"),
        ("--models no/where", "no/where"),
        ("--find_layers 2", "--find_layers"),
        ("--protocol honest", "--protocol"),
    ],
)
def test_wrong_flags(
    sweep: Callable[..., int], made: Made, capsys: pytest.CaptureFixture[str], more: str, line: str
) -> None:
    assert sweep(*more.split()) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert line in error
    assert not made


def test_axes_of_a_file_that_a_search_chooses(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("tasks: [rte]\nlearning_rates: [1.0e-4]\n")
    assert cli.main(f"sweep --config {file} --output_dir {tmp_path}/out --find_layers 0.9".split()) == 2
    assert f"{file}: learning_rates: --find_layers chooses" in capsys.readouterr().err


def test_flags_of_a_search_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(f"sweep --tasks rte --output_dir {tmp_path}/out --within 2".split()) == 2
    assert "--within: only with --find_layers" in capsys.readouterr().err


def test_less_is_better(made: Made, bert: Path, tmp_path: Path) -> None:
    """A search judges such a metric, the comparison of a plain sweep does not."""
    rows = "--tasks files --train_file numbers.csv --regression --metric mae"
    assert cli.main(f"sweep --models {bert} {rows} --output_dir {tmp_path}/out --find_layers 0.9".split()) == 0
    assert {config.metric for config, *_ in made} == {"mae"}


def test_a_report_finds_the_searches(tmp_path: Path) -> None:
    answer = answers.stsb()
    for name in ("rte-a", "cola-b"):
        (tmp_path / "out" / name).mkdir(parents=True)
        answer_file.write(dataclasses.replace(answer, task=name[:-2]), tmp_path / "out" / name / answer_file.NAME)
    report([tmp_path / "out"], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "CoLA" in text
    assert "RTE" in text
