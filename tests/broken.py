"""Models, rows and settings that are wrong, each in one way, for test_bad_input.py."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from jaxfreeze import cli
from tests.folders import make_folder

HEADER = "index\tsentence1\tsentence2\tlabel\n"
ROWS = "".join(f"{i}\tthe bowl holds tools {i}\tit is a bowl\t{('', 'not_')[i % 2]}entailment\n" for i in range(12))
GLUE: dict[str, str | bytes | None] = {  # folder: its RTE/train.tsv; RTE/dev.tsv is sound everywhere
    "glue": HEADER + ROWS,
    "no_train": None,
    "no_column": HEADER.replace("sentence2", "sentence_2") + ROWS,
    "bad_label": HEADER + ROWS + "12\ta\tb\tentailed\n",
    "ragged": HEADER + ROWS + "12\ta\tb\n",
    "no_rows": "",
    "only_header": HEADER,
    "not_utf8": (HEADER + ROWS).encode() + b"12\tna\xefve\tb\tentailment\n",
    "utf16": (HEADER + ROWS).encode("utf-16"),
    "nul": HEADER + ROWS + "12\ta\0\tb\tentailment\n",
    "empty_text": HEADER + ROWS + "12\t\tb\tentailment\n",
    "long_line": HEADER + ROWS + "12\t" + "a" * 10_000_000 + "\tb\tentailment\n",
    "twice": HEADER.replace("sentence2", "sentence1") + ROWS,
}
OWN: dict[str, str | bytes] = {  # a file of one's own
    "rows.csv": "text,label\n" + "".join(f"the bowl {i},{i % 2}\n" for i in range(8)),
    "rows.pdf": "",
    "one_class.csv": "text,label\na,1\nb,1\n",
    "scores.csv": "text,label\na,0.5\nb,1.5\n",
    "words.csv": "text,label\na,high\nb,low\n",
    "quotes.csv": 'text,label\n"a"b,1\n',
    "open_quote.csv": 'text,label\na,1\n"b,0\n',
    "empty.csv": "",
    "no_text.csv": "text,label\n ,1\nb,0\n",
    "no_label.csv": "text,label\na,\nb,0\n",
    "twice.csv": "text,label,text\na,1,b\n",
    "list.jsonl": "[1]\n",
    "broken.jsonl": '{"text": "a", "label"\n',
    "deep.jsonl": "[" * 100_000 + "\n",
    "number.jsonl": '{"text": 5, "label": 1}\n',
    "surrogate.jsonl": '{"text": "\\ud800", "label": 1}\n',
    "broken.parquet": b"PAR1 and nothing else PAR1",
}
YAML = {
    "not_yaml": "task: [rte\n",
    "not_settings": "just a text\n",
    "unknown_key": "task: rte\nepoch: 3\n",
    "wrong_type": "task: rte\nepochs: many\n",
    "wrong_value": "task: rte\nepochs: 0\n",
    "twice": "task: rte\nseed: 1\nseed: 2\n",
    "tag": 'task: !!python/object/apply:os.system ["touch owned"]\n',
    "bomb": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    + "task: *a11\n",
    "deep": "task: " + "[" * 50_000 + "\n",
    "list_of_models": "tasks: [rte]\nmodels: []\n",
}


def _tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], object]:
    """A change to the tensors of a folder."""

    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return apply


def _json(name: str, **values: object) -> Callable[[Path], object]:
    """Other values in a JSON file of a folder; None: the name is left out."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return apply


def _text(name: str, text: str | bytes | None) -> Callable[[Path], object]:
    """Another content of a file; None: it is gone."""

    def apply(folder: Path) -> None:
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)

    return apply


def _cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def _index(file_name: str) -> Callable[[Path], object]:
    """The weights in a sharded form whose index names this file."""

    def apply(folder: Path) -> None:
        names = list(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        index = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors") | {names[0]: file_name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return apply


HOSTILE = b"cos\nsystem\n(S'touch owned'\ntR."


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("pytorch_model/data.pkl", HOSTILE)


def _old_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(HOSTILE)


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _unknown_words(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    special = {token["content"]: token["id"] for token in content["added_tokens"]}
    content["model"]["vocab"] = special
    (folder / "tokenizer.json").write_text(json.dumps(content))


def _other_words(folder: Path) -> None:
    """Letters of another alphabet in place of those of the texts."""
    content = json.loads((folder / "tokenizer.json").read_text())
    special = {token["content"] for token in content["added_tokens"]}
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {
        piece if piece in special else chr(0x4E00 + number): number for piece, number in vocab.items()
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))


def _no_prefix(folder: Path) -> None:
    """The bare encoder, of a family that nothing names."""
    _json("config.json", model_type=None)(folder)
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("bert."): leaf for name, leaf in tensors.items() if name.startswith("bert.")}
    save_file(bare, folder / "model.safetensors", {"format": "pt"})


