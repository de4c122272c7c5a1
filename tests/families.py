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
    constants: dict[str, Any] = {}
    """Fields of its config here that transformers does not read from config.json."""


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
    "distilbert": Family(
        values={"pad_token_id": 0, "classifier_dropout": 0.0},
        output="head.classifier",
        classes={
            "DistilBertModel": "head.",
            "DistilBertForMaskedLM": "head.",
            "DistilBertForMultipleChoice": "head.classifier.",
            "DistilBertForTokenClassification": "head.",
            "DistilBertForQuestionAnswering": "head.",
            "DistilBertForSequenceClassification": None,
        },
        other_heads={
            "DistilBertForMaskedLM": "not used, heads of other tasks: vocab_layer_norm, vocab_projector, "
            "vocab_transform (tensors: 5)",
            "DistilBertForMultipleChoice": "head drawn at random: the file's is that of DistilBertForMultipleChoice",
            "DistilBertForTokenClassification": "head drawn at random: the file's is that of "
            "DistilBertForTokenClassification",
            "DistilBertForQuestionAnswering": "not used, heads of other tasks: qa_outputs (tensors: 2)",
        },
        tokenizer="wordpiece",
        token_types=0,
        config_names={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
            "hidden_act": "activation",
        },
        constants={"type_vocab_size": 1, "layer_norm_eps": 1e-12},
    ),
    "electra": Family(
        values={"type_vocab_size": 2, "pad_token_id": 0, "layer_norm_eps": 1e-12, "embedding_size": 16},
        output="head.out_proj",
        classes={
            "ElectraModel": "head.",
            "ElectraForPreTraining": "head.",
            "ElectraForMaskedLM": "head.",
            "ElectraForMultipleChoice": "head.",
            "ElectraForTokenClassification": "head.",
            "ElectraForQuestionAnswering": "head.",
            "ElectraForSequenceClassification": None,
        },
        other_heads={
            "ElectraForPreTraining": "not used, heads of other tasks: discriminator_predictions (tensors: 4)",
            "ElectraForMaskedLM": "not used, heads of other tasks: generator_lm_head, "
            "generator_predictions (tensors: 5)",
            "ElectraForMultipleChoice": "not used, heads of other tasks: classifier, sequence_summary (tensors: 4)",
            "ElectraForTokenClassification": "not used, heads of other tasks: classifier (tensors: 2)",
            "ElectraForQuestionAnswering": "not used, heads of other tasks: qa_outputs (tensors: 2)",
        },
        tokenizer="wordpiece",
        token_types=2,
    ),
    "mpnet": Family(
        values={"pad_token_id": 1, "layer_norm_eps": 1e-5},
        output="head.out_proj",
        classes={
            "MPNetModel": "head.",
            "MPNetForMaskedLM": "head.",
            "MPNetForMultipleChoice": "head.",
            "MPNetForTokenClassification": "head.",
            "MPNetForQuestionAnswering": "head.",
            "MPNetForSequenceClassification": None,
        },
        other_heads={
            "MPNetForMaskedLM": "not used, heads of other tasks: lm_head (tensors: 5)",
            "MPNetForMultipleChoice": "not used, heads of other tasks: classifier (tensors: 2)",
            "MPNetForTokenClassification": "not used, heads of other tasks: classifier (tensors: 2)",
            "MPNetForQuestionAnswering": "not used, heads of other tasks: qa_outputs (tensors: 2)",
        },
        tokenizer="bytes",
        first_position=2,
        token_types=0,
        constants={"type_vocab_size": 1, "classifier_dropout": None},
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
        constants={"type_vocab_size": 1},
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
        constants={"type_vocab_size": 1},
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
        constants={
            "type_vocab_size": 1,
            "token_types": False,
            "embedding_size": 24,
            "pos_att_type": ("c2p", "p2c"),
            "norm_rel_ebd": True,
            "max_relative_positions": 40,
        },
    ),
}


def _renamed(family: Family, ours: str, theirs: str) -> Family:
    """The family under another name in its classes."""
    classes = {name.replace(ours, theirs): lacking for name, lacking in family.classes.items()}
    other_heads = {name.replace(ours, theirs): line for name, line in family.other_heads.items()}
    return family._replace(classes=classes, other_heads=other_heads)


FAMILIES["xlm-roberta"] = _renamed(FAMILIES["roberta"], "Roberta", "XLMRoberta")
FAMILIES["camembert"] = _renamed(FAMILIES["roberta"], "Roberta", "Camembert")


def filed(family: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values under the names that config.json has for them."""
    names = FAMILIES[family].config_names
    return {names.get(name, name): value for name, value in values.items()}


def config_of(family: str, **values: object) -> Any:
    """The family's Hugging Face config with these values."""
    return transformers.AutoConfig.for_model(family, **filed(family, values))
