"""The clinic: wrong inputs through the real command line, and the one line that each must be answered with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxfreeze import cli
from tests import broken

ROOT = Path(cli.__file__).parent.parent


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the table names."""
    top = tmp_path_factory.mktemp("material")
    broken.make(top)
    return top


DEMO = "--task demo --trainable_layers 0 --max_steps 1 --max_length 32"
SOUND = "--task rte --data_dir {m}/glue --model {m}/model6 --max_length 32"
TWO = f"{SOUND} --num_processes 2"
RTE = "--task rte --model {m}/model --data_dir {m}"
FILES = "--task files --model {m}/model --train_file {m}/rows.csv --validation_file {m}/rows.csv"
OWN = (
    "--task files --model {m}/model --validation_file {m}/rows.csv --text_columns text --label_column label "
    "--train_file {m}"
)
PREDICT = "predict --run {m}/run --input {m}/glue/RTE/dev.tsv --output"
TABLE = [  # what is wrong, the arguments, what the line has to say
    ("no arguments", "", "--task is required, as in: python run.py --task demo"),
    ("no task", "--epochs 3", "--task is required"),
    ("inspect without task", "inspect", "--task is required, as in: python run.py inspect"),
    ("unknown task", "--task MNLI", "did you mean 'mnli'?"),
    ("unknown flag", "--task rte --epoch 3", "--epoch: no such flag; did you mean '--epochs'?"),
    ("unknown flag with =", "--task rte --epoch=3", "--epoch: no such flag; did you mean '--epochs'?"),
    ("unknown flag of predict", "predict --imput x", "--imput: no such flag; did you mean '--input'?"),
    ("print_config", "--task rte --print_config", "--print_config: no such flag"),
    ("unknown command", "evalute", "predict, export, serve, cache, inspect, compare, push; did you mean 'evaluate'?"),
    ("value without flag", "--task rte mnli", "mnli: expected a flag"),
    ("two values", "--task rte --epochs 3 4", "4: expected a flag"),
    ("layers -1", f"{SOUND} --trainable_layers -1", "--trainable_layers -1: expected 0 to 6"),
    ("layers 7 of 6", f"{SOUND} --trainable_layers 7", "--trainable_layers 7: expected 0 to 6"),
    ("layers x", f"{SOUND} --trainable_layers x", "--trainable_layers x: expected a whole number or all"),
    ("two policies", f"{SOUND} --trainable a --trainable_layers 1", "expected one policy, found two"),
    ("pattern of nothing", f"{SOUND} --trainable a", "--trainable 'a': matches no parameter"),
    ("pattern that is none", f"{SOUND} --trainable [a", "--trainable '[a': not a regular expression"),
    ("epochs 0", f"{SOUND} --epochs 0", "--epochs 0: expected at least 1"),
    ("epochs -1", f"{SOUND} --epochs -1", "--epochs -1: expected at least 1"),
    ("epochs 1.5", f"{SOUND} --epochs 1.5", "--epochs 1.5: expected a whole number"),
    ("epochs x", f"{SOUND} --epochs x", "--epochs x: expected a whole number"),
    ("learning rate 0", f"{SOUND} --learning_rate 0", "--learning_rate 0.0: expected 1e-12 to"),
    ("learning rate nan", f"{SOUND} --learning_rate nan", "--learning_rate nan: expected"),
    ("learning rate .nan", f"{SOUND} --learning_rate .nan", "--learning_rate nan: expected"),
    ("learning rate inf", f"{SOUND} --learning_rate inf", "--learning_rate inf: expected"),
    ("learning rate .inf", f"{SOUND} --learning_rate .inf", "--learning_rate inf: expected"),
    ("learning rate -1", f"{SOUND} --learning_rate -1", "--learning_rate -1.0: expected"),
    ("learning rate x", f"{SOUND} --learning_rate x", "--learning_rate x: expected a number"),
    ("batch size 0", f"{SOUND} --batch_size 0", "--batch_size 0: expected at least 1"),
    ("max length 3", f"{SOUND} --max_length 3", "--max_length 3: expected at least 4"),
    ("max length of the model", f"{SOUND} --max_length 71", "--max_length 71: {m}/model6 holds at most 70 tokens"),
    ("dtype", f"{SOUND} --dtype float16", "--dtype float16: expected auto or float32 or bfloat16"),
    ("seed -1", f"{SOUND} --seed -1", "--seed -1: expected 0 to"),
    ("switch with a word", f"{SOUND} --overwrite=maybe", "--overwrite maybe: expected true or false"),
    ("no value at the end", "--task", "--task: expected a value"),
    ("no value in between", "--task --epochs 3", "--task: expected a value"),
    ("empty list", "--task rte --trainable", "--trainable: expected a value"),
    ("no config file", "--config {m}/none.yaml", "{m}/none.yaml: expected a YAML file of settings"),
    ("config without value", "--task rte --config", "--config: expected a value"),
    ("config is a folder", "--config {m}", "{m}: expected a YAML file of settings"),
    ("config is not YAML", "--config {m}/not_yaml.yaml", "{m}/not_yaml.yaml: expected a YAML file of settings"),
    ("config is a text", "--config {m}/not_settings.yaml", "found 'just a text'"),
    ("config, unknown key", "--config {m}/unknown_key.yaml", "no setting 'epoch'; expected one of task,"),
    ("config, wrong type", "--config {m}/wrong_type.yaml", "epochs is 'many'; expected a whole number"),
    ("config, wrong value", "--config {m}/wrong_value.yaml", "--epochs 0: expected at least 1"),
    ("config, twice", "--config {m}/twice.yaml", "'seed' appears twice"),
    ("config, tag", "--config {m}/tag.yaml", "could not determine a constructor for the tag"),
    ("output is a file", f"{SOUND} --output_dir {{m}}/rows.csv", "expected a folder, found a file"),
    ("output is no run", f"{SOUND} --output_dir {{m}}/glue", "the folder is not empty and holds no run"),
    ("output below a file", f"{SOUND} --output_dir {{m}}/rows.csv/x/run", "rows.csv is not a folder that can be"),
    ("output is another run", f"{SOUND} --output_dir {{m}}/run", "holds another run (--model was"),
    ("output is a loop", f"{SOUND} --output_dir {{m}}/loop", "loop is not a folder that can be written to"),
    ("output below a loop", f"{SOUND} --output_dir {{m}}/loop/run", "loop is not a folder that can be written to"),
    ("config, aliases", "--config {m}/bomb.yaml", "the alias '*a0': none is read"),
    ("config, deep", "--config {m}/deep.yaml", "{m}/deep.yaml: expected a YAML file of settings"),
    ("checkpoints every 0", f"{SOUND} --checkpoint_every 0", "--checkpoint_every 0: expected at least 1"),
    ("keep none", f"{SOUND} --keep_last 0", "--keep_last 0: expected at least 1"),
    ("resume with a word", f"{SOUND} --resume perhaps", "--resume perhaps: expected true or false"),
    ("not resumed", f"{RTE}/glue --max_steps 1 --max_length 32 --trainable_layers 0 --output_dir {{m}}/unfinished "
     "--resume false", "holds this run, unfinished; --overwrite starts it again"),
    ("parts 0", f"{SOUND} --accumulate 0", "--accumulate 0: expected at least 1"),
    ("more parts than examples", f"{SOUND} --accumulate 17", "--accumulate 17: more parts than examples"),
    ("no address", f"{SOUND} --num_processes 2 --process_id 0", "--coordinator: expected one value; several"),
    ("no number", f"{TWO} --coordinator h:1", "--process_id: expected one value; several"),
    ("no port", f"{TWO} --coordinator h --process_id 0", "--coordinator h: expected HOST:PORT"),
    ("number 2 of 2", f"{TWO} --coordinator h:1 --process_id 2", "--process_id 2: expected 0 to 1"),
    ("no processes", f"{SOUND} --coordinator h:1 --num_processes 0 --process_id 0", "--num_processes 0: expected a"),
    ("processes of a search", f"{SOUND} --find_layers 0.9 --process_id 0", "--process_id: not with --find_layers"),
    ("warm-up 2", f"{SOUND} --warmup_ratio 2", "--warmup_ratio 2.0: expected 0 to 1"),
    ("weight decay -1", f"{SOUND} --weight_decay -1", "--weight_decay -1.0: expected 0 to"),
    ("clipping 0", f"{SOUND} --max_grad_norm 0", "--max_grad_norm 0.0: expected"),
    ("steps 0", f"{SOUND} --max_steps 0", "--max_steps 0: expected at least 1"),
    ("cache nowhere", f"{SOUND} --cache cloud", "--cache cloud: expected auto or device or host or disk or off"),
    ("cache budget -1", f"{SOUND} --cache_budget -1", "--cache_budget -1.0: expected 0 to"),
    ("only a header", f"{RTE}/only_header", "train.tsv: expected at least one example"),
    ("not UTF-8", f"{RTE}/not_utf8", "train.tsv:14: expected UTF-8, found byte 0xef; save the file as UTF-8"),
    ("UTF-16", f"{RTE}/utf16", "train.tsv:1: expected UTF-8, found byte 0xff; save the file as UTF-8"),
    ("a NUL byte", f"{RTE}/nul", "train.tsv:14: expected UTF-8 text, found a NUL byte"),
    ("an empty text", f"{RTE}/empty_text", "train.tsv:14: the text in column 'sentence1' is empty"),
    ("a line of 10 MB", f"{RTE}/long_line", "train.tsv:14: the line is over 10 MB"),
    ("a column twice", f"{RTE}/twice", "train.tsv:1: two columns are called 'sentence1'"),
    ("data_dir is a file", f"{RTE}/rows.csv", "rows.csv"),
    ("data_dir is a loop", f"{RTE}/loop", "loop"),
    ("own, one class", f"{OWN}/one_class.csv", "expected two classes or more in column 'label', found only '1'"),
    ("own, scores", f"{OWN}/scores.csv --objective classification", "scores.csv:2: label '0.5' is neither a whole"),
    ("own, no scores", f"{OWN}/words.csv --regression", "words.csv:2: expected a finite number as label, found 'high'"),
    ("own, quotes", f"{OWN}/quotes.csv", "quotes.csv:2: broken CSV"),
    ("own, an open quote", f"{OWN}/open_quote.csv", "open_quote.csv:3: broken CSV"),
    ("own, empty", f"{OWN}/empty.csv", "empty.csv: expected at least one example"),
    ("own, no text", f"{OWN}/no_text.csv", "no_text.csv:2: the text in column 'text' is empty"),
    ("own, no label", f"{OWN}/no_label.csv", "no_label.csv:2: expected a label"),
    ("own, a column twice", f"{OWN}/twice.csv", "twice.csv:1: two columns are called 'text'"),
    ("own, a list", f"{OWN}/list.jsonl", "list.jsonl: item 1: expected an object"),
    ("own, broken JSON", f"{OWN}/broken.jsonl", "broken.jsonl:1: broken JSON"),
    ("own, deep JSON", f"{OWN}/deep.jsonl", "deep.jsonl: item 1: broken JSON"),
    ("own, a number", f"{OWN}/number.jsonl", "number.jsonl:1: expected text in column 'text', found int 5"),
    ("own, half a character", f"{OWN}/surrogate.jsonl", "surrogate.jsonl:1: the text in column 'text' has half a"),
    ("own, broken Parquet", f"{OWN}/broken.parquet", "broken.parquet: broken Parquet file near row 0"),
    ("own, a folder", f"{OWN}/empty", "{m}/empty: expected a file, found a folder"),
    ("own, other label", f"{FILES} --text_columns text --label_column label --label_names 1 2", "label '0' is not"),
    ("sweep, no list", "sweep --config {m}/list_of_models.yaml --output_dir x", "models: the list is empty; expected"),
    ("sweep, folder is a file", "sweep --tasks demo --models {m}/model --output_dir {m}/rows.csv", "found a file"),
    ("sweep below a loop", "sweep --tasks demo --models {m}/model --output_dir {m}/loop/x", "that can be written to"),
    ("sweep with resume", "sweep --tasks demo --resume true --output_dir x", "--resume: no such setting of a sweep"),
    ("report of nothing", "report {m}/empty --output x", "{m}/empty"),
    ("no data_dir", f"{RTE}/none", "{m}/none"),
    ("data_dir is empty", f"{RTE}/empty", "expected the file {m}/empty/RTE/train.tsv"),
    ("no train.tsv", f"{RTE}/no_train", "expected the file {m}/no_train/RTE/train.tsv"),
    ("no column", f"{RTE}/no_column", "train.tsv:1: no column 'sentence2'"),
    ("bad label", f"{RTE}/bad_label", "train.tsv:14: label 'entailed' is not one of"),
    ("ragged row", f"{RTE}/ragged", "train.tsv:14: expected 4 fields"),
    ("empty file", f"{RTE}/no_rows", "train.tsv: expected at least one example"),
    ("files without flags", "--task files", "--task files: --train_file missing"),
    ("one class name", f"{OWN}/rows.csv --label_names 0", "--label_names 0: expected two classes or more, found one"),
    ("a class name twice", f"{OWN}/rows.csv --label_names 0 1 0", "--label_names: '0' appears twice; expected each"),
    ("class names of scores", f"{OWN}/rows.csv --regression --label_names 0 1", "--label_names: not with --regression"),
    ("bad rows of GLUE", "--task rte --on_bad_row skip", "--on_bad_row: only for --task files or hub, found --task"),
    ("bad rows, how", f"{OWN}/rows.csv --on_bad_row drop", "--on_bad_row drop: expected error or skip"),
    ("files with data_dir", f"{FILES} --text_columns text --label_column label --data_dir x", "--data_dir is for GLUE"),
    ("three text columns", f"{FILES} --text_columns a b c --label_column label", "--text_columns: expected one or two"),
    ("files, no column", f"{FILES} --text_columns txt --label_column label", "rows.csv:1: no column 'txt'"),
    ("files, ending", f"{FILES} --train_file {{m}}/rows.pdf --text_columns text --label_column label", "ending '.pdf'"),
    ("GLUE with own files", "--task rte --train_file x --regression", "--train_file: only for --task files"),
    ("no model", "--task demo --model {m}/none", "--model {m}/none: there is no such folder"),
    ("model is a file", "--task demo --model {m}/rows.csv", "found a file"),
    ("model is another folder", "--task demo --model {m}/empty", "{m}/empty/config.json: no such file"),
    ("no hub for data", "--task wnli --model {m}/model", "in the classic GLUE layout, or try --task demo"),
    ("no hub for the model", "--task demo --model nobody/no-such-model", "and the hub cannot be reached"),
    ("inspect, layers", f"inspect {SOUND} --trainable_layers 7", "--trainable_layers 7: expected 0 to 6"),
    ("evaluate nothing", "evaluate", "--run is required, as in: python run.py evaluate --run"),
    ("evaluate, no folder", "evaluate --run {m}/none", "--run {m}/none: there is no such folder"),
    ("evaluate, no run", "evaluate --run {m}/glue", "--run {m}/glue: holds no run"),
    ("evaluate, unfinished", "evaluate --run {m}/unfinished", "--run {m}/unfinished: holds an unfinished run"),
    ("evaluate, broken metrics", "evaluate --run {m}/broken_metrics", "metrics.json: not a file of a finished run"),
    ("evaluate, no checkpoint", "evaluate --run {m}/no_checkpoints", "its folder checkpoints is gone"),
    ("predict nothing", "predict", "--run: expected the folder of a finished run, found none"),
    ("predict without output", "predict --run {m}/run --input x", "--output: expected a file, or -"),
    ("predict, which format", "predict --run {m}/run --input x.tsv --output y --format xls", "--format xls: expected"),
    ("predict, two jobs", "predict --run {m}/run --input x --glue_submission y", "--input: not with --glue_submission"),
    ("predict, whose data", "predict --run {m}/run --input x --output y --data_dir z", "--data_dir: only with --glue_"),
    ("predict, one run twice", "predict --run {m}/run --run {m}/run --input x --output y", "two runs are called 'run'"),
    ("predict, no run", "predict --run {m}/glue --input x --output y", "--run {m}/glue: holds no run"),
    ("predict, unfinished", "predict --run {m}/unfinished --input x --output y", "holds an unfinished run"),
    ("predict, no input", "predict --run {m}/run --input {m}/none.tsv --output y", "{m}/none.tsv: expected a file"),
    ("predict, other layout", "predict --run {m}/run --input {m}/rows.csv --output y", "rows.csv:1: no column"),
    ("predict, output nowhere", f"{PREDICT} {{m}}/none/y", "--output {m}/none/y: its folder does not exist"),
    ("predict, output a folder", f"{PREDICT} {{m}}/empty", "--output {m}/empty: expected a file, found a folder"),
    ("export nothing", "export", "--run, --output are required, as in: python run.py export"),
    ("export, no folder", "export --run {m}/none --output y", "--run {m}/none: there is no such folder"),
    ("export, unfinished", "export --run {m}/unfinished --output y", "holds an unfinished run"),
    ("export, output in use", "export --run {m}/run --output {m}/glue", "--output {m}/glue: the folder is not empty"),
    ("export, output a file", "export --run {m}/run --output {m}/rows.csv", "expected a folder, found a file"),
    ("export, output a loop", "export --run {m}/run --output {m}/loop", "loop is not a folder that can be written to"),
    ("export, format", "export --run {m}/run --output y --format onnx", "--format onnx: expected one of safetensors"),
    ("export, top and all", "export --run {m}/run --output y --top_only --format stablehlo", "--top_only: not with"),
    *(
        (f"model: {name}", f"{DEMO} --model {{m}}/models/{name}", line)
        for name, (_, line) in broken.MODELS.items()
    ),
]  # fmt: skip
BY_NAME = {name: (arguments, line) for name, arguments, line in TABLE}
assert len(BY_NAME) == len(TABLE) >= 80


