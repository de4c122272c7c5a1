"""An exported run is that run, in transformers too, and what was frozen has the source's bytes."""

import json
import os
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats
import transformers
import yaml
from jax import export as jax_export
from safetensors.numpy import load_file

from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig, from_yaml
from jaxfreeze.data.readers import read_split
from jaxfreeze.data.tasks import TASKS, get_task
from jaxfreeze.inference import export, model_card
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.model import weights
from jaxfreeze.model.hub import read_config
from jaxfreeze.training import loop
from tests.folders import make_folder
from tests.inference.exported import (
    CASES,
    CLASSES,
    MAX_LENGTH,
    MOODS,
    SCORES,
    Exported,
    files,
    make,
    raw,
    run_logits,
    texts_of,
    their_logits,
    their_model,
    train,
    write_rows,
    write_source,
)
from tests.reference import pytorch

GLUE_DIR = os.environ.get("JAXFREEZE_GLUE_DIR")
needs_glue = pytest.mark.skipif(not GLUE_DIR, reason="JAXFREEZE_GLUE_DIR is not set")


def test_frozen_tensors_have_the_bytes_of_the_source(exported: Exported) -> None:
    case = exported.case
    ours, theirs = raw(exported.whole), raw(exported.source)
    frozen = {name for name in ours if re.fullmatch(case.frozen.format(base=case.family), name)}
    assert len(frozen) == case.count
    for name in frozen:
        assert ours[name] == theirs[case.named(name)], name
    assert {ours[name][0] for name in ours.keys() - frozen} == {"F32"}
    for name in ours.keys() - frozen:
        assert ours[name] != theirs.get(case.named(name)), f"{name} was trained"


def test_it_has_the_names_of_transformers_and_its_logits_are_the_runs(exported: Exported) -> None:
    model = their_model(exported.whole)
    assert set(model.state_dict()) == set(raw(exported.whole))
    assert type(model).__name__.lower() == f"{exported.case.family}forsequenceclassification"
    assert {parameter.dtype for parameter in model.parameters()} == {pytorch().float32}
    np.testing.assert_allclose(their_logits(exported), run_logits(exported), atol=1e-5, rtol=0)


def test_the_pipeline_answers_as_the_run_does(exported: Exported) -> None:
    classify = transformers.pipeline("text-classification", str(exported.whole), truncation=True)
    columns = texts_of(exported)
    rows = [dict(zip(("text", "text_pair"), texts, strict=False)) for texts in zip(*columns, strict=True)]
    answers = [classify(row) for row in rows]
    logits = run_logits(exported)
    if "--regression" in exported.case.flags:
        assert {answer["label"] for answer in answers} == {"LABEL_0"}
        expected = logits[:, 0]
    else:
        assert [answer["label"] for answer in answers] == [MOODS[i] for i in logits.argmax(axis=1)]
        expected = np.asarray(jax.nn.softmax(logits)).max(axis=1)
    np.testing.assert_allclose([answer["score"] for answer in answers], expected, atol=1e-5, rtol=0)


def test_pytorch_has_the_score_of_the_run(exported: Exported) -> None:
    recorded = json.loads((exported.run / "metrics.json").read_text())["metrics"]
    logits = their_logits(exported)
    if "--regression" in exported.case.flags:
        stars = [row["stars"] for row in exported.rows]
        assert scipy.stats.spearmanr(logits[:, 0], stars).statistic == recorded["spearman"]
        assert scipy.stats.pearsonr(logits[:, 0], stars).statistic == pytest.approx(recorded["pearson"], abs=1e-5)
    else:
        label2id = transformers.AutoConfig.from_pretrained(exported.whole).label2id
        right = logits.argmax(axis=1) == [label2id[row["mood"]] for row in exported.rows]
        assert float(np.mean(right)) == recorded["accuracy"]


def test_jaxfreeze_loads_it(exported: Exported) -> None:
    run = FinishedRun(exported.run)
    outputs = run.task.objective.output_names
    loaded = weights.load(exported.whole, read_config(exported.whole), outputs, seed=0)
    assert loaded.fresh == loaded.reordered == loaded.notes == ()
    for path, leaf in run.params.items():
        np.testing.assert_array_equal(loaded.params[path], leaf, err_msg=path)


def test_a_top_on_its_base_is_the_whole_folder(exported: Exported, tmp_path: Path) -> None:
    top, whole = raw(exported.top, "*.safetensors"), raw(exported.whole)
    assert top.items() <= whole.items()
    assert len(top) == len(whole) - exported.case.count
    done = export.apply_top(exported.top, exported.source, tmp_path / "deep" / "again")
    assert done == tmp_path / "deep" / "again"
    assert files(done) == files(exported.whole)


def with_config(folder: Path, *gone: str, **values: object) -> Path:
    """A model folder with other values in its config.json, and without some."""
    raw = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({name: value for name, value in raw.items() if name not in gone}))
    return folder


