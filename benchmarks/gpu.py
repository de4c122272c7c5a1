"""Training steps on an accelerator: the last k layers of a BERT-base with random weights, against PyTorch.

    python benchmarks/gpu.py                                 # one GPU or TPU; PyTorch on a GPU only
    python benchmarks/gpu.py --layers 2 --hidden_size 64 --batch_sizes 16 --steps 4 --no_pytorch   # a trial on a CPU

Prints a JSON object with a record for every (batch size, k, contestant): milliseconds a step, examples/s and, where the
chip's peak is known, the share of its bfloat16 peak that the step's own FLOPs come to. All contestants train the same
examples, lengths distributed as in MNLI, with AdamW, clipping and dropout, in bfloat16 over float32 trained weights:
`cached` takes the state at the cut from the trunk cache on the device, `uncached` computes the trunk in every step,
`pytorch` is Hugging Face's model with SDPA, autocast and torch.compile, its frozen parameters without gradients.
Contestants run in turn, `--rounds` times; figures are medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfreeze import devices, freezing
from jaxfreeze.data.batches import BatchPlan, Tokens
from jaxfreeze.data.dispatch import stack
from jaxfreeze.data.token_store import TokenStore
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.training.cost import abstract_group, step_cost
from jaxfreeze.training.optimizer import OptimizerConfig, make_optimizer
from jaxfreeze.training.step import Data, Program, compiled_train_steps

CLASSES = 3
SETTINGS = OptimizerConfig(5e-5, 0.01, 0.1, 1.0, 10_000)
PEAK_TFLOPS = {"H100": 989, "H200": 989, "A100": 312, "v4": 275, "v5 lite": 197, "v5p": 459, "v6 lite": 918}
"""Dense bfloat16, from the makers' data sheets."""
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
    labels = random.integers(0, CLASSES, num_examples, np.int32)
    return TokenStore(ids, types.astype(np.int8), position.astype(np.int16), start, labels)


class Ours:
    """Our training steps for one depth, groups of them in one dispatch."""

    def __init__(
        self, encoder: EncoderConfig, store: TokenStore, depth: int | str, batch_size: int, steps: int
    ) -> None:
        self.mesh = devices.data_mesh(1)
        column = Column(encoder, CLASSES, "bfloat16")
        shapes = column.shapes()
        labels = freezing.label_layers(list(shapes), depth, encoder.num_hidden_layers)
        plan = BatchPlan.make(store, batch_size, seed=0, epochs=1)
        cut = freezing.cut_of(labels, encoder.num_hidden_layers)
        self.program = Program(column, encoder.num_hidden_layers, cut, regression=False, shapes=plan.shapes)
        self.optimizer = make_optimizer(SETTINGS, labels)
        self.trained, self.frozen = freezing.split(
            {path: _random(path, leaf.shape) for path, leaf in shapes.items()}, labels
        )
        self.frozen = {path: leaf.astype(jnp.bfloat16) for path, leaf in self.frozen.items()}
        self.state = jax.jit(self.optimizer.init)(freezing.combine(self.trained, self.frozen))
        tokens = Tokens(store.token_id, store.token_type, store.position)
        self.data = devices.replicate(Data(tokens, store.label), self.mesh)
        batches = [batch for batch, _ in zip(plan, range(steps), strict=False)]
        self.examples = sum(int((batch.example >= 0).sum()) for batch in batches)
        group = stack(batches, plan.shapes, len(batches), 1)
        self.group = jax.device_put(group, group.shardings(self.mesh))
        self.flops = sum(self._flops(plan.shapes[number]) for number in group.shape_number)
        self.steps = len(batches)

    def with_cache(self, encoder: EncoderConfig, store: TokenStore) -> None:
        """Take the state at the cut from a cache from now on; its values do not matter here."""
        rows = store.num_examples if self.program.cut > encoder.num_hidden_layers else store.num_tokens
        hidden = jax.random.normal(jax.random.key(1), (rows, encoder.hidden_size), jnp.bfloat16)
        self.data = self.data._replace(hidden=hidden)
        self.flops = sum(self._flops(self.program.shapes[number]) for number in np.asarray(self.group.shape_number))

    def _flops(self, shape: Any) -> float:
        key = (shape, self.data.hidden is not None)
        known: dict[Any, float] = self.__dict__.setdefault("_known_flops", {})
        if key not in known:
            program = Program(*[*vars(self.program).values()][:5], shapes=(shape,))
            inputs = (program, self.optimizer, self.trained, self.frozen, self.data, abstract_group(shape))
            known[key] = step_cost(*inputs).flops
        return known[key]

    def run(self) -> float:
        """Seconds for all steps."""
        start = time.perf_counter()
        self.trained, self.state, metrics = compiled_train_steps(
            self.program, self.optimizer, self.trained, self.state, self.frozen, self.data, self.group,
            np.uint32(0), np.int32(0),
        )  # fmt: skip
        losses = np.asarray(metrics.loss)
        seconds = time.perf_counter() - start
        if not np.isfinite(losses).all():
            raise RuntimeError(f"losses {losses}")
        return seconds


