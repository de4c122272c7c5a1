"""Loading weights: every way Hugging Face writes the same numbers gives the same parameters, everything else fails."""

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from jaxfreeze.errors import InputError
from jaxfreeze.model import weights
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.families import family_of
from jaxfreeze.model.files import source_of
from jaxfreeze.model.hub import read_config
from tests import reference
from tests.families import FAMILIES

torch = reference.pytorch()
safetensors_torch = pytest.importorskip("safetensors.torch")
save_file = safetensors_torch.save_file

MODELS = {family: reference.hugging_face_model(family, 2 + 3 * number) for number, family in enumerate(FAMILIES)}
CLASSES = {family: model.config.num_labels for family, model in MODELS.items()}
Tensors = dict[str, Any]


def tensors_of(family: str) -> Tensors:
    """The classifier's tensors under the names of its file."""
    return {name: tensor.clone() for name, tensor in MODELS[family].state_dict().items()}


def random_model(family: str, name: str) -> Any:
    """A model of another class of transformers with the family's config."""
    config = copy.deepcopy(MODELS[family].config)
    if name.endswith("ForQuestionAnswering"):
        config.num_labels = 2  # an answer's start and its end
    return getattr(transformers, name)(config)


def write(folder: Path, family: str, tensors: Tensors) -> Path:
    """config.json and one file with these tensors."""
    folder.mkdir(exist_ok=True)
    MODELS[family].config.save_pretrained(folder)
    contiguous = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors")
    return folder


def load(folder: Path, num_outputs: int, seed: int = 0) -> weights.Pretrained:
    """For classes with the names that transformers gives the outputs of such a head."""
    return weights.load(folder, read_config(folder), reference.output_names(num_outputs), seed)


def error_of(folder: Path, num_outputs: int) -> str:
    """The one line that loading fails with."""
    with pytest.raises(InputError) as caught:
        load(folder, num_outputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_from_file(params: dict[str, np.ndarray], family: str, ignore: str = "nothing") -> None:
    """Every parameter has the bits of the classifier's tensor."""
    for path, leaf in params.items():
        name, transposed = weights.hugging_face_name(path, family)
        expected = MODELS[family].state_dict()[name].numpy()
        assert leaf.dtype == np.float32, path
        assert leaf.flags.c_contiguous, path
        if not path.startswith(ignore):
            np.testing.assert_array_equal(leaf, expected.T if transposed else expected, err_msg=path)


def with_old_names(family: str) -> Tensors:
    old = {r"LayerNorm\.weight": "LayerNorm.gamma", r"LayerNorm\.bias": "LayerNorm.beta"}
    tensors = tensors_of(family)
    for today, then in old.items():
        tensors = {re.sub(today, then, name): tensor for name, tensor in tensors.items()}
    return tensors


def with_buffers(family: str) -> Tensors:
    base = MODELS[family].base_model_prefix
    return tensors_of(family) | {f"{base}.embeddings.position_ids": torch.arange(40)[None]}


def with_surplus_pooler(family: str) -> Tensors:
    pooler = f"{MODELS[family].base_model_prefix}.pooler.dense"
    return tensors_of(family) | {f"{pooler}.weight": torch.ones(24, 24), f"{pooler}.bias": ONES}


ONES = torch.ones(24)
WRITTEN = [
    *(
        (family, tensors)
        for family in ("roberta", "xlm-roberta", "camembert", "mpnet")
        for tensors in (tensors_of, with_old_names, with_buffers, with_surplus_pooler)
    ),
    *(
        (family, tensors)
        for family in ("bert", "distilbert", "electra")
        for tensors in (tensors_of, with_old_names, with_buffers)
    ),
]


@pytest.mark.parametrize("family, tensors", WRITTEN)
def test_classifier_file(family, tensors, tmp_path: Path):
    params, fresh, *_ = load(write(tmp_path, family, tensors(family)), CLASSES[family])
    assert fresh == ()
    assert_from_file(params, family)
    column = Column(read_config(tmp_path), CLASSES[family])
    assert list(params) == list(column.shapes())
    column.bind(params)


@pytest.mark.parametrize(
    "family, name, fresh",
    [(family, name, fresh) for family, row in FAMILIES.items() for name, fresh in row.classes.items()],
)
@pytest.mark.parametrize("max_shard_size", ["1GB", "20KB"])
def test_every_class_of_hugging_face(family, name, fresh, max_shard_size, tmp_path: Path):
    model = random_model(family, name)
    model.base_model.load_state_dict(MODELS[family].base_model.state_dict(), strict=False)
    own = {path: tensor.shape for path, tensor in model.state_dict().items()}
    shared = {path: tensor for path, tensor in tensors_of(family).items() if own.get(path) == tensor.shape}
    model.load_state_dict(shared, strict=False)
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (tmp_path / "model.safetensors").is_file() == (max_shard_size == "1GB")
    loaded = load(tmp_path, CLASSES[family])
    prefix = fresh or "nothing"
    assert loaded.fresh == tuple(path for path in loaded.params if path.startswith(prefix))
    assert bool(loaded.fresh) == (fresh is not None)
    if name.endswith("Model"):
        assert not any("heads of other tasks" in note for note in loaded.notes)
    assert_from_file(loaded.params, family, ignore=prefix)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_load_as_float32_exactly(dtype, tmp_path: Path):
    tensors = {name: tensor.to(dtype) for name, tensor in tensors_of("bert").items()}
    params, fresh, *_ = load(write(tmp_path, "bert", tensors), 2)
    assert fresh == ()
    for path, leaf in params.items():
        name, transposed = weights.hugging_face_name(path, "bert")
        expected = tensors[name].float().numpy()
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, expected.T if transposed else expected, err_msg=path)


