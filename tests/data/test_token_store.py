"""Token stores: the tokenizer's own output end to end, kept under a digest of everything that made it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers

from jaxfreeze.data import token_store
from jaxfreeze.data.demo import demo_split
from jaxfreeze.data.split import Split
from jaxfreeze.data.token_store import COLUMNS, TextEncoder, tokenize
from jaxfreeze.errors import InputError
from jaxfreeze.model.hub import read_config
from tests.families import FAMILIES
from tests.folders import make_folder

DEMO = demo_split("validation")
PAIRS = Split("train", tuple(column[:40] for column in DEMO.texts), DEMO.labels[:40])
SINGLE = Split("test", (("He ran.", "a", "Zürich 東京 \u200b!", "the cat is in Rome " * 20),), None)
SCORES = Split("validation", (("He ran.", "She sat."),), np.array([0.25, 4.0], np.float32))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make_folder(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("JAXFREEZE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def encoder_of(folder: Path, max_length: int = 48) -> TextEncoder:
    config = read_config(folder)
    sizes = (config.vocab_size, config.type_vocab_size, config.first_position)
    return TextEncoder(folder, max_length, *sizes, config.model_type)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("split", [PAIRS, SINGLE, SCORES], ids=lambda split: split.name)
@pytest.mark.parametrize("max_length, chunk", [(48, 1024), (12, 3)])
def test_every_example_is_as_the_tokenizer_gives_it(family, split, max_length, chunk, folders, monkeypatch):
    monkeypatch.setattr(token_store, "CHUNK", chunk)
    store = tokenize(split, encoder_of(folders[family], max_length))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[family])
    assert store.num_examples == len(split.texts[0])
    assert [getattr(store, name).dtype for name in COLUMNS[:4]] == [np.int32, np.int8, np.int16, np.int64]
    assert store.start[0] == 0
    assert store.start[-1] == store.num_tokens == store.lengths.sum()
    first = FAMILIES[family].first_position
    for number, texts in enumerate(zip(*split.texts, strict=True)):
        alone = tokenizer(*texts, truncation="longest_first", max_length=max_length, return_token_type_ids=True)
        part = slice(store.start[number], store.start[number + 1])
        assert store.token_id[part].tolist() == alone["input_ids"]
        length = len(alone["input_ids"])
        assert length <= max_length
        assert store.position[part].tolist() == list(range(first, first + length))
        types = alone["token_type_ids"] if FAMILIES[family].token_types > 1 else [0] * length
        assert store.token_type[part].tolist() == types
    if split.labels is None:
        np.testing.assert_array_equal(store.label, np.full(store.num_examples, -1, np.int32))
    else:
        assert store.label.dtype == split.labels.dtype
        np.testing.assert_array_equal(store.label, split.labels)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_pair_is_cut_to_max_length_from_the_longer_text(family, folders):
    long, short = "the cat sat in Rome and ran to the sea " * 5, "He ran."
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[family])
    words = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (long, short)]
    special = tokenizer.num_special_tokens_to_add(pair=True)
    store = tokenize(Split("train", ((long, short), (short, long)), None), encoder_of(folders[family], 24))
    assert store.lengths.tolist() == [24, 24]
    kept = words[0][: 24 - special - len(words[1])]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    between = [sep] * (special - 2)
    for number, (one, two) in enumerate(((kept, words[1]), (words[1], kept))):
        assert store.token_id[number * 24 : number * 24 + 24].tolist() == [cls, *one, *between, *two, sep]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_second_time_is_memory_mapped_and_needs_no_tokenizer(family, folders, monkeypatch):
    first = tokenize(PAIRS, encoder_of(folders[family]))

    def fail(*_, **__):
        raise AssertionError("the tokenizer was loaded")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    second = tokenize(PAIRS, encoder_of(folders[family]))
    for name in COLUMNS:
        assert isinstance(getattr(second, name), np.memmap)
        assert not getattr(second, name).flags.writeable
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))
    with pytest.raises(InputError, match="the tokenizer was loaded"):
        tokenize(PAIRS, encoder_of(folders[family], 47))


def changed_text(split: Split) -> Split:
    first, second = split.texts
    return replace(split, texts=(first, (*second[:-1], second[-1] + " ")))


def moved_text(split: Split) -> Split:
    """The same characters in the same order, but parted elsewhere."""
    first, second = split.texts
    return replace(split, texts=((first[0] + first[1][0], first[1][1:], *first[2:]), second))


def test_everything_that_counts_changes_the_digest(folders, tmp_path: Path):
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    encoder = encoder_of(folder)
    labels = PAIRS.labels.copy()
    labels[5] = (labels[5] + 1) % 3
    digests = {"as it is": encoder.digest(PAIRS)}
    for name, split in {
        "text": changed_text(PAIRS),
        "border": moved_text(PAIRS),
        "columns swapped": replace(PAIRS, texts=PAIRS.texts[::-1]),
        "one column": replace(PAIRS, texts=(PAIRS.texts[0] + PAIRS.texts[1],)),
        "fewer": replace(PAIRS, texts=tuple(column[:-1] for column in PAIRS.texts)),
        "label": replace(PAIRS, labels=labels),
        "label type": replace(PAIRS, labels=PAIRS.labels.view(np.float32)),
        "no labels": replace(PAIRS, labels=None),
    }.items():
        digests[name] = encoder.digest(split)
    for setting in ("max_length", "type_vocab_size", "first_position"):
        digests[setting] = replace(encoder, **{setting: getattr(encoder, setting) + 1}).digest(PAIRS)
    for name in (
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "vocab.txt", "vocab.json", "merges.txt", "bpe.codes", "spiece.model", "spm.model", "sentencepiece.bpe.model",
        "sentencepiece.model", "tokenizer.model", "tiktoken.model",
    ):  # fmt: skip
        file = folder / name
        before = file.read_bytes() if file.is_file() else None
        file.write_bytes((before or b"") + b" ")
        digests[name] = encoder.digest(PAIRS)
        file.unlink() if before is None else file.write_bytes(before)
    assert len(set(digests.values())) == len(digests), digests
    # What does not count: the split's name, where the folder lies, the weights.
    (folder / "model.safetensors").unlink()
    elsewhere = replace(encoder, folder=folder.rename(tmp_path / "elsewhere"))
    assert elsewhere.digest(replace(PAIRS, name="other")) == digests["as it is"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("saved", [0, 3, 5])
def test_an_interrupted_write_is_not_taken_for_whole(error, saved, folders, empty_cache: Path, monkeypatch):
    encoder, written = encoder_of(folders["bert"]), []

    def write(path: Path, *arguments: object) -> None:
        if len(written) == saved:
            raise error
        written.append(path)
        real_save(path, *arguments)

    real_save = np.save
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", write)
        if saved == len(COLUMNS):
            patch.setattr(Path, "rename", lambda *_: write(Path()))
        with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
            tokenize(PAIRS, encoder)
    folder = empty_cache / encoder.digest(PAIRS)
    assert not folder.exists()
    if isinstance(error, OSError):
        assert list(empty_cache.iterdir()) == []
    store = tokenize(PAIRS, encoder)
    assert store.num_examples == 40
    assert sorted(path.name for path in folder.iterdir()) == sorted(["done.json", *(f"{name}.npy" for name in COLUMNS)])
    assert json.loads((folder / "done.json").read_text()) == {"split": "train", "tokenizer": folders["bert"].name}


def test_a_folder_without_its_last_file_is_made_again(folders, empty_cache: Path):
    encoder = encoder_of(folders["bert"])
    whole = np.array(tokenize(PAIRS, encoder).token_id)
    folder = empty_cache / encoder.digest(PAIRS)
    (folder / "done.json").unlink()
    (folder / "token_id.npy").write_bytes(b"half")
    np.testing.assert_array_equal(tokenize(PAIRS, encoder).token_id, whole)


def test_a_store_that_another_process_finished_first_is_left_alone(folders, empty_cache: Path, monkeypatch):
    encoder = encoder_of(folders["bert"])
    folder = empty_cache / encoder.digest(PAIRS)
    encode, seen = TextEncoder.encode, []

    def slow(self: TextEncoder, split: Split) -> token_store.TokenStore:
        if not seen:
            seen.append(True)
            tokenize(split, self)  # the other process
            seen.append(folder.stat().st_ino)
        return encode(self, split)

    monkeypatch.setattr(TextEncoder, "encode", slow)
    assert tokenize(PAIRS, encoder).num_examples == 40
    assert folder.stat().st_ino == seen[1]
    assert [path.name for path in empty_cache.iterdir()] == [folder.name]


EXPECTED = (
    "expected tokenizer.json, or vocab.txt, or vocab.json and merges.txt, or spiece.model, or spm.model, or "
    "sentencepiece.bpe.model, or sentencepiece.model, or tokenizer.model, or tiktoken.model"
)


def error_of(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        tokenize(PAIRS, encoder_of(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_tokenizer(family, folders, tmp_path: Path):
    folder = shutil.copytree(folders[family], tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    assert error_of(folder) == f"--model {folder}: no tokenizer in the folder; {EXPECTED}"


def test_a_tokenizer_that_does_not_load(folders, tmp_path: Path):
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {}}')
    message = error_of(folder)
    assert message.startswith(f"--model {folder}: the tokenizer does not load (")
    assert message.endswith(f"); {EXPECTED}")


def wordpiece(folders: dict[str, Path], folder: Path, *pieces: str, **config: object) -> Path:
    """A folder whose vocab.txt holds BERT's special tokens and these."""
    shutil.copytree(folders["bert"], folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"} | config))
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *pieces]) + "\n")
    return folder


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ACIDS = tuple("LAGVESIKRDTPNQFYMHCWXUBZO")
LABELS = np.array([0, 1], np.int32)


