"""What a training step costs at every depth of freezing, by XLA's own account of the compiled program, not a timer.

    python benchmarks/flops.py                       # BERT-base shapes, about 3 minutes on two cores; nothing is run
    python benchmarks/flops.py --hidden_size 256 --width 64

Prints a JSON list of {"trainable_layers", "cached", "flops", "temp_bytes", "optimizer_bytes"}, one packed batch each.
"""

import argparse
import dataclasses
import json

from jaxfreeze.data.batch import Shape
from jaxfreeze.freezing import Labels, Layers, cut_of, label_layers
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.objectives import Classification, Objective
from jaxfreeze.training.cost import step_cost

LAYERS = 12
DEPTHS: tuple[Layers, ...] = (0, 1, 3, 6, 12, "all")
TWO_CLASSES = Classification(("0", "1"))


def bert(layers: int, hidden_size: int) -> EncoderConfig:
    """BERT-base (12 layers, width 768), or another size of it."""
    return EncoderConfig(
        model_type="bert", vocab_size=30522, hidden_size=hidden_size, num_hidden_layers=layers,
        num_attention_heads=max(1, hidden_size // 64), intermediate_size=4 * hidden_size, max_position_embeddings=512,
        type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0,
    )  # fmt: skip


def column_and_labels(
    encoder: EncoderConfig, objective: Objective, depth: Layers, dtype: str = "float32", platform: str = "cpu"
) -> tuple[Column, Labels]:
    """The classifier whose last `depth` layers train, and the labels of its parameters."""
    uncut = Column(encoder, objective.num_outputs, dtype, platform=platform)
    labels = label_layers(uncut.shapes(), depth, uncut.num_layers)
    return dataclasses.replace(uncut, cut=cut_of(labels, uncut.num_layers)), labels


def measure(hidden_size: int, shape: Shape, depths: tuple[Layers, ...], cached: bool) -> list[dict[str, object]]:
    """One record per depth, for a 12-layer BERT of this width with two classes, clipping and gradient norm on.

    cached: the state at the cut comes from the trunk cache (float32), where there is a trunk.
    """
    encoder, records = bert(LAYERS, hidden_size), []
    for depth in depths:
        column, labels = column_and_labels(encoder, TWO_CLASSES, depth)
        cost = step_cost(column, TWO_CLASSES, labels, shape, cached)
        records.append({"trainable_layers": depth, "cached": cached, **cost._asdict()})
    return records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden_size", type=int, default=768)
    parser.add_argument("--rows", type=int, default=8, help="packed rows; two examples in each")
    parser.add_argument("--width", type=int, default=128, help="slots of a row")
    options = parser.parse_args()
    shape = Shape(options.rows, options.width, 2)
    records = [
        *measure(options.hidden_size, shape, DEPTHS, False),
        *measure(options.hidden_size, shape, DEPTHS[:-1], True),
    ]
    print(json.dumps(records, indent=1))
