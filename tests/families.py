"""The families of encoders as the tests make them: one row each."""

from typing import Any, NamedTuple

import transformers


class Family(NamedTuple):
    """A random model's constants, and what its tokenizer gives."""

    values: dict[str, Any]
    """Arguments of its Hugging Face config beside the sizes and dropout rates."""
    output: str
    """The module whose size is the number of outputs."""
    classes: dict[str, str | None]
    """Classes of transformers whose files load -> the prefix of the parameters that they lack."""
    other_heads: dict[str, str]
    """Classes of transformers with a head for another task -> the line that loading says of it."""
    tokenizer: str
    """wordpiece or bytes: which of the tokenizers in tests/folders.py."""
    first_position: int = 0
    """The position id of an example's first token."""
    token_types: int = 1
    """Token types that its tokenizer gives; 0: its model takes none."""
    config_names: dict[str, str] = {}
    """What config.json calls hidden_size and other sizes and rates, where it has names of its own for them."""


FAMILIES = {
    "bert": Family(
        values={"type_vocab_size": 2, "pad_token_id": 0, "layer_norm_eps": 1e-12},
        output="head.classifier",
        classes={
            "BertModel": "head.classifier.",
            "BertForPreTraining": "head.classifier.",
            "BertForMaskedLM": "head.",
            "BertForNextSentencePrediction": "head.classifier.",
            "BertForMultipleChoice": "head.classifier.",
            "BertForTokenClassification": "head.",
            "BertForQuestionAnswering": "head.",
            "BertForSequenceClassification": None,
        },
        other_heads={
            "BertForPreTraining": "not used, heads of other tasks: cls (tensors: 7)",
            "BertForMaskedLM": "not used, heads of other tasks: cls (tensors: 5)",
            "BertForNextSentencePrediction": "not used, heads of other tasks: cls (tensors: 2)",
            "BertForQuestionAnswering": "not used, heads of other tasks: qa_outputs (tensors: 2)",
            "BertForMultipleChoice": "head drawn at random: the file's is that of BertForMultipleChoice",
            "BertForTokenClassification": "head drawn at random: the file's is that of BertForTokenClassification",
        },
        tokenizer="wordpiece",
        token_types=2,
    ),
    "roberta": Family(
        values={"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
        output="head.out_proj",
        classes={
            "RobertaModel": "head.",
            "RobertaForMaskedLM": "head.",
            "RobertaForMultipleChoice": "head.",
            "RobertaForTokenClassification": "head.",
            "RobertaForQuestionAnswering": "head.",
            "RobertaForSequenceClassification": None,
        },
        other_heads={
            "RobertaForMaskedLM": "not used, heads of other tasks: lm_head (tensors: 5)",
            "RobertaForMultipleChoice": "not used, heads of other tasks: classifier (tensors: 2)",
            "RobertaForTokenClassification": "not used, heads of other tasks: classifier (tensors: 2)",
            "RobertaForQuestionAnswering": "not used, heads of other tasks: qa_outputs (tensors: 2)",
        },
        tokenizer="bytes",
        first_position=2,
    ),
    "modernbert": Family(
        # Layers are global and local in turn; a local one looks three tokens to each side.
        values={
            "num_hidden_layers": 3,
            "global_attn_every_n_layers": 2,
            "local_attention": 7,
            "pad_token_id": 0,
            "global_rope_theta": 500.0,
            "local_rope_theta": 20.0,
            "classifier_pooling": "cls",
            "bos_token_id": 2,
            "cls_token_id": 2,
            "eos_token_id": 3,
            "sep_token_id": 3,
        },
        output="head.classifier",
        classes={
            "ModernBertModel": "head.",
            "ModernBertForMaskedLM": "head.classifier.",
            "ModernBertForMultipleChoice": "head.classifier.",
            "ModernBertForTokenClassification": "head.classifier.",
            "ModernBertForQuestionAnswering": "head.classifier.",
            "ModernBertForSequenceClassification": None,
        },
        other_heads={
            "ModernBertForMaskedLM": "not used, heads of other tasks: decoder (tensors: 1)",
            "ModernBertForMultipleChoice": "head drawn at random: the file's is that of ModernBertForMultipleChoice",
            "ModernBertForTokenClassification": (
                "head drawn at random: the file's is that of ModernBertForTokenClassification"
            ),
            "ModernBertForQuestionAnswering": (
                "head drawn at random: the file's is that of ModernBertForQuestionAnswering"
            ),
        },
        tokenizer="wordpiece",
        token_types=0,
        config_names={
            "layer_norm_eps": "norm_eps",
            "hidden_act": "hidden_activation",
            "hidden_dropout_prob": "mlp_dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
    ),
    "esm": Family(
        values={
            "pad_token_id": 1,
            "mask_token_id": 26,  # one that reference.random_store draws
            "layer_norm_eps": 1e-5,
            "position_embedding_type": "rotary",
            "rope_theta": 100.0,
            "token_dropout": True,
            "emb_layer_norm_before": False,
        },
        output="head.out_proj",
        classes={
            "EsmModel": "head.",
            "EsmForMaskedLM": "head.",
            "EsmForTokenClassification": "head.",
            "EsmForSequenceClassification": None,
        },
        other_heads={
            "EsmForMaskedLM": "not used, heads of other tasks: lm_head (tensors: 5)",
            "EsmForTokenClassification": "not used, heads of other tasks: classifier (tensors: 2)",
        },
        tokenizer="bytes",
        token_types=0,
    ),
}


def config_of(family: str, **values: object) -> Any:
    """The family's Hugging Face config with these values, named as in our EncoderConfig."""
    names = FAMILIES[family].config_names
    return transformers.AutoConfig.for_model(family, **{names.get(name, name): value for name, value in values.items()})
