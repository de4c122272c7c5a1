"""The same training as PyTorch's, step by step: losses, gradient norms, learning rates and weights, but for rounding.

Without dropout, from the same start, on our run's batches in their order. PyTorch in float64 is the reference. PyTorch
in float32 is the measure: rounding is all that parts it from the reference, and ours may be parted by little more.
"""

import itertools
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxfreeze import freezing
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.token_store import TokenStore
from jaxfreeze.model import weights
from jaxfreeze.training import experiment as experiments
from jaxfreeze.training import preparation
from jaxfreeze.training.experiment import Experiment, TrainState
from jaxfreeze.training.hooks import LogHook
from jaxfreeze.training.loop import fit
from jaxfreeze.training.stopwatch import Stopwatch
from tests import reference
from tests.folders import make_folder
from tests.training.trained import Notes

EXAMPLES, BATCH_SIZE, EPOCHS = 43, 8, 3  # the last batch of an epoch has 3 examples
STEPS = EPOCHS * math.ceil(EXAMPLES / BATCH_SIZE)
EVERY = 4  # steps in a dispatch, after which weights are compared; and after the last step
TIMES = 4.0  # of PyTorch's rounding errors: what ours may be
BIAS_CORRECTION = 1e-5  # optax takes 1 - 0.999 ** step in float32, 1.3e-5 off at first: half of that in an update
OPTIMIZER = {"learning_rate": 1e-3, "weight_decay": 0.05, "warmup_ratio": 0.25, "max_grad_norm": 1.0}
CASES = {
    "bert-k1": ("bert", "classification", {"trainable_layers": 1, "cache": "device"}),
    "bert-all": ("bert", "regression", {"trainable_layers": "all"}),
    "roberta-all": ("roberta", "classification", {"trainable_layers": "all", "accumulate": 2}),
}
CHANGES: dict[str, dict[str, Any]] = {
    "a learning rate 1% higher": {"learning_rate": 1.01e-3},
    "weight decay on biases and LayerNorms": {"plain_decay": 0.05},
    "an epsilon of 1e-6": {"eps": 1e-6},
    "no clipping": {"max_grad_norm": 1e9},
    "the schedule a step late": {"late": 1},
    "the mean over a partial batch taken over a whole one": {"whole_batches": True},
}
"""Changes of PyTorch's training, each of which the comparison must see."""


class Trajectory(NamedTuple):
    """What a training did."""

    losses: list[float]
    grad_norms: list[float]  # before clipping
    rates: list[float]
    leaves: list[dict[str, np.ndarray]]  # the trained ones by path, after every EVERY steps and at the end


def write_rows(file: Path, kind: str) -> str:
    """Pairs of texts of very different lengths; what decides the label is a word of the first."""
    random = np.random.default_rng(0)
    words = ["the", "bowl", "crate", "picture", "from", "holds", "owner", "town", "made"]
    lines = ["first,second,label"]
    for number in range(EXAMPLES):
        first = [("tools", "clothes", "towns")[number % 3], *random.choice(words, random.integers(0, 12))]
        label = "abc"[number % 3] if kind == "classification" else f"{number % 3 + random.random():.3f}"
        lines.append(f"{' '.join(first)},{' '.join(random.choice(words, random.integers(1, 8)))},{label}")
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def prepare(model: Path, folder: Path, kind: str, settings: dict[str, Any]) -> Experiment:
    """A run in float32 on these rows, its caches filled."""
    rows = dict.fromkeys(("train_file", "validation_file"), write_rows(folder / "rows.csv", kind))
    columns = {"text_columns": ("first", "second"), "label_column": ("label",), "objective": kind}
    sizes = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "max_length": 40, "log_every": EVERY, "seed": 3}
    where = {"task": "files", "model": str(model), "output_dir": str(folder / "run")}
    config = TrainConfig(**where, **rows, **columns, **sizes, **OPTIMIZER, **settings)
    experiment = preparation.prepare([config], Stopwatch())
    return experiments.get_ready(experiment, experiments.begin(experiment), Stopwatch())


