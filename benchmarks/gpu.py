"""Training steps on an accelerator: the last k layers of a BERT-base with random weights, against PyTorch.

    python benchmarks/gpu.py                                 # one GPU or TPU; PyTorch on a GPU only
    python benchmarks/gpu.py --layers 2 --hidden_size 64 --batch_sizes 16 --steps 4 --no_pytorch   # a CPU

Prints a JSON object with a record for every (batch size, k): for each contestant milliseconds a step, examples/s,
seconds to compile, the share of its slots that hold a token and, where the chip's peak is known, the share of its
bfloat16 peak that the step's matrix products come to, empty slots included. All contestants train the same examples,
lengths distributed as in MNLI, with AdamW, clipping and dropout, in bfloat16 over float32 trained weights:

    cached           the state at the cut comes from the trunk cache on the device
    uncached         the trunk is computed in every step
    pytorch          Hugging Face's model with SDPA, autocast and torch.compile, a program for each width (multiples of
                     32), its frozen parameters without gradients
    pytorch_graphs   the same in CUDA graphs (`mode="reduce-overhead"`)

Batches lie on the device before the clock starts. Contestants run in turn, `--rounds` times; figures are medians. One
that fails is reported with its error in place of figures.

    python benchmarks/gpu.py --only pytorch --rounds 0       # fills PyTorch's compile cache; measures nothing
"""

import argparse
import functools
import itertools
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from chip_table import peak_of
from flops import bert, column_and_labels
from products import step_flops

from jaxfreeze import devices, freezing
from jaxfreeze.data.batch import Tokens
from jaxfreeze.data.batches import BatchPlan
from jaxfreeze.data.dispatch import stack
from jaxfreeze.data.token_store import TokenStore
from jaxfreeze.freezing import Layers
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.objectives import Classification
from jaxfreeze.training.optimizer import OptimizerConfig, Schedule, initial_optimizer_state
from jaxfreeze.training.step import Data, Program, compile_train_steps

OBJECTIVE = Classification(("entailment", "neutral", "contradiction"))
CONTESTANTS = ("cached", "uncached", "pytorch", "pytorch_graphs")
LEARNING_RATE = 5e-5
SETTINGS = OptimizerConfig(weight_decay=0.01, max_grad_norm=1.0)
LENGTH_QUANTILES = (5, 19, 24, 29, 33, 37, 42, 47, 54, 64, 128)
"""Tokens of an MNLI pair at every tenth of the distribution: training rows, BERT's tokenizer, at most 128."""


