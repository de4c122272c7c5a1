"""The commands on finished runs: what each takes, and the function that it calls."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from jaxfreeze.config import File, Folder, Name
from jaxfreeze.errors import InputError
from jaxfreeze.imports import quick_imports
from jaxfreeze.settings import Takes, check_limits, make


def _check_runs(runs: tuple[str, ...]) -> None:
    if not runs:
        raise InputError("--run: expected the folder of a finished run, found none")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Load a finished run, check that its pretrained weights are the same, score it again."""

    run: Annotated[tuple[Folder, ...], Takes("DIR", repeated=True)]
    """Run folder; with --report several may be given, such as seeds on the same rows."""
    input: File | None = None
    """Score these labelled rows instead of the run's own: a file in any form that --train_file takes."""
    best: bool = False
    """For runs of an earlier version: use the checkpoint that --keep_best kept, not the last one."""
    report: Folder | None = None
    """Folder for report.html and report.json, which show where the (first) run fails: classes, confusions, calibration,
    the worst rows, labels that look wrong, lengths."""

    def __post_init__(self) -> None:
        if len(self.run) > 1 and self.report is None:
            raise InputError("--run: expected one folder, found several; with --report they are compared")


def evaluate(given: dict[str, Any]) -> None:
    """Score a finished run again, and report where it fails."""
    config = make(EvaluateConfig, given)
    rows = None if config.input is None else Path(config.input)
    if config.report is not None:
        with quick_imports():
            from jaxfreeze.failures.report import report

        report([Path(run) for run in config.run], Path(config.report), config.best, rows)
        return
    with quick_imports():
        from jaxfreeze.inference.predict import evaluate

    evaluate(Path(config.run[0]), config.best, rows)


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """Predict for the rows of a table or for plain lines, with one finished run or several.

    The predictions are JSON lines in the order of the input. Several runs on one pretrained model share its frozen
    layers, which are computed once for all of them.
    """

    run: Annotated[tuple[Folder, ...], Takes("DIR", repeated=True)] = ()
    """Run folder; may be given repeatedly."""
    input: File | None = None
    """GLUE's TSV, or a .tsv, .csv, .jsonl or .parquet file with the text columns of the run's task (labels in it are
    ignored), or .txt: one text per line; separate pairs with a tab. For labels of words .conll, lists of words, or
    texts, which are split at blanks. `-` is standard input."""
    format: Annotated[str, Takes("NAME")] | None = None
    """Format of the input, if its ending does not tell: tsv, csv, jsonl, parquet, conll, lines (of `-`)."""
    output: File | None = None
    """JSON lines {"index", "prediction", "probabilities", "logits"}, for labels of words {"index", "words",
    "prediction", "probabilities", "entities"}; `-` is standard output."""
    best: bool = False
    """For runs of an earlier version: use the checkpoint that --keep_best kept, not the last one."""
    ensemble: bool = False
    """Let runs with the same classes answer as one: the mean of their probabilities, or of their numbers."""
    calibrated: bool = False
    """Probabilities at the temperature that each run fitted on its validation rows; logits stay as they are."""
    glue_submission: Folder | None = None
    """Write the files for GLUE's leaderboard instead."""
    data_dir: Folder | None = None
    """For --glue_submission: GLUE's folder."""

    def __post_init__(self) -> None:
        _check_runs(self.run)
        submission = self.glue_submission is not None
        if submission and self.ensemble:
            raise InputError("--ensemble: not with --glue_submission, which takes one run per task")
        for name in ("input", "output", "format", "calibrated") if submission else ("data_dir",):
            if getattr(self, name) not in (None, False):
                raise InputError(f"--{name}: {'not with' if submission else 'only with'} --glue_submission")
        for name in () if submission else ("input", "output"):
            if getattr(self, name) is None:
                raise InputError(f"--{name}: expected a file, or - for standard {name}")


