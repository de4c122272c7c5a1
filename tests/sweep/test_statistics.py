"""What finished runs say about k, in exact figures wherever there are any; and how they are read."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jaxfreeze.config import TrainConfig, to_yaml
from jaxfreeze.errors import InputError
from jaxfreeze.report import reference, words
from jaxfreeze.sweep import results
from jaxfreeze.sweep import statistics as analysis
from jaxfreeze.sweep.curves import CONSTANT_ANSWER, Cost, Curve, cost, curves, differing_settings
from jaxfreeze.sweep.statistics import Cell, Interval, Quality
from tests.sweep.lines import line, lines, write


def curve_of(folder: Path, scores: dict[int | str, Sequence[float]], **more: object) -> Curve:
    (curve,) = curves(results.read([write(folder, lines(scores, **more))]).runs)
    return curve


def cell_of(folder: Path, layers: int | str, scores: dict[int, float]) -> Cell:
    """A cell from scores by seed."""
    runs = [line(score, layers, seed) for seed, score in scores.items()]
    return curves(results.read([write(folder / str(layers), runs)]).runs)[0].cells[0]


# Means and intervals


def test_the_interval_of_a_mean_is_students() -> None:
    low, high = analysis.t_interval(np.array([1.0, 2.0, 3.0]))  # type: ignore[misc]
    t = 0.95 * (2 / (1 - 0.95**2)) ** 0.5  # with 2 degrees of freedom there is a closed form: 4.3027
    reach = t / 3**0.5  # the standard deviation is 1
    assert (low, high) == pytest.approx((2 - reach, 2 + reach), rel=1e-12)
    assert analysis.interval_of(0.5, 0.01, 10) == pytest.approx((0.5 - 0.00715357, 0.5 + 0.00715357), abs=1e-8)


def test_one_run_has_no_interval(tmp_path: Path) -> None:
    curve = curve_of(tmp_path, {2: [0.8], "all": [0.85]})
    cell = curve.cells[0]
    assert (cell.n, cell.mean, cell.sd, cell.interval) == (1, 0.8, None, None)
    assert curve.differences[2] == (1, pytest.approx(-0.05), None)
    assert curve.qualities[2] == (pytest.approx(0.8 / 0.85), None)
    for smallest in curve.smallest:
        assert (smallest.share, smallest.interval, smallest.unknown, smallest.decided) == (None, None, (2,), False)
    assert "one run has no interval, which is inconclusive with these seeds" in words.answer(curve)


def test_differences_are_of_the_seeds_that_both_have(tmp_path: Path) -> None:
    full = cell_of(tmp_path, "all", {1: 0.90, 2: 0.91, 3: 0.92})
    cell = cell_of(tmp_path, 3, {4: 0.10, 3: 0.90, 2: 0.87})
    pairs = np.array([0.87 - 0.91, 0.90 - 0.92])
    assert analysis.difference(cell, full) == (2, pytest.approx(-0.03), analysis.t_interval(pairs))
    assert analysis.difference(cell_of(tmp_path, 2, {7: 0.5}), full) is None
    assert analysis.difference(cell_of(tmp_path, 1, {1: 0.85}), full) == (1, pytest.approx(-0.05), None)


# The authors' filter

DEV = 277  # examples in RTE's dev set
FULL_RIGHT = (175, 180, 182, 184, 185, 187, 189, 190, 191, 196)
HALF_RIGHT = (164, 168, 170, 172, 184, 186, 188, 190, 195, 199)


def test_the_filter_gives_the_authors_figures_for_bert_base_on_rte(tmp_path: Path) -> None:
    """Ten runs each, made so that mean, best, worst and what is kept are the authors'; PAPER's +1.2 and -1.6 follow."""
    scores = {6: [right / DEV for right in HALF_RIGHT], "all": [right / DEV for right in FULL_RIGHT]}
    curve = curve_of(tmp_path, scores, task="rte", model="bert-base-uncased", num_layers=12)
    half, full = curve.cells
    theirs = reference.authors_scores("bert-base-uncased", "rte", 12)
    assert theirs is not None
    for cell, snapshot in ((half, theirs.eve[6]), (full, theirs.eve["all"])):
        assert cell.n == snapshot.runs == 10
        assert cell.n - len(cell.collapsed) == snapshot.kept
        assert cell.mean == pytest.approx(snapshot.mean, abs=5e-5)
        assert cell.filtered_mean == pytest.approx(snapshot.filtered_mean, abs=5e-5)
    assert half.collapsed == tuple((seed, right / DEV) for seed, right in enumerate(HALF_RIGHT[:4], 1))
    assert full.collapsed == ((1, 175 / DEV),)
    assert half.filtered_mean is not None
    assert full.filtered_mean is not None
    assert words.hundred(half.filtered_mean - full.filtered_mean, sign=True) == "+1.2"
    assert words.hundred(half.mean - full.mean, sign=True) == f"{words.MINUS}1.6"


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.5, 0.45, 0.451], [True, False, True]),  # at 0.9 x the best is dropped, above it is kept
        ([0.0, 0.5], [False, True]),
        ([0.0, 0.0], [False, False]),
        ([-0.01, -0.5], [False, False]),  # literally: -0.01 is not above 0.9 x -0.01
        ([0.3], [True]),
    ],
)
def test_the_filter(scores: list[float], kept: list[bool]) -> None:
    assert analysis.kept_by_authors(np.array(scores)).tolist() == kept


def test_a_cell_whose_runs_all_collapsed_has_no_filtered_mean(tmp_path: Path) -> None:
    cell = curve_of(tmp_path, {0: [0.0, 0.0], "all": [0.4, 0.5]}, task="cola").cells[0]
    assert (cell.filtered_mean, cell.mean, len(cell.collapsed)) == (None, 0.0, 2)


# The reference


def mean_relative_quality(model: str, num_layers: int, tasks: Sequence[str], layers: int) -> float:
    """The authors', filtered, in per cent, of the later snapshot: what the paper's facts were computed from."""
    shares = []
    for task in tasks:
        figures = reference.authors_scores(model, task, num_layers)
        assert figures is not None
        cell, full = figures.later[layers], figures.later["all"]
        assert full.filtered_mean is not None
        shares.append((cell.filtered_mean or 0.0) / full.filtered_mean)
    return 100 * float(np.mean(shares))


FIVE = ("cola", "sst2", "mrpc", "stsb", "rte")
NINE = (*FIVE, "qqp", "mnli", "mnli_mismatched", "qnli")


@pytest.mark.parametrize(
    ("model", "num_layers", "tasks", "expected"),
    [
        ("bert-base-uncased", 12, NINE, {6: 98.5, 5: 97.6, 4: 96.6, 3: 95.0, 2: 92.9, 1: 90.3, 0: 78.2}),
        ("roberta-base", 12, NINE, {6: 98.5, 5: 97.4, 4: 96.1, 3: 95.5, 2: 93.7, 1: 90.1, 0: 59.0}),
    ],
)
def test_the_reference_gives_the_papers_mean_relative_quality(
    model: str, num_layers: int, tasks: Sequence[str], expected: dict[int, float]
) -> None:
    found = {layers: mean_relative_quality(model, num_layers, tasks, layers) for layers in expected}
    assert found == pytest.approx(expected, abs=0.06)  # both sides are rounded


def test_the_reference_knows_its_models_only() -> None:
    assert reference.authors_model("google-bert/bert-base-uncased", 12) == "bert-base-uncased"
    assert reference.authors_model("/models/roberta-large", 24) == "roberta-large"
    assert reference.authors_model("roberta-large", 12) is None  # another model of that name
    assert reference.authors_model("demo", 6) is None
    assert reference.authors_scores("bert-base-uncased", "wnli", 12) is None
    assert {len(rates) for rates in reference.LEARNING_RATES.values()} == {8}


# Resampling


def test_resampled_means_spread_as_students_t(tmp_path: Path) -> None:
    cells = [cell_of(tmp_path, 0, {1: 0.5, 2: 0.52, 3: 0.6}), cell_of(tmp_path, 1, {1: 0.7, 2: 0.71, 3: 0.75, 4: 0.8})]
    means = analysis.resampled_means(cells, 400_000)
    for column, cell in enumerate(cells):
        assert cell.interval is not None
        width = cell.interval.high - cell.interval.low
        assert np.quantile(means[:, column], analysis.TAILS) == pytest.approx(cell.interval, abs=0.01 * width)
    again = analysis.resampled_means(cells, 400_000)
    assert means.tobytes() == again.tobytes()


def test_resamples_are_paired_by_seed(tmp_path: Path) -> None:
    """A cell that is 0.93 of the full model, seed by seed, is 0.93 of it in every resample."""
    full = {1: 0.8, 2: 0.9, 3: 0.7}
    cells = [cell_of(tmp_path, 2, {seed: 0.93 * x for seed, x in full.items()}), cell_of(tmp_path, "all", full)]
    quality = analysis.relative_qualities(cells, analysis.resampled_means(cells))[2]
    assert quality.value == pytest.approx(0.93)
    assert quality.interval == pytest.approx((0.93, 0.93))
    others = {seed + 10: x for seed, x in full.items()}
    cells = [cell_of(tmp_path, 1, {seed: 0.93 * x for seed, x in others.items()}), cells[1]]
    unpaired = analysis.relative_qualities(cells, analysis.resampled_means(cells))[1].interval
    assert unpaired is not None
    assert unpaired.high - unpaired.low > 0.3


def test_intervals_of_relative_quality_hold_what_they_say(tmp_path: Path) -> None:
    """Three seeds: 95% of the intervals hold the true share; plain resampling of the seeds would reach 75%."""
    random, held, plain, trials = np.random.default_rng(5), 0, 0, 600
    cells = [cell_of(tmp_path, layers, dict.fromkeys((1, 2, 3), 0.5)) for layers in (2, "all")]
    draw = random.integers(0, 3, (1000, 3))
    for _ in range(trials):
        shared = random.normal(0, 0.01, 3)
        some, full = (mean + shared + random.normal(0, 0.01, 3) for mean in (0.84, 0.90))
        pair = [dataclasses.replace(cell, scores=x) for cell, x in zip(cells, (some, full), strict=True)]
        interval = analysis.relative_qualities(pair, analysis.resampled_means(pair, 2000))[2].interval
        assert interval is not None
        held += interval.holds(0.84 / 0.90)
        low, high = np.quantile(some[draw].mean(axis=1) / full[draw].mean(axis=1), analysis.TAILS)
        plain += low <= 0.84 / 0.90 <= high
    assert 0.93 <= held / trials <= 0.97
    assert plain / trials < 0.82


# The smallest k


def test_the_smallest_k_of_means_made_by_hand(tmp_path: Path) -> None:
    cells = [cell_of(tmp_path, k, {1: 0.5, 2: 0.5}) for k in (0, 1, 2, "all")]
    qualities = {
        0: Quality(0.85, Interval(0.80, 0.89)),
        1: Quality(0.92, Interval(0.89, 0.95)),
        2: Quality(0.97, Interval(0.93, 1.01)),
    }
    full = np.full((10, 1), 2.0)
    below = 2 * np.array(
        [[0.8, 0.92, 0.97]] * 6 + [[0.95, 0.92, 0.97]] * 1 + [[0.8, 0.8, 0.97]] * 2 + [[0.8, 0.8, 0.8]]
    )
    found = analysis.smallest_layers(cells, np.hstack([below, full]), qualities, 0.90)
    assert found == (0.90, 1, 0.6, (0, "all"), (1,), (), 2)
    assert not found.decided
    found = analysis.smallest_layers(cells, np.hstack([below, full]), qualities, 0.88)
    assert (found.layers, found.undecided, found.undecided_below, found.decided) == (1, (0,), [0], True)
    assert words.verdict(found) == "kept; k = 0 not decided"


@pytest.mark.parametrize(
    ("spread", "decided", "sentence"),
    [
        (0.0005, True, " of full fine-tuning, 84.0 against 90.0 Spearman correlation, at 36% of its training time."),
        (0.02, False, "inconclusive with these seeds. No k tried has its whole interval above 90%."),
    ],
)  # fmt: skip
def test_the_seeds_decide_or_they_do_not(tmp_path: Path, spread: float, decided: bool, sentence: str) -> None:
    steps = np.array([-1.0, 1.0, 0.0])
    scores = {
        1: list(0.60 + spread * steps),
        2: list(0.84 + spread * steps[::-1]),
        "all": list(0.90 + spread * np.roll(steps, 1)),
    }
    curve = curve_of(tmp_path, scores, task="stsb")
    smallest, quality = curve.smallest[0], curve.qualities[2]
    assert smallest.layers == 2
    assert quality.interval is not None
    assert quality.interval.holds(0.9) is not decided
    assert smallest.decided is decided
    assert words.answer(curve).startswith(
        f"2 of 6 layers {'keep' if decided else 'kept'} 93.3% ({words.span(quality.interval)})"
    )
    assert words.answer(curve).endswith(sentence)


def test_nothing_less_than_all(tmp_path: Path) -> None:
    curve = curve_of(tmp_path / "sure", {0: [0.1, 0.11], 3: [0.5, 0.501], "all": [0.9, 0.901]}, task="stsb")
    smallest = curve.smallest[0]
    assert (smallest.layers, smallest.decided, smallest.reliable_from) == ("all", True, "all")
    assert words.answer(curve).startswith(
        "k = 0 or 3 keeps less than 90% of full fine-tuning in the mean; the most is 55.6%"
    )
    curve = curve_of(tmp_path / "unsure", {0: [0.1, 0.11], 3: [0.85, 0.76], "all": [0.9, 0.901]}, task="stsb")
    assert (curve.smallest[0].layers, curve.smallest[0].decided) == ("all", False)
    assert "Inconclusive with these seeds: k = 3." in words.answer(curve)


def test_a_score_that_one_answer_for_all_rows_would_have_shows_nothing_learned(tmp_path: Path) -> None:
    curve = curve_of(tmp_path, {0: [0.8110, 0.8115, 0.8125], "all": [0.87, 0.871, 0.872]})
    assert curve.smallest[0].layers == 0
    said = words.answer(curve)
    assert "keeps less than 90% of full fine-tuning's gain over a constant prediction (81.2 on GLUE's dev set)" in said
    assert (
        f"the most is {words.MINUS}1.0% ({words.MINUS}4.2 to 2.2) at k = 0. By the paper's plain ratio of scores: 93.2%"
        in said
    )
    assert CONSTANT_ANSWER["mrpc"] == pytest.approx(0.8122, abs=1e-4)


def test_without_the_full_model_there_is_no_relative_quality(tmp_path: Path) -> None:
    curve = curve_of(tmp_path / "some", {0: [0.5, 0.51], 2: [0.6, 0.61]})
    assert (curve.full, curve.qualities, curve.differences, curve.smallest) == (None, {}, {}, ())
    assert "no run of the full model" in words.answer(curve)
    curve = curve_of(tmp_path / "zero", {0: [0.0, 0.1], "all": [0.0, 0.0]}, task="cola")
    assert (curve.qualities, curve.smallest) == ({}, ())
    assert curve.differences[0].mean == pytest.approx(0.05)
    assert "of which no share can be taken" in words.answer(curve)


def test_a_full_model_that_is_not_clear_of_zero_gives_no_interval(tmp_path: Path) -> None:
    curve = curve_of(tmp_path, {2: [0.10, 0.12], "all": [0.01, 0.30]}, task="cola")
    assert curve.qualities[2].interval is None
    assert "the full model's own interval contains 0" in words.answer(curve)


# Curves and cost


def test_curves_are_by_model_task_and_learning_rate(tmp_path: Path) -> None:
    runs = [
        *lines({"all": [0.8], 0: [0.5], 3: [0.7]}),
        *lines({"all": [0.81]}, learning_rate=2e-5),
        *lines({"all": [0.6]}, model="other"),
        line(0.83, "all", 1, task="mnli", metrics={"accuracy": 0.83, "accuracy_mismatched": 0.84}),
    ]
    found = curves(results.read([write(tmp_path, runs)]).runs)
    assert [(c.model, c.task, c.learning_rate) for c in found] == [
        ("demo", "mrpc", 5e-5),
        ("demo", "mrpc", 2e-5),
        ("other", "mrpc", 5e-5),
        ("demo", "mnli", 5e-5),
        ("demo", "mnli_mismatched", 5e-5),
    ]
    assert [cell.layers for cell in found[0].cells] == [0, 3, "all"]
    assert (found[3].cells[0].mean, found[4].cells[0].mean) == (0.83, 0.84)


def test_cost_is_the_mean_over_runs(tmp_path: Path) -> None:
    runs = [line(0.5, 1, seed, seconds={"total": 10.0 * seed, "train": 4.0 * seed}) for seed in (1, 2)]
    curve = curves(results.read([write(tmp_path, runs)]).runs)[0]
    assert cost(curve.cells[0]) == Cost(6.0, 15.0, 5e9)
    del runs[0]["flops_per_step"]
    curve = curves(results.read([write(tmp_path, runs)]).runs)[0]
    assert cost(curve.cells[0]).flops_per_step is None


def test_runs_of_a_curve_that_are_not_alike_are_named(tmp_path: Path) -> None:
    float32, bfloat16 = {"dtype": "float32"}, {"dtype": "bfloat16", "output_dir": "there"}
    runs = [line(0.5, 1, 1, **float32), line(0.6, "all", 1, epochs=3, **float32), line(0.6, "all", 2, **bfloat16)]
    curve = curves(results.read([write(tmp_path, runs)]).runs)[0]
    assert differing_settings(curve) == ["dtype float32 and bfloat16"]


# Reading


def test_a_torn_last_line_is_dropped_and_said(tmp_path: Path) -> None:
    tail = json.dumps(line(0.5, 0, 3))[:-20]
    found = results.read([write(tmp_path, lines({0: [0.5, 0.6]}), tail)])
    assert len(found.runs) == 2
    assert found.notes == [f"{tmp_path}/results.jsonl, line 3: cut off while it was written; left out."]
    whole = results.read([write(tmp_path, lines({0: [0.5, 0.6]}), json.dumps(line(0.5, 0, 3)))])
    assert (len(whole.runs), whole.notes) == (3, [])


def test_the_same_result_twice_is_kept_once(tmp_path: Path) -> None:
    folder = write(tmp_path, lines({0: [0.5, 0.6]}))
    found = results.read([folder, folder])
    assert len(found.runs) == 2
    assert found.notes == ["2 runs listed twice, with the same scores: kept once."]


def test_own_files_are_tasks_by_their_training_file(tmp_path: Path) -> None:
    own = {"task": "files", "validation_file": "d.csv", "text_columns": ["a"], "label_column": "l"}
    runs = [line(0.5, 0, 1, train_file="a.csv", **own), line(0.6, 0, 1, train_file="b.csv", **own)]
    found = curves(results.read([write(tmp_path, runs)]).runs)
    assert [curve.task for curve in found] == ["files (a.csv)", "files (b.csv)"]


def test_a_run_folder_is_read_too(tmp_path: Path) -> None:
    record = line(0.7, 3, 5)
    config = TrainConfig(task="mrpc", data_dir="glue", model="demo", trainable_layers=3, seed=5)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    with pytest.raises(InputError, match=r"not finished, it has no metrics.json"):
        results.read([tmp_path])
    kept = {name: record[name] for name in record if name not in ("config", "learning_rate", "flops_per_step", "date")}
    (tmp_path / "metrics.json").write_text(json.dumps(kept))
    (run,) = results.read([tmp_path]).runs
    assert (run.key, run.flops_per_step) == (("demo", "mrpc", 3, 5, 5e-5, 3), None)
    assert run.config == record["config"]
    patterns = {**kept, "trainable_layers": None, "trainable": ["head.*"]}
    (tmp_path / "metrics.json").write_text(json.dumps(patterns))
    with pytest.raises(InputError, match=r"no finished run.*trained by --trainable patterns"):
        results.read([tmp_path])


SECOND = line(0.5, 0, 2)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"task": "rte"', r"results.jsonl, line 2: expected one JSON object, found '\{\"task\": \"rte\"' .*remove"),
        ("[1]", r"line 2: expected a JSON object with the result of a run, found \[1\]"),
        (
            {name: SECOND[name] for name in SECOND if name != "seed"},
            r"line 2: seed: expected a whole number, found none",
        ),
        ({**SECOND, "seed": True}, r"line 2: seed: expected a whole number, found True"),
        ({**SECOND, "metrics": {"f1": float("nan")}}, r"line 2: metrics: expected finite scores by name, found"),
        ({**SECOND, "trainable_layers": 7}, r"line 2: trainable_layers: expected 0 to 6 or all, found 7"),
        ({**SECOND, "trainable_layers": "3"}, r"trainable_layers: expected a whole number or all, found '3'"),
        ({**SECOND, "primary_metric": "mcc"}, r"primary_metric: expected one of f1, found 'mcc'"),
        ({**SECOND, "seconds": {"total": 1}}, r"seconds: expected seconds by part, total and train"),
        ({**SECOND, "config": None}, r"config: expected the settings of the run by name, found None"),
        (line(0.51, 0, 1), r"line 2: another result of the run in .*line 1 .*f1 0.51 against 0.5;.*remove one"),
        (line(0.51, 0, 1, frozen_dropout=True), r"they differ in frozen_dropout False and True: report on them"),
    ],
)
def test_a_wrong_line_is_one_line_that_names_it(tmp_path: Path, second: str | dict, message: str) -> None:
    middle = second if isinstance(second, str) else json.dumps(second)
    text = f"{json.dumps(line(0.5, 0, 1))}\n{middle}\n{json.dumps(line(0.5, 0, 9))}\n"
    (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        results.read([tmp_path])


def test_folders_without_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such folder; expected one of a sweep, with results.jsonl"):
        results.read([tmp_path / "none"])
    with pytest.raises(InputError, match=r"no results in it; expected results.jsonl of a sweep, or metrics.json and"):
        results.read([tmp_path])
    write(tmp_path, [], tail='{"ta')
    with pytest.raises(InputError, match=r"no finished run to report on. .*line 1: cut off"):
        results.read([tmp_path])
