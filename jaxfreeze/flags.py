"""How the command line is read: arguments to settings, --help as it is typed, and a mistake as one line."""

import dataclasses
import json
import re
from argparse import Action, ArgumentError, RawDescriptionHelpFormatter
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from jaxfreeze.config import TrainConfig, expected
from jaxfreeze.errors import InputError, did_you_mean

METAVARS = {
    "task": "TASK",
    "data_dir": "DIR",
    "train_file": "FILE",
    "validation_file": "FILE",
    "text_columns": "NAME [NAME]",
    "label_names": "NAME [NAME ...]",
    "label_column": "NAME",
    "trainable_layers": "K",
    "trainable": "REGEX [REGEX ...]",
    "output_dir": "DIR",
    "max_steps": "N",
    "learning_rate": "RATE",
    "max_length": "TOKENS",
    "dtype": "{float32,bfloat16}",
    "log_every": "STEPS",
    "eval_every": "STEPS",
    "checkpoint_every": "STEPS",
}
"""What stands for a flag's value in --help, where its type does not say enough."""


FIELDS: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(TrainConfig)}


EXAMPLES = {
    "train": "python run.py --task demo --model demo --trainable_layers 3",
    "sweep": "python run.py sweep --config configs/sweep.yaml --output_dir runs/sweep",
    "report": "python run.py report runs/sweep --output runs/sweep/report",
    "evaluate": "python run.py evaluate --run runs/demo",
    "predict": "python run.py predict --run runs/demo --input test.tsv --output predictions.jsonl",
    "export": "python run.py export --run runs/demo --output exported",
    "serve": "python run.py serve --run runs/demo --port 8000",
    "cache": "python run.py cache list",
    "inspect": "python run.py inspect --task demo --model demo --trainable_layers 3",
}
"""One of each command, as --help shows it."""


def make_parser(command: str, description: str, usage: str | None = None) -> ArgumentParser:
    """A parser for one command of run.py, without flags."""
    return ArgumentParser(
        prog=f"python run.py {command}",
        usage=usage,
        description=description,
        epilog=f"example: {EXAMPLES[command]}",
        formatter_class=_HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


class _HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Flags as they are typed, a default where there is one, and no Python types."""

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog, max_help_position=32, **more)

    def _format_action_invocation(self, action: Action) -> str:
        return " ".join([", ".join(action.option_strings), *_metavar(action)])

    def _get_help_string(self, action: Action) -> str:
        text = (action.help or "").removesuffix(".")
        if action.required:
            text += " (required)"
        elif action.default not in (None, ()) and action.default is not False and action.dest != "help":
            text += " (default: %(default)s)"
        return text


def _metavar(action: Action) -> list[str]:
    kind = FIELDS.get(action.dest)
    if kind is bool or action.nargs == 0:
        return []
    usual = "N" if kind is int else "X" if kind is float else action.dest.upper()
    return [str(METAVARS.get(action.dest) or action.metavar or usual)]


def by_flag(arguments: list[str]) -> list[tuple[str, list[str]]]:
    """`--a 1 --b x y --c=2` -> [(--a, [1]), (--b, [x, y]), (--c, [2])]."""
    result: list[tuple[str, list[str]]] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if argument.startswith("--") or argument == "-h" or not result:
            result.append((flag, [value] if equals else []))
        else:
            result[-1][1].append(argument)
    return result


def spelled_out(flags: list[tuple[str, list[str]]]) -> list[str]:
    """The arguments again, with `--flag` as `--flag=true` and `--list a b` as `--list=["a", "b"]` for the parser."""
    result = []
    for flag, values in flags:
        kind = FIELDS.get(flag.removeprefix("--"))
        if kind is bool and not values:
            values = ["true"]
        elif kind == tuple[str, ...] and values:
            values = [json.dumps(values)]
        result += [f"{flag}={values[0]}"] if len(values) == 1 else [flag, *values]
    return result


def parse(parser: ArgumentParser, arguments: list[str], settings: dict[str, Any] | None = None) -> Any:
    """What the arguments give, over what a file gave."""
    try:
        return parser.parse_args(arguments, namespace=Namespace(**(settings or {})), defaults=False)
    except ArgumentError as error:
        raise InputError(_explain(parser, str(error))) from error


def _explain(parser: ArgumentParser, message: str) -> str:
    """A parser's message as one line that names the flag."""
    unknown = re.search(r"unrecognized arguments: ([^\s=]+)", message)
    if unknown:
        near = did_you_mean([f"--{name}" for name in parser.get_defaults().as_dict()], unknown[1])
        what = "no such flag" if unknown[1].startswith("-") else "expected a flag, found a value that belongs to none"
        return f"{unknown[1]}: {what}{near} (`{parser.prog} --help` lists them)"
    missing = re.search(r"arguments are required: (.*)", message)
    if missing:
        names = ", ".join(f"--{name}" for name in missing[1].split(", "))
        verb = "are" if "," in names else "is"
        return f"{names} {verb} required, as in: {str(parser.epilog).removeprefix('example: ')}"
    empty = re.search(r"argument (\S+): expected", message)
    if empty:
        return f"{empty[1]}: expected a value, found none"
    wrong = re.search(r'Parser key "(\w+)"', message)
    found = re.search(r"(?:Given value|Got value): (.*)", message)
    if wrong and found:
        return f"--{wrong[1]} {found[1]}: expected {expected(wrong[1])}"
    return message
