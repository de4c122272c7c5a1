"""answer.json: what it holds, that nothing of an answer is lost, and that nothing else is taken for one."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.search import answer_file
from jaxfreeze.search.answer import Answer
from jaxfreeze.search.judge import judge
from tests.search.made import about, labels, question, reported, with_rates

LABEL = labels(100)


def made(full: bool = True, **changes: Any) -> Answer:
    found = [with_rates(1, LABEL, (0.2, 0.21, 0.22)), with_rates("all", LABEL, (0.1, 0.11, 0.14))]
    answer = judge(question(), found[: 1 + full], found, reported(LABEL), about())
    return dataclasses.replace(answer, **changes)


def unbounded() -> Answer:
    answer = made()
    points = tuple(point._replace(quality_low=-math.inf, quality_high=math.inf) for point in answer.points)
    return dataclasses.replace(answer, points=points, chosen=points[1], best=points[1], full=points[1])


@pytest.mark.parametrize("answer", [made(), made(full=False), unbounded(), made(sure=False, rates=(), dropped=())])
def test_an_answer_is_read_as_it_was_written(answer: Answer, tmp_path: Path) -> None:
    answer_file.write(answer, tmp_path / "answer.json")
    assert answer_file.read(tmp_path / "answer.json") == answer
    assert [file.name for file in tmp_path.iterdir()] == ["answer.json"]


def test_the_schema(tmp_path: Path) -> None:
    answer = made()
    answer_file.write(answer, tmp_path / "answer.json")
    found = json.loads((tmp_path / "answer.json").read_text())
    candidate = {"trainable_layers": "all", "learning_rate": 1e-4, "epochs": 3}
    assert {name: found[name] for name in candidate} == candidate
    assert found["best"] == found["full"] == candidate | {"score": answer.best.score}
    assert found["seconds"] == {"search": 100.0, "chosen": 13.0, "full": 13.0}
    for name in ("score", "low", "high", "p_within", "p_keeps"):
        assert found[name] == getattr(answer.chosen, name)
    assert list(found["front"][0]) == [
        *("trainable_layers", "learning_rate", "epochs", "score", "low", "high"),
        *("quality", "quality_low", "quality_high", "p_within", "p_keeps", "regret", "seconds", "scores", "on_front"),
    ]
    assert [point["trainable_layers"] for point in found["front"]] == [1, "all"]
    assert (found["runs"], found["command"]) == (40, "train --trainable_layers all")
    assert found["dominant_uncertainty"] in ("seeds", "rows")
    assert found["dropped"] == [{"trainable_layers": 2, "reason": "no better than k = 1"}]
    others = {field.name for field in dataclasses.fields(Answer)} - {"points", "chosen"}
    assert set(found) - set(candidate) - {"score", "low", "high", "p_within", "p_keeps", "front"} == others


def test_an_unbounded_end_is_null() -> None:
    point = answer_file.as_json(unbounded())["front"][0]
    assert (point["quality_low"], point["quality_high"]) == (None, None)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_nan_is_written(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        answer_file.write(made(constant=value), tmp_path / "answer.json")
    assert list(tmp_path.iterdir()) == []


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    *way, last = path.split(".")

    def change(content: dict[str, Any]) -> object:
        inner: Any = content
        for key in way:
            inner = inner[int(key) if key.isdecimal() else key]
        return inner.__setitem__(last, value)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content.pop("runs"), "the file: no runs"),
        (changed("extra", 1), "the file: extra means nothing"),
        (changed("front.0.extra", 1), r"front\[0\]: extra means nothing"),
        (changed("runs", 1.5), "runs: expected a whole number, found 1.5"),
        (changed("sure", 1), "sure: expected true or false, found 1"),
        (changed("trainable_layers", "none"), 'trainable_layers: expected a whole number or all, found "none"'),
        (changed("dominant_uncertainty", "x"), 'dominant_uncertainty: expected seeds or rows, found "x"'),
        (changed("front", {}), "front: expected a list, found {}"),
        (changed("best", []), r"best: expected an object, found \[\]"),
        (changed("best.trainable_layers", 5), "best: .*is not in front"),
        (changed("score", 0.25), "score and front say different things"),
        (changed("seconds.full", None), "seconds and front say different things"),
        (changed("constant", None), "constant: expected a number, found null"),
    ],
)
def test_what_is_no_answer_is_refused(change: Callable[[dict[str, Any]], object], reason: str, tmp_path: Path) -> None:
    content = answer_file.as_json(made())
    change(content)
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"answer.json: not an answer of --find_layers: {reason}"):
        answer_file.read(file)


@pytest.mark.parametrize("text", ["", "[1", "NaN", '{"constant": Infinity}'])
def test_what_is_not_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text(text)
    with pytest.raises(InputError, match="not JSON"):
        answer_file.read(tmp_path / "answer.json")
    with pytest.raises(InputError, match="cannot be read"):
        answer_file.read(tmp_path / "missing.json")
