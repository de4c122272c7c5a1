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
    """Token types that its tokenizer gives."""


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
            "BertForPreTraining": "not used: 7 tensors of other heads (cls)",
            "BertForMaskedLM": "not used: 5 tensors of other heads (cls)",
            "BertForNextSentencePrediction": "not used: 2 tensors of other heads (cls)",
            "BertForQuestionAnswering": "not used: 2 tensors of other heads (qa_outputs)",
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
            "RobertaForMaskedLM": "not used: 5 tensors of other heads (lm_head)",
            "RobertaForMultipleChoice": "not used: 2 tensors of other heads (classifier)",
            "RobertaForTokenClassification": "not used: 2 tensors of other heads (classifier)",
            "RobertaForQuestionAnswering": "not used: 2 tensors of other heads (qa_outputs)",
        },
        tokenizer="bytes",
        first_position=2,
    ),
}


def config_of(family: str, **values: object) -> Any:
    """The family's Hugging Face config with these values."""
    return transformers.AutoConfig.for_model(family, **values)
