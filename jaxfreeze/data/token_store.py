"""The flat token store: one split tokenised once, no padding anywhere, kept on disk under a digest of what made it."""

import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxfreeze import cache_folder, console
from jaxfreeze.cache_folder import cache_root
from jaxfreeze.data.batch import Batch
from jaxfreeze.data.split import CHUNK, Split
from jaxfreeze.data.words import first_pieces, labels_of, prepare_tokenizer, unread
from jaxfreeze.errors import InputError, shorten
from jaxfreeze.fetched import check_fetched
from jaxfreeze.imports import without

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = "2"  # part of the digest: raise it when the meaning of a column changes
COLUMNS = ("token_id", "token_type", "position", "start", "label")
TOKENIZER_FILES = (  # all that transformers reads to make a tokenizer
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tokenizer.model",
    "tiktoken.model",
)
MODEL_FILES = tuple(name for name in TOKENIZER_FILES if name.endswith(".model"))
VOCABULARIES = (  # one of these makes a tokenizer
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    *((name,) for name in MODEL_FILES),
)
PACKAGES = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf", "tiktoken": "tiktoken"}
"""Packages that reading one of MODEL_FILES takes -> what of them is imported."""
CAPITALS = 0.05  # a vocabulary with a larger share of words with capitals was made of texts in either case
MOST_TOKENS = 2**31 - 1  # of a split: batches number them with int32


