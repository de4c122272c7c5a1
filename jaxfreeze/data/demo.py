"""The demo task: short three-way inference pairs written by a grammar, so that a first run downloads no data set.

A scene is one premise that settles two of its story's three topics, with six hypotheses, two per label. Each settled
topic gives one that follows (in Rome: in Italy) and one that is excluded (in Rome: in Spain); the silent topic gives
two of which nothing is known. A hypothesis never repeats what the premise said, and every claim is made with all
three labels, so the words of one sentence do not tell the label and shared words barely: the meanings have to meet.
"""

import random
from typing import NamedTuple

import numpy as np

from jaxfreeze.data.split import Split
from jaxfreeze.errors import InputError, one_of_names

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
SCENES = {"train": 1000, "validation": 100}
SEED = 2024

Row = tuple[str, str, int]  # premise, hypothesis, label id


class Choice(NamedTuple):
    """One of the values of a topic; the values of a topic exclude each other."""

    said: tuple[str, ...]
    """Ways to say it in a premise."""
    follows: tuple[str, ...]
    """What is then true of the subject: the hypothesis after its subject."""


Topic = tuple[Choice, ...]


class Story(NamedTuple):
    """One sort of subject and three things to know about it."""

    subjects: tuple[str, ...]
    subject: str
    """How a hypothesis names the subject."""
    topics: tuple[Topic, Topic, Topic]
    premises: dict[tuple[int, int], str]
    """For two topics, the sentence that settles them: {0} is the subject, {1} and {2} what is said of the two."""


def _topic(table: dict[str, str]) -> Topic:
    """A topic from `what may be said: what then follows`, alternatives between commas."""
    return tuple(Choice(tuple(said.split(", ")), tuple(follows.split(", "))) for said, follows in table.items())


_TOWNS = {
    "Paris, Lyon, Marseille": "France",
    "Madrid, Barcelona, Seville": "Spain",
    "Rome, Milan, Naples": "Italy",
    "Berlin, Munich, Hamburg": "Germany",
    "Tokyo, Osaka, Kyoto": "Japan",
    "London, Liverpool, Manchester": "England",
}
WHEREABOUTS = _topic({town: f"is in {country}, is staying in {country}" for town, country in _TOWNS.items()})
ORIGIN = _topic({town: f"was made in {country}, has its origin in {country}" for town, country in _TOWNS.items()})

_TRADES = {
    "surgeon, nurse, dentist": "medicine",
    "pianist, violinist, drummer": "music",
    "judge, lawyer, prosecutor": "law",
    "soldier, sergeant, colonel": "the military",
    "professor, teacher, tutor": "education",
    "chef, waiter, baker": "the food business",
}
WORK = _topic({job: f"works in {trade}, has a job in {trade}" for job, trade in _TRADES.items()})
OWNER = _topic(
    {job: f"belongs to someone in {trade}, is the property of someone in {trade}" for job, trade in _TRADES.items()}
)

ACTIVITY = _topic(
    {
        "playing tennis, playing football, playing golf": "is doing a sport, is enjoying a ball game",
        "sweeping the floor, washing the windows, scrubbing the bath": "is cleaning, is doing housework",
        "driving a car, driving a truck, riding a motorcycle": "is on the road, is traveling by road",
        "asleep, taking a nap, snoring": "is sleeping, is resting with closed eyes",
        "watering the roses, planting tulips, mowing the lawn": "is gardening, is looking after plants",
        "frying eggs, boiling rice, baking bread": "is cooking, is preparing food",
    }
)
MOTIF = _topic(
    {
        "poodles, beagles, terriers": "shows dogs, depicts dogs",
        "sparrows, parrots, owls": "shows birds, depicts birds",
        "salmon, trout, sharks": "shows fish, depicts fish",
        "roses, tulips, daisies": "shows flowers, depicts flowers",
        "trucks, taxis, buses": "shows vehicles, depicts vehicles",
        "violins, guitars, trumpets": "shows musical instruments, depicts musical instruments",
    }
)
MATERIAL = _topic(
    {
        "oak, pine, maple": "is wooden, is made of wood",
        "steel, iron, copper": "is all metal, is made of metal",
        "granite, marble, slate": "is all stone, is made of stone",
    }
)
CONTENT = _topic(
    {
        "apples, bananas, pears": "has fruit in it, contains fruit",
        "hammers, drills, wrenches": "has tools in it, contains tools",
        "necklaces, bracelets, rings": "has jewelry in it, contains jewelry",
        "coins, dollar bills": "has money in it, contains money",
        "trousers, shirts, socks": "has clothes in it, contains clothes",
        "lilies, orchids, tulips": "has flowers in it, contains flowers",
    }
)

