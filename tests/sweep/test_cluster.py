"""A sweep on several machines: in parts that `report` merges, and on a local Ray cluster that loses a worker."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError
from jaxfreeze.sweep import results
from jaxfreeze.sweep.grid import Group
from jaxfreeze.sweep.ray_engine import resources
from jaxfreeze.sweep.runner import Part
from tests import effort
from tests.folders import make_folder, tiny_rte

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "tiny", "bert")


@pytest.fixture
def file(bert: Path, tmp_path: Path) -> Path:
    settings = {
        "models": [str(bert)], "tasks": ["rte"], "trainable_layers": [0, 1, 2, "all"], "seeds": [1, 2],
        "learning_rates": [1e-3], "data_dir": str(tiny_rte(tmp_path / "glue")), "max_steps": 5, "max_length": 32,
    }  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "sweep.yaml"


def scores(folder: Path) -> dict[tuple[object, int], dict[str, float]]:
    return {(run.trainable_layers, run.seed): run.metrics for run in results.read([folder]).runs}


def group(layers: int | str, seeds: int) -> Group:
    runs = tuple(TrainConfig("rte", trainable_layers=layers, seed=seed) for seed in range(seeds))
    return Group("bert-base-uncased", "rte", layers, runs)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
def test_the_parts_are_the_whole(count: int) -> None:
    groups = [group(layers, seeds) for layers, seeds in ((0, 3), (1, 3), (2, 1), ("all", 3), (3, 2))]
    parts = [Part(number, count).of(groups) for number in range(1, count + 1)]
    assert [group for part in parts for group in part] == groups
    if count <= 3:
        sizes = [sum(len(group.runs) for group in part) for part in parts]
        assert max(sizes) - min(sizes) <= 3
    assert Part(1, 2).of([]) == []


def test_a_sweep_in_parts(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "--config", str(file), "--output_dir", str(tmp_path / "parts")]
    assert main([*command, "--part", "2/2"]) == 0
    assert main([*command, "--part", "1/2"]) == 0
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "results.1-of-2.jsonl", "results.2-of-2.jsonl"
    ]  # fmt: skip
    assert main([*command[:-1], str(tmp_path / "whole")]) == 0
    assert scores(tmp_path / "parts") == scores(tmp_path / "whole")
    capsys.readouterr()
    assert main([*command, "--part", "2/3"]) == 0  # what is there in other files is not made again
    assert "0 to do" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "parts"), "--output", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize(
    ("flags", "line"),
    [(["--part", "0/3"], "--part 0/3: expected I/N with I from 1 to N, such as 3/16"),
     (["--part", "4/3"], "--part 4/3: expected I/N"), (["--part", "third"], "--part third: expected I/N"),
     (["--engine", "Ray"], "--engine Ray: expected one of local, ray; did you mean 'ray'?")],
)  # fmt: skip
def test_wrong_flags(flags: list[str], line: str, file: Path, tmp_path: Path, capsys) -> None:
    assert main(["sweep", "--config", str(file), "--output_dir", str(tmp_path / "out"), *flags]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_task_of_a_slurm_step_is_told_to_take_a_part(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-4]")
    assert main(["sweep", "--config", str(file), "--output_dir", str(tmp_path / "out")]) == 2
    assert "--part $((SLURM_PROCID + 1))/$SLURM_NTASKS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("nodes", "asked"),
    [
        ([{"CPU": 4.0}, {"CPU": 2.0}], {"num_cpus": 2}),
        ([{"CPU": 4.0, "GPU": 2.0}, {"CPU": 8.0}], {"num_gpus": 1}),
        ([{"CPU": 4.0, "TPU": 8.0}, {"CPU": 4.0, "TPU": 4.0}], {"resources": {"TPU": 4}}),
        ([{"CPU": 0.0}, {"CPU": 1.0}], {"num_cpus": 1}),
    ],
)
def test_what_a_group_asks_of_the_cluster(nodes: list[dict], asked: dict) -> None:
    dead = {"Alive": False, "Resources": {"GPU": 8.0, "CPU": 1.0}}
    assert resources([dead, *({"Alive": True, "Resources": node} for node in nodes)]) == asked


def test_a_cluster_of_nothing() -> None:
    with pytest.raises(InputError, match="--engine ray: no node of the cluster has"):
        resources([{"Alive": True, "Resources": {"memory": 1.0}}])


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning", "ignore::ResourceWarning")
def test_ray_loses_a_worker(file: Path, tmp_path: Path, own_cache: Path) -> None:
    """Two workers; one of them is killed while a run trains on it. The results are those of the local engine."""
    from ray.cluster_utils import Cluster

    flags = ["--config", str(file), "--max_steps", "60", "--log_every", "5", "--trainable_layers", "0", "1", "2"]
    flags += ["--seeds", "1"]
    soon = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}  # not after 15 s
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": soon}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        environment = os.environ | {
            "RAY_ADDRESS": cluster.address, "JAXFREEZE_CACHE": str(own_cache),
            "XLA_FLAGS": effort.xla_flags(),
        }  # fmt: skip
        command = [sys.executable, "run.py", "sweep", *flags, "--output_dir", str(tmp_path / "ray"), "--engine", "ray"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        file_of_results = tmp_path / "ray" / "results.jsonl"
        deadline = time.monotonic() + 120
        while not file_of_results.is_file():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)  # both were at work: this one's group is made again
        out, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
        assert "3/3" in out
    finally:
        cluster.shutdown()
    assert main(["sweep", *flags, "--output_dir", str(tmp_path / "here")]) == 0
    lines = [json.loads(line) for line in file_of_results.read_text().splitlines()]
    assert len(lines) == 3
    for key, metrics in scores(tmp_path / "here").items():
        assert scores(tmp_path / "ray")[key] == pytest.approx(metrics), key