@dataclasses.dataclass(frozen=True, eq=False)
class TokenStore:
    """T tokens of E examples, end to end."""

    token_id: np.ndarray  # int32 [T]
    token_type: np.ndarray  # int8 [T]
    position: np.ndarray  # int16 [T] position id, counted from the encoder's first one
    start: np.ndarray  # int64 [E + 1] where each example's tokens begin
    label: np.ndarray  # [E, ...] as the objective has them; of words int32 [T], at the first piece of each, else -1
    digest: str = ""  # of what it was made of
    word: np.ndarray | None = None  # int32 [T] the number in its example of the word whose first piece it is, else -1

    @property
    def num_examples(self) -> int:
        """E."""
        return len(self.start) - 1

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.token_id)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each example: int64 [E]."""
        return np.diff(self.start)

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """How many of the N labels belong to each example: int64 [E]; one, or its words that were read."""
        if self.word is None:
            return np.ones(self.num_examples, np.int64)
        before = np.concatenate([[0], np.cumsum(self.word >= 0)])
        return np.diff(before[self.start])

    @functools.cached_property
    def _place(self) -> np.ndarray:
        """Which of the N labels each token has, of words: int64 [T]; -1 where it has none."""
        assert self.word is not None
        return np.where(self.word >= 0, np.cumsum(self.word >= 0) - 1, -1)

    def places(self, batch: Batch) -> np.ndarray:
        """Which of the N labels each output of a batch is about: [R, G], or [R, W] of words; -1: none."""
        if self.word is None:
            return batch.example
        return np.where(batch.index >= 0, self._place[batch.index], -1)

    @property
    def flat_label(self) -> np.ndarray:
        """The labels, example after example: [N, ...]."""
        return np.asarray(self.label if self.word is None else self.label[self.word >= 0])


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """A tokenizer folder and how its output becomes a token store."""

    folder: Path
    max_length: int
    vocab_size: int
    type_vocab_size: int
    first_position: int
    model_type: str
    words: bool = False
    """Whether labels belong to words, which texts are then made of."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its token stores."""
        return (*COLUMNS, "word") if self.words else COLUMNS

    @functools.cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The Hugging Face tokenizer of the folder, checked: it has words, and only those the model has rows for."""
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        with without("torch"):
            from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

        for name in TOKENIZER_FILES:
            check_fetched(self.folder / name)
        expected = f"expected {', or '.join(' and '.join(names) for names in VOCABULARIES)}"
        if not any(all((self.folder / name).is_file() for name in names) for names in VOCABULARIES):
            raise InputError(f"--model {self.folder}: no tokenizer in the folder; {expected}")
        try:
            raw, _ = PreTrainedConfig.get_config_dict(self.folder)
            told = bool(raw.get("model_type"))
            config = None if told else AutoConfig.for_model(self.model_type, tokenizer_class=raw.get("tokenizer_class"))
            tokenizer = AutoTokenizer.from_pretrained(
                self.folder, config=config, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever a damaged file makes the library raise, the mend is the same
            self._check_packages()
            raise InputError(f"--model {self.folder}: the tokenizer does not load ({error}); {expected}") from error
        vocabulary = tokenizer.get_vocab()
        if not vocabulary.keys() - set(tokenizer.all_special_tokens):
            raise InputError(f"--model {self.folder}: the tokenizer has special tokens and no others; {expected}")
        # A blank line of vocab.txt is a token that no text has.
        if any(token and number >= self.vocab_size for token, number in vocabulary.items()):
            raise InputError(
                f"--model {self.folder}: the tokenizer has {len(tokenizer)} tokens but config.json has vocab_size "
                f"{self.vocab_size}; take both files from the same model"
            )
        for line in self._warnings(tokenizer):
            console.say(f"--model {self.folder}: {line}")
        if self.words:
            try:
                prepare_tokenizer(tokenizer)
            except ValueError as error:
                raise InputError(
                    f"--model {self.folder}: labels of words need a tokenizer that numbers them, and {error}; put the "
                    "model's tokenizer.json into the folder"
                ) from None
        return tokenizer

    def _check_packages(self) -> None:
        """Raise InputError if the folder's vocabulary takes a package that is not installed."""
        if (self.folder / "tokenizer.json").is_file():
            return
        for name in filter(lambda name: (self.folder / name).is_file(), MODEL_FILES):
            needed = ("tiktoken",) if name == "tiktoken.model" else ("sentencepiece", "protobuf")
            missing = [package for package in needed if not _is_installed(PACKAGES[package])]
            if missing:
                raise InputError(
                    f"--model {self.folder}: reading {name} takes {' and '.join(missing)}; run: pip install "
                    f"{' '.join(missing)}, or put the model's tokenizer.json into the folder"
                )

    def _warnings(self, tokenizer: "PreTrainedTokenizerBase") -> Iterator[str]:
        """What a pretrained model hardly had in its tokenizer, though nothing fails."""
        if not tokenizer.num_special_tokens_to_add():
            yield "the tokenizer puts no special tokens around a text; take tokenizer.json from the model's publisher"
        file = self.folder / "tokenizer_config.json"
        told = file.is_file() and "do_lower_case" in json.loads(file.read_text(encoding="utf-8"))
        if told or not getattr(tokenizer, "do_lower_case", False):
            return
        words = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
        either = [word for word in words if word.lower() != word.upper()]
        share = sum(word != word.lower() for word in either) / max(len(either), 1)
        if share > CAPITALS:
            yield (
                f"{share:.0%} of the vocabulary's words have capitals, but texts are put into lower case, as nothing "
                'says otherwise; for a cased model write tokenizer_config.json with "do_lower_case": false'
            )

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 (hex) over the files that make texts to tokens."""
        sha = hashlib.sha256()
        for name in TOKENIZER_FILES:
            file = self.folder / name
            sha.update(f"\0{name}\0".encode() + (file.read_bytes() if file.is_file() else b""))
        return sha.hexdigest()

    def digest(self, split: Split) -> str:
        """SHA-256 (hex) over the tokenizer's files, the settings and the split's texts and labels."""
        settings = f"{FORMAT} {self.max_length} {self.vocab_size} {self.type_vocab_size} {self.first_position}"
        settings += " words" if self.words else ""
        return hashlib.sha256(f"{settings} {self.tokenizer_digest} {split.digest}".encode()).hexdigest()

    def encode(self, split: Split) -> TokenStore:
        """Tokenise a split as the tokenizer builds its pairs, the longer text cut to fit max_length."""
        split = split.as_words() if self.words else split.as_texts()
        columns = [[list(text) if self.words else text for text in column] for column in split.texts]
        ids: list[np.ndarray] = []
        types: list[np.ndarray] = []
        lengths: list[np.ndarray] = []
        words: list[np.ndarray] = []
        for begin in range(0, len(columns[0]), CHUNK):
            encoded = self.tokenizer(
                *(column[begin : begin + CHUNK] for column in columns),
                is_split_into_words=self.words,
                truncation=True,
                max_length=self.max_length,
                return_token_type_ids=True,
                return_attention_mask=False,
            )
            ids += [np.fromiter((i for example in encoded["input_ids"] for i in example), np.int32)]
            types += [np.fromiter((i for example in encoded["token_type_ids"] for i in example), np.int8)]
            lengths += [np.array([len(example) for example in encoded["input_ids"]], np.int64)]
            words += [first_pieces(encoded.word_ids(number)) for number in range(len(lengths[-1]) if self.words else 0)]
        start = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        if start[-1] > MOST_TOKENS:
            raise InputError(
                f"{split.name}: {len(columns[0]):,} rows are {start[-1]:,} tokens; expected at most {MOST_TOKENS:,} in "
                "one split; give a part of the rows, or a smaller --max_length"
            )
        token_id = np.concatenate(ids)
        token_type = np.minimum(np.concatenate(types), self.type_vocab_size - 1)  # an encoder may have one type
        position = np.arange(len(token_id)) - np.repeat(start[:-1], np.diff(start)) + self.first_position
        word = np.concatenate(words) if self.words else None
        if word is not None:
            labels = labels_of(split, word, start)
        else:
            labels = np.full(len(start) - 1, -1, np.int32) if split.labels is None else split.labels
        return TokenStore(token_id, token_type, position.astype(np.int16), start, labels, word=word)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it would be part of
        return False


def tokenize(split: Split, encoder: TextEncoder) -> TokenStore:
    """The split's token store, memory-mapped from the cache folder; made and written there first if it is missing."""
    digest = encoder.digest(split)
    folder = cache_root() / "tokens" / digest
    if not cache_folder.is_whole(folder):
        store = encoder.encode(split)
        if split.labels is not None:  # rows to train on or to score; of those to predict for, one may well be odd
            check_known(split, store, encoder)
        note = {"split": split.name, "tokenizer": encoder.folder.name}
        try:
            with cache_folder.new_entry(folder, note) as temporary:
                for name in encoder.columns:
                    np.save(temporary / f"{name}.npy", getattr(store, name))
        except OSError as error:
            raise InputError(
                f"{cache_root()}: the tokens cannot be kept there ({error.strerror}); "
                "make room, or set JAXFREEZE_CACHE to another folder"
            ) from error
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in encoder.columns}
    if encoder.words:
        for line in unread(split, columns["word"], columns["start"], encoder.max_length):
            console.say(line)
    return TokenStore(**columns, digest=digest)


