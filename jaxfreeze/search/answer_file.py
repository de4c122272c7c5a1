"""answer.json: all that a search says, for programs. `read` gives back the `Answer` that `write` was given.

The recommendation is at the top (trainable_layers, learning_rate, epochs, score, low, high, p_within, p_keeps), with
`best` and `full` beside it, `seconds` {search, chosen, full}, and `front`, which lists every point. The other keys are
the fields of `Answer`. Scores are fractions. null means no value: the full model if it was not run, an
end of an interval that is unbounded, and the score of a learning rate that diverged.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jaxfreeze.atomic import new_file
from jaxfreeze.errors import InputError, listed
from jaxfreeze.search.answer import Answer, Point, RateScore
from jaxfreeze.search.trial import Candidate

NAME = "answer.json"
"""What it is called in the folder of a search."""
NAMES = {"layers": "trainable_layers"}
"""Fields that have another name in the file."""
RECOMMENDED = ("score", "low", "high", "p_within", "p_keeps")
"""What the file says of the recommended point at its top."""
DERIVED = ("points", "chosen", "best", "full", "seconds")
"""Fields of an answer that the file has in another form; the others are as they are."""
OTHERS = tuple(field.name for field in dataclasses.fields(Answer) if field.name not in DERIVED)
UNBOUNDED = {
    (Point, "quality_low"): -math.inf,
    (Point, "quality_high"): math.inf,
    (RateScore, "score"): -math.inf,  # of a rate with a run that diverged
}


def write(answer: Answer, path: Path) -> None:
    """Write an answer, atomically. Raises InputError if that fails, and ValueError for a score that is not finite."""
    with new_file(path, "--output_dir") as file:
        file.write(json.dumps(as_json(answer), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def as_json(answer: Answer) -> dict[str, Any]:
    """What the file holds."""
    chosen, best, full = answer.chosen, answer.best, answer.full
    return {
        **_encoded(chosen.candidate),
        **{name: getattr(chosen, name) for name in RECOMMENDED},
        "best": _encoded(best.candidate) | {"score": best.score},
        "full": None if full is None else _encoded(full.candidate) | {"score": full.score},
        "seconds": {
            "search": answer.seconds,
            "chosen": chosen.seconds,
            "full": None if full is None else full.seconds,
        },
        "front": _encoded(answer.points),
        **{name: _encoded(getattr(answer, name)) for name in OTHERS},
    }


def read(path: Path) -> Answer:
    """The answer in a file. Raises InputError for a file that is missing or holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); run --find_layers again to write it") from error
    try:
        return from_json(content)
    except (ValueError, KeyError) as error:
        reason = error.args[0] if error.args else error
        raise InputError(f"{path}: not an answer of --find_layers: {reason}; run it again to write it") from error


def from_json(content: Any) -> Answer:
    """The answer that `as_json` was given. Raises ValueError, which says where, for anything else."""
    keys = [*map(_name, Candidate._fields), *RECOMMENDED, "best", "full", "seconds", "front", *OTHERS]
    _check_keys(content, keys, "the file")
    hints = get_type_hints(Answer)
    points: tuple[Point, ...] = _decoded(hints["points"], content["front"], "front")
    by_candidate = {point.candidate: point for point in points}

    def point(value: Any, where: str) -> Point:
        candidate = _decoded(Candidate, {key: value.get(key) for key in map(_name, Candidate._fields)}, where)
        if candidate not in by_candidate:
            raise ValueError(f"{where}: {candidate} is not in front")
        return by_candidate[candidate]

    best, full = content["best"], content["full"]
    answer = Answer(
        points=points,
        chosen=point(content, "the file"),
        best=point(_mapping(best, "best"), "best"),
        full=None if full is None else point(_mapping(full, "full"), "full"),
        seconds=_decoded(float, _mapping(content["seconds"], "seconds").get("search"), "seconds.search"),
        **{name: _decoded(hints[name], content[name], name) for name in OTHERS},
    )
    if differing := [name for name, value in as_json(answer).items() if content[name] != value]:
        raise ValueError(f"{listed(differing)} and front say different things")
    return answer


def _name(field: str) -> str:
    return NAMES.get(field, field)


def _refuse(constant: str) -> None:
    raise ValueError(f"found {constant}")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, found {json.dumps(value)}")
    return value


def _check_keys(value: Any, keys: list[str], where: str) -> None:
    found = _mapping(value, where)
    if missing := [key for key in keys if key not in found]:
        raise ValueError(f"{where}: no {listed(missing)}")
    if surplus := [key for key in found if key not in keys]:
        raise ValueError(f"{where}: {listed(surplus)} means nothing")


def _encoded(value: Any) -> Any:
    """A value as JSON has it: a named tuple as an object, with the fields of its candidate among its own."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        result: dict[str, Any] = {}
        for name in value._fields:
            item = getattr(value, name)
            if isinstance(item, Candidate):
                result |= _encoded(item)
            else:
                result[_name(name)] = None if UNBOUNDED.get((type(value), name)) == item else _encoded(item)
        return result
    return [_encoded(item) for item in value] if isinstance(value, tuple) else value


def _decoded(kind: Any, value: Any, where: str) -> Any:
    """The value of an annotation that `_encoded` made this of. Raises ValueError for a value of another kind."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        fitting = [one for one in kinds if _fits(one, value)]
        kind = fitting[0] if fitting else kind
    if origin is tuple and isinstance(value, list):
        return tuple(_decoded(kinds[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if hasattr(kind, "_fields"):
        return _named_tuple(kind, value, where)
    if not _fits(kind, value):
        raise ValueError(f"{where}: expected {_words(kind)}, found {json.dumps(value)}")
    return float(value) if kind is float else value


def _named_tuple(kind: Any, value: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    own = {name: _name(name) for name in kind._fields if hints[name] is not Candidate}
    inner = [_name(name) for name in Candidate._fields] if len(own) < len(hints) else []
    _check_keys(value, [*inner, *own.values()], where)
    fields = {
        name: UNBOUNDED[kind, name]
        if (kind, name) in UNBOUNDED and value[key] is None
        else _decoded(hints[name], value[key], key)
        for name, key in own.items()
    }
    if inner:
        fields["candidate"] = _decoded(Candidate, {key: value[key] for key in inner}, where)
    return kind(**fields)


def _fits(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if kind in (int, float):
        types = int if kind is int else (int, float)
        return isinstance(value, types) and not isinstance(value, bool)
    return kind in (bool, str, NoneType) and isinstance(value, kind)


def _words(kind: Any) -> str:
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return " or ".join(
        " or ".join(get_args(one)) if get_origin(one) is Literal else words.get(one, "a list") for one in kinds
    )
