"""What the cells of a label column say: classes, numbers, and every error's exact line."""

import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.objectives.label_cells import MAX_CLASSES, ClassIds, read_score


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["b", "a", "B"], ("B", "a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        ([10, 9, "9"], ("9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([True, False], ("false", "true")),
        ([" yes ", "yes", "no"], ("no", "yes")),
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
        ("-.5e3", "label '-.5e3' is neither a whole number nor a name; for scores use --regression"),
        (2.0, "label '2.0' is neither a whole number nor a name; for scores use --regression"),
        (1e20, "label '1e+20' is neither a whole number nor a name; for scores use --regression"),
        (float("nan"), "label 'nan' is neither a whole number nor a name; for scores use --regression"),
    ],
)
@pytest.mark.parametrize("known", [(), ("yes", "no")])
def test_a_cell_that_names_no_class(known, cell, message):
    with pytest.raises(InputError) as error:
        ClassIds(known)(cell)
    assert str(error.value) == message


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


@pytest.mark.parametrize(("cell", "score"), [("3.5", 3.5), ("-1e3", -1000.0), (2, 2.0), (0.25, 0.25), ("0", 0.0)])
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