def _dangling(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/0123")


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 440449768\n"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"
HEADER_OF_NOTHING = (2**62).to_bytes(8, "little")
MODELS: dict[str, tuple[Callable[[Path], object], str]] = {  # folder: what is done to it, what the line has to say
    "truncated": (_cut, "model.safetensors: not a whole safetensors file"),
    "empty_file": (_text("model.safetensors", ""), "model.safetensors: not a whole safetensors file"),
    "huge_header": (_text("model.safetensors", HEADER_OF_NOTHING), "model.safetensors: not a whole safetensors file"),
    "no_header": (_text("model.safetensors", b"\x04" + b"\0" * 7 + b"nope"), "not a whole safetensors file"),
    "shape": (_tensors(lambda t: t.update({QUERY: t[QUERY][:, :-1].copy()})), f"{QUERY} is ["),
    "missing": (_tensors(lambda t: t.pop(QUERY)), f"missing: {QUERY}"),
    "surplus": (_tensors(lambda t: t.update({"bert.extra": t[QUERY]})), "surplus: bert.extra"),
    "integers": (_tensors(lambda t: t.update({QUERY: t[QUERY].astype(np.int8)})), f"{QUERY} has type I8; expected"),
    "nan": (_tensors(lambda t: t[QUERY].__setitem__((0, 0), np.nan)), f"{QUERY} holds NaN or infinite values"),
    "infinite": (_tensors(lambda t: t[QUERY].__setitem__((0, 0), np.inf)), f"{QUERY} holds NaN or infinite values"),
    "index_missing": (
        _index("model-2.safetensors"),
        "names the file 'model-2.safetensors', which is not in the folder",
    ),
    "index_outside": (_index("../model/model.safetensors"), "'../model/model.safetensors', which is not in the folder"),
    "index_absolute": (_index("/etc/passwd"), "names the file '/etc/passwd', which is not in the folder"),
    "pickle": (_pickle, "pytorch_model.bin: not read, it is no plain state dict (it names os.system)"),
    "old_pickle": (
        _old_pickle,
        "pytorch_model.bin: expected the zip form that torch.save has since PyTorch 1.6; where",
    ),
    "no_config": (_text("config.json", None), "config.json: no such file"),
    "broken_config": (_text("config.json", "{"), "config.json: not JSON"),
    "deep_config": (_text("config.json", '{"a":' * 100_000), "config.json: not JSON"),
    "list_config": (_text("config.json", "[]"), "config.json: expected a JSON object, found a list"),
    "architecture": (_json("config.json", model_type="gpt2"), "model_type is 'gpt2'; expected one of bert, roberta"),
    "no_architecture": (_no_prefix, "model_type is missing, and neither architectures (missing) nor the names of the"),
    "lfs": (_text("model.safetensors", POINTER), "model.safetensors: a Git LFS pointer, not the file itself"),
    "lfs_tokenizer": (_text("tokenizer.json", POINTER), "tokenizer.json: a Git LFS pointer, not the file itself"),
    "dangling": (_dangling, "model.safetensors: a link to ../blobs/0123, which does not exist"),
    "decoder": (_json("config.json", is_decoder=True), "this is a decoder; expected an encoder"),
    "relative": (_json("config.json", position_embedding_type="relative_key"), "position_embedding_type is"),
    "activation": (_json("config.json", hidden_act="swiglu"), "hidden_act is 'swiglu'; expected one of"),
    "heads": (_json("config.json", num_attention_heads=7), "does not divide into 7 heads"),
    "no_layers": (_json("config.json", num_hidden_layers=0), "num_hidden_layers is 0; expected a whole number"),
    "too_many_layers": (_json("config.json", num_hidden_layers=10**9), "num_hidden_layers is 1000000000; expected at"),
    "three_layers": (_json("config.json", num_hidden_layers=3), "missing: bert.encoder.layer.2."),
    "one_layer": (_json("config.json", num_hidden_layers=1), "surplus: bert.encoder.layer.1."),
    "text_as_number": (_json("config.json", hidden_size="32"), "hidden_size is '32'; expected a whole number"),
    "no_size": (_json("config.json", hidden_size=None), "config.json: hidden_size missing"),
    "huge_size": (_json("config.json", vocab_size=10**15), "shapes do not agree with config.json"),
    "dropout": (_json("config.json", hidden_dropout_prob=1.0), "hidden_dropout_prob is 1.0; expected a number from 0"),
    "pad": (_json("config.json", pad_token_id=-1), "pad_token_id is -1; expected 0 to"),
    "no_tokenizer": (_no_tokenizer, "no tokenizer in the folder; expected tokenizer.json, or vocab.txt"),
    "broken_tokenizer": (_text("tokenizer.json", "{"), "the tokenizer does not load"),
    "unknown_words": (_unknown_words, "the tokenizer has special tokens and no others"),
    "other_words": (_other_words, "the tokenizer does not know "),
    "vocabulary": (
        lambda folder: (
            _json("config.json", vocab_size=200)(folder),
            _tensors(
                lambda t: t.update({name: leaf[:200].copy() for name, leaf in t.items() if "word_embeddings" in name})
            )(folder),
        ),
        "tokens but config.json has vocab_size 200",
    ),
}


def make(top: Path) -> None:
    """Everything that the tables name: models, data, runs and YAML files."""
    make_folder(top / "model", "bert")
    make_folder(top / "model6", "bert", num_hidden_layers=6)
    for name, (change, _) in MODELS.items():
        change(shutil.copytree(top / "model", top / "models" / name))
    for name, train in GLUE.items():
        (top / name / "RTE").mkdir(parents=True)
        (top / name / "RTE" / "dev.tsv").write_text(HEADER + ROWS)
        if train is not None:
            (top / name / "RTE" / "train.tsv").write_bytes(train if isinstance(train, bytes) else train.encode())
    for name, content in OWN.items():
        (top / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, text in YAML.items():
        (top / f"{name}.yaml").write_text(text)
    (top / "empty").mkdir()
    (top / "loop").symlink_to(top / "loop")
    flags = f"--task rte --data_dir {top}/glue --model {top}/model --max_steps 1 --max_length 32 --trainable_layers 0"
    assert cli.main([*flags.split(), "--output_dir", str(top / "run")]) == 0
    shutil.copytree(top / "run", top / "no_checkpoints")
    shutil.rmtree(top / "no_checkpoints" / "checkpoints")
    shutil.copytree(top / "run", top / "unfinished")
    (top / "unfinished" / "metrics.json").unlink()
    shutil.copytree(top / "run", top / "broken_metrics")
    (top / "broken_metrics" / "metrics.json").write_text("{")
