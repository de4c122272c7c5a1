"""The step: frozen leaves are the same buffers with the same bits; the trained ones move as PyTorch's do."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import optax
import pytest

from jaxfreeze import devices, freezing
from jaxfreeze.data import batch as packed_batch
from jaxfreeze.data.batch import Batch
from jaxfreeze.data.dispatch import stack
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import read_config
from jaxfreeze.objectives import Classification, Regression, Tokens
from jaxfreeze.training.optimizer import OptimizerConfig, Schedule, initial_optimizer_state, make_optimizer
from jaxfreeze.training.step import Data, Program, compile_train_steps, train_steps
from tests import reference
from tests.families import FAMILIES

SETTINGS = OptimizerConfig(weight_decay=0.1, max_grad_norm=0.5)
LEARNING_RATE = 1e-3
SCHEDULE = Schedule.of(LEARNING_RATE, warmup_ratio=0.1, total_steps=50)
POLICIES = {
    "k0": {"trainable_layers": 0}, "k1": {"trainable_layers": 1}, "k2": {"trainable_layers": 2},
    "all": {"trainable_layers": "all"}, "biases": {"patterns": [r".*\.bias", r"head\..*"]},
}  # fmt: skip


class Setting:
    """A random Hugging Face model and ours with its weights under a policy, on a mesh."""

    def __init__(
        self,
        family: str,
        policy: str,
        folder: Path,
        dtype: str = "float32",
        dropout: float = 0.0,
        num_devices: int = 1,
        num_labels: int = 3,
        by_token: bool = False,
    ) -> None:
        encoder = read_config(reference.write_folder(folder, family, num_labels, dropout, by_token=by_token))
        self.mesh = devices.data_mesh(num_devices)
        column, how = Column(encoder, num_labels, dtype, by_token=by_token), POLICIES[policy]
        self.labels = (
            freezing.label_patterns(list(column.shapes()), how["patterns"])
            if "patterns" in how
            else freezing.label_layers(list(column.shapes()), how["trainable_layers"], column.num_layers)
        )
        trained, frozen = freezing.split(
            weights.load(folder, encoder, reference.output_names(num_labels), 0, by_token).params, self.labels
        )
        frozen = {path: leaf.astype(dtype) for path, leaf in frozen.items()}
        self.plant(frozen)
        self.pretrained = trained
        self.frozen = devices.replicate(frozen, self.mesh)
        column = dataclasses.replace(column, cut=freezing.cut_of(self.labels, column.num_layers))
        names = tuple(map(str, range(num_labels)))
        objective = Tokens(names) if by_token else Regression() if num_labels == 1 else Classification(names)
        self.program = Program(column, objective, tuple(sorted(self.labels.items())), SETTINGS, ())
        make = reference.tagged_store if by_token else reference.random_store
        self.store = make(family, num_examples=16, num_labels=num_labels)
        tokens = packed_batch.Tokens(self.store.token_id, self.store.token_type, self.store.position)
        self.data = devices.replicate(Data(tokens, self.store.label), self.mesh)
        self.restart()

    def restart(self) -> None:
        """Put the trained leaves and the optimizer back to where they were."""
        self.trained = devices.replicate(self.pretrained, self.mesh)
        init = functools.partial(initial_optimizer_state, SETTINGS, self.program.labels)
        init = jax.jit(init, out_shardings=devices.replicated(self.mesh))
        self.state = init(SCHEDULE, self.trained, self.frozen)

    def plant(self, frozen: dict[str, np.ndarray]) -> None:
        """Overridden where odd bits are wanted."""

    def run(self, steps: int, batch: Batch | None = None) -> list[float]:
        """Take steps on all examples -> losses."""
        batch = reference.packed(self.store, rows=8) if batch is None else batch
        return self.run_batches([batch] * steps)

    def run_batches(self, batches: list[Batch], size: int = 10) -> list[float]:
        """Take a step on each batch, `size` of them in one dispatch -> losses."""
        losses = []
        for first in range(0, len(batches), size):
            some = batches[first : first + size]
            program, *inputs = self.inputs(some, {batch.shape for batch in batches}, size, first)
            steps = compile_train_steps(program, False, *inputs)
            self.trained, self.state, metrics = steps(*inputs)
            losses += [float(loss) for loss in metrics.loss[: len(some)]]
        return losses

    def inputs(self, batches, shapes, size: int, first: int) -> tuple:
        """What train_steps takes."""
        shapes = tuple(sorted(shapes))
        one_part = [jax.tree.map(lambda leaf: leaf[None], batch) for batch in batches]  # M = 1
        dispatch = stack(one_part, shapes, size, self.mesh.size)
        return (
            dataclasses.replace(self.program, shapes=shapes), self.trained, self.state, self.frozen, self.data,
            jax.device_put(dispatch, dispatch.shardings(self.mesh)), np.uint32(7), np.int32(first),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("family", "policy"),
    [
        ("bert", "k0"), ("bert", "k2"), ("bert", "all"), ("roberta", "k1"), ("roberta", "biases"),
        *((family, "all") for family in FAMILIES if family != "bert"),
    ],
)  # fmt: skip
def test_fifty_steps_are_pytorchs(family: str, policy: str, tmp_path: Path) -> None:
    assert_fifty_steps_are_pytorchs(Setting(family, policy, tmp_path), tmp_path)


def assert_fifty_steps_are_pytorchs(ours: Setting, folder: Path) -> None:
    torch, column = reference.pytorch(), ours.program.column
    theirs = reference.load(folder, column.by_token)
    named = dict(theirs.named_parameters())
    family = column.encoder.model_type
    where = {path: weights.hugging_face_name(path, family, column.by_token) for path in ours.labels}
    for path, (name, _) in where.items():
        named[name].requires_grad_(ours.labels[path] == freezing.TRAINED)
    groups = [
        {
            "params": [p for p in theirs.parameters() if p.requires_grad and (p.ndim == 2) == decay],
            "weight_decay": 0.1 * decay,
        }
        for decay in (True, False)  # matrices decay; vectors, which are biases and LayerNorms, do not
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    rates = [min((s + 1e-30) / 5, (50 - s) / 45) for s in range(50)]
    inputs = reference.padded(theirs, ours.store)
    expected = []
    for step in range(50):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * rates[step]
        loss = theirs(**inputs, labels=reference.padded_labels(ours.store)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in theirs.parameters() if p.requires_grad], 0.5)
        optimizer.step()
        expected.append(loss.item())
    losses = ours.run(50)
    np.testing.assert_allclose(losses, expected, atol=1e-4, rtol=0)
    assert losses[-1] < losses[0] - 0.02
    for path, leaf in ours.trained.items():
        if path.endswith("key.bias"):
            continue  # the function does not depend on it: its gradient is rounding noise, which Adam blows up
        name, transposed = where[path]
        wanted = named[name].detach().numpy()
        np.testing.assert_allclose(leaf, wanted.T if transposed else wanted, atol=1e-4, rtol=0, err_msg=path)


def test_regression_loss_is_pytorchs(tmp_path: Path) -> None:
    torch, ours = reference.pytorch(), Setting("bert", "k1", tmp_path, num_labels=1)
    theirs = reference.load(tmp_path)
    expected = theirs(**reference.padded(theirs, ours.store), labels=torch.tensor(ours.store.label)).loss.item()
    assert ours.run(1)[0] == pytest.approx(expected, abs=1e-5)


PAYLOAD = {2: 0x7FD5, 4: 0x7FD51234}  # a NaN of so many bytes that is not the usual one


class Planted(Setting):
    """Frozen leaves hold -0.0, a denormal and, where nothing is computed from it, a NaN with a payload."""

    def plant(self, frozen: dict[str, np.ndarray]) -> None:
        for leaf in frozen.values():
            leaf.reshape(-1)[0] = -0.0
            leaf.reshape(-1)[1] = 1e-39  # a denormal in float32 and in bfloat16
        word = frozen["embeddings.word.embedding"]  # its rows 0 to 4 are tokens that the store never holds
        word[0].view(f"u{word.itemsize}")[:] = PAYLOAD[word.itemsize]


@pytest.mark.parametrize(
    ("family", "dtype", "policy"),  # every pair of two of them
    [
        ("bert", "float32", "k0"), ("bert", "bfloat16", "k1"), ("bert", "float32", "k2"),
        ("roberta", "bfloat16", "k0"), ("roberta", "float32", "k1"), ("roberta", "bfloat16", "k2"),
    ],
)  # fmt: skip
def test_frozen_leaves_keep_buffers_and_bits(family: str, dtype: str, policy: str, tmp_path: Path) -> None:
    setting = Planted(family, policy, tmp_path, dtype, dropout=0.1, num_devices=8)
    before = {path: np.array(leaf).tobytes() for path, leaf in setting.frozen.items()}
    pointers = {path: buffers(leaf) for path, leaf in setting.frozen.items()}
    start = {path: np.array(leaf) for path, leaf in setting.trained.items()}
    word = np.frombuffer(before["embeddings.word.embedding"], np.uint16 if dtype == "bfloat16" else np.uint32)
    assert (word[:2] == PAYLOAD[word.itemsize]).all()  # the payload went in
    losses = setting.run(5)
    assert np.isfinite(losses).all()
    assert {path: np.array(leaf).tobytes() for path, leaf in setting.frozen.items()} == before
    assert {path: buffers(leaf) for path, leaf in setting.frozen.items()} == pointers
    moved = {path for path, leaf in setting.trained.items() if np.any(np.array(leaf) != start[path])}
    # A key's bias shifts all scores of a query alike: its gradient is zero but for rounding.
    assert {path for path in setting.trained if not path.endswith("key.bias")} <= moved
    assert all(leaf.dtype == np.float32 for leaf in setting.trained.values())
    assert all(leaf.dtype == dtype for leaf in setting.frozen.values())


def buffers(leaf: jax.Array) -> list[int]:
    return [shard.data.unsafe_buffer_pointer() for shard in leaf.addressable_shards]


@pytest.mark.parametrize(("family", "layout"), [("bert", reference.unpacked), ("roberta", reference.packed)])
def test_one_device_and_eight_and_no_packing_give_the_same_losses(
    family: str, layout: Callable[..., Batch], tmp_path: Path
) -> None:
    one = Setting(family, "k1", tmp_path, dropout=0.1)
    batch = layout(one.store, rows=16)
    losses = one.run(8, reference.packed(one.store, rows=8))
    other = Setting(family, "k1", tmp_path, dropout=0.1, num_devices=8)
    got = other.run(8, batch)
    np.testing.assert_allclose(got, losses, atol=1e-5, rtol=0)
    other.restart()
    assert other.run(8, batch) == got  # the same topology gives the same bits


def test_the_step_neither_takes_nor_returns_the_frozen_tree(tmp_path: Path) -> None:
    setting = Setting("bert", "k1", tmp_path)
    batch = reference.packed(setting.store, rows=8)
    _, *inputs = given = setting.inputs([batch], {batch.shape}, 1, 0)
    trained, state, _ = jax.eval_shape(functools.partial(train_steps, given[0]), *inputs)
    assert set(trained) == set(setting.trained)
    assert jax.tree.structure(state) == jax.tree.structure(setting.state)
    compile_train_steps(*given[:1], False, *inputs)(*inputs)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((setting.trained, setting.state)))  # donated
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((setting.frozen, setting.data)))


@pytest.mark.parametrize("family", ("bert", "roberta"))
@pytest.mark.parametrize("trainable_layers", (0, 1, "all"))
def test_without_gradients_only_trained_matrices_move_by_weight_decay(
    family: str, trainable_layers: int | Literal["all"], tmp_path: Path
) -> None:
    config = read_config(reference.write_folder(tmp_path, family))
    params = {p: np.ones(leaf.shape, np.float32) for p, leaf in Column(config, 3).shapes().items()}
    labels = freezing.label_layers(params, trainable_layers, config.num_hidden_layers)
    flat, policy = Schedule.of(LEARNING_RATE, warmup_ratio=0.0, total_steps=50), tuple(sorted(labels.items()))
    trained, frozen = freezing.split(params, labels)
    state = initial_optimizer_state(SETTINGS, policy, flat, trained, frozen)
    update = jax.jit(make_optimizer(SETTINGS, policy).update)
    updates, _ = update(jax.tree.map(np.zeros_like, params), state, params)
    assert updates.keys() == params.keys()
    for path, change in updates.items():
        decays = labels[path] == freezing.TRAINED and params[path].ndim == 2  # vectors: biases and LayerNorms
        np.testing.assert_allclose(change, -1e-3 * 0.1 if decays else 0.0, rtol=1e-6, atol=0, err_msg=path)


@pytest.mark.parametrize(("num_devices", "sizes"), [(1, (3, 10)), (8, (3,))])
def test_steps_in_one_dispatch_are_the_same_steps(num_devices: int, sizes: tuple[int, ...], tmp_path: Path) -> None:
    setting = Setting("bert", "k1", tmp_path, dropout=0.1, num_devices=num_devices)
    packed, unpacked = reference.packed(setting.store, rows=8), reference.unpacked(setting.store)
    batches = [packed, unpacked, unpacked, packed, packed, unpacked, packed]
    losses = setting.run_batches(batches, size=1)
    for size in sizes:
        setting.restart()
        assert setting.run_batches(batches, size) == losses
    setting.restart()
    assert setting.run_batches(batches[::-1], sizes[-1]) != losses


def test_learning_rates() -> None:
    rates = SCHEDULE.share
    np.testing.assert_allclose([rates(s) for s in range(51)], [min(s / 5, (50 - s) / 45) for s in range(51)], rtol=1e-5)
    flat = Schedule.of(1.0, warmup_ratio=0.0, total_steps=10).share
    np.testing.assert_allclose([flat(s) for s in range(11)], [(10 - s) / 10 for s in range(11)], rtol=1e-5)


@pytest.mark.parametrize(("warmup_ratio", "total_steps"), [(0.1, 50), (0.0, 7), (1.0, 9), (0.33, 468)])
def test_learning_rates_are_those_of_optax(warmup_ratio: float, total_steps: int) -> None:
    """To the bit: its own schedule has the numbers in the program, ours in the state."""
    schedule = Schedule.of(1.0, warmup_ratio, total_steps)
    warmup = int(schedule.warmup_steps)
    rise = optax.linear_schedule(0.0, 1.0, warmup)
    fall = optax.linear_schedule(1.0, 0.0, max(1, total_steps - warmup))
    steps = np.arange(total_steps + 1)
    theirs = jax.jit(jax.vmap(optax.join_schedules([rise, fall], [warmup])))(steps)
    ours = jax.jit(jax.vmap(Schedule.share, (None, 0)))(schedule, steps)
    assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_equal_programs_are_compiled_once(tmp_path: Path) -> None:
    """Programs, labels and optimizer are equal by value; what differs in one of them is another program."""
    programs = []
    for _ in range(2):
        setting = Setting("bert", "k1", tmp_path)
        batch = reference.packed(setting.store, rows=8)
        program, *inputs = setting.inputs([batch], {batch.shape}, 1, 0)
        programs.append(compile_train_steps(program, False, *inputs))
    assert programs[0] is programs[1]
    other = dataclasses.replace(program, optimizer=dataclasses.replace(SETTINGS, weight_decay=0.2))
    assert compile_train_steps(other, False, *inputs) is not programs[0]