def predict(given: dict[str, Any]) -> None:
    """Predict with finished runs, for rows or for GLUE's leaderboard."""
    config = make(PredictConfig, given)
    runs = [Path(run) for run in config.run]
    if config.glue_submission is not None:
        with quick_imports():
            from jaxfreeze.inference.submission import glue_submission

        data_dir = None if config.data_dir is None else Path(config.data_dir)
        glue_submission(runs, Path(config.glue_submission), data_dir, config.best)
        return
    with quick_imports():
        from jaxfreeze.inference.predict import predict

    files = Path(config.input or ""), Path(config.output or "")
    predict(runs, *files, config.format, config.best, config.ensemble, config.calibrated)


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Write a finished run as a folder that transformers loads.

    It holds the weights, config.json, the tokenizer and a model card.
    """

    run: Folder
    """Run folder."""
    output: Folder
    """New folder."""
    best: bool = False
    """For runs of an earlier version: use the checkpoint that --keep_best kept, not the last one."""
    top_only: bool = False
    """Write the trained tensors alone; `apply_top` adds the base."""
    format: Annotated[
        Literal["safetensors", "stablehlo"], Takes("{safetensors,stablehlo}", expected="one of safetensors, stablehlo")
    ] = "safetensors"
    """stablehlo: write the whole function too, for JAX without this package."""


def export(given: dict[str, Any]) -> None:
    """Write a finished run for transformers."""
    config = make(ExportConfig, given)
    with quick_imports():
        from jaxfreeze.inference.export import export

    export(Path(config.run), Path(config.output), config.best, config.top_only, config.format == "stablehlo")


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Serve predictions over HTTP until SIGTERM or Ctrl-C.

    POST /predict takes JSON; GET / returns a page to try it.
    """

    run: Annotated[tuple[Folder, ...], Takes("DIR", repeated=True)] = ()
    """Run folder; may be given repeatedly."""
    best: bool = False
    """For runs of an earlier version: use the checkpoint that --keep_best kept, not the last one."""
    ensemble: bool = False
    """Let runs with the same classes answer as one: the mean of their probabilities, or of their numbers."""
    calibrated: bool = False
    """Probabilities at the temperature that each run fitted on its validation rows."""
    host: Annotated[str, Takes("HOST")] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 accepts requests from every machine that reaches this one."""
    port: Annotated[int, Takes("PORT", low=0, high=65535, expected="0 to 65535")] = 8000
    """Port to listen on; 0 takes a free one."""

    def __post_init__(self) -> None:
        _check_runs(self.run)
        if not self.host.strip():
            raise InputError("--host: expected a name or an address, such as 127.0.0.1, found nothing")
        check_limits(self)


def serve(given: dict[str, Any]) -> None:
    """Answer over HTTP with finished runs."""
    config = make(ServeConfig, given)
    with quick_imports():
        from jaxfreeze.inference.serve import serve

    runs = [Path(run) for run in config.run]
    serve(runs, config.best, config.host, config.port, config.ensemble, config.calibrated)


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """Show finished runs side by side: settings that differ, scores, costs.

    One line says whether the runs had the same rows and pretrained weights.
    """

    runs: Annotated[tuple[Folder, ...], Takes("RUN RUN [RUN ...]", expected="RUN RUN", positional=True)]
    """Folders of finished runs."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise InputError(f"{self.runs[0]}: expected two run folders or more, found one")


def compare(given: dict[str, Any]) -> None:
    """Show finished runs side by side."""
    config = make(CompareConfig, given)
    from jaxfreeze.report.compare import compare

    compare([Path(run) for run in config.runs])


@dataclasses.dataclass(frozen=True)
class PushConfig:
    """Publish a finished run, or a folder that `export` wrote, on the Hugging Face hub.

    The token comes from HF_TOKEN or from `hf auth login`; no flag takes it.
    """

    repo: Name
    """Repository on the hub: NAME or OWNER/NAME; it is created if it does not exist."""
    run: Folder | None = None
    """Run folder, exported first."""
    exported: Folder | None = None
    """In place of --run: a folder that `export` wrote."""
    private: bool = False
    """Create a private repository; refuse one that is public."""

    def __post_init__(self) -> None:
        if (self.run is None) == (self.exported is None):
            found = "none" if self.run is None else "both"
            raise InputError(f"push: expected --run or --exported, found {found}")


def push(given: dict[str, Any]) -> None:
    """Publish a finished run or an exported folder."""
    config = make(PushConfig, given)
    with quick_imports():
        from jaxfreeze.inference.push import push

    folder, run = (None if path is None else Path(path) for path in (config.exported, config.run))
    push(folder, run, config.repo, config.private)
