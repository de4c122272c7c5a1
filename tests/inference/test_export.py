"""An exported run is that run, in transformers too; what was frozen has the source's bytes; all of it or nothing."""

import errno
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
import pytest
import scipy.stats
import transformers
import yaml
from jax import export as jax_export
from safetensors.numpy import load_file, save_file

from jaxfreeze.cli import main
from jaxfreeze.config import TrainConfig, from_yaml
from jaxfreeze.data.readers import read_split
from jaxfreeze.data.split import Split
from jaxfreeze.data.tasks import get_task
from jaxfreeze.errors import InputError
from jaxfreeze.inference import export, model_card
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.model import weights
from jaxfreeze.model.source import read_config
from jaxfreeze.training import loop
from tests.folders import make_folder
from tests.reference import pytorch

GLUE_DIR = os.environ.get("JAXFREEZE_GLUE_DIR")
needs_glue = pytest.mark.skipif(not GLUE_DIR, reason="JAXFREEZE_GLUE_DIR is not set")
MAX_LENGTH = 24
MOODS = ("down", "flat", "up")
BELOW = r"{base}\.embeddings\..*|{base}\.encoder\.layer\.0\..*"  # what k = 1 of 2 layers freezes
Names = Callable[[str], str]


def same(name: str) -> str:
    return name