NAMES = (
    "Alice Anna Ben Carl Clara Daniel David Emma Eric Frank George Grace Helen Henry Jack Jane Julia Kate Laura Leo "
    "Lucy Maria Mark Martin Mary Max Nina Oscar Paul Peter Ruth Sam Sarah Simon Sophie Thomas Tom Victor"
)
PICTURES = "photo picture drawing painting poster postcard sketch video print mosaic"
BOXES = "box case chest tray bowl trunk crate bin bucket barrel"

STORIES = (
    Story(
        tuple(NAMES.split()),
        "{}",
        (WORK, WHEREABOUTS, ACTIVITY),
        {(0, 1): "{0} the {1} is in {2}", (0, 2): "{0} the {1} is {2}", (1, 2): "{0} is {2} in {1}"},
    ),
    Story(
        tuple(PICTURES.split()),
        "the {}",
        (ORIGIN, OWNER, MOTIF),
        {
            (0, 1): "a {2} owns the {0} from {1}",
            (0, 2): "the {0} of {2} is from {1}",
            (1, 2): "a {1} owns the {0} of {2}",
        },
    ),
    Story(
        tuple(BOXES.split()),
        "the {}",
        (ORIGIN, MATERIAL, CONTENT),
        {(0, 1): "the {2} {0} is from {1}", (0, 2): "the {0} from {1} holds {2}", (1, 2): "the {1} {0} holds {2}"},
    ),
)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _scene(rng: random.Random, story: Story) -> list[Row]:
    """Write one premise and its six hypotheses, two per label."""
    name = rng.choice(story.subjects)
    settled = rng.choice(list(story.premises))
    said: list[str] = []
    hypotheses: list[tuple[str, int]] = []
    for number, topic in enumerate(story.topics):
        true, other = rng.sample(topic, 2)
        labels = (ENTAILMENT, CONTRADICTION) if number in settled else (NEUTRAL, NEUTRAL)
        if number in settled:
            said.append(rng.choice(true.said))
        for choice, label in zip((true, other), labels, strict=True):
            hypotheses.append((f"{story.subject.format(name)} {rng.choice(choice.follows)}", label))
    premise = _sentence(story.premises[settled].format(name, *said))
    return [(premise, _sentence(hypothesis), label) for hypothesis, label in hypotheses]


def demo_split(split: str) -> Split:
    """Write the split `train` (6000 rows) or `validation` (600 rows): the same rows on every call, no premise in both.

    Raises InputError for any other name.
    """
    if split not in SCENES:
        raise InputError(f"task 'demo' has no split '{split}'; expected {one_of_names(SCENES, split)}")
    rng = random.Random(SEED)
    scenes: dict[str, list[Row]] = {}  # by premise
    while len(scenes) < sum(SCENES.values()):
        scene = _scene(rng, STORIES[len(scenes) % len(STORIES)])
        scenes.setdefault(scene[0][0], scene)
    written = list(scenes.values())
    chosen = written[: SCENES["train"]] if split == "train" else written[SCENES["train"] :]
    rows = [row for scene in chosen for row in scene]
    rng.shuffle(rows)
    premises, hypotheses, labels = zip(*rows, strict=True)
    return Split(split, (premises, hypotheses), np.array(labels, np.int32))