def contents(*folders: Path) -> dict[Path, bytes | None]:
    """Every file with its bytes, and every folder."""
    return {p: p.read_bytes() if p.is_file() else None for folder in folders for p in folder.rglob("*")}


@pytest.mark.parametrize("name", BY_NAME)
def test_wrong_input(
    name: str, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, line = (text.replace("{m}", str(material)) for text in BY_NAME[name])
    monkeypatch.chdir(tmp_path)
    before = contents(material, tmp_path)
    assert cli.main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert line in printed.err
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    assert printed.out == ""
    assert contents(material, tmp_path) == before


def run_py(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python run.py ...` in another folder, as a person has it: without the tests' own settings."""
    keep = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PYTHONWARNINGS")}
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=keep | environment, timeout=300)


@pytest.mark.parametrize("name", ["no arguments", "config, tag", "no hub for data"])
def test_wrong_input_for_real(name: str, material: Path, tmp_path: Path) -> None:
    arguments, line = (text.replace("{m}", str(material)) for text in BY_NAME[name])
    (tmp_path / "here").mkdir()
    before = contents(material)
    done = run_py(*arguments.split(), folder=tmp_path / "here", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert contents(material) == before
    assert not contents(tmp_path / "here")


@pytest.mark.parametrize("cache", ["{m}/rows.csv/cache", "/proc/cache"])
def test_a_cache_folder_that_cannot_be_made(
    cache: str, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = cache.replace("{m}", str(material))
    monkeypatch.setenv("JAXFREEZE_CACHE", place)
    flags = f"{DEMO} --model {material}/model --output_dir {tmp_path}/run"
    assert cli.main(flags.split()) == 2
    assert capsys.readouterr().err.startswith(f"error: {place}: the tokens cannot be kept there (")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, where nobody may make a folder")
def test_folders_that_cannot_be_made(material: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = f"{DEMO} --model {material}/model --output_dir /proc/run"
    assert cli.main(flags.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --output_dir /proc/run: ")
    assert error.count("\n") == 1
    predict = f"predict --run {material}/run --input {material}/glue/RTE/dev.tsv --output /proc/predictions"
    assert cli.main(predict.split()) == 2
    assert capsys.readouterr().err.startswith("error: --output /proc/predictions: cannot be written (")
