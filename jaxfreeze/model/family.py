"""What is peculiar to a family of encoders: the one interface that `families/` is written against.

A family is one file in `families/`, with an EncoderConfig (or a subclass), modules, a table of names, and one `Family`
that holds them; `families/__init__.py` registers it. The column that is fine-tuned is made of the family's modules:

    tokens -> embeddings -> [R, W, D] -> layer 0 .. layer L - 1 -> pooled [R, G, D] -> head -> logits [R, G, C]

Where every token has a label, nothing is pooled, and the head is that of `for_tokens`: [R, W, D] -> logits [R, W, C].

Their parameters have the paths embeddings.*, layers.<number>.* and head.*, by which policies, checkpoints and
freeze.json name them. What an encoder has after its last layer belongs to that layer; what its layers share, to the
embeddings.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import jax
from flax import nnx

from jaxfreeze.data.batch import Batch, Tokens
from jaxfreeze.errors import InputError, one_of
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.files import Place
from jaxfreeze.model.layers import ACTIVATIONS
from jaxfreeze.model.token_head import TokenHead

MOST_LAYERS = 1000  # ten times the deepest there is; a number that was damaged is larger
SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "layer_norm_eps")

Config = TypeVar("Config", bound=EncoderConfig)


class EmbeddingsModule(Protocol):
    """Block 0."""

    def __call__(self, tokens: Tokens, batch: Batch, seeds: jax.Array | None) -> jax.Array:
        """Gathered tokens [R, W] -> hidden [R, W, D]; seeds: uint32 [3, 2], None for no dropout."""


class LayerModule(Protocol):
    """One of the blocks 1 to L."""

    def __call__(self, hidden: jax.Array, batch: Batch, seeds: jax.Array | None, pool: bool) -> jax.Array:
        """Hidden [R, W, D] -> [R, W, D], or with `pool`, in the last layer, what the head reads of each example.

        That is [R, G, D]: the first token's state, a mean over the example, whatever the family's classifier has.
        """


class HeadModule(Protocol):
    """The last block."""

    def __call__(self, pooled: jax.Array, token: jax.Array, seeds: jax.Array | None, /) -> jax.Array:
        """Pooled [R, G, D] -> logits, float32 [R, G, C]; token [R, G]: number of each example's first, for dropout.

        Of tokens: [R, W, D] -> [R, W, C]; token [R, W]: their numbers.
        """


@dataclasses.dataclass(frozen=True)
class Family:
    """An encoder's architecture, its files, and the way between them. XLM-R, say, is RoBERTa's with other names."""

    model_type: str
    """Its name in config.json."""
    architecture: str
    """The classifier's class in transformers, for the config.json of an export."""
    read_config: Callable[[Mapping[str, Any]], EncoderConfig]
    """The content of config.json -> the architecture. Raises InputError (without the file's name) for what is wrong."""
    embeddings: Callable[[Any, str, nnx.Rngs], EmbeddingsModule]
    """(config, dtype, rngs) -> block 0; dtype: of activations and products."""
    layer: Callable[[Any, int, Any, str, nnx.Rngs], LayerModule]
    """(config, number, embeddings, dtype, rngs) -> layer `number`; it may hold modules of the embeddings as its own."""
    head: Callable[[Any, int, str, nnx.Rngs], HeadModule]
    """(config, number of outputs, dtype, rngs) -> the head."""
    names: tuple[tuple[str, str], ...]
    """Module in the file of transformers' classifier <-> module here; `*` stands for the layer's number."""
    base: str
    """The encoder's prefix in the classifier's file, which the file of a bare encoder lacks."""
    output: str
    """The module here whose size is the number of outputs."""
    skipped: re.Pattern[str]
    """Names that a file may hold beside the classifier, and that are no head of another task."""
    tied: tuple[tuple[str, str], ...] = ()
    """(name of a tensor, name in a model for another task of the same tensor), where a file may hold either."""
    old_names: tuple[tuple[re.Pattern[str], str], ...] = ()
    """(part of a name in early files, what replaces it)."""
    read_weights: Callable[[Any, Sequence[tuple[str, Place]]], EncoderConfig] | None = None
    """(config, every name in the weights and its place) -> the config with what the weights alone tell."""
    carried: tuple[str, ...] = ()
    """Names of tensors among those skipped that belong in a classifier's file: an export has them from its source."""
    token_head: Callable[[Any, int, str, nnx.Rngs], HeadModule] = TokenHead
    """The head of its classifier of tokens; its last module is `classifier`."""
    token_names: tuple[tuple[str, str], ...] = (("classifier", "head.classifier"),)
    """The modules of that head in the file of transformers' classifier of tokens <-> here."""

    @functools.cached_property
    def for_tokens(self) -> "Family":
        """The family with its classifier of tokens, whose file may hold the part of the other head in the base."""
        other = [theirs for theirs, ours in self.names if ours.startswith("head.")]
        base = f"{self.base}."
        unused = [re.escape(name.removeprefix(base)) for name in other if name.startswith(base)]
        skipped = [self.skipped.pattern, *(rf"({re.escape(base)})?{name}\..*" for name in unused)]
        return dataclasses.replace(
            self,
            architecture=self.architecture.replace("ForSequence", "ForToken"),
            head=self.token_head,
            names=(*(pair for pair in self.names if pair[0] not in other), *self.token_names),
            output="head.classifier",
            skipped=re.compile("|".join(skipped)),
        )

    def has_class(self, name: str) -> bool:
        """Whether transformers' class of that name, in config.json's `architectures`, is one of this family."""
        own = self.architecture.partition("For")[0]
        return re.fullmatch(rf"(TF|Flax)?{own}(For[A-Z]\w*|(LMHead|PreTrained)?Model)", name) is not None


