"""Every family from a pretrained folder to an export that transformers loads: cached, frozen, at any depth."""

import json
from pathlib import Path

import numpy as np
import pytest
import transformers

from jaxfreeze.cli import main
from jaxfreeze.data.split import Split
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.model.families import FAMILIES, family_of
from tests.folders import make_folder, tiny_rte
from tests.inference.exported import raw
from tests.reference import pytorch

TEXTS = (("the bowl holds tools", "clothes", "a town made by the owner of the crate"), ("made", "from the town", "x"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_rte(tmp_path_factory.mktemp("data") / "glue")


ELSEWHERE = ("bert", "roberta")  # in all other tests
LIKE_ANOTHER = ("camembert", "xlm-roberta")  # but for their names
OWN = [family for family in FAMILIES if family not in (*ELSEWHERE, *LIKE_ANOTHER)]


@pytest.fixture(scope="module", params=[*OWN, *LIKE_ANOTHER])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / request.param, request.param)


def train(model: Path, data: Path, out: Path, *flags: str) -> list[float]:
    """-> losses and gradient norms."""
    words = ["--task", "rte", "--data_dir", str(data), "--model", str(model), "--output_dir", str(out), *flags]
    assert main([*words, "--max_steps", "6", "--log_every", "2", "--max_length", "32", "--learning_rate", "1e-3"]) == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if line["kind"] == "train" for name in ("loss", "grad_norm")]


@pytest.mark.parametrize(("model", "k"), [(family, "01"[n % 2]) for n, family in enumerate(OWN)], indirect=["model"])
def test_cached_is_uncached(k: str, model: Path, data: Path, tmp_path: Path) -> None:
    cached, uncached = (
        train(model, data, tmp_path / place, "--trainable_layers", k, "--cache", place) for place in ("device", "off")
    )
    np.testing.assert_allclose(cached, uncached, rtol=1e-4, atol=1e-5)
    scores = [json.loads((tmp_path / place / "metrics.json").read_text())["metrics"] for place in ("device", "off")]
    assert scores[0] == scores[1]


def test_an_export_is_the_run(model: Path, data: Path, tmp_path: Path) -> None:
    """The logits in transformers are those of the run, and what was frozen has the bytes of the source."""
    train(model, data, tmp_path / "run", "--trainable_layers", "1")
    assert main(["export", "--run", str(tmp_path / "run"), "--output", str(tmp_path / "whole")]) == 0
    run, ours, source = FinishedRun(tmp_path / "run"), raw(tmp_path / "whole"), raw(model)
    audit = json.loads((tmp_path / "run" / "freeze.json").read_text())
    assert audit["digest_before"] == audit["digest_after"]
    same = {name for name in ours if ours[name] == source.get(name)}
    assert len(same) == sum(label == "frozen" for label in run.model.labels.values())
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole").eval()
    assert set(theirs.state_dict()) - set(ours) <= set(family_of(run.model.encoder.model_type).carried)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "whole")
    batch = tokenizer(*map(list, TEXTS), truncation=True, padding=True, return_tensors="pt")
    with pytorch().no_grad():
        logits = theirs(**batch).logits.numpy()
    np.testing.assert_allclose(run.logits(Split("validation", TEXTS, None))[1], logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", OWN, indirect=True)
def test_biases_alone_in_bfloat16(model: Path, data: Path, tmp_path: Path) -> None:
    losses = train(model, data, tmp_path / "run", "--trainable", r".*\.bias", r"head\..*", "--dtype", "bfloat16")
    assert np.isfinite(losses).all()
    assert json.loads((tmp_path / "run" / "freeze.json").read_text())["frozen"] > 0
