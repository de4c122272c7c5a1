"""--find_layers: the answer, and what it says where the seeds do not decide."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.sweep import search
from tests.folders import make_folder, tiny_rte

Scores = Callable[[object, int], float]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")


def invented(monkeypatch: pytest.MonkeyPatch, score: Scores) -> list[tuple[object, int]]:
    """Runs that are not made: each has the score of its k and seed -> those asked for, in order."""
    asked: list[tuple[object, int]] = []

    def run_groups(groups, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        with (folder / "results.jsonl").open("a") as file:
            for group in groups:
                for run in group.runs:
                    layers, seed = run.trainable_layers, run.seed
                    asked.append((layers, seed))
                    line = {
                        "model": run.model, "task": run.task, "trainable_layers": layers, "seed": seed,
                        "learning_rate": run.learning_rate, "num_layers": 2, "primary_metric": "accuracy",
                        "metrics": {"accuracy": score(layers, seed)}, "devices": "1 cpu", "versions": {"jax": "0"},
                        "seconds": {"total": 40.0 if layers == "all" else 4.0 * (1 + layers), "train": 1.0},
                        "parameters": {"total": 10, "trainable": 5, "frozen": 5}, "config": {},
                    }  # fmt: skip
                    file.write(json.dumps(line) + "\n")

    monkeypatch.setattr(search, "run_groups", run_groups)
    return asked


def find(
    bert: Path, folder: Path, target: float = 0.9, seeds: tuple[int, ...] = (1, 2, 3), budget: float = 2.0
) -> search.Verdict | None:
    return search.find_layers(TrainConfig("rte", model=str(bert), epochs=2), target, 0.9, seeds, folder, budget)


def test_the_cheapest_that_is_sure(bert: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    means = {"all": 0.9, 0: 0.5, 1: 0.85, 2: 0.9}
    asked = invented(monkeypatch, lambda k, seed: means[k] + 0.001 * seed)
    verdict = find(bert, tmp_path / "found")
    assert verdict is not None
    assert verdict.layers == 1
    assert verdict.quality == pytest.approx(0.852 / 0.902)
    assert verdict.time == pytest.approx(0.2)
    assert verdict.low < verdict.quality < verdict.high
    assert asked == [(k, seed) for k in ("all", 0, 1) for seed in (1, 2, 3)]  # and no more than that
    out = capsys.readouterr().out
    assert "answer: 1 of 2 layers keep 94.5%" in out
    assert "of full fine-tuning (85.2 against 90.2), at 20% of its time" in out
    assert f"python run.py --task rte --model {bert} --trainable_layers 1 --epochs 2 --seed 1" in out
    assert "inconclusive" not in out


@pytest.mark.parametrize("other", [{"task": "mrpc"}, {"learning_rate": 1e-3}, {"model": "other"}])
def test_other_runs_in_the_folder_do_not_count(other: dict, bert: Path, tmp_path: Path, monkeypatch) -> None:
    """As in the folder of a sweep over several tasks."""
    (tmp_path / "other").mkdir()
    shutil.copytree(bert, tmp_path / "other", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    invented(monkeypatch, lambda k, seed: 0.9 + 0.001 * seed)  # there the head alone is as good
    settings = {"task": "rte", "model": str(bert)} | other
    assert search.find_layers(TrainConfig(**settings), 0.9, 0.9, (1, 2, 3), tmp_path / "found").layers == 0
    means = {"all": 0.9, 0: 0.5, 1: 0.85, 2: 0.9}
    invented(monkeypatch, lambda k, seed: means[k] + 0.001 * seed)
    verdict = find(bert, tmp_path / "found")
    assert verdict is not None
    assert verdict.layers == 1


def test_a_score_that_needs_no_model_is_told(bert: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """RTE's larger class is 52.7% of its dev set."""
    invented(monkeypatch, lambda k, seed: 0.527 if k == 0 else 0.55 + 0.001 * seed)
    find(bert, tmp_path / "found")
    out = capsys.readouterr().out
    assert "answer: the head alone keeps" in out
    assert "But a constant prediction scores 52.7 on GLUE's dev set: that anything was learned at k = 0" in out
    invented(monkeypatch, lambda k, seed: 0.8 if k == 0 else 0.85 + 0.001 * seed)
    find(bert, tmp_path / "learned")
    assert "same answer" not in capsys.readouterr().out


