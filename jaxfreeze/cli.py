"""Commands to functions, and exit codes: 0 done, 2 an input to mend (one line), 1 anything else (a traceback)."""

import dataclasses
import json
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, set_parsing_settings

from jaxfreeze.config import TrainConfig
from jaxfreeze.errors import InputError, one_of

DESCRIPTION = """\
Fine-tune the last k layers of BERT or RoBERTa in JAX, and prove that the rest did not move.

commands:
  train      fine-tune; what `python run.py --task ...` does without a command
  evaluate   --run DIR: load a finished run and score it again
  predict    --run DIR --input FILE --output FILE: predictions for a file in the layout of the run's task
  inspect    the parameter table, the cut, and the memory and FLOPs of a step; trains nothing
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command -> its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "train"
    try:
        if command not in COMMANDS:
            raise InputError(f"{command}: not a command; expected {one_of(COMMANDS, command)}")
        COMMANDS[command](arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _train(arguments: list[str]) -> None:
    config = _train_config(arguments, DESCRIPTION)
    from jaxfreeze.training.loop import finetune  # after the flags: --help and mistakes in flags answer without jax

    finetune(config)


def _inspect(arguments: list[str]) -> None:
    config = _train_config(arguments, "Print what would train, the cut, and what a step costs; trains nothing.")
    from jaxfreeze.training.inspection import inspect

    inspect(config)


def _evaluate(arguments: list[str]) -> None:
    parser = _parser("Load a finished run, check that its pretrained weights are the same, and score it again.")
    parser.add_argument("--run", type=str, required=True, help="Run folder.")
    options = _parse(parser, arguments)
    from jaxfreeze.inference import evaluate

    evaluate(Path(options.run))


def _predict(arguments: list[str]) -> None:
    parser = _parser("Predict for a file in the layout of the run's task; JSON lines in input order.")
    parser.add_argument("--run", type=str, required=True, help="Run folder.")
    parser.add_argument(
        "--input", type=str, required=True, help="A GLUE TSV for a GLUE task, else a file with the run's text columns."
    )
    parser.add_argument("--output", type=str, required=True, help="JSON lines {index, prediction, logits}.")
    options = _parse(parser, arguments)
    from jaxfreeze.inference import predict

    predict(Path(options.run), Path(options.input), Path(options.output))


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "inspect": _inspect,
}


def _train_config(arguments: list[str], description: str) -> TrainConfig:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _parser(description)
    parser.add_argument("--config", action="config", help="YAML file with any of these settings; flags win over it.")
    parser.add_class_arguments(TrainConfig, as_group=False)
    options = _parse(parser, _spelled_out(arguments)).as_dict()
    options.pop("config", None)
    return TrainConfig(**options)


def _parser(description: str) -> ArgumentParser:
    return ArgumentParser(prog="run.py", description=description, exit_on_error=False)


def _spelled_out(arguments: list[str]) -> list[str]:
    """`--flag` -> `--flag true` and `--list a b` -> `--list ["a", "b"]`, as the parser wants them."""
    kinds = {f"--{field.name}": field.type for field in dataclasses.fields(TrainConfig)}
    result: list[str] = []
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        values = []
        while rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        if kinds.get(flag) == tuple[str, ...] and not (len(values) == 1 and values[0].startswith("[")):
            values = [json.dumps(values)]
        elif kinds.get(flag) is bool and not values:
            values = ["true"]
        result += [flag, *values]
    return result


def _parse(parser: ArgumentParser, arguments: list[str]) -> Any:
    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        raise InputError(_explain(str(error))) from error


def _explain(message: str) -> str:
    """A parser's message as one line that names the flag."""
    names = [f"--{field.name}" for field in dataclasses.fields(TrainConfig)]
    unknown = re.search(r"unrecognized arguments: (\S+)", message)
    if unknown:
        return f"{unknown[1]}: no such flag; expected {one_of(names, unknown[1])}"
    wrong = re.search(r'Parser key "(\w+)"', message)
    found = re.search(r"(?:Given value|Got value): (.*)", message)
    if wrong and found:
        kind = next((f.type for f in dataclasses.fields(TrainConfig) if f.name == wrong[1]), "")
        return f"--{wrong[1]} {found[1]}: expected {getattr(kind, '__name__', str(kind).replace('typing.', ''))}"
    return message