def ours(experiment: Experiment) -> Trajectory:
    """Train as a run does, several steps in one dispatch."""
    notes, leaves, metrics = Notes(), [], []

    def after_dispatch(state: TrainState) -> None:
        metrics.extend(state.unlogged)
        leaves.append({path: np.array(leaf) for path, leaf in state.trained.items()})

    begun = experiments.begin(experiment)
    fit(experiment, begun, [after_dispatch, LogHook(experiment, begun, notes)])
    losses, norms = (np.concatenate(column).tolist() for column in zip(*metrics, strict=True))
    peak, share = experiment.config.learning_rate, experiment.schedules[0].share
    rates = [peak * float(share(step)) for step in range(STEPS)]
    assert [line["learning_rate"] for line in notes.figures] == pytest.approx([*rates[EVERY - 1 :: EVERY], rates[-1]])
    return Trajectory(losses, norms, rates, leaves)


def batches_of(experiment: Experiment) -> list[list[int]]:
    """The examples of every batch of the run."""
    batches = [batch.example[batch.example >= 0].tolist() for batch in experiment.plan.batches()]
    in_epoch = STEPS // EPOCHS
    for epoch in range(EPOCHS):
        parts = batches[epoch * in_epoch : (epoch + 1) * in_epoch]
        assert [len(batch) for batch in parts] == [8, 8, 8, 8, 8, 3]
        assert sorted(itertools.chain(*parts)) == list(range(EXAMPLES))
    assert len(batches) == STEPS
    return batches


def inputs_of(store: TokenStore, examples: list[int], padding: int, types: bool) -> dict[str, Any]:
    """A padded batch for PyTorch's model."""
    torch = reference.pytorch()
    columns = {"input_ids": (store.token_id, padding), "attention_mask": (np.ones_like(store.token_id), 0)}
    columns |= {"token_type_ids": (store.token_type, 0)} if types else {}
    parts = {
        name: [column[store.start[i] : store.start[i + 1]] for i in examples] for name, (column, _) in columns.items()
    }
    return {
        name: torch.nn.utils.rnn.pad_sequence([torch.tensor(part).long() for part in parts[name]], True, filling)
        for name, (_, filling) in columns.items()
    }


class Theirs:
    """transformers' model at our run's start, and which of its parameters are trained."""

    def __init__(self, experiment: Experiment, dtype: str) -> None:
        torch = reference.pytorch()
        import transformers

        model, family = experiment.model, experiment.model.encoder.model_type
        classes: Any = transformers.AutoModelForSequenceClassification
        config = transformers.AutoConfig.from_pretrained(model.folder)
        config.num_labels = model.column.num_outputs
        self.names = {path: weights.hugging_face_name(path, family) for path in model.labels}
        start = {path: np.array(leaf) for path, leaf in model.params(model.start(experiment.config.seed)).items()}
        tensors = {name: torch.tensor(start[p].T if turned else start[p]) for p, (name, turned) in self.names.items()}
        self.module = classes.from_config(config)
        left_out = self.module.load_state_dict(tensors, strict=False)
        assert not left_out.unexpected_keys
        assert not left_out.missing_keys
        self.module.to(getattr(torch, dtype)).train()  # every dropout is 0
        self.parameters = dict(self.module.named_parameters())
        for path, (name, _) in self.names.items():
            self.parameters[name].requires_grad_(model.labels[path] == freezing.TRAINED)

    def leaves(self) -> dict[str, np.ndarray]:
        """The trained parameters by our paths."""
        found = {}
        for path, (name, turned) in self.names.items():
            if self.parameters[name].requires_grad:
                leaf = self.parameters[name].detach().double().numpy().copy()
                found[path] = leaf.T if turned else leaf
        return found

    def optimizer(self, how: dict[str, Any]) -> Any:
        """AdamW with weight decay on all but biases and LayerNorms."""
        trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
        plain = {name for name in trained if name.endswith("bias") or "LayerNorm" in name}
        groups = [
            {"params": [p for name, p in trained.items() if (name in plain) == is_plain], "weight_decay": decay}
            for is_plain, decay in ((False, how["weight_decay"]), (True, how.get("plain_decay", 0.0)))
        ]
        adamw = reference.pytorch().optim.AdamW
        return adamw(groups, lr=how["learning_rate"], betas=(0.9, 0.999), eps=how.get("eps", 1e-8))