@pytest.mark.parametrize("family", FAMILIES)
def test_name_table_is_a_bijection(family, tmp_path: Path):
    shapes = Column(read_config(write(tmp_path, family, {})), CLASSES[family]).shapes()
    skipped = family_of(family).skipped
    state = MODELS[family].state_dict()
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items() if not skipped.fullmatch(name)}
    named = {path: weights.hugging_face_name(path, family) for path in shapes}
    assert len({name for name, _ in named.values()}) == len(shapes)
    assert {
        name: shapes[path].shape[::-1] if transposed else shapes[path].shape
        for path, (name, transposed) in named.items()
    } == theirs
    assert {path.endswith(".kernel") for path, (_, transposed) in named.items() if transposed} == {True}
    with pytest.raises(KeyError):
        weights.hugging_face_name("layers.0.attention.queryXkernel.bias", family)


@pytest.mark.parametrize("family", FAMILIES)
def test_head_for_other_classes_is_drawn_afresh(family, tmp_path: Path):
    folder, classes = write(tmp_path, family, tensors_of(family)), CLASSES[family] + 2
    output = FAMILIES[family].output
    params, fresh, *_ = load(folder, classes, seed=3)
    assert sorted(fresh) == [f"{output}.bias", f"{output}.kernel"]
    assert_from_file({path: leaf for path, leaf in params.items() if path not in fresh}, family)
    assert params[f"{output}.kernel"].shape == (24, classes)
    np.testing.assert_array_equal(params[f"{output}.bias"], np.zeros(classes, np.float32))
    np.testing.assert_array_equal(load(folder, classes, seed=3).params[f"{output}.kernel"], params[f"{output}.kernel"])
    assert (load(folder, classes, seed=4).params[f"{output}.kernel"] != params[f"{output}.kernel"]).all()


def test_fresh_head_is_normal_with_deviation_0_02(tmp_path: Path):
    tensors = {name: tensor for name, tensor in tensors_of("roberta").items() if not name.startswith("classifier.")}
    params, fresh, *_ = load(write(tmp_path, "roberta", tensors), 5)
    assert {path.split(".")[0] for path in fresh} == {"head"}
    dense = params["head.dense.kernel"]  # [24, 24]
    assert abs(dense.std() / 0.02 - 1) < 5 / np.sqrt(2 * dense.size)
    assert abs(dense.mean()) < 5 * 0.02 / np.sqrt(dense.size)
    assert not np.isin(params["head.out_proj.kernel"], dense).any()  # each leaf has a key of its own
    assert not params["head.dense.bias"].any()
    assert not params["head.out_proj.bias"].any()


def notes_of(folder: Path, outputs: Sequence[str]) -> tuple[str, ...]:
    return weights.load(folder, read_config(folder), outputs, seed=0).notes


def with_config(folder: Path, **values: object) -> Path:
    """A folder with other values in its config.json."""
    raw = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


NLI = ("entailment", "neutral", "contradiction")
ORDERS = [
    (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], [2, 1, 0]),
    (["Neutral", "entailment", "contradiction"], [1, 0, 2]),
    ([" Contradiction\n", "entailment", "neutral "], [1, 2, 0]),
    (["entailment", "neutral", "contradiction"], [0, 1, 2]),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("names, order", ORDERS)
