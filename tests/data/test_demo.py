"""The demo's rows: their number, their truth, and that no surface cue gives the label away."""

import hashlib
import itertools
import re

import numpy as np
import pytest
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from jaxfreeze.data import demo
from jaxfreeze.data.demo import CONTRADICTION, ENTAILMENT, NEUTRAL, demo_split
from jaxfreeze.data.split import Split
from jaxfreeze.errors import InputError

ROWS = {"train": 6000, "validation": 600}
DIGESTS = {
    "train": "e37584f74b89ff3a36b1b8f9395ff4ec1b129d551f9fcfa0767bbad84ef0a39e",
    "validation": "07dca16a42bea3bbae07066c7877457121a5e327c170a99b91c6fe66c42c2378",
}
FEATURES = {
    "premise": (0,),
    "hypothesis": (1,),
    "premise and hypothesis, marked": (0, 1),
}
BOUND = 0.45


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    return {name: demo_split(name) for name in ROWS}


def rows_of(split: Split) -> list[tuple[str, str, int]]:
    assert split.labels is not None
    return list(zip(*split.texts, split.labels.tolist(), strict=True))


@pytest.mark.parametrize("name", ROWS)
def test_size_and_balance(splits: dict[str, Split], name: str) -> None:
    split = splits[name]
    assert split.name == name
    assert split.skipped == 0
    assert split.labels is not None
    assert split.labels.dtype == np.int32
    assert [len(texts) for texts in split.texts] == [ROWS[name], ROWS[name]]
    assert np.bincount(split.labels).tolist() == [ROWS[name] // 3] * 3


def test_no_pair_twice_and_no_premise_in_both(splits: dict[str, Split]) -> None:
    pairs = [(premise, hypothesis) for split in splits.values() for premise, hypothesis, _ in rows_of(split)]
    assert len(set(pairs)) == len(pairs)
    assert not set(splits["train"].texts[0]) & set(splits["validation"].texts[0])


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_the_ones_that_the_docs_measured(splits: dict[str, Split], name: str) -> None:
    text = "".join(f"{premise}\t{hypothesis}\t{label}\n" for premise, hypothesis, label in rows_of(splits[name]))
    assert hashlib.sha256(text.encode()).hexdigest() == DIGESTS[name]
    assert rows_of(demo_split(name)) == rows_of(splits[name])


def test_unknown_split_names_the_two() -> None:
    with pytest.raises(InputError, match=r"no split 'test'; expected one of train, validation"):
        demo_split("test")


def test_pairs_are_short_sentences(splits: dict[str, Split]) -> None:
    for split in splits.values():
        words = [len(premise.split()) + len(hypothesis.split()) for premise, hypothesis, _ in rows_of(split)]
        assert np.mean(words) <= 13
        assert max(words) <= 22
        for sentence in itertools.chain(*split.texts):
            assert re.fullmatch(r"[A-Z][a-z]*( [A-Za-z]+)+\.", sentence)


# --- no surface cue -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("longest", [1, 2])
@pytest.mark.parametrize("columns", FEATURES.values(), ids=list(FEATURES))
def test_bag_of_words_is_near_chance(splits: dict[str, Split], columns: tuple[int, ...], longest: int) -> None:
    counts: dict[str, list[csr_matrix]] = {name: [] for name in splits}
    for column in columns:
        counter = CountVectorizer(ngram_range=(1, longest), token_pattern=r"\w+").fit(splits["train"].texts[column])
        for name, split in splits.items():
            counts[name].append(counter.transform(split.texts[column]))
    model = LogisticRegression(max_iter=1000).fit(hstack(counts["train"]), splits["train"].labels)
    accuracy = model.score(hstack(counts["validation"]), splits["validation"].labels)
    print(f"{columns} up to {longest} words: {accuracy:.3f}")
    assert accuracy < BOUND


def test_shared_and_new_words_and_lengths_are_near_chance(splits: dict[str, Split]) -> None:
    def cues(split: Split) -> list[list[int]]:
        words = [
            (premise[:-1].lower().split(), hypothesis[:-1].lower().split()) for premise, hypothesis, _ in rows_of(split)
        ]
        return [
            [len({*first} & {*second}), len({*second} - {*first}), len(first), len(second)] for first, second in words
        ]

    model = LogisticRegression(max_iter=2000).fit(cues(splits["train"]), splits["train"].labels)
    assert model.score(cues(splits["validation"]), splits["validation"].labels) < BOUND


@pytest.mark.parametrize("name", ROWS)
def test_every_premise_has_each_label_twice(splits: dict[str, Split], name: str) -> None:
    labels: dict[str, list[int]] = {}
    for premise, _, label in rows_of(splits[name]):
        labels.setdefault(premise, []).append(label)
    assert all(sorted(found) == [0, 0, 1, 1, 2, 2] for found in labels.values())


def test_every_claim_is_made_with_all_three_labels(splits: dict[str, Split]) -> None:
    claims: dict[str, set[int]] = {}
    for _, hypothesis, label in rows_of(splits["train"]):
        claims.setdefault(" ".join(hypothesis.split()[-2:]), set()).add(label)
    assert all(labels == {ENTAILMENT, NEUTRAL, CONTRADICTION} for labels in claims.values())


def test_both_sentences_share_only_subject_and_function_words(splits: dict[str, Split]) -> None:
    known = {word.lower() for story in demo.STORIES for word in story.subjects} | {"the", "a", "is", "in", "of"}
    for premise, hypothesis, _ in itertools.chain(*map(rows_of, splits.values())):
        shared = {*premise[:-1].lower().split()} & {*hypothesis[:-1].lower().split()}
        assert shared <= known, (premise, hypothesis)


# --- the labels are true --------------------------------------------------------------------------------------


MEANINGS = {
    f"{story.subject.format(subject)} {words}.".lower(): (topic, choice)
    for story in demo.STORIES
    for topic in story.topics
    for choice in topic
    for words in choice.follows
    for subject in story.subjects
}


def reasoned_label(premise: str, hypothesis: str) -> int:
    """The label from the words alone: the premise says what the hypothesis claims, something else, or nothing."""
    topic, claimed = MEANINGS[hypothesis.lower()]
    words = f" {premise[:-1].lower()} "
    told = [choice for choice in topic if any(f" {said.lower()} " in words for said in choice.said)]
    if not told:
        return NEUTRAL
    (true,) = told
    return ENTAILMENT if true == claimed else CONTRADICTION


@pytest.mark.parametrize("name", ROWS)
def test_labels_follow_from_the_words(splits: dict[str, Split], name: str) -> None:
    for premise, hypothesis, label in rows_of(splits[name]):
        assert reasoned_label(premise, hypothesis) == label, (premise, hypothesis)


@pytest.mark.parametrize("name", ROWS)
def test_both_sentences_are_about_the_same_subject(splits: dict[str, Split], name: str) -> None:
    subjects = {subject.lower() for story in demo.STORIES for subject in story.subjects}
    for premise, hypothesis, _ in rows_of(splits[name]):
        first, second = ({*text[:-1].lower().split()} & subjects for text in (premise, hypothesis))
        assert len(second) == 1
        assert second <= first


def test_no_word_is_said_of_two_things() -> None:
    for story in demo.STORIES:
        said = [word for topic in story.topics for choice in topic for word in choice.said]
        follows = [words for topic in story.topics for choice in topic for words in choice.follows]
        assert len(set(said)) == len(said)
        assert len(set(follows)) == len(follows)