def test_a_tokenizer_without_words(folders, tmp_path: Path):
    folder = wordpiece(folders, tmp_path / "model")
    assert error_of(folder) == f"--model {folder}: the tokenizer has special tokens and no others; {EXPECTED}"


def test_half_a_vocabulary(folders, tmp_path: Path):
    folder = wordpiece(folders, tmp_path / "model", "the")
    (folder / "vocab.txt").rename(folder / "vocab.json")
    assert error_of(folder) == f"--model {folder}: no tokenizer in the folder; {EXPECTED}"


@pytest.mark.parametrize(
    "pieces, texts",
    [
        (ACIDS, ("M K T A Y I A K Q R", "G A V L I P F W")),
        (("A", "C", "G", "T", "ACGTAC", "CGTACG"), ("ACGTAC CGTACG", "A C G T N")),
        (("日", "本", "語"), ("日本語", "日本語本 Rome")),
        (("ночь", "улица", "фонарь"), ("ночь улица", "фонарь аптека")),
        (("so", "good", "!"), ("so good 😀 ! 🎉", "good 😀")),
    ],
)
def test_a_tokenizer_of_any_language_is_judged_by_the_rows(pieces, texts, folders, tmp_path: Path):
    folder = wordpiece(folders, tmp_path / "model", *pieces, do_lower_case=False)
    store = tokenize(Split("train", (texts,), LABELS), encoder_of(folder))
    assert store.num_examples == 2