def test_a_head_is_matched_by_the_names_of_its_classes(family, names, order, tmp_path: Path):
    theirs = reference.hugging_face_model(family, 3)
    folder = with_config(reference.save(theirs, tmp_path), id2label={str(row): name for row, name in enumerate(names)})
    loaded = weights.load(folder, read_config(folder), NLI, seed=0)
    assert loaded.fresh == ()
    module = FAMILIES[family].output
    for leaf in ("kernel", "bias"):
        name, _ = weights.hugging_face_name(f"{module}.{leaf}", family)
        rows = theirs.state_dict()[name].numpy()[order]
        np.testing.assert_array_equal(loaded.params[f"{module}.{leaf}"], rows.T)
    moved = order != [0, 1, 2]
    assert sorted(loaded.reordered) == ([f"{module}.bias", f"{module}.kernel"] if moved else [])
    line = "head kept, its rows put into the order of the task's classes: "
    assert loaded.notes == ((f"{line}{', '.join(map(str.strip, names))} -> {', '.join(NLI)}",) if moved else ())


@pytest.mark.parametrize(
    "family, name, reason",
    [(family, name, reason) for family, row in FAMILIES.items() for name, reason in row.other_heads.items()],
)
def test_the_head_of_another_task_is_named(family, name, reason, tmp_path: Path):
    """Where its tensors have the names of the classifier's and as many rows, `architectures` tells."""
    reference.save(random_model(family, name), tmp_path)
    notes = notes_of(tmp_path, reference.output_names(CLASSES[family]))
    assert notes[0] == reason
    assert notes[-1].startswith("drawn at random, not in the pretrained files: head.") or len(notes) == 1
    assert len(notes) <= 2


def test_half_a_head_is_none(tmp_path: Path):
    tensors = {name: tensor for name, tensor in tensors_of("bert").items() if name != "classifier.bias"}
    loaded = load(write(tmp_path, "bert", tensors), 2)
    assert sorted(loaded.fresh) == ["head.classifier.bias", "head.classifier.kernel"]
    assert loaded.notes == (
        "head drawn at random: the file's is incomplete",
        "drawn at random, not in the pretrained files: head.classifier.bias",
    )
    loaded = load(write(tmp_path, "bert", tensors_of("bert") | {"classifier.bias": torch.ones(3)}), 2)
    assert loaded.notes == ("head drawn at random: the file's is incomplete",)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrapper", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_wrapper_in_front_of_all_names(family, wrapper, tmp_path: Path):
    params, fresh, *_ = load(
        write(tmp_path, family, {f"{wrapper}{name}": tensor for name, tensor in tensors_of(family).items()}),
        CLASSES[family],
    )
    assert fresh == ()
    assert_from_file(params, family)
    bare = {f"{wrapper}{name}": tensor for name, tensor in MODELS[family].base_model.state_dict().items()}
    assert_from_file(load(write(tmp_path, family, bare), CLASSES[family]).params, family, ignore="head.")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrapper_around_the_encoder_alone(family, tmp_path: Path):
    base, whole = family_of(family).base, tensors_of(family)
    compiled = {re.sub(rf"^{base}\.", rf"{base}._orig_mod.", name): leaf for name, leaf in whole.items()}
    lightning = {re.sub(rf"^{base}\.", rf"model.{base}.", name): leaf for name, leaf in whole.items()}
    assert compiled.keys() != whole.keys() != lightning.keys()
    for tensors in (compiled, lightning):
        loaded = load(write(tmp_path, family, tensors), CLASSES[family])
        assert loaded.notes == ()
        assert_from_file(loaded.params, family)


