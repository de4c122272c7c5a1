"""YAML as settings are written in it: no tag runs anything, no name appears twice, no alias."""

from pathlib import Path
from typing import Any

import yaml

from jaxfreeze.errors import InputError, shorten


def read_yaml(path: Path) -> dict[Any, Any]:
    """The mapping in a YAML file. Raises InputError for anything else."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: expected a YAML file of settings ({error})") from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else shorten(repr(values))
        raise InputError(f"{path}: expected settings, one `name: value` per line, found {found}")
    return values


def from_text(text: str) -> Any:
    """The value that a text has in YAML: a number, true, null, a list, or the text itself."""
    try:
        return yaml.load(text, _StrictLoader)
    except (ValueError, RecursionError, yaml.YAMLError):
        return text


class _StrictLoader(yaml.SafeLoader):
    """Refuses a name that appears twice (YAML takes the last) and aliases (a few of them make a billion texts)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias '*{event.anchor}': none is read", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = []
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in names:
                raise yaml.constructor.ConstructorError(None, None, f"'{name}' appears twice", key.start_mark)
            names.append(name)
        return super().construct_mapping(node, deep)