def random_store(num_examples: int, vocab_size: int) -> TokenStore:
    """Random tokens and labels; lengths as in MNLI."""
    random = np.random.default_rng(0)
    tenths = np.linspace(0, 1, len(LENGTH_QUANTILES))
    lengths = np.interp(random.random(num_examples), tenths, LENGTH_QUANTILES).astype(int)
    start = np.concatenate([[0], np.cumsum(lengths)])
    position = np.arange(start[-1]) - np.repeat(start[:-1], lengths)
    ids = random.integers(1000, vocab_size, start[-1], np.int32)
    types = position > np.repeat(lengths // 2, lengths)
    labels = random.integers(0, OBJECTIVE.num_outputs, num_examples, np.int32)
    return TokenStore(ids, types.astype(np.int8), position.astype(np.int16), start, labels)


class Ours:
    """Our training steps for one depth, in one dispatch."""

    def __init__(self, encoder: EncoderConfig, store: TokenStore, depth: Layers, size: int, options: Any) -> None:
        mesh = devices.data_mesh(1)
        self.column, labels = column_and_labels(encoder, OBJECTIVE, depth, "bfloat16", devices.platform_of(mesh))
        plan = BatchPlan.make(store, size, seeds=(0,), epochs=1, limit=options.shapes)
        self.program = Program(self.column, OBJECTIVE, tuple(sorted(labels.items())), SETTINGS, plan.shapes)
        shapes = {path: leaf.shape for path, leaf in self.column.shapes().items()}
        trained, frozen = freezing.split(random_params(shapes), labels)
        frozen = {path: leaf.astype(jnp.bfloat16) for path, leaf in frozen.items()}
        self.trained, self.frozen = (devices.replicate(leaves, mesh) for leaves in (trained, frozen))
        init = functools.partial(initial_optimizer_state, SETTINGS, self.program.labels)
        self.state = jax.jit(init, out_shardings=devices.replicated(mesh))(
            Schedule.of(LEARNING_RATE, 0.1, 10_000), self.trained, self.frozen
        )
        tokens = Tokens(store.token_id, store.token_type, store.position)
        self.data = devices.replicate(Data(tokens, store.label), mesh)
        self.batches = list(itertools.islice(plan.batches(), options.steps))
        self.examples = sum(int((batch.example >= 0).sum()) for batch in self.batches)
        dispatch = stack(self.batches, plan.shapes, len(self.batches), mesh.size)
        self.dispatch = devices.put(dispatch, dispatch.shardings(mesh))
        real = sum(int((batch.index >= 0).sum()) for batch in self.batches)
        self.real_tokens = real / sum(batch.shape.slots for batch in self.batches)
        self.flops = self.matmul_flops(cached=False)
        self.mesh, self.steps, self.compile_seconds = mesh, len(self.batches), 0.0

    def matmul_flops(self, cached: bool) -> float:
        """Of all steps."""
        of = functools.partial(step_flops, self.column, OBJECTIVE, self.program.labels, cached=cached)
        return sum(of(batch.shape) for batch in self.batches)

    def with_cache(self, store: TokenStore) -> None:
        """Take the state at the cut from a cache from now on; its values do not matter here."""
        by_example = self.column.cut > self.column.num_layers
        leaf, rows = ("pooled", store.num_examples) if by_example else ("hidden", store.num_tokens)
        width = self.column.encoder.hidden_size
        states = np.random.default_rng(1).standard_normal((rows, width), np.float32).astype(jnp.bfloat16)
        self.data = self.data.with_states(leaf, devices.replicate(states, self.mesh))
        self.flops = self.matmul_flops(cached=True)

    def inputs(self) -> tuple[Any, ...]:
        """What the steps are given."""
        return self.trained, self.state, self.frozen, self.data, self.dispatch, np.uint32(0), np.int32(0)

    def compile(self) -> None:
        """Compile the steps."""
        began = time.perf_counter()
        self.compiled = compile_train_steps(self.program, False, *self.inputs())
        self.compile_seconds = time.perf_counter() - began

    def run(self) -> float:
        """Seconds for all steps."""
        start = time.perf_counter()
        self.trained, self.state, metrics = self.compiled(*self.inputs())
        losses = np.asarray(metrics.loss)
        seconds = time.perf_counter() - start
        if not np.isfinite(losses).all():
            raise RuntimeError(f"losses {losses}")
        return seconds


def random_params(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Leaves as a fresh model has them, on the host."""
    random = np.random.default_rng(0)
    return {
        path: np.ones(shape, np.float32)
        if path.endswith(".scale")
        else 0.02 * random.standard_normal(shape, np.float32)
        for path, shape in shapes.items()
    }


class PyTorch:
    """Hugging Face's model in the same setting; padded batches, widths rounded up to 32."""

    def __init__(
        self, encoder: EncoderConfig, store: TokenStore, depth: Layers, size: int, options: Any, mode: str
    ) -> None:
        import torch
        import transformers

        self.torch, self.mode, self.compile_seconds = torch, mode, 0.0
        names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        sizes = {name: getattr(encoder, name) for name in names}
        config = transformers.BertConfig(num_labels=OBJECTIVE.num_outputs, **sizes)
        config._attn_implementation = "sdpa"
        self.model = transformers.BertForSequenceClassification(config).cuda().train()
        below = [] if depth == "all" else [self.model.bert.embeddings]
        below += [] if depth == "all" else self.model.bert.encoder.layer[: encoder.num_hidden_layers - int(depth)]
        for module in below:
            module.requires_grad_(False)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, weight_decay=0.01, fused=True)
        torch._dynamo.config.recompile_limit = 64
        self.compiled = torch.compile(self.model, dynamic=False, mode=mode)
        order = np.random.default_rng(0).permutation(store.num_examples)
        self.batches = [self._padded(store, part) for part in np.split(order[: size * options.steps], options.steps)]
        self.examples, self.steps = size * options.steps, options.steps
        real = sum(int(batch["attention_mask"].sum()) for batch in self.batches)
        self.real_tokens = real / sum(batch["attention_mask"].numel() for batch in self.batches)

    def compile(self) -> None:
        """Compile a program for each width; three steps of each, as CUDA graphs are recorded in the second one."""
        began = time.perf_counter()
        widths = {batch["input_ids"].shape[1]: batch for batch in self.batches}
        for batch in (*widths.values(),) * 3:
            self.step(batch)
        self.torch.cuda.synchronize()
        self.compile_seconds = time.perf_counter() - began

    def _padded(self, store: TokenStore, examples: np.ndarray) -> dict[str, Any]:
        width = -(-int(store.lengths[examples].max()) // 32) * 32
        columns = {"input_ids": store.token_id, "token_type_ids": store.token_type, "attention_mask": None}
        batch = {name: np.zeros((len(examples), width), np.int64) for name in columns}
        for row, example in enumerate(examples):
            tokens = slice(store.start[example], store.start[example + 1])
            for name, column in columns.items():
                batch[name][row, : store.lengths[example]] = 1 if column is None else column[tokens]
        batch["labels"] = store.label[examples].astype(np.int64)
        return {name: self.torch.tensor(values).cuda() for name, values in batch.items()}

    def step(self, batch: dict[str, Any]) -> None:
        """One training step."""
        if self.mode != "default":
            self.torch.compiler.cudagraph_mark_step_begin()
        with self.torch.autocast("cuda", self.torch.bfloat16):
            loss = self.compiled(**batch).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()

    def run(self) -> float:
        """Seconds for all steps."""
        self.torch.cuda.synchronize()
        start = time.perf_counter()
        for batch in self.batches:
            self.step(batch)
        self.torch.cuda.synchronize()
        return time.perf_counter() - start


def measure(contestants: dict[str, Any], rounds: int, peak: float | None) -> dict[str, dict[str, Any]]:
    """Run the contestants in turn -> per contestant its figures, or why it has none."""
    results: dict[str, dict[str, Any]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 2):
        for name, contestant in contestants.items():
            if name in results:
                continue
            try:
                seconds[name].append(contestant.run())
            except Exception as error:  # noqa: BLE001
                results[name] = {"error": f"{type(error).__name__}: {error}"[:400], "turn": turn}
    for name, contestant in contestants.items():
        if name in results or not rounds:
            continue
        values = seconds[name][2:]  # the first two warm up
        median = statistics.median(values)
        results[name] = {
            "milliseconds": round(1e3 * median / contestant.steps, 3),
            "fastest": round(1e3 * min(values) / contestant.steps, 3),
            "slowest": round(1e3 * max(values) / contestant.steps, 3),
            "examples_per_second": round(contestant.examples / median, 1),
            "compile_seconds": round(contestant.compile_seconds, 1),
            "real_tokens": round(contestant.real_tokens, 3),
        }
        if peak and hasattr(contestant, "flops"):
            results[name]["share_of_peak"] = round(contestant.flops / median / peak, 4)
    return results


def contestants_of(
    options: argparse.Namespace, encoder: EncoderConfig, depth: Layers, size: int
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Who runs at this depth and batch size, compiled, and who could not be."""
    store = random_store(max(2048, size * options.steps), encoder.vocab_size)
    contestants: dict[str, Any] = {}
    failed: dict[str, dict[str, Any]] = {}
    if "uncached" in options.only:
        contestants["uncached"] = Ours(encoder, store, depth, size, options)
    if "cached" in options.only and depth not in ("all", encoder.num_hidden_layers):
        contestants["cached"] = Ours(encoder, store, depth, size, options)
        contestants["cached"].with_cache(store)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda ours: ours.compile(), contestants.values()))
    modes = {"pytorch": "default", "pytorch_graphs": "reduce-overhead"}
    for name in modes.keys() & {*options.only}:
        try:
            theirs = PyTorch(encoder, store, depth, size, options, modes[name])
            theirs.compile()
            contestants[name] = theirs
        except Exception as error:  # noqa: BLE001
            failed[name] = {"error": f"{type(error).__name__}: {error}"[:400]}
    return contestants, failed


def main() -> None:
    """Measure every batch size and depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden_size", type=int, default=768)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--depths", nargs="+", default=["3", "all", "1"])
    parser.add_argument("--steps", type=int, default=20, help="in one dispatch")
    parser.add_argument("--shapes", type=int, default=4, help="of batches, at most: each is a program to compile")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument(
        "--no_pytorch", dest="only", action="store_const", const=["cached", "uncached"], help="--only cached uncached"
    )
    options = parser.parse_args()
    devices.configure("bfloat16")
    encoder = bert(options.layers, options.hidden_size)
    kind = jax.local_devices()[0].device_kind
    peak = peak_of(kind)
    records = []
    for depth in ("all" if text == "all" else int(text) for text in options.depths):
        for size in options.batch_sizes:
            if depth != "all" and depth > options.layers:
                continue
            contestants, failed = contestants_of(options, encoder, depth, size)
            figures = measure(contestants, options.rounds, peak) | failed
            records.append({"batch_size": size, "trainable_layers": depth, **figures})
            print(json.dumps(records[-1]), file=sys.stderr, flush=True)
    versions = {name: version(name) for name in ("jax", "flax", "optax")}
    if {"pytorch", "pytorch_graphs"} & {*options.only}:
        versions |= {name: version(name) for name in ("torch", "transformers")}
    settings = {name: getattr(options, name) for name in ("layers", "hidden_size", "steps", "shapes", "rounds")}
    print(json.dumps({"device": kind, "versions": versions, **settings, "records": records}))


if __name__ == "__main__":
    main()
