"""What the cells of a label column say: classes, numbers, and every error's exact line."""

import json
import math
from decimal import Decimal

import numpy as np
import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.objectives.label_cells import MAX_CLASSES, MISSING, ClassIds, MissingLabelError, class_name, read_score


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["b", "a", "B"], ("B", "a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        ([10, 9, "9"], ("9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([True, False], ("false", "true")),
        ([" yes ", "yes", "no"], ("no", "yes")),
        (["2.0", 10.0, "1e1", Decimal("2")], ("2", "10")),
        (["+1", "-1", 1, -1.0], ("-1", "+1")),
        (["007", "10", 7], ("007", "10")),
    ],
)
def test_new_classes_are_sorted_by_value_or_by_spelling(cells, order):
    classes = ClassIds(())
    for cell in cells:
        classes(cell)
    assert classes.in_order() == order


def test_known_classes_keep_their_ids():
    classes = ClassIds(["yes", "no"])
    assert [classes(cell) for cell in ("no", "yes", " no")] == [1, 0, 1]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "expected a label (text or a whole number), found none; fill it in or leave the row out"),
        ("  ", "expected a label (text or a whole number), found none; fill it in or leave the row out"),
        (None, "expected a label (text or a whole number), found none; fill it in or leave the row out"),
        ([1], "expected a label (text or a whole number), found a list; fill it in or leave the row out"),
        ("0.5", "label '0.5' is neither a whole number nor a name; for scores use --regression"),
        ("-.5e-3", "label '-.5e-3' is neither a whole number nor a name; for scores use --regression"),
        (2.5, "label '2.5' is neither a whole number nor a name; for scores use --regression"),
        (Decimal("2.5"), "label '2.5' is neither a whole number nor a name; for scores use --regression"),
        (math.inf, "label 'inf' is neither a whole number nor a name; for scores use --regression"),
        (1e20, "label '1e+20' is neither a whole number nor a name; for scores use --regression"),
        (math.nan, "expected a label (text or a whole number), found none; fill it in or leave the row out"),
        (Decimal("NaN"), "expected a label (text or a whole number), found none; fill it in or leave the row out"),
    ],
)
@pytest.mark.parametrize("known", [(), ("yes", "no")])
def test_a_cell_that_names_no_class(known, cell, message):
    with pytest.raises(InputError) as error:
        ClassIds(known)(cell)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("1", [1, 1.0, "1", "1.0", "1.", " 1 ", "+1", "01", "1e0", Decimal("1.00"), np.int64(1), np.float32(1)]),
        ("0", [0, 0.0, -0.0, "0", "-0", "0.0", "-0.0", "00"]),
        ("-12", [-12, -12.0, "-12", "-12.0", "-012", Decimal("-12")]),
        ("true", [True, "True", "TRUE", "true", np.bool_(True), json.loads("true")]),
        ("false", [False, "False", "FALSE", "false"]),
        ("12345678901234567890", [12345678901234567890, "12345678901234567890"]),
        ("T", ["T"]),
        ("1_000", ["1_000"]),
    ],
)
def test_a_cell_means_the_same_in_every_format(name: str, cells: list) -> None:
    assert {class_name(cell) for cell in cells} == {name}
    known, grown = ClassIds(["other", name]), ClassIds(())
    assert {known(cell) for cell in cells} == {1}
    assert {grown(cell) for cell in cells} == {0}


@pytest.mark.parametrize("name", ["True", "01", "1.0", "TRUE"])
def test_a_known_class_is_found_by_its_meaning_however_it_is_spelled(name: str) -> None:
    classes = ClassIds(["none", name])
    assert {classes(cell) for cell in (name, class_name(name), json.loads(class_name(name)))} == {1}


def test_a_known_spelling_comes_before_its_meaning() -> None:
    classes = ClassIds(["1", "01", "001", "x"])
    assert [classes(cell) for cell in ("1", "01", "001", 1, 1.0)] == [0, 1, 2, 0, 0]
    with pytest.raises(InputError, match=r"^label '1' is not one of 01, 001$"):
        ClassIds(["01", "001"])(1)


def test_what_pandas_reads_as_missing_is_no_class() -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    assert STR_NA_VALUES == MISSING
    for cell in MISSING - {""}:
        for known in ((), ("yes", "no")):
            with pytest.raises(MissingLabelError) as error:
                ClassIds(known)(f" {cell}")
            assert str(error.value) == (
                f"expected a label, found '{cell}', which stands for a missing one; fill it in or leave the row out"
                + ("" if known else ", or name all classes in --label_names if this is one")
            )
        assert ClassIds(["yes", cell])(cell) == 1  # but a class that is called so
        with pytest.raises(MissingLabelError, match=r"^expected a finite number as label, found '"):
            read_score(cell)


def test_many_classes_are_not_all_listed() -> None:
    with pytest.raises(InputError, match=r"^label 'x' is not one of c0, c1, .*, c19 and 480 more$"):
        ClassIds([f"c{number}" for number in range(500)])("x")


def test_a_label_that_is_not_known_lists_all_of_them_and_the_same_word():
    with pytest.raises(InputError) as error:
        ClassIds(["entailment", "not_entailment"])("Not entailment")
    expected = "label 'Not entailment' is not one of entailment, not_entailment; did you mean 'not_entailment'?"
    assert str(error.value) == expected


def test_too_many_classes_look_like_an_id_column():
    classes = ClassIds(())
    for label in range(MAX_CLASSES):
        classes(label)
    assert classes(0) == 0
    with pytest.raises(
        InputError, match=r"^more than 1000 different labels; is this an id column, .* --regression\)\?$"
    ):
        classes(MAX_CLASSES)


@pytest.mark.parametrize(
    ("cell", "score"),
    [
        ("3.5", 3.5),
        ("-1e3", -1000.0),
        (2, 2.0),
        (0.25, 0.25),
        ("0", 0.0),
        (Decimal("1.5"), 1.5),
        (np.int8(3), 3.0),
        (np.float32(0.5), 0.5),
    ],
)
def test_a_score_is_a_number_or_its_spelling(cell, score):
    assert read_score(cell) == score


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("", "none"),
        (None, "none"),
        ("high", "'high'"),
        ("nan", "'nan'"),
        (float("inf"), "'inf'"),
        ("1_000", "'1_000'"),
        ("1e39", "'1e39'"),
        (10**400, "'1" + "0" * 59 + "'"),
        (True, "'True'"),
        ([1.0], "'[1.0]'"),
    ],
)
def test_a_cell_that_is_no_finite_number(cell, found):
    with pytest.raises(InputError) as error:
        read_score(cell)
    assert str(error.value) == f"expected a finite number as label, found {found}"


@pytest.mark.parametrize("cell", ["-0.1", "5.001"])
def test_a_score_outside_its_bounds(cell):
    assert (read_score("0", (0, 5)), read_score("5.000", (0, 5))) == (0.0, 5.0)
    with pytest.raises(InputError) as error:
        read_score(cell, (0, 5))
    assert str(error.value) == f"expected a score from 0 to 5, found {cell}"