@pytest.mark.parametrize(
    "texts, unknown, seen",
    [
        (("M K T A", "G A V L"), "8 of the 8 tokens", "M K T A"),  # in lower case
        (("mkt ay", "iak"), "3 of the 3 tokens", "mkt ay"),
        (("😀 😀", "🎉"), "3 of the 3 tokens", "😀 😀"),
        (("12 12 a 1", "x" * 200), "3 of the 5 tokens", "12 12 a 1"),
    ],
)
def test_a_tokenizer_that_knows_less_than_half(texts, unknown, seen, folders, tmp_path: Path, empty_cache: Path):
    pieces = ("a", "1") if "12 12" in texts[0] else ACIDS
    folder = wordpiece(folders, tmp_path / "model", *pieces, do_lower_case=True)
    with pytest.raises(InputError) as caught:
        tokenize(Split("train", (texts,), LABELS), encoder_of(folder))
    assert str(caught.value) == (
        f"--model {folder}: the tokenizer does not know {unknown} of train (see '{seen}'); check that its vocabulary "
        "is that of the model, and do_lower_case in tokenizer_config.json"
    )
    assert not list(empty_cache.glob("*"))


def test_rows_to_predict_for_are_not_judged(folders):
    encoder = encoder_of(folders["bert"])
    odd = ("😀 🎉",)
    assert tokenize(Split("test", (odd,), None), encoder).num_examples == 1
    with pytest.raises(InputError, match="does not know 2 of the 2 tokens of validation"):
        tokenize(Split("validation", (odd,), LABELS[:1]), encoder)


