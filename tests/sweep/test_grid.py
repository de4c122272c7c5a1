"""Which runs a sweep has, and what no sweep can be."""

from pathlib import Path

import pytest
import yaml

from jaxfreeze.errors import InputError
from jaxfreeze.report.reference import LEARNING_RATES
from jaxfreeze.sweep.grid import check_depths, make_grid, read_grid

CONFIGS = Path(__file__).parents[2] / "configs"
SWEEPS = [file for file in sorted(CONFIGS.rglob("*.yaml")) if "tasks" in yaml.safe_load(file.read_text())]
AXES = {"models": ["demo"], "tasks": ["rte"], "trainable_layers": [0, "all", 2], "seeds": [1, 2]}


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_shipped_sweeps(file: Path) -> None:
    grid = read_grid(file, {})
    assert sum(len(group.runs) for group in grid.groups()) > 10
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    for word in (f"python run.py sweep --config configs/{file.relative_to(CONFIGS)}", "Expected: ", "Cost: "):
        assert any(word in line for line in header), f"{file}: the header lacks '{word}'"


@pytest.mark.parametrize("model", ("bert-base", "bert-large", "roberta-base", "roberta-large"))
def test_the_papers_protocol(model: str) -> None:
    """PAPER: AdamW without decay or warm-up, batch 16, 128 tokens, N = L / 2 .. L and 0, frozen dropout on."""
    grid = read_grid(CONFIGS / "elsa" / f"{model}.yaml", {})
    layers = 24 if "large" in model else 12
    assert set(grid.trainable_layers) == {*range(layers // 2 + 1), "all"}
    run = next(grid.groups()).runs[0]
    found = (run.epochs, run.batch_size, run.max_length, run.weight_decay, run.warmup_ratio, run.max_grad_norm)
    assert found == (10 if "roberta" in model else 3, 16, 128, 0.0, 0.0, 1.0)
    assert run.frozen_dropout
    assert run.dtype == "float32"
    search = read_grid(CONFIGS / "elsa" / f"{model}.yaml", {}, line_search=True)
    assert search.trainable_layers == ("all",)
    assert search.learning_rates["cola"] == (1e-5, 2e-5, 3e-5, 4e-5, 5e-5)
    assert {task: rates[0] for task, rates in grid.learning_rates.items()} == LEARNING_RATES[grid.models[0]]


def test_groups_differ_in_seed_and_rate_alone_and_the_cut_moves_upwards() -> None:
    grid = make_grid(AXES | {"learning_rates": [1e-5, 2e-5], "epochs": 2}, "x.yaml")
    groups = list(grid.groups())
    assert [group.trainable_layers for group in groups] == ["all", 2, 0]
    for group in groups:
        assert [(run.learning_rate, run.seed) for run in group.runs] == [(1e-5, 1), (1e-5, 2), (2e-5, 1), (2e-5, 2)]
        assert {(run.task, run.model, run.trainable_layers, run.epochs) for run in group.runs} == {
            ("rte", "demo", group.trainable_layers, 2)
        }


def test_learning_rates_by_task_and_flags_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("tasks: [rte, cola]\nlearning_rates: {rte: 1e-5, cola: [2.0e-5, 3e-5]}\nseeds: [4]\nepochs: 9\n")
    grid = read_grid(file, {"seeds": [1, 2], "epochs": 1})
    assert grid.learning_rates == {"rte": (1e-5,), "cola": (2e-5, 3e-5)}
    assert grid.seeds == (1, 2)
    assert next(grid.groups()).runs[0].epochs == 1
    assert grid.models == ("bert-base-uncased",)


REFUSED = [
    ({"taskes": ["rte"]}, r"taskes: no such setting of a sweep; expected one of models, .*did you mean 'tasks'"),
    ({"tasks": []}, "tasks: the list is empty"),
    ({"tasks": None}, "tasks: expected a list"),
    ({"tasks": "rte"}, r"tasks: expected a list, such as \[rte\]"),
    ({"tasks": ["rte", "cola", "rte"]}, "tasks: rte appears twice"),
    ({"tasks": ["RTE"]}, "tasks: 'RTE' is not a task.*did you mean 'rte'"),
    ({"models": [3]}, "models: expected a hub name or a folder, found 3"),
    ({"trainable_layers": [-1]}, "trainable_layers: expected numbers of layers, or all, found -1"),
    ({"trainable_layers": ["al"]}, "trainable_layers: expected numbers of layers, or all, found 'al'"),
    ({"trainable_layers": [True]}, "trainable_layers: .* found True"),
    ({"seeds": [1.5]}, "seeds: expected whole numbers"),
    ({"seeds": [1, 1]}, "seeds: 1 appears twice"),
    ({"learning_rates": ["fast"]}, "learning_rates: expected learning rates such as"),
    ({"learning_rates": [0]}, "learning_rates: expected learning rates such as"),
    ({"learning_rates": {"cola": 1e-5}}, "learning_rates: none for the task rte"),
    ({"learning_rates": {"rte": []}}, "learning_rates: rte: the list is empty"),
    ({"seed": 3}, "seed: one for each run of a sweep; expected the list seeds"),
    ({"task": "rte"}, "task: one for each run of a sweep; expected the list tasks"),
    ({"output_dir": "x"}, "output_dir: no such setting of a sweep"),
    ({"epochs": "many"}, "epochs is 'many'; expected a whole number"),
    ({"epochs": 0}, "--epochs 0: expected at least 1"),
]


@pytest.mark.parametrize(("change", "line"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_no_sweep(change: dict, line: str) -> None:
    with pytest.raises(InputError, match=line):
        make_grid(AXES | change, "x.yaml")


def test_missing_tasks_sections_and_layers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sweep: tasks: missing"):
        read_grid(None, {})
    file = tmp_path / "sweep.yaml"
    file.write_text("tasks: [rte]\nline_search: {epochs: 3}\n")
    with pytest.raises(InputError, match="line_search: no setting 'epochs'"):
        read_grid(file, {}, line_search=True)
    with pytest.raises(InputError, match=r"trainable_layers: 7 is more than the 6 layers of the model small"):
        check_depths(make_grid(AXES | {"trainable_layers": [7]}, "x"), {"big": 12, "small": 6})
