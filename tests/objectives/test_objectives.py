"""Kinds of label: loss, scores, predictions and labels, against PyTorch and values worked out by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxfreeze.errors import InputError
from jaxfreeze.objectives import OBJECTIVES, Classification, MultiLabel, Objective, Regression
from tests.reference import pytorch

MOODS = Classification(("good", "bad", "mixed"), ("accuracy",))
YES_NO = Classification(("no", "yes"), ("f1", "accuracy"), codes=("0", "1"))
STARS = Regression(bounds=(0.0, 5.0))
LOGITS = {MOODS: (4, 5, 3), YES_NO: (4, 5, 2), STARS: (4, 5, 1)}  # [R, S, C]
each = pytest.mark.parametrize("objective", LOGITS, ids=("moods", "yes_no", "stars"))


def examples(objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """Random logits [R, S, C] and labels [R, S]."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, LOGITS[objective]).astype(np.float32)
    labels = random.integers(0, max(2, logits.shape[-1]), logits.shape[:-1])
    return logits, labels.astype(objective.label_dtype)


@each
def test_the_loss_and_its_gradient_are_pytorchs(objective: Objective) -> None:
    torch = pytorch()
    logits, label = examples(objective)
    theirs = torch.tensor(logits, requires_grad=True)
    if objective is STARS:
        expected = torch.nn.functional.mse_loss(theirs[..., 0], torch.tensor(label), reduction="none")
    else:
        flat = theirs.reshape(-1, theirs.shape[-1]), torch.tensor(label.reshape(-1)).long()
        expected = torch.nn.functional.cross_entropy(*flat, reduction="none").reshape(label.shape)
    expected.sum().backward()
    losses = objective.loss(logits, label)
    assert (losses.dtype, losses.shape) == (np.float32, label.shape)
    np.testing.assert_allclose(losses, expected.detach().numpy(), atol=1e-5, rtol=0)
    gradient = jax.grad(lambda logits: objective.loss(logits, label).sum())(logits)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-5, rtol=0)


def test_equal_objectives_are_one_static_argument() -> None:
    traced = []

    def step(objective: Objective, logits: jax.Array, label: jax.Array) -> jax.Array:
        traced.append(objective)
        return objective.loss(logits, label)

    compiled = jax.jit(step, static_argnums=0)
    logits, label = examples(YES_NO)
    for _ in range(2):
        compiled(dataclasses.replace(YES_NO), logits, label)
    assert traced == [YES_NO]
    assert hash(dataclasses.replace(YES_NO)) == hash(YES_NO)
    compiled(Classification(("no", "yes")), logits, label)
    assert len(traced) == 2
    assert len({MOODS, YES_NO, STARS, Regression(), Regression(("pearson",)), Classification(("a", "b", "c"))}) == 6
    with pytest.raises(dataclasses.FrozenInstanceError):
        YES_NO.labels = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("objective", "logits", "label", "expected"),
    [
        (MOODS, [[3, 1, 2], [0, 1, 2], [1, 0, -1], [0, 2, 1]], [0, 2, 1, 1], {"accuracy": 3 / 4}),
        (YES_NO, [[0, 1], [0, 1], [1, 0], [1, 0]], [1, 0, 1, 0], {"f1": 2 / 4, "accuracy": 2 / 4}),
        (STARS, [[1], [3], [2]], [0.5, 2.5, 1.5], {"spearman": 1.0, "pearson": 1.0}),
    ],
)
def test_a_score(objective: Objective, logits: list, label: list, expected: dict[str, float]) -> None:
    found = objective.score(np.array(logits, np.float32), np.array(label, objective.label_dtype))
    assert found == {name: pytest.approx(value, abs=1e-12) for name, value in expected.items()}
    assert list(found) == list(objective.metrics) == list(expected)
    assert objective.primary_metric == next(iter(expected))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@each
def test_logits_that_are_not_finite_raise(objective: Objective, value: float) -> None:
    logits = np.ones((3, objective.num_outputs), np.float32)
    logits[1, 0] = value
    with pytest.raises(ValueError, match="cannot score: some logits are not finite"):
        objective.score(logits, np.array([0, 1, 1], objective.label_dtype))


def test_default_metrics() -> None:
    assert Classification(("a", "b")).metrics == ("accuracy", "f1")
    assert Classification(("a", "b", "c")).metrics == ("accuracy", "macro_f1")
    assert Regression().metrics == ("spearman", "pearson")