def test_a_tokenizer_that_makes_nothing_of_the_texts(folders, tmp_path: Path):
    """Byte pairs without the bytes of the texts, and no token for the unknown ones."""
    fast = tokenizers.Tokenizer(tokenizers.models.BPE({"[CLS]": 0, "[SEP]": 1, "A": 2}, []))
    fast.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=fast, **names).save_pretrained(folder)
    encoder = encoder_of(folder)
    with pytest.raises(InputError, match="does not know any token of train"):
        tokenize(Split("train", (("cat", "dog"),), LABELS), encoder)
    assert tokenize(Split("train", (("AA", "dog"),), LABELS), encoder).num_tokens == 6
    assert tokenize(Split("train", (("", " "),), LABELS), encoder).num_tokens == 4


def test_a_blank_line_at_the_end_of_vocab_txt_is_no_word(folders, tmp_path: Path):
    folder = wordpiece(folders, tmp_path / "model", "the", "cat", "")
    encoder = replace(encoder_of(folder), vocab_size=7)
    assert tokenize(Split("train", (("the cat", "the"),), LABELS), encoder).token_id.max() == 6
    with pytest.raises(InputError, match="the tokenizer has 8 tokens but"):
        tokenize(Split("train", (("the cat", "cat"),), LABELS), replace(encoder, vocab_size=6))


@pytest.mark.parametrize("family, files", [("bert", ("vocab.txt",)), ("roberta", ("vocab.json", "merges.txt"))])
def test_a_vocabulary_beside_a_config_without_model_type(family, files, folders, tmp_path: Path):
    folder = shutil.copytree(folders[family], tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, "the", "cat"]) + "\n")
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "t", "h", "e", "th", "the"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    for name in {"vocab.txt", "vocab.json", "merges.txt"} - set(files):
        (folder / name).unlink()
    encoder = encoder_of(folder)
    with_type = np.array(tokenize(Split("train", (("the", "the the"),), LABELS), encoder).token_id)
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    shutil.rmtree(tmp_path / "cache")
    again = tokenize(Split("train", (("the", "the the"),), LABELS), replace(encoder))
    np.testing.assert_array_equal(again.token_id, with_type)


