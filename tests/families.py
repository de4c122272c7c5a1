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
    read_as: dict[str, Any] = {}
    """Fields of the config as read whose values do not stand in config.json so."""


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
    "deberta-v2": Family(  # as v3's; tests/model/test_deberta_v2.py has the others
        values={
            "type_vocab_size": 0,
            "pad_token_id": 0,
            "layer_norm_eps": 1e-7,
            "position_biased_input": False,
            "relative_attention": True,
            "pos_att_type": "p2c|c2p",
            "share_att_key": True,
            "position_buckets": 8,
            "max_relative_positions": -1,
            "norm_rel_ebd": "layer_norm",
            "pooler_hidden_act": "gelu",
        },
        output="head.classifier",
        classes={
            "DebertaV2Model": "head.",
            "DebertaV2ForMaskedLM": "head.",
            "DebertaV2ForMultipleChoice": "head.classifier.",
            "DebertaV2ForTokenClassification": "head.",
            "DebertaV2ForQuestionAnswering": "head.",
            "DebertaV2ForSequenceClassification": None,
        },
        other_heads={
            "DebertaV2ForMaskedLM": "not used, heads of other tasks: cls (tensors: 5)",
            "DebertaV2ForMultipleChoice": "head drawn at random: the file's is that of DebertaV2ForMultipleChoice",
            "DebertaV2ForTokenClassification": (
                "head drawn at random: the file's is that of DebertaV2ForTokenClassification"
            ),
            "DebertaV2ForQuestionAnswering": "not used, heads of other tasks: qa_outputs (tensors: 2)",
        },
        tokenizer="wordpiece",
        token_types=0,
        config_names={"classifier_dropout": "cls_dropout"},
        read_as={
            "type_vocab_size": 1,
            "token_types": False,
            "embedding_size": 24,
            "pos_att_type": ("c2p", "p2c"),
            "norm_rel_ebd": True,
            "max_relative_positions": 40,
        },
    ),
}


def config_of(family: str, **values: object) -> Any:
    """The family's Hugging Face config with these values."""
    return transformers.AutoConfig.for_model(family, **values)