def test_a_frozen_head_in_another_order_is_written_in_the_order_of_the_classes(tmp_path: Path) -> None:
    """It is no tensor of the base as it is filed: the base's file has other rows under the same names."""
    names = {str(row): name.upper() for row, name in enumerate(reversed(MOODS))}
    source = with_config(make_folder(tmp_path / "source", "bert", num_labels=3), id2label=names)
    case = CASES["bert"]._replace(flags=f"{CLASSES} --text_columns a b --trainable layers\\.1\\..*")
    write_rows(tmp_path / "train.jsonl", 32)
    rows = write_rows(tmp_path / "dev.jsonl", 13)
    run = train(tmp_path, source, case.flags)
    for name, flags in (("whole", []), ("top", ["--top_only"])):
        assert main(["export", "--run", str(run), "--output", str(tmp_path / name), *flags]) == 0
    exported = Exported(case, source, run, tmp_path / "whole", tmp_path / "top", rows)
    theirs, ours = (load_file(folder / "model.safetensors") for folder in (source, exported.whole))
    for leaf in ("classifier.weight", "classifier.bias"):
        np.testing.assert_array_equal(ours[leaf], theirs[leaf][::-1])
    np.testing.assert_allclose(their_logits(exported), run_logits(exported), atol=1e-5, rtol=0)
    test_a_top_on_its_base_is_the_whole_folder(
        exported._replace(case=case._replace(count=len(ours) - 16 - 2)), tmp_path
    )
    test_jaxfreeze_loads_it(exported)


def test_an_export_is_whole_where_its_source_was_odd(tmp_path: Path) -> None:
    """What transformers shrugs off in a pretrained folder, and what `pipeline` does not."""
    odd: dict[str, object] = {
        "return_dict": False,
        "use_return_dict": False,
        "attn_implementation": "flash_attention_2",
    }
    odd |= {"num_labels": 7, "custom_pipelines": {"text-classification": {"impl": "a.B", "pt": ["AutoModel"]}}}
    odd |= {"hidden_act": "gelu_python", "pad_token_id": None}
    source = with_config(make_folder(tmp_path / "source", "bert", num_labels=5), "model_type", **odd)
    write_rows(tmp_path / "train.jsonl", 16)
    rows = write_rows(tmp_path / "dev.jsonl", 13)
    run = train(tmp_path, source, f"{CLASSES} --text_columns a --trainable_layers 1")
    assert main(["export", "--run", str(run), "--output", str(tmp_path / "whole")]) == 0
    exported = Exported(CASES["bert"], source, run, tmp_path / "whole", tmp_path / "top", rows)
    (found,) = transformers.pipeline("text-classification", str(exported.whole))(rows[0]["a"])
    assert found["label"] in MOODS
    np.testing.assert_allclose(their_logits(exported), run_logits(exported), atol=1e-5, rtol=0)


def test_everybody_may_read_it_who_may_read_the_folder(bert: Exported) -> None:
    for file in (*bert.whole.iterdir(), *bert.top.iterdir()):
        assert file.stat().st_mode & 0o666 == bert.whole.stat().st_mode & 0o666, file


def test_bfloat16_runs_leave_the_source_as_it_was(tmp_path: Path) -> None:
    """The run computes with rounded weights; what is exported is not rounded."""
    case = CASES["bert"]._replace(flags=f"{CASES['bert'].flags} --dtype bfloat16")
    exported = make(case, tmp_path)
    test_frozen_tensors_have_the_bytes_of_the_source(exported)
    test_a_top_on_its_base_is_the_whole_folder(exported, tmp_path)


def test_the_best_step(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", CASES["bert"])
    rows = write_rows(tmp_path / "train.jsonl", 32)
    for row in rows:  # the more it learns, the lower its score, by more than another machine's rounding
        row["stars"] = 3 - row["stars"]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = "--text_columns a --trainable_layers 1 --learning_rate 1e-2 --max_steps 24 --eval_every 4 --keep_best"
    run = train(tmp_path, source, f"{SCORES} {flags}")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    evaluations = [line for line in log if line["kind"] == "validation"]
    best = max(evaluations, key=lambda line: line["spearman"])  # the first of equals, as the run has it
    assert best["step"] < 24
    assert best["spearman"] > evaluations[-1]["spearman"] + 0.2
    exported = tmp_path / "exported"
    assert main(["export", "--run", str(run), "--output", str(exported)]) == 0
    card = (exported / "README.md").read_text()
    assert f"after step {best['step']}:" in card
    assert f"| spearman | {best['spearman']:.4f} |" in card
    params = weights.load(exported, read_config(exported), ("LABEL_0",), seed=0).params
    for path, leaf in FinishedRun(run).params.items():
        np.testing.assert_array_equal(params[path], leaf, err_msg=path)


def test_config_and_tokenizer(bert: Exported) -> None:
    source, config = (json.loads((folder / "config.json").read_text()) for folder in (bert.source, bert.whole))
    own = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "down", "1": "flat", "2": "up"},
        "label2id": {"down": 0, "flat": 1, "up": 2},
        "problem_type": "single_label_classification",
        "dtype": "float32",
    }
    source.pop("num_labels")
    assert config == source | own
    assert (bert.whole / "tokenizer.json").read_bytes() == (bert.source / "tokenizer.json").read_bytes()
    settings = [json.loads((folder / "tokenizer_config.json").read_text()) for folder in (bert.source, bert.whole)]
    names = ["input_ids", "token_type_ids", "attention_mask"]
    assert settings[1] == settings[0] | {"model_max_length": MAX_LENGTH, "model_input_names": names}