def _random(path: str, shape: tuple[int, ...]) -> jax.Array:
    if path.endswith(".scale"):
        return jnp.ones(shape)
    return 0.02 * jax.random.normal(jax.random.key(sum(path.encode())), shape)


class PyTorch:
    """Hugging Face's model in the same setting; padded batches, widths rounded up to 32."""

    def __init__(
        self, encoder: EncoderConfig, store: TokenStore, depth: int | str, batch_size: int, steps: int
    ) -> None:
        import torch
        import transformers

        self.torch = torch
        names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        config = transformers.BertConfig(num_labels=CLASSES, **{name: getattr(encoder, name) for name in names})
        config._attn_implementation = "sdpa"
        self.model = transformers.BertForSequenceClassification(config).cuda().train()
        below = [] if depth == "all" else [self.model.bert.embeddings]
        below += [] if depth == "all" else self.model.bert.encoder.layer[: encoder.num_hidden_layers - int(depth)]
        for module in below:
            module.requires_grad_(False)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=5e-5, weight_decay=0.01, fused=True)
        self.compiled = torch.compile(self.model)
        order = np.random.default_rng(0).permutation(store.num_examples)
        self.batches = [self._padded(store, part) for part in np.split(order[: batch_size * steps], steps)]
        self.examples, self.steps = batch_size * steps, steps

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

    def run(self) -> float:
        """Seconds for all steps."""
        self.torch.cuda.synchronize()
        start = time.perf_counter()
        for batch in self.batches:
            with self.torch.autocast("cuda", self.torch.bfloat16):
                loss = self.compiled(**batch).loss
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
        self.torch.cuda.synchronize()
        return time.perf_counter() - start


def measure(contestants: dict[str, Any], rounds: int, peak: float | None) -> dict[str, dict[str, Any]]:
    """Run the contestants in turn -> per contestant its figures."""
    for contestant in contestants.values():
        contestant.run()  # compiles
        contestant.run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(contestant.run())
    results = {}
    for name, contestant in contestants.items():
        median = statistics.median(seconds[name])
        results[name] = {
            "milliseconds": round(1e3 * median / contestant.steps, 3),
            "examples_per_second": round(contestant.examples / median, 1),
        }
        if peak and hasattr(contestant, "flops"):
            results[name]["share_of_peak"] = round(contestant.flops / median / peak, 3)
    return results


def contestants_of(options: argparse.Namespace, encoder: EncoderConfig, depth: int | str, size: int) -> dict[str, Any]:
    """Who runs at this depth and batch size."""
    store = random_store(max(2048, size * options.steps), encoder.vocab_size)
    inputs = (encoder, store, depth, size, options.steps)
    makers: dict[str, Callable[..., Any]] = {"uncached": Ours}
    if depth not in ("all", encoder.num_hidden_layers):
        makers["cached"] = Ours
    if not options.no_pytorch:
        makers["pytorch"] = PyTorch
    contestants = {name: make(*inputs) for name, make in makers.items()}
    if "cached" in contestants:
        contestants["cached"].with_cache(encoder, store)
    return contestants


def main() -> None:
    """Measure every batch size and depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden_size", type=int, default=768)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[16, 256])
    parser.add_argument("--depths", nargs="+", default=["0", "1", "3", "6", "12", "all"])
    parser.add_argument("--steps", type=int, default=20, help="in one dispatch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no_pytorch", action="store_true")
    options = parser.parse_args()
    devices.configure("bfloat16")
    encoder = EncoderConfig(
        model_type="bert", vocab_size=30522, hidden_size=options.hidden_size, num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden_size // 64), intermediate_size=4 * options.hidden_size,
        max_position_embeddings=512, type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0,
    )  # fmt: skip
    kind = jax.local_devices()[0].device_kind
    peak = next((1e12 * rate for name, rate in PEAK_TFLOPS.items() if name in kind), None)
    records = []
    for size in options.batch_sizes:
        for depth in ("all" if text == "all" else int(text) for text in options.depths):
            if depth != "all" and depth > options.layers:
                continue
            contestants = contestants_of(options, encoder, depth, size)
            record = {"batch_size": size, "trainable_layers": depth, **measure(contestants, options.rounds, peak)}
            records.append(record)
            print(json.dumps(record), flush=True)
    versions = {name: version(name) for name in ("jax", "flax", "optax")}
    print(json.dumps({"device": kind, "versions": versions, "records": records}))


if __name__ == "__main__":
    main()