def test_seeds_that_do_not_decide(bert: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    noise = {1: -0.08, 2: 0.09, 3: 0.0}
    means = {"all": 0.9, 0: 0.82, 1: 0.9, 2: 0.9}
    invented(monkeypatch, lambda k, seed: means[k] + (noise[seed] if k == 0 else 0.001 * seed))
    verdict = find(bert, tmp_path / "found")
    assert verdict is not None
    assert verdict.layers == 1
    assert "whether k = 0 keeps 90% is inconclusive with 3 seeds" in capsys.readouterr().out


def test_one_seed_decides_nothing(bert: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    invented(monkeypatch, lambda k, seed: 0.9)
    assert find(bert, tmp_path / "found", seeds=(1,)) is None
    out = capsys.readouterr().out
    assert "inconclusive with one seed" in out
    assert "answer" not in out


def test_none_below_the_whole_model(bert: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    asked = invented(monkeypatch, lambda k, seed: (0.9 if k == "all" else 0.5) + 0.001 * seed)
    assert find(bert, tmp_path / "found", budget=3) is None
    assert {k for k, _ in asked} == {"all", 0, 1, 2}
    out = capsys.readouterr().out
    assert "no number of layers below the whole model reliably keeps 90%" in out
    assert "--budget" not in out


def test_it_ends_before_it_costs_too_much(bert: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """The full model takes 40 s, k = 0 and 1 take 4 and 8: with k = 2, taken to be 40, 92 s would be 2.3 times that."""
    asked = invented(monkeypatch, lambda k, seed: (0.9 if k in ("all", 2) else 0.5) + 0.001 * seed)
    assert find(bert, tmp_path / "found") is None
    assert {k for k, _ in asked} == {"all", 0, 1}
    out = capsys.readouterr().out
    assert "no k below 2 reliably keeps 90% of the whole model's score" in out
    assert "with k = 2 the search would cost about 2.3 times its full runs; to continue: --budget 2.3" in out
    assert "answer" not in out
    found = find(bert, tmp_path / "found", budget=2.3)
    assert found is not None
    assert found.layers == 2


def test_what_is_on_record_costs_nothing(bert: Path, tmp_path: Path, monkeypatch) -> None:
    invented(monkeypatch, lambda k, seed: (0.9 if k in ("all", 2) else 0.5) + 0.001 * seed)
    find(bert, tmp_path / "found", budget=3)  # every run, as a sweep leaves them
    config = TrainConfig("rte", model=str(bert), epochs=2)
    curve = search.recorded_curve(tmp_path / "found", config, (1, 2, 3))
    assert search.search_cost(curve, 2, 2, 3) == 0
    assert search.search_cost(curve, 2, 2, 4) == pytest.approx(2.3)
    found = find(bert, tmp_path / "found", budget=1.001)
    assert found is not None
    assert found.layers == 2


def test_a_whole_model_that_learns_nothing(bert: Path, tmp_path: Path, monkeypatch) -> None:
    invented(monkeypatch, lambda k, seed: 0.0)
    with pytest.raises(InputError, match=r"the whole model scores 0\.0 in the mean, so there is no quality to keep"):
        find(bert, tmp_path / "found")


def test_more_seeds_leave_the_others_out(bert: Path, tmp_path: Path, monkeypatch) -> None:
    """Lines of other seeds in the same file are not part of the verdict."""
    invented(monkeypatch, lambda k, seed: 0.1 if seed == 9 else 0.9 + 0.001 * seed)
    find(bert, tmp_path / "found", seeds=(9, 8))
    verdict = search.judge(search.recorded_curve(tmp_path / "found", TrainConfig("rte", model=str(bert)), (8,)), 0, 0.9)
    assert verdict.score == pytest.approx(0.908)
    assert np.isnan(verdict.confidence)


def test_for_real(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny_rte(tmp_path / "glue")
    arguments = [
        "--task",
        "rte",
        "--data_dir",
        str(data),
        "--model",
        str(bert),
        "--max_steps",
        "3",
        "--max_length",
        "32",
    ]
    arguments += ["--find_layers", "0.5", "--confidence", "0.8", "--seeds", "1", "2", "--protocol", "paper"]
    assert main([*arguments, "--output_dir", str(tmp_path / "found")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "found" / "results.jsonl").read_text().splitlines()]
    assert {line["trainable_layers"] for line in lines} >= {"all", 0}
    assert "of full fine-tuning" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--find_layers", "1.5"], "--find_layers 1.5: expected a share between 0 and 1"),
        (["--find_layers"], "--find_layers : expected a share"),
        (["--find_layers", "0.9", "--confidence", "no"], "--confidence no: expected a share"),
        (["--find_layers", "0.9", "--seeds", "1", "1"], "--seeds 1 1: expected whole numbers, each once"),
        (["--find_layers", "0.9", "--seeds"], "--seeds : expected whole numbers"),
        (["--find_layers", "0.9", "--budget", "1"], "--budget 1: expected a number above 1, a multiple of the full"),
        (["--find_layers", "0.9", "--budget", "0s"], "--budget 0s: expected a number above 1"),
        (["--find_layers", "0.9", "--budget", "soon"], "--budget soon: expected a number above 1"),
        (["--find_layers", "0.9", "--budget", "9s", "--protocol", "paper"], "--budget 9s: with --protocol paper"),
        (["--find_layers", "0.9", "--within", "-1"], "--within -1.0: expected 0 to 100"),
        (["--find_layers", "0.9", "--selection_share", "0"], "--selection_share 0.0: expected 1e-06 to 0.9"),
        (["--find_layers", "0.9", "--protocol", "fair"], "--protocol fair: expected honest or paper"),
        (["--find_layers", "0.9", "--learning_rate", "1e-4"], "--learning_rate: --find_layers chooses it for every k"),
        (["--find_layers", "0.9", "--validation_share", "0.2"], "--validation_share 0.2: --find_layers holds out"),
        (["--find_layers", "0.9", "--max_steps", "9"], "--max_steps: not with --find_layers, which tries --epochs"),
        (["--within", "2"], "--within: only with --find_layers"),
        (["--test_share", "0.1"], "--test_share: only for --task files or hub"),
        (["--find_layers", "0.9", "--budget", "2", "3"], "--budget 2 3: expected a number above 1"),
        (["--find_layers", "0.9", "--budget", "nan"], "--budget nan: expected a number above 1"),
        (["--find_layers", "0.9", "--trainable_layers", "2"], "--trainable_layers: not with --find_layers"),
    ],
)
def test_wrong_searches(flags: list[str], line: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--task", "demo", *flags]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