def build_config(config_class: type[Config], raw: Mapping[str, Any], names: Mapping[str, str] | None = None) -> Config:
    """The config with the file's values, each checked as far as all families agree. Raises InputError.

    names: field -> what config.json calls it, for those that have another name there; errors have the file's.
    """
    fields = dataclasses.fields(config_class)
    filed = {field.name: (names or {}).get(field.name, field.name) for field in fields}
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    missing = [filed[name] for name in required if filed[name] not in raw]
    if missing:
        raise InputError(f"{', '.join(missing)} missing")
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise InputError("this is a decoder; expected an encoder")
    config = config_class(**{name: raw[theirs] for name, theirs in filed.items() if theirs in raw})
    if str(config.hidden_act) not in ACTIVATIONS:
        expected = one_of(ACTIVATIONS, str(config.hidden_act))
        raise InputError(f"{filed['hidden_act']} is {config.hidden_act!r}; expected {expected}")
    _check_numbers(config, filed)
    return config


def check_size(name: str, value: object) -> None:
    """Raise InputError unless the value of that name in config.json is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least 1")


def _check_numbers(config: EncoderConfig, filed: Mapping[str, str]) -> None:
    for name in SIZES:
        check_size(filed[name], getattr(config, name))
    for name in RATES:
        value = getattr(config, name)
        if value is not None and (not isinstance(value, int | float) or not 0 <= value < 1):
            raise InputError(f"{filed[name]} is {value!r}; expected a number from 0 up to, but not including, 1")
    if not isinstance(config.pad_token_id, int) or not 0 <= config.pad_token_id < config.vocab_size:
        raise InputError(f"{filed['pad_token_id']} is {config.pad_token_id!r}; expected 0 to {config.vocab_size - 1}")
    if config.num_hidden_layers > MOST_LAYERS:
        raise InputError(f"{filed['num_hidden_layers']} is {config.num_hidden_layers}; expected at most {MOST_LAYERS}")
    if config.hidden_size % config.num_attention_heads:
        width, heads = config.hidden_size, config.num_attention_heads
        raise InputError(f"{filed['hidden_size']} {width} does not divide into {heads} heads")
    if config.max_tokens < 4:
        rows = config.max_position_embeddings
        raise InputError(f"{filed['max_position_embeddings']} {rows} leaves no room for text")
