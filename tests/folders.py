"""Whole Hugging Face folders made in-process: a random model of each family, and a tokenizer for the demo's texts."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import tokenizers
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from jaxfreeze.data.demo import demo_split
from tests import effort, reference
from tests.families import FAMILIES

VOCABULARY = 400
GLUE_RTE = "index\tsentence1\tsentence2\tlabel\n"


def make_folder(folder: Path, family: str, **changes: object) -> Path:
    """config.json, model.safetensors and tokenizer files of a tiny random model of a family."""
    texts = [text for column in demo_split("validation").texts for text in column]
    fast = TOKENIZERS[FAMILIES[family].tokenizer](texts)
    fast.save_pretrained(folder)
    sizes = {"vocab_size": len(fast), "max_position_embeddings": 70} | changes
    return reference.write_folder(folder, family, dropout=0.1, **sizes)


def _wordpiece(texts: list[str]) -> transformers.PreTrainedTokenizerFast:
    """Letters and words, frequent ones first; tokenizers' own trainer for WordPiece differs from process to process."""
    words = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    letters = sorted(set("".join(words)))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *sorted(words, key=lambda w: (-words[w], w))]
    vocab = {piece: token for token, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=70, **names)


def _bytes(texts: list[str]) -> transformers.PreTrainedTokenizerFast:
    """Pairs of bytes, as GPT-2's and RoBERTa's."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=68, **names)


TOKENIZERS = {"wordpiece": _wordpiece, "bytes": _bytes}


def empty_cache(folder: Path) -> Path:
    """A cache folder with nothing in it but the compiled programs, which all tests share."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "xla").exists():
        (folder / "xla").symlink_to(effort.PROGRAMS)
    return folder


def tiny_rte(folder: Path, train: int = 40, validation: int = 11) -> Path:
    """A small RTE in the classic layout, learnable: the label is in the first word."""
    random = np.random.default_rng(0)
    words = ["the", "bowl", "crate", "picture", "from", "holds", "owner", "town", "tools", "made"]
    for name, count in (("train", train), ("dev", validation), ("test", validation)):
        lines = [GLUE_RTE if name != "test" else GLUE_RTE.replace("\tlabel", "")]
        for index in range(count):
            label = index % 2
            text = " ".join([("tools", "clothes")[label], *random.choice(words, random.integers(2, 9))])
            row = [str(index), text, " ".join(random.choice(words, 4)), ("entailment", "not_entailment")[label]]
            lines.append("\t".join(row[: 3 if name == "test" else 4]) + "\n")
        (folder / "RTE").mkdir(parents=True, exist_ok=True)
        (folder / "RTE" / f"{name}.tsv").write_text("".join(lines))
    return folder
