"""`sweep --dry_run`: what a sweep will run, its cost in FLOPs, and what sharing the trunk saves."""

from collections.abc import Sequence

from rich.table import Table

from jaxfreeze import console
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.token_store import tokenize
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.sweep.grid import Group
from jaxfreeze.training.dataset import read_rows
from jaxfreeze.training.pretrained import text_encoder


def describe_plan(groups: Sequence[Group]) -> None:
    """Print a row for each group of runs, and the totals; reads and tokenizes the training rows, trains nothing."""
    table = Table("task", "model", "k", "runs", "TFLOP", "one by one, no cache")
    tokens: dict[tuple[str, str], tuple[int, int]] = {}
    passes: dict[tuple[str, str], int] = {}
    shared = alone = 0.0
    for group in groups:
        config, place = group.runs[0], (group.task, group.model)
        encoder = read_config(model_folder(group.model))
        if place not in tokens:
            tokens[place] = _tokens(config, encoder)
        frozen = frozen_layers(group, encoder)
        new_layers = 0 if config.frozen_dropout else max(0, frozen - passes.get(place, 0))
        passes[place] = max(frozen, passes.get(place, 0))
        per_layer = layer_flops(encoder) * tokens[place][0] / 1e12
        epochs = _epochs(config, tokens[place][1])
        trained = 3 * (encoder.num_hidden_layers - frozen) * epochs * per_layer  # forward and twice that backward
        whole = len(group.runs) * (trained + frozen * epochs * per_layer)
        cost = len(group.runs) * trained + new_layers * per_layer if not config.frozen_dropout else whole
        shared, alone = shared + cost, alone + whole
        row = (
            group.task,
            group.model,
            str(group.trainable_layers),
            str(len(group.runs)),
            f"{cost:.1f}",
            f"{whole:.1f}",
        )
        table.add_row(*row)
    console.console.print(table)
    if alone:
        console.say(
            f"{shared:,.1f} TFLOP in all; the same runs one by one, without the trunk cache: {alone:,.1f} "
            f"({shared / alone:.0%}). These count the matrix products of the encoder layers, without validation."
        )


def frozen_layers(group: Group, encoder: EncoderConfig) -> int:
    """Layers below the cut."""
    return 0 if group.trainable_layers == "all" else encoder.num_hidden_layers - group.trainable_layers


def layer_flops(encoder: EncoderConfig) -> float:
    """FLOPs of one layer's matrix products for one token in the forward pass, without the attention scores."""
    width, inner = encoder.hidden_size, encoder.intermediate_size
    return 2 * (4 * width * width + 2 * width * inner)


def _epochs(config: TrainConfig, examples: int) -> float:
    steps = -(-examples // config.batch_size)
    return config.epochs if config.max_steps is None else config.max_steps / steps


def _tokens(config: TrainConfig, encoder: EncoderConfig) -> tuple[int, int]:
    """(tokens, examples) of the training rows."""
    rows = read_rows(config)
    store = tokenize(rows.train, text_encoder(config, model_folder(config.model), encoder, rows.task.objective))
    return store.num_tokens, store.num_examples