def with_sentencepiece(source: Path, folder: Path, name: str, tokenizer_class: str) -> Path:
    """A folder with a unigram model."""
    from sentencepiece import sentencepiece_model_pb2

    shutil.copytree(source, folder)
    (folder / "tokenizer.json").unlink()
    settings = {"tokenizer_class": tokenizer_class, "do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = sentencepiece_model_pb2.ModelProto()
    pieces = ["<unk>", "<s>", "</s>", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "\u2581the", "\u2581cat", "s"]
    for number, piece in enumerate(pieces):
        model.pieces.add(piece=piece, score=-float(number), type={0: 2, 1: 3, 2: 3}.get(number, 1))
    model.trainer_spec.unk_id = 0
    (folder / name).write_bytes(model.SerializeToString())
    return folder


@pytest.mark.parametrize(
    ("name", "tokenizer_class"),
    [
        ("spm.model", "DebertaV2Tokenizer"),
        ("spiece.model", "AlbertTokenizer"),
        ("sentencepiece.bpe.model", "XLMRobertaTokenizer"),
        ("tokenizer.model", "DebertaV2Tokenizer"),
    ],
)
def test_a_sentencepiece_model_alone(name, tokenizer_class, folders, tmp_path: Path, capsys):
    encoder = encoder_of(with_sentencepiece(folders["bert"], tmp_path / "model", name, tokenizer_class))
    store = tokenize(Split("train", (("the cats", "the"),), LABELS), encoder)
    known = [encoder.tokenizer.convert_tokens_to_ids(piece) for piece in ("\u2581the", "\u2581cat", "s")]
    assert store.token_id[1:4].tolist() == known
    assert encoder.tokenizer.unk_token_id not in store.token_id
    assert capsys.readouterr().out == ""


def test_a_tokenizer_that_adds_no_special_tokens(folders, tmp_path: Path, capsys):
    """As transformers makes RemBERT's of its sentencepiece model."""
    folder = with_sentencepiece(folders["bert"], tmp_path / "model", "sentencepiece.model", "RemBertTokenizer")
    tokenize(Split("train", (("the cats", "the"),), LABELS), encoder_of(folder))
    assert capsys.readouterr().out.endswith(
        f"--model {folder}: the tokenizer puts no special tokens around a text; take tokenizer.json from the model's "
        "publisher\n"
    )


@pytest.mark.parametrize(
    ("name", "absent", "told"),
    [
        ("spm.model", ("sentencepiece", "google.protobuf"), "sentencepiece and protobuf"),
        ("spiece.model", ("sentencepiece",), "sentencepiece"),
        ("sentencepiece.bpe.model", ("google.protobuf",), "protobuf"),
        ("tiktoken.model", ("tiktoken",), "tiktoken"),
    ],
)
def test_a_tokenizer_that_takes_another_package(name, absent, told, folders, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(token_store, "_is_installed", lambda module: module not in absent)
    folder = shutil.copytree(folders["deberta-v2"], tmp_path / "model")
    (folder / name).write_text("damaged")
    tokenize(PAIRS, encoder_of(folder))  # it is not read beside a tokenizer.json
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    files = {"spiece.model": "AlbertTokenizer", "sentencepiece.bpe.model": "XLMRobertaTokenizer"}
    tokenizer_class = files.get(name, "DebertaV2Tokenizer")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))
    assert error_of(folder) == (
        f"--model {folder}: reading {name} takes {told}; run: pip install {told.replace(' and', '')}, or put the "
        "model's tokenizer.json into the folder"
    )
    monkeypatch.setattr(token_store, "_is_installed", lambda module: True)
    assert error_of(folder).startswith(f"--model {folder}: the tokenizer does not load (")


def test_a_package_within_one_that_is_not_installed():
    assert not token_store._is_installed("no_such_package.protobuf")
    assert token_store._is_installed("json.decoder")


