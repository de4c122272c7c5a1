"""A pretrained model on the devices, parted by the policy into what is trained and what is frozen."""

import dataclasses
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from jaxfreeze import devices, freezing
from jaxfreeze.config import TrainConfig
from jaxfreeze.data.token_store import TOKENIZER_FILES, TextEncoder
from jaxfreeze.errors import InputError
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.encoder import EncoderConfig
from jaxfreeze.model.files import weights_files
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.objectives import Objective
from jaxfreeze.training.platform_choices import Arithmetic


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A pretrained classifier. Its frozen leaves lie on the devices, its trained ones on the host."""

    folder: Path
    column: Column
    labels: freezing.Labels
    pretrained: dict[str, np.ndarray]  # the trained leaves as loaded, float32
    frozen: freezing.Params  # in the compute type
    digest: str  # SHA-256 (hex) over the leaves that the files held, float32
    fresh: tuple[str, ...]  # paths that were drawn at random: some or all of the head
    reordered: tuple[str, ...]  # paths whose outputs lie in another order in the folder's files
    notes: tuple[str, ...]  # lines for a person: what of the files was not taken as it is, and why

    @property
    def encoder(self) -> EncoderConfig:
        """The architecture."""
        return self.column.encoder

    def start(self, seed: int) -> dict[str, np.ndarray]:
        """The trained leaves of a run with this seed, which draws the fresh ones: float32, on the host."""
        fresh = weights.draw({path: self.column.shapes()[path].shape for path in self.fresh}, seed)
        return self.pretrained | {path: leaf for path, leaf in fresh.items() if path in self.pretrained}

    def params(self, trained: freezing.Params) -> freezing.Params:
        """The whole tree."""
        return freezing.combine(trained, self.frozen)

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters: total, trainable, frozen."""
        trainable, frozen = (sum(leaf.size for leaf in group.values()) for group in (self.pretrained, self.frozen))
        return {"total": trainable + frozen, "trainable": trainable, "frozen": frozen}


def make_labels(config: TrainConfig, paths: list[str], num_layers: int) -> freezing.Labels:
    """The policy that --trainable_layers or --trainable asks for."""
    if config.trainable:
        return freezing.label_patterns(paths, config.trainable)
    assert config.trainable_layers is not None  # TrainConfig fills it in
    return freezing.label_layers(paths, config.trainable_layers, num_layers)


def load_model(
    config: TrainConfig, objective: Objective, mesh: Mesh, arithmetic: Arithmetic, digest: str = ""
) -> Model:
    """Load pretrained weights for an objective's outputs. Raises InputError for wrong files, or a wrong policy.

    digest: of the leaves, if the files are known to be those that it was taken of; otherwise it is taken.
    """
    folder = model_folder(config.model)
    encoder = read_config(folder)
    if config.max_length > encoder.max_tokens:
        raise InputError(f"--max_length {config.max_length}: {config.model} holds at most {encoder.max_tokens} tokens")
    uncut = Column(encoder, objective.num_outputs, by_token=objective.by_token, **arithmetic._asdict())
    labels = make_labels(config, list(uncut.shapes()), encoder.num_hidden_layers)
    column = dataclasses.replace(uncut, cut=freezing.cut_of(labels, encoder.num_hidden_layers))
    pretrained = weights.load(folder, encoder, objective.output_names, config.seed, objective.by_token)
    trained, frozen = freezing.split(pretrained.params, labels)
    frozen = {path: leaf.astype(arithmetic.dtype) for path, leaf in frozen.items()}
    if not digest:
        held = {path: leaf for path, leaf in pretrained.params.items() if path not in pretrained.fresh}
        digest = freezing.digest_of(freezing.digests(held))
    return Model(folder, column, labels, trained, devices.replicate(frozen, mesh), digest, *pretrained[1:])


def model_files_of(folder: Path) -> list[Path]:
    """The files of a model's folder that a run depends on."""
    return [folder / "config.json", *(folder / name for name in TOKENIZER_FILES), *weights_files(folder)]


def text_encoder(config: TrainConfig, folder: Path, encoder: EncoderConfig, objective: Objective) -> TextEncoder:
    """How the texts of a task become tokens of a model in this folder."""
    sizes = (encoder.vocab_size, encoder.type_vocab_size, encoder.first_position)
    return TextEncoder(folder, config.max_length, *sizes, encoder.model_type, objective.by_token)