@needs_glue
def test_a_real_model_on_real_rows(tmp_path: Path) -> None:
    """The packaged MiniLM on WNLI: PyTorch has its score, and the same logits for each of the 71 rows."""
    flags = f"--task wnli --data_dir {GLUE_DIR} --model demo --trainable_layers 1 --max_steps 8 --max_length 64"
    run, whole, top = (tmp_path / name for name in ("run", "whole", "top"))
    assert main([*flags.split(), "--output_dir", str(run)]) == 0
    assert main(["export", "--run", str(run), "--output", str(whole)]) == 0
    assert main(["export", "--run", str(run), "--output", str(top), "--top_only"]) == 0
    assert files(export.apply_top(top, "demo", tmp_path / "again")) == files(whole)
    split = read_split(get_task("wnli"), "validation", Path(str(GLUE_DIR)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(whole)
    batch = tokenizer(*map(list, split.texts), truncation=True, padding=True, return_tensors="pt")
    with pytorch().no_grad():
        logits = their_model(whole)(**batch).logits.numpy()
    recorded = json.loads((run / "metrics.json").read_text())["metrics"]
    assert float(np.mean(logits.argmax(axis=1) == split.labels)) == recorded["accuracy"]
    np.testing.assert_allclose(logits, FinishedRun(run).logits(split)[1], atol=1e-5, rtol=0)
    assert (top / export.TOP).stat().st_size < 8e6 < 90e6 < (whole / export.WHOLE).stat().st_size


def test_the_model_card(bert: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (bert.whole / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "transformers", "pipeline_tag": "text-classification", "tags": ["jaxfreeze"]
    }  # fmt: skip
    told: list[TrainConfig] = []
    monkeypatch.setattr(loop, "finetune", told.append)
    line = next(line for line in body.splitlines() if line.startswith("    python run.py"))
    assert main(shlex.split(line)[2:]) == 0
    assert told == [from_yaml(bert.run / "config.yaml")]
    audit, metrics = (json.loads((bert.run / f"{name}.json").read_text()) for name in ("freeze", "metrics"))
    assert f"| accuracy | {metrics['metrics']['accuracy']:.4f} |" in body
    assert f"{audit['frozen']:,} of {metrics['parameters']['total']:,} parameters" in body
    assert f"{audit['digest_before']} before the run" in body
    assert f"{audit['digest_after']} after it" in body
    assert all(f"{name} {version}" in body for name, version in metrics["versions"].items())
    assert "apply_top" not in body
    assert "apply_top" in (bert.top / "README.md").read_text()


def test_a_hub_name_is_the_base_model_of_the_card() -> None:
    config = TrainConfig(task="rte", model="bert-base-uncased")
    about = model_card.metadata(config, TASKS["rte"]).to_dict()
    assert about["base_model"] == "bert-base-uncased"
    assert about["datasets"] == ["nyu-mll/glue"]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_stablehlo_is_the_run(family: str, tmp_path: Path) -> None:
    """One function for every number of rows and every length."""
    exported = make(next(case for case in CASES.values() if case.family == family), tmp_path)
    output = tmp_path / "portable"
    assert main(["export", "--run", str(exported.run), "--output", str(output), "--format", "stablehlo"]) == 0
    assert "model.stablehlo" in (output / "README.md").read_text()
    assert raw(output) == raw(exported.whole)
    model = jax_export.deserialize((output / "model.stablehlo").read_bytes())
    assert set(model.platforms) >= {"cpu", "cuda", "tpu"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    expected = run_logits(exported)
    for rows in (slice(0, 5), slice(3, 13)):
        texts = (column[rows] for column in texts_of(exported))
        batch = tokenizer(*texts, truncation=True, padding=True, return_token_type_ids=True, return_tensors="np")
        inputs = [batch[name].astype(np.int32) for name in ("input_ids", "token_type_ids", "attention_mask")]
        logits = model.call(*inputs)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected[rows], atol=1e-5, rtol=0)