def theirs(experiment: Experiment, dtype: str, **changes: Any) -> Trajectory:
    """The training in PyTorch, as Hugging Face's examples have it, but for changes."""
    torch = reference.pytorch()
    from transformers import get_linear_schedule_with_warmup

    model, store = Theirs(experiment, dtype), experiment.train_set.store
    how = OPTIMIZER | changes
    optimizer = model.optimizer(how)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    scheduler = get_linear_schedule_with_warmup(optimizer, math.ceil(how["warmup_ratio"] * STEPS), STEPS)
    labels = torch.tensor(store.label)
    labels = labels.to(getattr(torch, dtype)) if labels.is_floating_point() else labels.long()
    padding, types = model.module.config.pad_token_id, model.module.config.type_vocab_size > 1
    found = Trajectory([], [], [], [])
    for step, examples in enumerate(batches_of(experiment), start=1):
        loss = model.module(**inputs_of(store, examples, padding, types), labels=labels[examples]).loss
        optimizer.zero_grad()
        (loss * len(examples) / BATCH_SIZE if "whole_batches" in how else loss).backward()
        found.losses.append(loss.item())
        found.grad_norms.append(float(torch.nn.utils.clip_grad_norm_(trained, how["max_grad_norm"])))
        found.rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if step > how.get("late", 0):
            scheduler.step()
        if step % EVERY == 0 or step == STEPS:
            found.leaves.append(model.leaves())
    return found


class Case(NamedTuple):
    """A run of ours, and the same training in PyTorch."""

    experiment: Experiment
    ours: Trajectory
    single: Trajectory  # PyTorch in float32
    double: Trajectory  # PyTorch in float64

    def assert_rounding(self, double: Trajectory) -> None:
        """Ours differs from PyTorch in float64 by little more than PyTorch in float32 from `self.double`."""
        np.testing.assert_allclose(self.ours.rates, double.rates, rtol=1e-6, atol=1e-12)
        for name in ("losses", "grad_norms"):
            ours, single, exact, wanted = (np.array(getattr(t, name)) for t in (*self[1:], double))
            atol = TIMES * np.abs(single - exact).max() + BIAS_CORRECTION * np.abs(exact).max()
            np.testing.assert_allclose(ours, wanted, rtol=0, atol=atol, err_msg=name)
        start = self.experiment.model.start(self.experiment.config.seed)
        for number, leaves in enumerate(self.ours.leaves):
            single, exact, wanted = (t.leaves[number] for t in (self.single, self.double, double))
            assert leaves.keys() == wanted.keys()
            for path, leaf in leaves.items():
                if path.endswith("key.bias"):
                    continue  # the function does not depend on it: its gradient is rounding noise, which Adam blows up
                moved = np.linalg.norm(exact[path] - start[path])
                limit = TIMES * np.linalg.norm(single[path] - exact[path]) + BIAS_CORRECTION * moved
                assert np.linalg.norm(leaf - wanted[path]) < limit, f"{path}, comparison {number}"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)

    @cache
    def make(name: str) -> Case:
        family, kind, settings = CASES[name]
        folder = tmp_path_factory.mktemp(name)
        experiment = prepare(make_folder(folder / "model", family, **rates), folder, kind, settings)
        return Case(experiment, ours(experiment), theirs(experiment, "float32"), theirs(experiment, "float64"))

    return make


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_pytorchs(name: str, cases: Callable[[str], Case]) -> None:
    case = cases(name)
    case.assert_rounding(case.double)
    assert case.experiment.cache.place == CASES[name][2].get("cache", "off")
    assert max(case.double.grad_norms) > OPTIMIZER["max_grad_norm"]  # clipped


@pytest.mark.parametrize("change", CHANGES)
def test_a_small_change_is_seen(change: str, cases: Callable[[str], Case]) -> None:
    case = cases("roberta-all")
    assert min(case.double.grad_norms) < OPTIMIZER["max_grad_norm"] < max(case.double.grad_norms)
    changed = theirs(case.experiment, "float64", **CHANGES[change])
    changed = changed._replace(rates=case.double.rates)  # what the steps did must show it
    with pytest.raises(AssertionError):
        case.assert_rounding(changed)