def old(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def bare(name: str) -> str:
    return re.sub(r"^(bert|roberta)\.", "", name)


class Case(NamedTuple):
    """A run: its source as it lies on disk, its flags, and what is frozen in it, by Hugging Face name."""

    family: str
    dtype: type
    named: Names
    sharded: bool
    flags: str
    frozen: str = BELOW
    count: int = 21


CLASSES, SCORES = "--label_column mood", "--label_column stars --regression"
CASES = {
    "bert": Case("bert", np.float32, same, False, f"{CLASSES} --text_columns a b --trainable_layers 1"),
    "roberta, bfloat16, sharded": Case(
        "roberta", ml_dtypes.bfloat16, bare, True, f"{CLASSES} --text_columns a b --trainable_layers 1"
    ),
    "bert, float16, old names, a number": Case(
        "bert", np.float16, old, False, f"{SCORES} --text_columns a --trainable_layers 1"
    ),
    "roberta, old names, sharded, a number": Case(
        "roberta", np.float32, old, True, f"{SCORES} --text_columns a b --trainable_layers 1"
    ),
    "bert, frozen at random": Case(
        "bert",
        np.float16,
        bare,
        False,
        f"{CLASSES} --text_columns a --trainable .*\\.bias",
        r"bert\.(embeddings|encoder)\..*\.weight",
        20,
    ),
    "roberta, nothing frozen": Case(
        "roberta", np.float16, same, False, f"{CLASSES} --text_columns a b --trainable_layers all", "nothing", 0
    ),
}


class Exported(NamedTuple):
    """A finished run, its source, and what was exported of it."""

    case: Case
    source: Path
    run: Path
    whole: Path
    top: Path
    rows: list[dict[str, Any]]  # the validation rows


def write_source(folder: Path, case: Case) -> Path:
    """A model folder whose weights have the case's type, names and number of files."""
    make_folder(folder, case.family, num_labels=5)
    tensors = {case.named(name): leaf.astype(case.dtype) for name, leaf in load_file(folder / export.WHOLE).items()}
    if case.named is bare:  # the encoder alone
        tensors = {name: leaf for name, leaf in tensors.items() if not name.startswith(("classifier.", "pooler."))}
    (folder / export.WHOLE).unlink()
    parts = [dict(list(tensors.items())[i::2]) for i in range(2)] if case.sharded else [tensors]
    files = [f"model-{i}.safetensors" for i in range(len(parts))] if case.sharded else [export.WHOLE]
    for part, file in zip(parts, files, strict=True):
        save_file(part, folder / file, {"format": "pt"})
    if case.sharded:
        index = {name: file for part, file in zip(parts, files, strict=True) for name in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def write_rows(file: Path, count: int) -> list[dict[str, Any]]:
    """Rows that can be learned; one text is longer than a run takes."""
    random = np.random.default_rng(count)
    words = ["the", "bowl", "crate", "picture", "from", "holds", "owner", "town", "made"]
    rows = []
    for i in range(count):
        a = " ".join([("tools", "clothes", "money")[i % 3], *random.choice(words, 60 if i == 5 else 1 + i % 7)])
        b = " ".join(random.choice(words, 3))
        rows.append({"a": a, "b": b, "mood": MOODS[i % 3], "stars": float(i % 3) + float(random.random())})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def train(folder: Path, source: Path, flags: str) -> Path:
    files = f"--task files --train_file {folder}/train.jsonl --validation_file {folder}/dev.jsonl"
    sizes = f"--max_steps 6 --max_length {MAX_LENGTH} --batch_size 8 --learning_rate 1e-3"
    run = folder / "run"
    arguments = [*f"{files} {sizes} --model {source} --output_dir {run}".split(), *flags.split()]
    assert main(arguments) == 0
    return run


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return make(CASES[request.param], tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return make(CASES["bert"], tmp_path_factory.mktemp("export"))


def make(case: Case, folder: Path) -> Exported:
    source = write_source(folder / "source", case)
    write_rows(folder / "train.jsonl", 32)
    rows = write_rows(folder / "dev.jsonl", 13)
    run = train(folder, source, case.flags)
    for name, flags in (("whole", []), ("top", ["--top_only"])):
        assert main(["export", "--run", str(run), "--output", str(folder / name), *flags]) == 0
    return Exported(case, source, run, folder / "whole", folder / "top", rows)


def raw(folder: Path, pattern: str = "model*.safetensors") -> dict[str, tuple[str, list[int], bytes]]:
    """(type, shape, bytes) of every tensor, read from the files by their layout."""
    found = {}
    for file in folder.glob(pattern):
        content = file.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:begin])
        header.pop("__metadata__", None)
        for name, about in header.items():
            start, stop = about["data_offsets"]
            found[name] = (about["dtype"], about["shape"], content[begin + start : begin + stop])
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts_of(exported: Exported) -> tuple[list[str], ...]:
    """The validation texts, by column."""
    return tuple(
        [row[column] for row in exported.rows] for column in from_yaml(exported.run / "config.yaml").text_columns
    )


def run_logits(exported: Exported) -> np.ndarray:
    texts = tuple(map(tuple, texts_of(exported)))
    return FinishedRun(exported.run).logits(Split("validation", texts, None))[1]


def their_model(folder: Path) -> Any:
    pytorch()
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()


def their_logits(exported: Exported) -> np.ndarray:
    """transformers' tokenizer and model from the exported folder alone; the length comes from there too."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported.whole)
    batch = tokenizer(*texts_of(exported), truncation=True, padding=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == MAX_LENGTH
    with pytorch().no_grad():
        return their_model(exported.whole)(**batch).logits.numpy()


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
    params, fresh = weights.load(exported.whole, read_config(exported.whole), run.task.num_outputs, seed=0)
    assert fresh == ()
    for path, leaf in run.params.items():
        np.testing.assert_array_equal(params[path], leaf, err_msg=path)


def test_a_top_on_its_base_is_the_whole_folder(exported: Exported, tmp_path: Path) -> None:
    top, whole = raw(exported.top, "*.safetensors"), raw(exported.whole)
    assert top.items() <= whole.items()
    assert len(top) == len(whole) - exported.case.count
    done = export.apply_top(exported.top, exported.source, tmp_path / "deep" / "again")
    assert done == tmp_path / "deep" / "again"
    assert files(done) == files(exported.whole)


def test_everybody_may_read_it_who_may_read_the_folder(bert: Exported) -> None:
    for file in (*bert.whole.iterdir(), *bert.top.iterdir()):
        assert file.stat().st_mode & 0o666 == bert.whole.stat().st_mode & 0o666, file


def test_bfloat16_runs_leave_the_source_as_it_was(tmp_path: Path) -> None:
    """The run computes with rounded weights; what is exported is not rounded."""
    case = CASES["bert"]._replace(flags=f"{CASES['bert'].flags} --dtype bfloat16")
    exported = make(case, tmp_path)
    test_frozen_tensors_have_the_bytes_of_the_source(exported)
    test_a_top_on_its_base_is_the_whole_folder(exported, tmp_path)


def test_the_best_checkpoint(tmp_path: Path) -> None:
    case = CASES["bert"]
    source = write_source(tmp_path / "source", case)
    for name, count in (("train", 32), ("dev", 13)):
        write_rows(tmp_path / f"{name}.jsonl", count)
    run = train(tmp_path, source, f"{case.flags} --eval_every 1 --keep_best")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    evaluations = [line for line in log if line["kind"] == "validation"]
    best = max(evaluations, key=lambda line: line["accuracy"])  # the first of equals, as the run has it
    assert best["step"] < 6
    for name, flags in (("last", []), ("best", ["--best"])):
        assert main(["export", "--run", str(run), "--output", str(tmp_path / name), *flags]) == 0
        card = (tmp_path / name / "README.md").read_text()
        line = best if flags else evaluations[-1]
        assert f"after step {line['step']}:" in card
        assert f"| accuracy | {line['accuracy']:.4f} |" in card
        params = weights.load(tmp_path / name, read_config(tmp_path / name), 3, seed=0).params
        for path, leaf in FinishedRun(run, best=bool(flags)).params.items():
            np.testing.assert_array_equal(params[path], leaf, err_msg=path)
    assert raw(tmp_path / "last")["classifier.weight"] != raw(tmp_path / "best")["classifier.weight"]


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
    """The packaged MiniLM on RTE: PyTorch has its score, and predicts the same for each of the 277 rows."""
    flags = f"--task rte --data_dir {GLUE_DIR} --model demo --trainable_layers 1 --max_steps 8 --max_length 64"
    run, whole, top = (tmp_path / name for name in ("run", "whole", "top"))
    assert main([*flags.split(), "--output_dir", str(run)]) == 0
    assert main(["export", "--run", str(run), "--output", str(whole)]) == 0
    assert main(["export", "--run", str(run), "--output", str(top), "--top_only"]) == 0
    assert files(export.apply_top(top, "demo", tmp_path / "again")) == files(whole)
    split = read_split(get_task("rte"), "validation", Path(str(GLUE_DIR)))
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
    about = yaml.safe_load(model_card._front_matter(config, "rte"))
    assert about["base_model"] == "bert-base-uncased"
    assert about["datasets"] == ["nyu-mll/glue"]


def flip(file: Path, name: str) -> None:
    """Change the lowest bit of a tensor's first number."""
    tensors = load_file(file)
    tensors[name].reshape(-1).view(np.uint8)[0] ^= 1
    save_file(tensors, file, {"format": "pt"})


def refusal(top: Path, base: Path, output: Path) -> str:
    """The one line that apply_top fails with, having written nothing."""
    before = set(output.parent.iterdir())
    with pytest.raises(InputError) as caught:
        export.apply_top(top, base, output)
    assert set(output.parent.iterdir()) == before
    return str(caught.value)


WORD = "bert.embeddings.word_embeddings.weight"
DENSE = "bert.pooler.dense.weight"


def test_a_wrong_base_is_refused(bert: Exported, tmp_path: Path) -> None:
    other = shutil.copytree(bert.source, tmp_path / "other")
    flip(other / export.WHOLE, WORD)
    line = refusal(bert.top, other, tmp_path / "out")
    assert f"{other}: not the weights that this top was trained on (with other bits: {WORD});" in line
    assert f"give the folder or hub name of {bert.source}" in line
    rounded = write_source(tmp_path / "rounded", bert.case._replace(dtype=np.float16))
    assert "with other bits: bert.embeddings.LayerNorm.bias, " in refusal(bert.top, rounded, tmp_path / "out")
    roberta = write_source(tmp_path / "roberta", bert.case._replace(family="roberta"))
    assert "missing: bert.embeddings.LayerNorm.bias, " in refusal(bert.top, roberta, tmp_path / "out")
    assert "there is no such folder" in refusal(bert.top, tmp_path / "none", tmp_path / "out")


def drop(file: Path) -> None:
    save_file({name: leaf for name, leaf in load_file(file).items() if name != DENSE}, file)


def add(file: Path) -> None:
    save_file(load_file(file) | {"extra.weight": np.zeros(3, np.float32)}, file)


def reshape(file: Path) -> None:
    save_file(load_file(file) | {DENSE: load_file(file)[DENSE].reshape(-1)}, file)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    "damage, line",
    [
        (lambda file: flip(file, DENSE), f"top.safetensors: not the file that was exported (with other bits: {DENSE})"),
        (reshape, f"(with other bits: {DENSE}); copy or export it again"),
        (drop, f"(missing: {DENSE})"),
        (add, "(surplus: extra.weight)"),
        (cut, "top.safetensors: not a whole safetensors file"),
        (lambda file: file.unlink(), "top.safetensors: not a whole safetensors file"),
        (lambda file: (file.parent / "jaxfreeze.json").unlink(), "holds no jaxfreeze.json; expected a folder that"),
        (lambda file: (file.parent / "jaxfreeze.json").write_text("{"), "jaxfreeze.json: not JSON"),
        (lambda file: (file.parent / "jaxfreeze.json").write_text('{"format": 1}'), "jaxfreeze.json: damaged"),
        (lambda file: (file.parent / "jaxfreeze.json").write_text('{"format": 9}'), "format is 9; expected 1"),
        (lambda file: (file.parent / "config.json").unlink(), "config.json: no such file"),
    ],
)
def test_a_damaged_top_is_refused(damage: Callable[[Path], object], line: str, bert: Exported, tmp_path: Path) -> None:
    top = shutil.copytree(bert.top, tmp_path / "top")
    damage(top / export.TOP)
    assert line in refusal(top, bert.source, tmp_path / "out")


