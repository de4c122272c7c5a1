"""report.html of any run: whole, escaped, without a script, for two classes and for 77, for one row and for numbers."""

import re
from html import unescape

import numpy as np
import pytest

from jaxfreeze.failures import figures
from jaxfreeze.failures.report import MARK, find
from jaxfreeze.failures.sections import compose
from jaxfreeze.report import page
from tests.failures import made
from tests.report.test_report import HOSTILE, Page

TEXTS = [
    HOSTILE,
    "שלום עולם \u202e abc",
    "😀👩\u200d👩\u200d👧 ok",
    "x" * 10_000,
    "</td></table><script>alert(1)</script>",
    "a\x00b",
]


def html_of(*runs: made.RunAnswers) -> str:
    return page.to_html(compose(find(runs)), MARK, sortable=False)


def all_right(count: int) -> made.RunAnswers:
    label = np.arange(20, dtype=np.int32) % count
    return made.answers_of(made.rows_of(made.classes(count), label), 9 * np.eye(count, dtype=np.float32)[label])


def one_row() -> made.RunAnswers:
    label = np.array([1], np.int32)
    return made.answers_of(made.rows_of(made.classes(3), label), np.zeros((1, 3), np.float32))


def without_rows() -> made.RunAnswers:
    run = made.one_of(5)
    label = np.where(run.rows.label == 3, 0, run.rows.label)
    return made.answers_of(made.rows_of(made.classes(5), label), run.logits)


CASES = {
    "77 classes": lambda: made.one_of(77, 3000),
    "2 classes": lambda: made.one_of(2),
    "300 classes": lambda: made.one_of(300, 900),
    "one row": one_row,
    "all rows right": lambda: all_right(4),
    "a class without rows": without_rows,
    "numbers": made.numbers,
    "one number": lambda: made.numbers(1),
    "many numbers": lambda: made.numbers(5000),
    "any number of classes": made.sets,
    "words": made.tags,
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_run_has_a_page(case: str) -> None:
    text = html_of(CASES[case]())
    found = Page(text)
    assert MARK in text
    assert "NaN" not in text
    assert not re.search(r">nan<|\bNone\b(?!:)", text)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert found.count("script") == found.count("button") == found.count("link") == found.count("img") == 0
    headings = set(re.findall(r"<h2[^>]*>([^<]*)</h2>", text))
    of_numbers = case.endswith(("number", "numbers"))
    expected = {"Scores", "Worst rows", "By length"}
    expected |= {"Predictions and labels"} if of_numbers else {"Classes", "Calibration"}
    expected |= set() if of_numbers or case == "any number of classes" else {"Confusions"}
    expected |= set() if of_numbers or case in ("any number of classes", "words") else {"Labels that look wrong"}
    assert headings == expected
    assert found.count("svg") == (1 if case in ("300 classes", "any number of classes") else 2)
    policy = next(a["content"] for _, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'none'"


def test_texts_and_names_are_shown_and_never_run() -> None:
    objective = made.Classification((HOSTILE, "<b>", "日本語", "$x$_{1}"), ("accuracy",))
    label = np.arange(len(TEXTS), dtype=np.int32) % 4
    rows = made.rows_of(objective, label, [(text,) for text in TEXTS])
    run = made.answers_of(rows, made.logits_of(label, 4), name='runs/"><i>')
    text = html_of(run)
    found = Page(text)
    assert {tag for tag, _ in found.tags} & {"script", "i", "img"} == set()
    shown = unescape(re.sub(r"<[^>]*>", " ", text))
    assert "😀👩\u200d👩\u200d👧 ok" in shown
    assert "alert(1)</script>" in shown
    assert "(10,000 characters)" in shown
    assert "x" * 401 not in shown
    assert "\x00" not in text
    assert 'dir="auto">שלום' in text


def test_several_runs_say_so() -> None:
    one, two = made.one_of(4, name="runs/one"), made.one_of(4, name="runs/two", seed=1, note="runs/two: other rows.")
    alone, together = html_of(one), html_of(one, two)
    assert "Give several --run" in alone
    assert "Give several --run" not in together
    assert "all 2 runs give" in together
    assert "runs/two: other rows." in together


def test_the_temperature_of_the_run_is_used_and_in_sample_is_said() -> None:
    run = made.one_of(4)
    assert "fitted on these very rows" in html_of(run)
    assert "at temperature 1.700" in html_of(run)
    assert "fitted on other rows" in html_of(run._replace(in_sample=False))
    old = find([run._replace(temperature=None, in_sample=False)]).calibration
    assert old.in_sample
    assert old.temperature != 1.7


def test_classes_that_are_confused_lie_side_by_side() -> None:
    count = 20
    matrix = 10 * np.eye(count, dtype=np.int64)
    pairs = [(number, number + 10) for number in range(10)]
    for one, other in pairs:
        matrix[one, other] = matrix[other, one] = 8
    order = figures.class_order(matrix)
    assert sorted(order) == list(range(count))
    assert all(abs(order.index(one) - order.index(other)) == 1 for one, other in pairs)
    assert figures.class_order(matrix[:5, :5]) == [0, 1, 2, 3, 4]


def test_names_that_the_font_cannot_write_are_numbers() -> None:
    assert figures.label_of("日本語", 7) == "class 7"
    assert figures.label_of("Größe", 1) == "Größe"
    assert len(figures.label_of("x" * 100, 1)) == 26
    assert figures.label_of("\u0640\n", 3) != ""


def test_a_picture_of_many_rows_shows_some_of_them_and_always_the_same() -> None:
    points = [(float(number), 0.0, number) for number in range(5000)]
    some = figures.some_of(points)
    assert len(set(some)) == figures.DOTS
    assert some == figures.some_of(points) == sorted(some)
