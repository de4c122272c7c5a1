"""A whole search on a tiny model: what is made, on which rows, how often a program is traced, and that it goes on."""

import dataclasses
import json
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxfreeze import find_layers
from jaxfreeze.cli import main
from jaxfreeze.command_config import SearchConfig
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.search import answer_file, conduct, laboratory, schedule
from jaxfreeze.search.answer import Answer
from jaxfreeze.search.price import reference_epochs
from jaxfreeze.sweep import outcome_file, runner, workshop
from jaxfreeze.sweep.grid import Group
from jaxfreeze.sweep.progress import SweepProgress
from jaxfreeze.sweep.workshop import Outcome
from jaxfreeze.training import step
from jaxfreeze.training.hooks import NonFiniteLossError
from tests import effort
from tests.folders import make_folder, tiny_rte
from tests.training.test_own_rows import rows, write

ROOT = Path(__file__).parents[2]
DEV = 16
SETTINGS = {
    "epochs": 3,
    "max_length": 32,
    "batch_size": 8,
    "budget": 50,
    "seeds": (1, 2),
    "share": 0.9,
    "metric": "log_loss",
}  # no two sets of rows have the same one


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_rte(tmp_path_factory.mktemp("glue"), 60, DEV)


@pytest.fixture(scope="module", autouse=True)
def one_second_a_run() -> Iterator[None]:
    """What a run took decides nothing here: the same trials on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratory, "_own_seconds", lambda seconds: 1.0)
        yield


def search(folder: Path, model: Path, data: Path, **more: Any) -> Answer:
    return find_layers("rte", **SETTINGS | {"model": model, "data_dir": data, "output_dir": folder} | more)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def trials(folder: Path) -> list[tuple[Any, ...]]:
    names = ("trainable_layers", "learning_rate", "epochs", "seed")
    return [(*(line["config"][name] for name in names), line["tests"]) for line in lines(folder)]


class Found:
    """One search, made for real."""

    def __init__(self, folder: Path, model: Path, glue: Path) -> None:
        self.folder, self.traced = folder, []
        honest = step.train_steps

        def traced(program: step.Program, *inputs: object, **more: object) -> object:
            self.traced.append(program.column.cut)
            return honest(program, *inputs, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step, "train_steps", traced)
            step.forget_programs()
            self.answer = search(folder, model, glue)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, model: Path, glue: Path) -> Found:
    return Found(tmp_path_factory.mktemp("found") / "search", model, glue)


def test_a_k_has_one_program(found: Found) -> None:
    """Whatever the rates, epochs and seeds of its trials."""
    made = {(layers, epochs) for layers, _, epochs, _, _ in trials(found.folder)}
    assert {epochs for layers, epochs in made if layers == 0} >= {1, 3}
    assert {epochs for layers, epochs in made if layers == "all"} >= {1, 3}
    assert sorted(found.traced) == [0, 2, 3]  # by the cut, of two layers: all, k = 1, k = 0


def test_test_rows_are_scored_by_final_trials_alone(found: Found) -> None:
    for line in lines(found.folder):
        final = line["seed"] < 1001
        assert line["tests"] == ("kept" if final else "untouched")
        assert bool(line["test_metrics"]) == ("outcome" in line) == final
        if final:
            (logits,) = outcome_file.read(found.folder, line["config"], line["outcome"]).values()
            assert (logits.shape, logits.dtype) == ((DEV, 2), np.float32)
    files = [path.name for path in (found.folder / "outcomes").iterdir()]
    assert len(files) == sum(line["seed"] < 1001 for line in lines(found.folder))


def test_the_answer_is_kept(found: Found) -> None:
    assert answer_file.read(found.folder / "answer.json") == found.answer
    assert (found.answer.rows, found.answer.selection_rows) == (DEV, 6)
    assert {point.candidate.layers for point in found.answer.points} == {0, 1, "all"}
    assert found.answer.runs == len(lines(found.folder))
    assert "--trainable_layers" in found.answer.command
    assert "--validation_share" not in found.answer.command


def test_once_more_makes_nothing(found: Found, model: Path, glue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (found.folder / "results.jsonl").read_bytes()
    assert search(found.folder, model, glue) == found.answer
    assert (found.folder / "results.jsonl").read_bytes() == before
    assert "learning rates" not in capsys.readouterr().out


def test_labels_of_the_test_rows_choose_nothing(found: Found, model: Path, glue: Path, tmp_path: Path) -> None:
    """The same trials, and the same bits of what they answer."""
    tiny_rte(tmp_path, 60, DEV)
    first, *table = [line.split("\t") for line in (glue / "RTE" / "dev.tsv").read_text().splitlines()]
    labels = [row[-1] for row in table]
    random.Random(1).shuffle(labels)
    swapped = [first, *([*row[:-1], label] for row, label in zip(table, labels, strict=True))]
    (tmp_path / "RTE" / "dev.tsv").write_text("".join("\t".join(row) + "\n" for row in swapped))
    (tmp_path / "RTE" / "train.tsv").write_text((glue / "RTE" / "train.tsv").read_text())
    answer = search(tmp_path / "search", model, tmp_path)
    assert trials(tmp_path / "search") == trials(found.folder)
    ours, theirs = ([line.get("outcome") for line in lines(folder)] for folder in (tmp_path / "search", found.folder))
    assert ours == theirs
    assert [point.candidate for point in answer.points] == [point.candidate for point in found.answer.points]
    assert answer.rates == found.answer.rates
    assert [point.score for point in answer.points] != [point.score for point in found.answer.points]


def test_other_rows_are_refused(found: Found, model: Path, glue: Path) -> None:
    with pytest.raises(InputError, match=r"validation_share was 0\.1, is 0\.2"):
        search(found.folder, model, glue, selection_share=0.2)
    file = glue / "RTE" / "train.tsv"
    content = file.read_text()
    file.write_text(content.replace("bowl", "cup"))
    with pytest.raises(InputError, match=r"a result from different training rows, .*; restore them"):
        search(found.folder, model, glue)
    file.write_text(content)


def test_an_outcome_that_is_gone(found: Found, model: Path, glue: Path, tmp_path: Path) -> None:
    file = next((found.folder / "outcomes").iterdir())
    content = file.read_bytes()
    for damaged, word in ((None, "found no such file"), (content[:99], "a damaged file"), (b"", "a damaged file")):
        file.unlink(missing_ok=True)
        if damaged is not None:
            file.write_bytes(damaged)
        with pytest.raises(InputError, match=word):
            search(found.folder, model, glue)
    np.savez(file, test=np.zeros((DEV, 2), np.float32))
    with pytest.raises(InputError, match="found something else"):
        search(found.folder, model, glue)
    file.write_bytes(content)


# Searches whose trials are invented


class Invented:
    """An engine that trains nothing: scores that depend on the trial alone."""

    def __init__(self, rows: int = DEV, lower: bool = False, diverges: Callable[[TrainConfig], bool] | None = None):
        self.rows, self.lower, self.made = rows, lower, Counter()
        self.diverges = diverges or (lambda config: False)

    def __call__(self, groups: Sequence[Group], progress: SweepProgress) -> Iterator[Outcome]:
        for group in groups:
            for config in group.runs:
                self.made[config] += 1
                yield self.run(config, group.tests)

    def run(self, config: TrainConfig, tests: str) -> Outcome:
        layers = 6 if config.trainable_layers == "all" else int(config.trainable_layers or 0)
        best = math.log10(2e-3) - 0.3 * layers
        skill = 0.9 - 0.2 * (math.log10(config.learning_rate) - best) ** 2 - 0.3 / (1 + layers)
        skill += 0.01 * config.epochs + 0.001 * (config.seed % 7)
        return made_up(config, tests, 1 - skill if self.lower else skill, self.rows, self.diverges(config))


def made_up(config: TrainConfig, tests: str, score: float, count: int, diverged: bool) -> Outcome:
    from jaxfreeze.config import as_json

    random = np.random.default_rng(config.seed)
    metric = config.metric or "accuracy"
    record = {
        "task": config.task, "model": config.model, "trainable_layers": config.trainable_layers, "seed": config.seed,
        "learning_rate": config.learning_rate, "num_layers": 2, "metrics": {metric: score}, "primary_metric": metric,
        "seconds": {"total": 2.0, "train": 1.0, "eval": 0.0}, "tests": tests, "validation_loss": 1 - score,
        "parameters": {"total": 3, "trainable": 1, "frozen": 2}, "versions": {}, "devices": "1 cpu",
        "config": as_json(config), "origin": ORIGIN[0],
    }  # fmt: skip
    if diverged:
        return Outcome([], [record | {"diverged": True}], [])
    right = random.random(count) < score
    side = np.where(right, 1, -1) * np.where(np.arange(count) % 2, 1, -1)  # dev rows have both labels in turn
    logits = {"test": np.stack([-side, side], 1).astype(np.float32)} if tests == "kept" else {}
    return Outcome([record], [], [logits])


ORIGIN: list[Any] = [None]


@pytest.fixture(scope="module")
def invented(model: Path, glue: Path, found: Found) -> Callable[..., Answer]:
    """A search whose trials are invented."""
    ORIGIN[0] = lines(found.folder)[0]["origin"]

    def run(folder: Path, engine: Invented, budget: int | str = 50, **more: Any) -> Answer:
        asked = SearchConfig(find_layers=0.9, budget=budget, seeds=(1, 2))
        config = TrainConfig("rte", str(glue), model=str(model), max_length=32, **more)
        return conduct.find_layers(config, asked, folder, engine)

    return run


def test_a_rate_that_diverges_is_a_finding(invented: Callable[..., Answer], tmp_path: Path) -> None:
    engine = Invented(diverges=lambda config: config.learning_rate > 1.5e-3)
    answer = invented(tmp_path / "found", engine)
    assert all(point.candidate.learning_rate <= 1e-3 for point in answer.points)
    lost = [rate for rate in answer.rates if rate.candidate.learning_rate > 1.5e-3]
    assert lost
    assert {rate.score for rate in lost} == {-math.inf}
    assert not any(rate.chosen for rate in lost)
    made = +engine.made
    assert invented(tmp_path / "found", engine) == answer
    assert engine.made == made  # not once more


def test_a_budget_in_seconds(invented: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a multiple of what the full model takes here, which is measured once."""
    invented(tmp_path / "found", Invented(), budget="100000s")
    noted = json.loads((tmp_path / "found" / "search.json").read_text())
    assert 0 < noted["full_epoch"] < 60
    asked: list[float] = []
    honest = schedule.next_stage
    monkeypatch.setattr(
        schedule, "next_stage", lambda question, found: asked.append(question.budget) or honest(question, found)
    )
    invented(tmp_path / "found", Invented(), budget="900s")
    assert asked[0] == pytest.approx(900 / (reference_epochs(3) * noted["full_epoch"]))
    assert json.loads((tmp_path / "found" / "search.json").read_text())["full_epoch"] == noted["full_epoch"]


