"""The commands on finished runs: evaluate, predict, export, serve."""

import re
from pathlib import Path

from jaxfreeze.errors import InputError, one_of
from jaxfreeze.flags import make_parser, parse

BEST = "Use the checkpoint that --keep_best kept, not the last one."

FORMATS = ("safetensors", "stablehlo")


def evaluate(arguments: list[str]) -> None:
    """Score a finished run again."""
    parser = make_parser(
        "evaluate",
        "Load a finished run, check that its pretrained weights are the same, score it again.",
    )
    parser.add_argument("--run", type=str, metavar="DIR", required=True, help="Run folder.")
    parser.add_argument("--best", action="store_true", help=BEST)
    options = parse(parser, arguments).as_dict()
    from jaxfreeze.inference.predict import evaluate as run_evaluate

    run_evaluate(Path(options["run"]), options.get("best", False))


def predict(arguments: list[str]) -> None:
    """Predict with finished runs, for rows or for GLUE's leaderboard."""
    about = """Predict for the rows of a table or for plain lines; JSON lines in input order. Several runs on one
        pretrained model answer together: its frozen layers are computed once for all of them."""
    parser = make_parser("predict", about)
    parser.add_argument("--run", type=str, action="append", metavar="DIR", help="Run folder; may be given repeatedly.")
    rows = """GLUE's TSV, or a .tsv, .csv, .jsonl or .parquet file with the text columns of the run's task (labels in it
        are ignored), or .txt: a text a line, of pairs with a tab between. `-` is standard input."""
    parser.add_argument("--input", type=str, metavar="FILE", help=rows)
    kinds = "How the input is laid out, if its ending does not say so: tsv, csv, jsonl, parquet, lines (of `-`)."
    parser.add_argument("--format", type=str, metavar="NAME", help=kinds)
    lines = 'JSON lines {"index", "prediction", "probabilities", "logits"}; `-` is standard output.'
    parser.add_argument("--output", type=str, metavar="FILE", help=lines)
    parser.add_argument("--best", action="store_true", help=BEST)
    parser.add_argument("--glue_submission", type=str, metavar="DIR", help="Instead: files for GLUE's leaderboard.")
    parser.add_argument("--data_dir", type=str, metavar="DIR", help="For --glue_submission: GLUE's folder.")
    options = {name: value for name, value in parse(parser, arguments).as_dict().items() if value is not None}
    if "run" not in options:
        raise InputError("--run: expected the folder of a finished run, found none")
    runs, best = [Path(run) for run in options["run"]], options.get("best", False)
    submission = "glue_submission" in options
    needed = {"data_dir"} if submission else {"input", "output", "format"}
    surplus = sorted({"data_dir", "input", "output", "format"} & options.keys() - needed)
    if surplus:
        raise InputError(f"--{surplus[0]}: {'not with' if submission else 'only with'} --glue_submission")
    missing = [name for name in ("input", "output") if name not in options and not submission]
    if missing:
        raise InputError(f"--{missing[0]}: expected a file, or - for standard {missing[0]}")
    if submission:
        from jaxfreeze.inference.submission import glue_submission

        data_dir = Path(options["data_dir"]) if "data_dir" in options else None
        glue_submission(runs, Path(options["glue_submission"]), data_dir, best)
        return
    from jaxfreeze.inference.predict import predict as run_predict

    run_predict(runs, Path(options["input"]), Path(options["output"]), options.get("format"), best)


def export(arguments: list[str]) -> None:
    """Write a finished run for transformers."""
    about = "Write a finished run as a Hugging Face folder: weights, config.json, tokenizer and model card."
    parser = make_parser("export", about)
    parser.add_argument("--run", type=str, metavar="DIR", required=True, help="Run folder.")
    parser.add_argument("--output", type=str, metavar="DIR", required=True, help="New folder.")
    parser.add_argument("--best", action="store_true", help=BEST)
    parser.add_argument("--top_only", action="store_true", help="The trained tensors alone; `apply_top` adds the base.")
    portable = "stablehlo: write the whole function too, for JAX without this package."
    parser.add_argument("--format", type=str, metavar=f"{{{','.join(FORMATS)}}}", default=FORMATS[0], help=portable)
    options = parse(parser, arguments).as_dict()
    chosen = options.get("format", FORMATS[0])
    if chosen not in FORMATS:
        raise InputError(f"--format {chosen}: expected {one_of(FORMATS, chosen)}")
    from jaxfreeze.inference.export import export as run_export

    run, output = (Path(options[name]) for name in ("run", "output"))
    run_export(run, output, options.get("best", False), options.get("top_only", False), chosen == "stablehlo")


def serve(arguments: list[str]) -> None:
    """Answer over HTTP with finished runs."""
    about = "Answer over HTTP until SIGTERM or Ctrl-C: POST /predict takes JSON, GET / is a page to try it."
    parser = make_parser("serve", about)
    parser.add_argument("--run", type=str, action="append", metavar="DIR", help="Run folder; may be given repeatedly.")
    parser.add_argument("--best", action="store_true", help=BEST)
    where = "Address to listen on; 0.0.0.0 lets everybody ask who reaches this machine."
    parser.add_argument("--host", type=str, metavar="HOST", default="127.0.0.1", help=where)
    parser.add_argument("--port", type=str, metavar="PORT", default="8000", help="0 takes a free one.")
    options = parse(parser, arguments).as_dict()
    if not options.get("run"):
        raise InputError("--run: expected the folder of a finished run, found none")
    host, port = options.get("host", "127.0.0.1"), options.get("port", "8000")
    if not host.strip():
        raise InputError("--host: expected a name or an address, such as 127.0.0.1, found nothing")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise InputError(f"--port {port}: expected 0 to 65535")
    from jaxfreeze.inference.serve import serve as run_serve

    run_serve([Path(run) for run in options["run"]], options.get("best", False), host, int(port))
