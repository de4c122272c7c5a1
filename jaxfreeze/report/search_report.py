"""Composes the report on searches: the answer, what it rests on, what the paper's protocol would have told."""

from collections.abc import Sequence

from jaxfreeze.report import choice, choice_tables, paper
from jaxfreeze.report.document import Block, Document, Heading
from jaxfreeze.report.sections import Names
from jaxfreeze.search import terms
from jaxfreeze.search.answer import Answer


def compose(answers: Sequence[Answer], others: Document | None = None) -> Document:
    """The whole report: a section for each answer, a table of all of them first.

    others: the report on folders without a search, which comes last.
    """
    names = Names()
    if len(answers) == 1 and others is None:
        (answer,) = answers
        title = f"How many layers does {terms.data(answer.task)} need?"
        return Document(title, _subtitle(answer), _section(answer, names, level=2))
    blocks: list[Block] = [Heading(2, "All answers"), choice_tables.all_answers(answers)] if len(answers) > 1 else []
    titles = [terms.data(answer.task) for answer in answers]
    for answer, title in zip(answers, titles, strict=True):
        several = titles.count(title) > 1
        blocks.append(Heading(2, f"{title}, {terms.short(answer.model)}" if several else title))
        blocks += _section(answer, names, level=3)
    if others is not None:
        blocks += others.blocks
    tasks = terms.listed(list(dict.fromkeys(titles)))
    return Document("How many layers have to be fine-tuned?", f"Searches on {tasks}. {_LEGEND}", blocks)


_LEGEND = (
    "Scores are on rows that were used for no choice. k is how many of the last layers train, besides the head; all is "
    "the full model."
)


def _section(answer: Answer, names: Names, level: int) -> list[Block]:
    stem = names.new("search", terms.short(answer.model), answer.task)
    return [*choice.blocks(answer, stem, level), *paper.blocks(answer, names, level)]


def _subtitle(answer: Answer) -> str:
    return f"{terms.short(answer.model)}, {answer.num_layers} layers. {_LEGEND}"