class KilledError(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.mark.parametrize("seed", range(2))
def test_killed_anywhere(
    seed: int, invented: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any write, before or after it reaches the disk: the next call goes on, makes no run twice, ends the same."""
    whole = invented(tmp_path / "whole", Invented())
    engine, chance, kills = Invented(), random.Random(seed), 0
    honest, left = os.fsync, [0]

    def fsync(file: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            if chance.random() < 0.5:
                honest(file)
            raise KilledError
        honest(file)

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(200):
        left[0] = chance.randint(1, 15)
        try:
            answer = invented(tmp_path / "parts", engine)
            break
        except KilledError:
            kills += 1
    assert kills >= 4
    assert dataclasses.replace(answer, seconds=0) == dataclasses.replace(whole, seconds=0)
    assert sorted(map(str, trials(tmp_path / "parts"))) == sorted(map(str, trials(tmp_path / "whole")))
    assert sum(engine.made.values()) <= len(lines(tmp_path / "parts")) + kills


def test_a_metric_of_which_less_is_better(model: Path, tmp_path: Path) -> None:
    number = [(text, f"{place % 5 + place / 100:.2f}") for place, (text, _) in enumerate(rows(60))]
    write(tmp_path / "a.csv", number)
    asked = SearchConfig(find_layers=0.9, budget=50, seeds=(1, 2))
    config = TrainConfig("files", train_file=str(tmp_path / "a.csv"), model=str(model), max_length=32, metric="mae")
    engine = Real(config)
    answer = conduct.find_layers(config, asked, tmp_path / "found", engine)
    assert answer.task == f"files ({tmp_path}/a.csv)"
    assert answer.metric == "mae"
    assert all(rate.score < 0 for rate in answer.rates)
    assert answer.best.score == min(point.score for point in answer.points)


class Real(Invented):
    """Invented numbers, on the rows that there are."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(lower=True)

    def run(self, config: TrainConfig, tests: str) -> Outcome:
        from jaxfreeze.training.preparation import prepare
        from jaxfreeze.training.stopwatch import Stopwatch

        if not hasattr(self, "experiment"):
            self.experiment = prepare([config], Stopwatch())
        outcome = super().run(config, tests)
        (record,) = outcome.records
        record["origin"] = self.experiment.origin.as_json()
        label = self.experiment.test_sets[0].store.flat_label
        error = record["metrics"]["mae"]
        noise = np.random.default_rng(config.seed).standard_normal(len(label))
        logits = {"test": (label + 2 * error * noise)[:, None].astype(np.float32)} if tests == "kept" else {}
        return Outcome([record], [], [logits])


def test_a_run_that_diverges_by_itself(
    model: Path, glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a sweep the others are finished, and the sweep says so at its end."""
    honest = workshop.fit

    def fit(experiment: Any, state: Any, hooks: Any) -> Any:
        if experiment.config.seed == 1:
            raise NonFiniteLossError("step 1 of 2")
        return honest(experiment, state, hooks)

    monkeypatch.setattr(workshop, "fit", fit)
    runs = tuple(
        TrainConfig("rte", str(glue), model=str(model), max_length=32, trainable_layers=1, seed=seed, max_steps=2)
        for seed in (1, 2)
    )
    group = Group(str(model), "rte", 1, runs)
    with pytest.raises(runner.DivergedError, match="seed 1 learning rate"):
        runner.run_groups([group], tmp_path / "sweep")
    assert [line["seed"] for line in lines(tmp_path / "sweep")] == [2]


DRIVER = """
import sys
from jaxfreeze.search import laboratory
laboratory._own_seconds = lambda seconds: 1.0
from jaxfreeze.cli import main
sys.exit(main(sys.argv[1:]))
"""
KILLS = effort.inputs(4)


def test_killed_for_real(found: Found, model: Path, glue: Path, tmp_path: Path, own_cache: Path) -> None:
    """SIGKILL, between two lines or while a group trains: the search goes on to the answer of one without a stop."""
    out, chance = tmp_path / "found", random.Random(0)
    words = ["--task", "rte", "--data_dir", str(glue), "--model", str(model), "--output_dir", str(out)]
    for name, value in SETTINGS.items():
        flag = "find_layers" if name == "share" else name
        words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    environment = {**os.environ, "JAXFREEZE_CACHE": str(own_cache), "XLA_FLAGS": effort.xla_flags()}
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    total = len(lines(found.folder))
    for kill in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", DRIVER, *words], env=environment, cwd=ROOT, **streams)
        wanted, deadline = total * (kill + 1) // (KILLS + 1), time.monotonic() + 300
        while not (out / "results.jsonl").is_file() or (out / "results.jsonl").read_bytes().count(b"\n") < wanted:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(chance.random() / 2)
        process.kill()
        process.wait()
    assert main(words) == 0
    assert sorted(map(str, trials(out))) == sorted(map(str, trials(found.folder)))
    answer = answer_file.read(out / "answer.json")
    assert dataclasses.replace(answer, seconds=0) == dataclasses.replace(found.answer, seconds=0)
