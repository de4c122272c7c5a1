"""The architecture of an encoder, as its config.json gives it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """What every encoder has; most names are those of config.json. A family adds fields of its own in a subclass.

    Values are hashable (a tuple, not a list): a config is static where a step is compiled.
    """

    model_type: str
    """The family's name in config.json."""
    vocab_size: int
    """Rows of the word embedding."""
    hidden_size: int
    """D, the width."""
    num_hidden_layers: int
    """L, the encoder layers."""
    num_attention_heads: int
    """N, the attention heads; D is a multiple of it."""
    intermediate_size: int
    """F, the feed-forward width."""
    max_position_embeddings: int
    """Rows of the position embedding, those before the first position included."""
    type_vocab_size: int
    """Rows of the token type embedding; 1 where the encoder does not tell token types apart."""
    layer_norm_eps: float
    """Epsilon of every LayerNorm."""
    pad_token_id: int
    """The padding token."""
    hidden_dropout_prob: float = 0.1
    """Dropout rate of hidden states."""
    attention_probs_dropout_prob: float = 0.1
    """Dropout rate of attention probabilities."""
    classifier_dropout: float | None = None
    """Dropout rate in the head; None: as hidden_dropout_prob."""
    hidden_act: str = "gelu"
    """Activation of the feed-forward network."""

    @property
    def first_position(self) -> int:
        """The position id of an example's first token."""
        return 0

    @property
    def max_tokens(self) -> int:
        """The longest example that the position embedding can hold, in tokens."""
        return self.max_position_embeddings - self.first_position

    @property
    def head_dropout_prob(self) -> float:
        """The head's dropout rate, by Hugging Face's rule."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