def test_predictions_of_classes() -> None:
    logits = np.array([[0, np.log(3), 0], [1000, 0, 0]], np.float32)
    first, second = MOODS.predictions(logits)
    assert first.prediction == "bad"
    assert list(first.probabilities) == ["good", "bad", "mixed"]
    assert list(first.probabilities.values()) == pytest.approx([0.2, 0.6, 0.2], abs=1e-7)
    assert second.as_json() == {
        "prediction": "good",
        "probabilities": {"good": 1.0, "bad": 0.0, "mixed": 0.0},
        "logits": [1000.0, 0.0, 0.0],
    }


def test_predictions_of_scores() -> None:
    assert [one.as_json() for one in STARS.predictions(np.array([[2.5], [7]], np.float32))] == [
        {"prediction": 2.5, "logits": [2.5]},
        {"prediction": 7.0, "logits": [7.0]},
    ]


def test_answers_are_spelled_as_glue_spells_them() -> None:
    logits = np.array([[0, 1], [1, 0]], np.float32)
    assert YES_NO.glue_answers(logits) == ["1", "0"]
    assert Classification(("no", "yes")).glue_answers(logits) == ["yes", "no"]
    scores = np.array([[-0.2], [5.3], [2.34567]], np.float32)
    assert STARS.glue_answers(scores) == ["0.000", "5.000", "2.346"]
    assert Regression().glue_answers(scores) == ["-0.200", "5.300", "2.346"]


def read(objective: Objective, cells: list) -> tuple[list, Objective]:
    """The labels of a column of cells, and the objective afterwards."""
    reader = objective.reader("mood")
    for cell in cells:
        reader.read(cell)
    labels, found = reader.finish()
    assert labels.dtype == objective.label_dtype
    assert labels.shape == (len(cells), *objective.label_shape)
    return labels.tolist(), found


def test_a_training_file_gives_the_classes() -> None:
    assert read(Classification(), ["10", "9", 10, "-1"]) == ([2, 1, 2, 0], Classification(("-1", "9", "10")))
    assert read(Classification.of(()), ["b", "a"]) == ([1, 0], Classification(("a", "b"), ("accuracy", "f1")))
    with pytest.raises(InputError) as error:
        read(Classification(), ["a", "a"])
    assert str(error.value) == "expected two classes or more in column 'mood', found only 'a'"


def test_known_classes_keep_their_ids() -> None:
    assert read(MOODS, ["bad", " good", "bad"]) == ([1, 0, 1], MOODS)
    assert read(YES_NO, ["1", "0"]) == ([1, 0], YES_NO)  # by their codes
    with pytest.raises(InputError, match=r"^label 'yes' is not one of 0, 1$"):
        read(YES_NO, ["yes"])


def test_scores_are_read_within_their_bounds() -> None:
    assert read(STARS, ["5.000", 0]) == ([5.0, 0.0], STARS)
    assert read(Regression.of(["kept", "out"]), ["-6.5"]) == ([-6.5], Regression())
    with pytest.raises(InputError, match=r"^expected a score from 0 to 5, found 6$"):
        read(STARS, ["6"])


def test_other_ids_are_matched_by_name() -> None:
    ids = np.array([0, 2, 1, 0])
    assert MOODS.renumber(ids, ["mixed", "good", "bad"]).tolist() == [2, 1, 0, 2]
    assert MOODS.renumber(ids, MOODS.labels).dtype == np.int32
    assert STARS.renumber(np.array([0.5, 5.0]), ()).dtype == np.float32
    with pytest.raises(InputError, match=r"^expected the labels \['good', 'bad', 'mixed'\], found \['good', 'bad'\]$"):
        MOODS.renumber(ids, ["good", "bad"])


def test_what_other_places_say_of_them() -> None:
    for name, kind in {"classification": Classification, "multi_label": MultiLabel, "regression": Regression}.items():
        assert OBJECTIVES[name] is kind
    assert (MOODS.about(), STARS.about()) == (["good", "bad", "mixed"], "regression")
    assert (MOODS.describe(), STARS.describe()) == ("3 classes, named in config.json", "a number as label")
    assert YES_NO.hugging_face_config() == {
        "id2label": {"0": "no", "1": "yes"},
        "label2id": {"no": 0, "yes": 1},
        "problem_type": "single_label_classification",
    }
    assert STARS.hugging_face_config() == {
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "problem_type": "regression",
    }