def check_known(split: Split, store: TokenStore, encoder: TextEncoder) -> None:
    """Raise InputError if the tokenizer does not know most of a split's tokens, or makes none of its texts.

    Special tokens are not counted. The vocabulary is then another model's, or other text than this, in any language.
    """
    tokenizer, unknown_id, texts = encoder.tokenizer, encoder.tokenizer.unk_token_id, split.as_texts().texts
    if unknown_id in (None, tokenizer.cls_token_id, tokenizer.sep_token_id):  # GPT-2 has one special token for all
        unknown_id = -1
    special = set(tokenizer.all_special_ids) - {unknown_id}
    total = store.num_tokens - sum(int(np.count_nonzero(store.token_id == token)) for token in special)
    places = np.flatnonzero(store.token_id == unknown_id)
    cut = store.lengths.max() == encoder.max_length
    nothing = not total and not cut and any(str(text).strip() for text in itertools.chain(*texts))
    if not nothing and 2 * len(places) <= total:
        return
    example = int(np.searchsorted(store.start, places[0], side="right")) - 1 if total else 0
    text = shorten(" ".join(str(column[example]) for column in texts))
    unknown = f"{len(places):,} of the {total:,} tokens" if total else "any token"
    raise InputError(
        f"--model {encoder.folder}: the tokenizer does not know {unknown} of {split.name} (see '{text}'); check that "
        "its vocabulary is that of the model, and do_lower_case in tokenizer_config.json"
    )
