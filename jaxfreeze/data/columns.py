"""Which columns of a table hold the texts and the label: those that were named, else the only ones there can be."""

from collections.abc import Sequence

from jaxfreeze.data.tables import MOST_NAMES, ColumnsError, layout_of
from jaxfreeze.errors import InputError, listed, shorten

OF_LABELS = (
    *("label", "labels", "class", "classes", "category", "categories", "target", "targets"),
    *("tag", "tags", "ner_tags"),
)
"""Names by which a label column is recognized, in lower case."""


class Columns:
    """Chooses the columns of the first table that it is shown; every other one has to have the same."""

    def __init__(self, text: Sequence[str], label: Sequence[str]) -> None:
        """text, label: names that were given; none: to be found. Raises InputError for names that make no sense."""
        self.text, self.label = tuple(text), tuple(label)
        names = [*text, *label]
        if len(text) > 2 or len(set(names)) < len(names):
            raise InputError(f"--text_columns takes one or two columns, apart from --label_column; found {names}")

    def __call__(self, names: Sequence[str]) -> list[str]:
        """The text columns, then those of the label, of a table with these. Raises InputError."""
        layout_of(names, [[*self.text, *self.label]])  # raises for a name that was given and is not there
        there = [name for name in names if name.strip()]
        self.label = self.label or (self._label(there),)
        self.text = self.text or (self._text(there),)
        return [*self.text, *self.label]

    def _label(self, names: Sequence[str]) -> str:
        rest = [name for name in names if name not in self.text]
        found = [name for name in rest if name.casefold() in OF_LABELS]
        if len(found) == 1:
            return found[0]
        if self.text and len(rest) == 1:
            return rest[0]
        why = f"{listed(found)} are possible" if found else "none is called label"
        raise ColumnsError(f"which column is the label? {why}; give --label_column one of {_shown(rest)}")

    def _text(self, names: Sequence[str]) -> str:
        rest = [name for name in names if name not in self.label]
        if len(rest) == 1:
            return rest[0]
        why = "several are possible" if rest else f"there is none besides {listed(self.label)}"
        raise ColumnsError(
            f"which column is the text? {why}; give --text_columns one or two of {_shown(rest or names)}"
        )


def _shown(names: Sequence[str]) -> str:
    return listed(map(shorten, names), MOST_NAMES)
