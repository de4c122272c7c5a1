"""Losses with class weights and smoothing against PyTorch's, and the weights that the words of a flag stand for."""

import jax
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from jaxfreeze.errors import InputError
from jaxfreeze.objectives import Classification, MultiLabel, Objective, Regression
from jaxfreeze.objectives.losses import binary_cross_entropy, class_weight, cross_entropy
from tests.reference import pytorch

WEIGHTS = (0.3, 1.0, 2.5, 7.0)
ABC = Classification(("a", "b", "c"))
TAGS = MultiLabel(("a", "b", "c"))


def logits_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3, shape).astype(np.float32)


@pytest.mark.parametrize("weights", [(), WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_pytorchs(weights: tuple[float, ...], smoothing: float) -> None:
    """Mean and gradient, with labels that are none too, which PyTorch calls -100."""
    torch = pytorch()
    logits, label = logits_of(5, 6, 4), np.random.default_rng(2).integers(-1, 4, (5, 6)).astype(np.int32)
    assert (label == -1).any()

    def mean(logits: jax.Array) -> jax.Array:
        counts = class_weight(label, weights)
        return (cross_entropy(logits, label, weights, smoothing) * (counts > 0)).sum() / counts.sum()

    theirs = torch.tensor(logits.reshape(-1, 4), requires_grad=True)
    weight = torch.tensor(weights) if weights else None
    loss = torch.nn.CrossEntropyLoss(weight, ignore_index=-1, label_smoothing=smoothing)
    expected = loss(theirs, torch.tensor(label.reshape(-1)).long())
    expected.backward()
    value, gradient = jax.value_and_grad(mean)(logits)
    assert float(value) == pytest.approx(expected.item(), abs=1e-5)
    np.testing.assert_allclose(gradient.reshape(-1, 4), theirs.grad.numpy(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("weights", [(), WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_binary_cross_entropy_is_pytorchs(weights: tuple[float, ...], smoothing: float) -> None:
    torch = pytorch()
    logits, label = 5 * logits_of(5, 6, 4), np.random.default_rng(2).integers(0, 2, (5, 6, 4), np.uint8)
    theirs = torch.tensor(logits, requires_grad=True)
    target = torch.tensor(label).float() * (1 - smoothing) + smoothing / 2
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights) if weights else None)(theirs, target)
    expected.backward()
    losses = binary_cross_entropy(logits, label, weights, smoothing)
    assert (losses.shape, losses.dtype) == ((5, 6), np.float32)
    assert float(losses.mean()) == pytest.approx(expected.item(), abs=1e-5)
    gradient = jax.grad(lambda logits: binary_cross_entropy(logits, label, weights, smoothing).mean())(logits)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-6, rtol=0)


def test_without_flags_the_loss_is_as_before_bit_for_bit() -> None:
    import optax

    logits, label = logits_of(5, 6, 3), np.random.default_rng(2).integers(0, 3, (5, 6), np.int32)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    assert np.asarray(ABC.loss(logits, label)).tobytes() == np.asarray(expected).tobytes()
    assert np.asarray(ABC.weight(label)).tobytes() == np.ones((5, 6), np.float32).tobytes()


def test_an_objective_with_weights() -> None:
    label = np.array([0, 0, 0, 1, 1, 2], np.int32)
    trained = ABC.trained_with(("c=4", "a=0.5"), 0.2, label)
    assert (trained.class_weights, trained.smoothing) == ((0.5, 1.0, 4.0), 0.2)
    assert hash(trained) != hash(ABC)
    assert trained.weight(label).tolist() == [0.5, 0.5, 0.5, 1.0, 1.0, 4.0]
    logits = logits_of(6, 3)
    expected = cross_entropy(logits, label, (0.5, 1.0, 4.0), 0.2)
    np.testing.assert_array_equal(trained.loss(logits, label), expected)
    assert trained.score(logits, label) == ABC.score(logits, label)
    assert ABC.trained_with((), 0.0, label) == ABC


def test_balanced_is_scikit_learns() -> None:
    label = np.array([0] * 7 + [1] * 2 + [2], np.int32)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=label)
    assert ABC.trained_with(("balanced",), 0.0, label).class_weights == pytest.approx(tuple(expected), abs=1e-12)


def test_balanced_classes_of_which_a_row_has_any_number() -> None:
    label = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 1]], np.uint8)
    assert TAGS.trained_with(("balanced",), 0.0, label).class_weights == (3 / 2, 4.0, 1 / 4)  # negatives / positives
    trained = TAGS.trained_with(("b=3",), 0.1, label)
    assert (trained.class_weights, trained.smoothing) == ((1.0, 3.0, 1.0), 0.1)
    logits = logits_of(5, 3)
    np.testing.assert_array_equal(
        trained.loss(logits, label), binary_cross_entropy(logits, label, (1.0, 3.0, 1.0), 0.1)
    )


MANY = np.random.default_rng(3).integers(0, 3, 50).astype(np.int32)
REFUSED = [
    (ABC, ("d=2",), MANY, "--class_weights d=2: no class 'd'; expected one of a, b, c"),
    (ABC, ("a=2", "a=3"), MANY, "--class_weights: 'a' appears twice; expected each class once"),
    (ABC, ("a=0",), MANY, "--class_weights a=0: expected a weight from 1e-06 to 1e+06, found '0'"),
    (ABC, ("a=nan",), MANY, "--class_weights a=nan: expected a weight from 1e-06 to 1e+06, found 'nan'"),
    (ABC, ("a=-1",), MANY, "--class_weights a=-1: expected a weight from 1e-06 to 1e+06, found '-1'"),
    (ABC, ("a=x",), MANY, "--class_weights a=x: expected a weight from 1e-06 to 1e+06, found 'x'"),
    (ABC, ("a",), MANY, "--class_weights a: expected balanced alone, or NAME=W for classes by name"),
    (
        ABC,
        ("balanced", "a=2"),
        MANY,
        "--class_weights balanced: expected balanced alone, or NAME=W for classes by name",
    ),
    (
        *(ABC, ("balanced",), np.array([0, 1, 1])),
        "--class_weights balanced: no training row has the class 'c'; leave it out of --label_names, or give",
    ),
    (
        *(TAGS, ("balanced",), np.array([[1, 0, 1], [1, 1, 0]])),
        "--class_weights balanced: every training row has the class 'a'; leave it out",
    ),
    (Regression(), ("a=2",), MANY, "--class_weights: expected labels that are classes, found regression; leave it out"),
]


@pytest.mark.parametrize(("objective", "words", "label", "line"), REFUSED)
def test_weights_that_are_none(objective: Objective, words: tuple[str, ...], label: np.ndarray, line: str) -> None:
    with pytest.raises(InputError) as error:
        objective.trained_with(words, 0.0, label)
    assert str(error.value).startswith(line)


def test_a_name_may_hold_an_equals_sign() -> None:
    assert Classification(("x=1", "b")).trained_with(("x=1=2",), 0.0, np.array([0, 1])).class_weights == (2.0, 1.0)
