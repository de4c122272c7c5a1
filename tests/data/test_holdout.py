"""Held-out rows: shares of classes, identical texts on one side, and the same rows on every machine."""

from typing import ClassVar

import numpy as np
import pytest

from jaxfreeze.data.holdout import hold_out
from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Classification, Regression, Strata

NAMES = tuple("abcde")


def classes(count: int, seed: int = 0) -> np.ndarray:
    """Labels of five classes, the rarest of them 1% of the rows."""
    label = np.random.default_rng(seed).choice(5, count, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    label[:10] = np.tile(np.arange(5), 2)
    return label


def texts_of(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.33, 0.5, 0.9])
@pytest.mark.parametrize("count", [10, 57, 1000])
def test_every_class_keeps_its_share_to_within_one_row(count: int, share: float) -> None:
    label = classes(count)
    train, held = hold_out([texts_of(count)], Strata(label, NAMES), share, 0)
    assert sorted([*train, *held]) == list(range(count))
    assert (train.tolist(), held.tolist()) == (sorted(train), sorted(held))
    counts, found = np.bincount(label, minlength=5), np.bincount(label[held], minlength=5)
    exact = np.clip(share * counts, 1, counts - 1)
    assert (abs(found - exact) < 1 + 1e-6).all()
    assert (found >= 1).all()
    assert (found <= counts - 1).all()
    if (exact == share * counts).all():
        assert len(held) == round(share * count)


def test_identical_texts_stay_on_one_side() -> None:
    random = np.random.default_rng(1)
    first = [f"{'  ' * (number % 2)}text {random.integers(300)} " for number in range(900)]
    second = [f"{random.integers(2)}" for _ in first]
    label = np.array([hash_of(one, two) % 3 for one, two in zip(first, second, strict=True)])
    for share in (0.1, 0.5):
        train, held = hold_out([first, second], Strata(label, ("a", "b", "c")), share, 3)
        sides = [{(first[row].strip(), second[row]) for row in side} for side in (train, held)]
        assert not sides[0] & sides[1]
        found, counts = np.bincount(label[held], minlength=3), np.bincount(label)
        assert (abs(found - share * counts) <= 3).all()  # hardly any text stands once here


def hash_of(one: str, two: str) -> int:
    return sum(map(ord, one.strip() + two))


def test_capitals_and_the_order_of_two_texts_make_other_texts() -> None:
    columns = [["A", "a", "b", "c"], ["a", "A", "c", "b"]]
    assert len(hold_out(columns, Strata(np.array([0, 0, 1, 1]), ("x", "y")), 0.5, 0)[1]) == 2


def test_some_repeated_texts_are_held_out_but_no_text_decides_the_score() -> None:
    texts = [f"twice {number // 2}" for number in range(200)] + ["often"] * 50 + texts_of(250)
    label = np.zeros(500, int)
    label[::2] = label[1::2] = np.arange(250) % 2
    held = hold_out([texts], Strata(label, ("x", "y")), 0.2, 0)[1]
    found = [texts[row] for row in held]
    assert "often" not in found
    assert 0.1 < sum(text.startswith("twice") for text in found) / 200 < 0.3
    assert len(held) == 100


def test_a_class_whose_texts_all_repeat_is_on_both_sides() -> None:
    texts = ["one"] * 7 + ["two"] * 3 + texts_of(20)
    label = np.array([1] * 10 + [0] * 20)
    train, held = hold_out([texts], Strata(label, ("x", "y")), 0.1, 0)
    assert sorted({texts[row] for row in held if label[row]}) == ["two"]  # the smaller group
    assert 1 in label[train]


def test_the_choice_is_the_seeds_alone() -> None:
    texts, strata = [texts_of(30)], Strata(np.arange(30) % 2, ("x", "y"))
    held = hold_out(texts, strata, 0.2, 0)[1].tolist()
    assert held == PINNED  # on every machine, with every version of numpy
    assert held == hold_out(texts, strata, 0.2, 0)[1].tolist()
    assert held != hold_out(texts, strata, 0.2, 1)[1].tolist()


PINNED = [4, 6, 11, 13, 16, 29]


def test_any_number_of_classes_each() -> None:
    member = np.random.default_rng(0).random((3000, 20)) < np.linspace(0.001, 0.3, 20)
    held = hold_out([texts_of(3000)], Strata(member), 0.2, 0)[1]
    found, counts = member[held].sum(0), member.sum(0)
    assert (abs(found - 0.2 * counts) <= 2).all()
    assert (found[counts > 1] >= 1).all()
    none = ~member.any(1)
    assert abs(none[held].sum() - 0.2 * none.sum()) <= 2


def test_a_class_of_one_row_is_named() -> None:
    label = np.array([0, 0, 0, 0, 1, 2, 2])
    message = (
        "class 'rare' has 1 row of 1 text, too few to be among the training and the validation rows; add rows of it"
    )
    with pytest.raises(InputError, match=message):
        hold_out([texts_of(7)], Strata(label, ("x", "rare", "y")), 0.5, 0)
    label[1] = 1
    with pytest.raises(InputError, match="class 'rare' has 2 rows of 1 text"):
        hold_out([["a", "same", "b", "c", "same", "d", "e"]], Strata(label, ("x", "rare", "y")), 0.5, 0)
    rows = hold_out([texts_of(7)], Strata(np.eye(3, dtype=bool)[label]), 0.5, 0)  # any number of classes: it may be so
    assert len(rows[0]) + len(rows[1]) == 7
    with pytest.raises(InputError, match="two different texts or more"):
        hold_out([["same", "same"]], Strata(np.zeros((2, 1), bool)), 0.5, 0)


def test_numbers_are_drawn_from_low_to_high() -> None:
    label = np.random.default_rng(0).normal(size=500).astype(np.float32) ** 3
    strata = Regression().strata(label, np.ones(500, np.int64))
    assert np.bincount(strata.member).tolist() == [50] * 10
    held = hold_out([texts_of(500)], strata, 0.1, 0)[1]
    assert np.bincount(strata.member[held]).tolist() == [5] * 10
    few = Regression().strata(label[:7], np.ones(7, np.int64))
    assert len(hold_out([texts_of(7)], few, 0.1, 0)[1]) == 1


class OfWords(Classification):
    """A class for each word."""

    by_token: ClassVar[bool] = True


def test_sentences_with_a_named_word_and_without_keep_their_shares() -> None:
    counts = np.array([1, 2, 3] * 40)
    label = np.zeros(counts.sum(), np.int32)
    label[np.cumsum(counts)[::4] - 1] = 1  # every fourth sentence has one
    strata = OfWords(("O", "B-PER")).strata(label, counts)
    assert strata.member.tolist() == [1, 0, 0, 0] * 30
    held = hold_out([texts_of(120)], strata, 0.2, 0)[1]
    assert np.bincount(strata.member[held]).tolist() == [18, 6]