def test_one_name_with_a_wrapper_and_without_is_two(tmp_path: Path):
    message = error_of(write(tmp_path, "bert", tensors_of("bert") | {f"module.{NORM}": ONES}), 2)
    assert message.endswith((f"surplus: {NORM}", f"surplus: module.{NORM}"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("metadata", [True, False])
def test_the_embedding_that_save_model_left_out(family, metadata, tmp_path: Path):
    """It keeps the first name of two, in alphabetical order; the metadata tells of the other, unless they are lost."""
    model = random_model(family, type(MODELS[family]).__name__.replace("SequenceClassification", "MaskedLM"))
    model.save_pretrained(tmp_path)
    ((word, decoder),) = family_of(family).tied
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in (word, decoder)}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    kept = decoder if not metadata else "zzz.some_other.name"
    save_file(
        tensors | {kept: model.state_dict()[word].clone()},
        tmp_path / "model.safetensors",
        {"format": "pt", word: kept} if metadata else {"format": "pt"},
    )
    loaded = load(tmp_path, 2)
    np.testing.assert_array_equal(loaded.params["embeddings.word.embedding"], model.state_dict()[word].numpy())
    assert {path.split(".")[0] for path in loaded.fresh} == {"head"}
    expected = model.state_dict()[word].numpy()
    np.testing.assert_array_equal(weights.read_as_filed(tmp_path, family, [word])[word], expected)


def test_a_file_of_save_model(tmp_path: Path):
    model = transformers.RobertaForMaskedLM(copy.deepcopy(MODELS["roberta"].config))
    model.save_pretrained(tmp_path)
    safetensors_torch.save_model(model, str(tmp_path / "model.safetensors"))
    params = load(tmp_path, 2).params
    expected = model.state_dict()["roberta.embeddings.word_embeddings.weight"].numpy()
    np.testing.assert_array_equal(params["embeddings.word.embedding"], expected)


WORD, QUERY = "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.1.attention.self.query.bias"
DENSE, NORM = "bert.encoder.layer.0.intermediate.dense.weight", "bert.embeddings.LayerNorm.bias"
SCALE = "bert.embeddings.LayerNorm.weight"
CLASSIFIER = "classifier.weight"


def renamed(tensors: Tensors, changes: dict[str, str]) -> Tensors:
    return {changes.get(name, name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "change, ending",
    [
        (lambda t: renamed(t, {WORD: "bert.embeddings.words.weight", QUERY: "bert.encoder.layer.2.x"}),
         f"missing: {WORD}, {QUERY}; surplus: bert.embeddings.words.weight, bert.encoder.layer.2.x"),
        (lambda t: {name: tensor for name, tensor in t.items() if name not in (WORD, QUERY)},
         f"missing: {WORD}, {QUERY}"),
        (lambda t: t | {"qa_outputs.weight": ONES, "bert.embeddings.norm": ONES}, "surplus: bert.embeddings.norm"),
        (lambda t: t | {"bert.embeddings.token_ids": ONES}, "surplus: bert.embeddings.token_ids"),  # near to a buffer
        (lambda t: t | {"embeddings.token_ids": ONES}, "surplus: embeddings.token_ids"),
        (lambda t: t | {f"bert.encoder.layer.2.{number:03}": ONES for number in range(500)},
         "surplus: bert.encoder.layer.2.000, bert.encoder.layer.2.001, bert.encoder.layer.2.002 and 497 more"),
        (lambda t: {f"teacher.{name}": tensor for name, tensor in t.items()},
         f"missing: {NORM}, {SCALE}, bert.embeddings.position_embeddings.weight and 34 more; outside the encoder: "
         f"teacher.{NORM}, teacher.{SCALE}, teacher.bert.embeddings.position_embeddings.weight and 38 more"),
        (lambda t: t | {"bert.embeddings.LayerNormXweight": ONES}, "surplus: bert.embeddings.LayerNormXweight"),
        (lambda t: t | {"bert.embeddings.LayerNorm.beta": ONES}, f"surplus: {NORM}|bert.embeddings.LayerNorm.beta"),
        (lambda t: t | {DENSE: t[DENSE].T, QUERY: torch.ones(25)},
         f"do not agree with config.json: {QUERY} is [25] instead of [24], {DENSE} is [24, 40] instead of [40, 24]"
         f"|do not agree with config.json: {DENSE} is [24, 40] instead of [40, 24], {QUERY} is [25] instead of [24]"),
        (lambda t: t | {CLASSIFIER: torch.ones(2, 23)}, f"{CLASSIFIER} is [2, 23] instead of [2, 24]"),
        (lambda t: t | {CLASSIFIER: torch.ones(24)}, f"{CLASSIFIER} is [24] instead of [2, 24]"),
        (lambda t: t | {"classifier.bias": torch.tensor(1.0)}, "classifier.bias is [] instead of [2]"),
        (lambda t: t | {WORD: t[WORD].index_fill(0, torch.tensor(7), torch.nan)},
         f"{WORD} holds NaN or infinite values; fetch or make the file again"),
        (lambda t: t | {QUERY: t[QUERY] / 0}, f"{QUERY} holds NaN or infinite values; fetch or make the file again"),
        (lambda t: t | {QUERY: t[QUERY].to(torch.int32)}, f"{QUERY} has type I32; expected one of BF16, F16, F32, F64"),
        (lambda t: t | {QUERY: t[QUERY].to(torch.float8_e4m3fn)},
         f"{QUERY} has type F8_E4M3; expected one of BF16, F16, F32, F64"),
    ],
)  # fmt: skip
def test_wrong_tensors(change, ending, tmp_path: Path):
    message = error_of(write(tmp_path, "bert", change(tensors_of("bert"))), 2)
    assert message.startswith(str(tmp_path))
    assert any(message.endswith(one) for one in ending.split("|")), message


def sharded(folder: Path) -> tuple[Path, dict[str, str]]:
    """A sharded folder's index file and its weight_map."""
    copy.deepcopy(MODELS["bert"]).save_pretrained(folder, max_shard_size="20KB")
    index = folder / "model.safetensors.index.json"
    return index, json.loads(index.read_text())["weight_map"]


def test_wrong_index(tmp_path: Path):
    index, places = sharded(tmp_path / "model")
    file = tmp_path / "model" / places[WORD]
    (tmp_path / "outside.safetensors").write_bytes(file.read_bytes())
    other = next(name for name in places.values() if name != places[WORD])
    not_there = "which is not in the folder"
    for wrong, ending in (
        ({WORD: "gone.safetensors"}, f"{index}: names the file 'gone.safetensors', {not_there}"),
        ({WORD: "../outside.safetensors"}, f"{index}: names the file '../outside.safetensors', {not_there}"),
        ({WORD: str(file)}, f"{index}: names the file '{file}', {not_there}"),
        ({WORD: ".."}, f"{index}: names the file '..', {not_there}"),
        ({WORD: ""}, f"{index}: names the file '', {not_there}"),
        ({WORD: None}, f"{index}: names the file 'None', {not_there}"),
        ({WORD: other}, f"{file.with_name(other)}: holds no {WORD}, which {index.name} promises"),
    ):
        index.write_text(json.dumps({"weight_map": places | wrong}))
        assert error_of(index.parent, 2) == ending
    many = {f"{number:03}": places[WORD] for number in range(500)}
    index.write_text(json.dumps({"weight_map": places | many}))
    assert error_of(index.parent, 2) == f"{file}: holds no 000, 001, 002 and 497 more, which {index.name} promises"
    for content in ("{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'):
        index.write_text(content)
        ending = f"{index}: expected an object 'weight_map' from tensor name to file name"
        assert error_of(index.parent, 2) == ending
    index.write_text("{")
    assert error_of(index.parent, 2).startswith(f"{index}: not JSON (")


def test_of_two_shards_that_hold_a_tensor_the_index_chooses(tmp_path: Path):
    folder = write(tmp_path, "bert", {})
    whole = tensors_of("bert")
    stale = {name: torch.zeros_like(tensor) for name, tensor in whole.items()}
    places = {name: ("a", "b")[number % 2] for number, name in enumerate(whole)}
    for file in ("a", "b"):
        mine = {name: tensor for name, tensor in whole.items() if places[name] == file}
        save_file(stale | mine, folder / f"{file}.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: f"{file}.safetensors" for name, file in places.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_from_file(load(folder, 2).params, "bert")


@pytest.mark.parametrize("kept", [0, 7, 1000, -1])
def test_truncated_file(kept, tmp_path: Path):
    file = write(tmp_path, "bert", tensors_of("bert")) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    message = error_of(tmp_path, 2)
    assert message.startswith(f"{file}: not a whole safetensors file (")
    assert message.endswith("; fetch it again")


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 440449768\n"


FETCHED = ["model.safetensors", "model.safetensors.index.json", "shard", "config.json", "pytorch_model.bin"]


@pytest.mark.parametrize("name", FETCHED)
def test_a_file_that_was_not_fetched_is_called_that(name, tmp_path: Path):
    folder = tmp_path / "model"
    if name in ("model.safetensors", "pytorch_model.bin"):
        (write(folder, "bert", tensors_of("bert")) / "model.safetensors").rename(folder / name)
    else:
        _, places = sharded(folder)
        name = places[WORD] if name == "shard" else name
    file = folder / name
    file.write_text(POINTER)
    assert error_of(folder, 2) == f"{file}: a Git LFS pointer, not the file itself; run `git lfs pull` in {folder}"
    file.unlink()
    file.symlink_to("../blobs/0123")
    assert error_of(folder, 2) == (
        f"{file}: a link to ../blobs/0123, which does not exist; fetch the file or link it again"
    )


def test_the_first_of_these_holds_the_weights(tmp_path: Path):
    for name in (
        "flax_model.msgpack", "pytorch_model.bin.index.json", "pytorch_model.bin", "model.safetensors.index.json",
        "model.safetensors",
    ):  # fmt: skip
        (tmp_path / name).touch()
        assert source_of(tmp_path) == tmp_path / name


def test_a_folder_without_weights(tmp_path: Path):
    write(tmp_path, "bert", {})
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "tf_model.h5").touch()
    assert error_of(tmp_path, 2) == (
        f"{tmp_path}: no weights; expected one of model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
        "pytorch_model.bin.index.json, flax_model.msgpack"
    )