def test_pairs_of_bytes_beside_a_vocabulary(folders, tmp_path: Path):
    """As in PhoBERT's folder."""
    folder = shutil.copytree(folders["roberta"], tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PhobertTokenizer"}))
    (folder / "vocab.txt").write_text("the 9\ncat 5\nth@@ 4\n")
    (folder / "bpe.codes").write_text("t h 9\nth e</w> 8\nc a 7\nca t</w> 6\n")
    encoder = encoder_of(folder)
    store = tokenize(Split("train", (("the cat", "cat the"),), LABELS), encoder)
    assert store.token_id.tolist() == [0, 4, 5, 2, 0, 5, 4, 2]


CASED = ("the", "The", "cat", "Cat", "Rome", "R", "##ome", "日", "1")


@pytest.mark.parametrize(
    ("pieces", "config", "share"),
    [
        (CASED, {}, "57%"),
        (CASED, {"do_lower_case": True}, None),
        (CASED, {"do_lower_case": False}, None),
        (("the", "cat", "rome", "日", "1"), {}, None),
        ((*(f"w{number}" for number in range(99)), "Rome"), {}, None),
        (("日", "本", "1"), {}, None),
    ],
)
def test_a_cased_vocabulary_that_a_default_puts_into_lower_case(pieces, config, share, folders, tmp_path, capsys):
    folder = wordpiece(folders, tmp_path / "model", *pieces, **config)
    if not config:
        (folder / "tokenizer_config.json").unlink()
    encoder = encoder_of(folder)
    for name in ("train", "test"):
        tokenize(Split(name, (("the cat", "1"),), None), encoder)
    said = capsys.readouterr().out
    line = (
        f"--model {folder}: {share} of the vocabulary's words have capitals, but texts are put into lower case, as "
        'nothing says otherwise; for a cased model write tokenizer_config.json with "do_lower_case": false\n'
    )
    assert said == (line if share else "")


def test_token_types_are_those_of_the_encoder(folders):
    """BERT's tokenizer gives two; an encoder has none or one, or a RoBERTa was made with two and is given zeros."""
    encoder = encoder_of(folders["bert"])
    two = tokenize(PAIRS, encoder).token_type
    assert set(np.unique(two)) == {0, 1}
    one = tokenize(PAIRS, replace(encoder, type_vocab_size=1)).token_type
    assert one.dtype == two.dtype
    np.testing.assert_array_equal(one, np.zeros_like(two))
    np.testing.assert_array_equal(tokenize(PAIRS, replace(encoder, type_vocab_size=3)).token_type, two)
    roberta = tokenize(PAIRS, replace(encoder_of(folders["roberta"]), type_vocab_size=2)).token_type
    assert not roberta.any()


def test_a_tokenizer_json_alone(folders, tmp_path: Path, capsys):
    """For the class that transformers takes for the encoder then, the special tokens are the same."""
    for family in ("bert", "roberta"):
        folder = shutil.copytree(folders[family], tmp_path / family)
        whole = np.array(tokenize(PAIRS, encoder_of(folder)).token_id)
        (folder / "tokenizer_config.json").unlink()
        np.testing.assert_array_equal(tokenize(PAIRS, encoder_of(folder)).token_id, whole)
    assert capsys.readouterr().out == ""  # RoBERTa's vocabulary has capitals, and no default puts texts in lower case


@pytest.mark.parametrize("name", token_store.TOKENIZER_FILES)
def test_a_tokenizer_file_that_was_not_fetched(name, folders, tmp_path: Path):
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 231508\n")
    assert error_of(folder).startswith(f"{folder / name}: a Git LFS pointer, not the file itself; run `git lfs pull`")
    (folder / name).unlink()
    (folder / name).symlink_to("gone")
    assert error_of(folder).startswith(f"{folder / name}: a link to gone, which does not exist")


def test_a_tokenizer_with_more_words_than_the_embedding_has_rows(folders):
    encoder = replace(encoder_of(folders["roberta"]), vocab_size=399)
    with pytest.raises(InputError) as caught:
        tokenize(PAIRS, encoder)
    assert str(caught.value) == (
        f"--model {folders['roberta']}: the tokenizer has 400 tokens but config.json has vocab_size 399; "
        "take both files from the same model"
    )


def test_more_tokens_than_a_batch_can_number(folders, empty_cache: Path, monkeypatch):
    encoder = encoder_of(folders["bert"])
    tokens = tokenize(PAIRS, encoder).num_tokens
    shutil.rmtree(empty_cache)
    monkeypatch.setattr(token_store, "MOST_TOKENS", tokens - 1)
    with pytest.raises(
        InputError, match=rf"^train: 40 rows are {tokens:,} tokens; expected at most {tokens - 1:,} in one"
    ):
        tokenize(PAIRS, encoder)
    assert not list(empty_cache.glob("*"))
    monkeypatch.setattr(token_store, "MOST_TOKENS", tokens)
    assert tokenize(PAIRS, encoder).num_tokens == tokens


@pytest.mark.parametrize("only_a_command", [True, False])
def test_a_command_reads_texts_without_pytorch(only_a_command: bool, folders: dict[str, Path]) -> None:
    """transformers would import it because it is installed. A person's program may go on with it, so there it may."""
    code = f"""
import sys
from pathlib import Path
from jaxfreeze import imports
from jaxfreeze.data.token_store import TextEncoder
imports.only_a_command = {only_a_command}
tokenizer = TextEncoder(Path(sys.argv[1]), 32, 1_000_000, 2, 0, "bert").tokenizer
print(len(tokenizer(["a bowl"])["input_ids"]), "torch" in sys.modules)
"""
    words = [sys.executable, "-c", code, str(folders["bert"])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"1 {not only_a_command}\n", "")
