"""ELECTRA: embeddings as wide as the layers or not, and a head with GELU whatever the layers have."""

import json
from pathlib import Path

import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.model.classifier import Column
from jaxfreeze.model.hub import read_config
from tests import reference

SIZE = reference.SIZES["hidden_size"]


@pytest.mark.parametrize("embedding_size", [8, SIZE, 40])
def test_any_width_of_the_embeddings(embedding_size: int, tmp_path: Path):
    theirs = reference.hugging_face_model("electra", embedding_size=embedding_size)
    store = reference.random_store("electra")
    reference.assert_same_logits(theirs, tmp_path, store, reference.packed(store), reference.unpacked(store))
    paths = Column(read_config(tmp_path), 3).shapes()
    assert ("embeddings.project.kernel" in paths) == (embedding_size != SIZE)


def test_the_heads_activation_is_not_that_of_the_layers(tmp_path: Path):
    theirs = reference.hugging_face_model("electra", hidden_act="relu")
    store = reference.random_store("electra")
    reference.assert_same_logits(theirs, tmp_path, store, reference.packed(store))


def test_what_a_file_may_leave_out(tmp_path: Path):
    file = reference.write_folder(tmp_path, "electra") / "config.json"
    raw = json.loads(file.read_text())
    del raw["pad_token_id"]
    file.write_text(json.dumps(raw))
    assert read_config(tmp_path).pad_token_id == 0


@pytest.mark.parametrize("embedding_size", [0, 16.0, "16", None, True])
def test_a_width_that_is_none(embedding_size, tmp_path: Path):
    file = reference.write_folder(tmp_path, "electra") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"embedding_size": embedding_size}))
    with pytest.raises(InputError) as caught:
        read_config(tmp_path)
    expected = "expected a whole number of at least 1"
    assert str(caught.value) == f"{file}: embedding_size is {embedding_size!r}; {expected}"