def test_an_output_in_use_is_refused(bert: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(bert.whole)
    for output in (bert.whole, bert.run):
        assert main(["export", "--run", str(bert.run), "--output", str(output)]) == 2
        printed = capsys.readouterr()
        assert printed.err == f"error: --output {output}: the folder is not empty; give another name\n"
        assert printed.out == ""
    assert "the folder is not empty" in refusal(bert.top, bert.source, bert.whole)
    assert files(bert.whole) == before
    (tmp_path / "empty").mkdir()
    assert main(["export", "--run", str(bert.run), "--output", str(tmp_path / "empty")]) == 0
    assert files(tmp_path / "empty") == before


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_half_written(
    error: BaseException,
    bert: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The disk is full, or somebody presses Ctrl-C, when the weights are written already."""

    def fail(*_: object) -> str:
        assert [path.name for path in tmp_path.rglob(export.WHOLE)] == [export.WHOLE]
        raise error

    monkeypatch.setattr(model_card, "text", fail)
    monkeypatch.setattr(model_card, "of_whole", fail)
    code = main(["export", "--run", str(bert.run), "--output", str(tmp_path / "out")])
    assert code == (2 if isinstance(error, OSError) else 130)
    if isinstance(error, OSError):
        full = f"error: --output {tmp_path}/out: cannot be written (No space left on device)\n"
        assert capsys.readouterr().err == full
    assert not list(tmp_path.iterdir())
    with pytest.raises((InputError, KeyboardInterrupt)):
        export.apply_top(bert.top, bert.source, tmp_path / "out")
    assert not list(tmp_path.iterdir())


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
