"""What `mkdocs build` adds to the pages in this folder: files of the repository's root, and the table of all flags."""

import ast
import inspect
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from jaxfreeze.cli import COMMANDS
from jaxfreeze.flags import Command, described, shown

ROOT = Path(__file__).parents[1]
log = logging.getLogger("mkdocs.hooks")  # with --strict, a warning ends the build
INCLUDED = {
    "benchmarks/RESULTS.md": "results.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages of the site whose text lies elsewhere in the repository."""
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages whose text lies outside this folder."""
    from mkdocs.structure.files import File

    for source, name in INCLUDED.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in the flags, check the Python interface, and turn links of the repository into links of the site."""
    name = page.file.src_uri
    if name == "flags.md":
        markdown = markdown.replace("<!-- flags -->", "\n".join(map(flags_of, COMMANDS.values())))
    if name == "api.md":
        for missing in public_names() - {*re.findall(r"^::: [\w.]+\.(\w+)", markdown, re.MULTILINE)}:
            log.warning("%s: the public name %s is not documented", name, missing)
    source = next((source for source, included in INCLUDED.items() if included == name), f"docs/{name}")
    return LINK.sub(lambda link: site_link(link, source, name, config.repo_url), markdown)


def site_link(link: re.Match[str], source: str, page: str, repository: str | None) -> str:
    """A relative link of a file in the repository, as the page of the site has it.

    source: the file, from the root. page: its page, from the root of the site. What the site does not have is linked
    in the repository; without its address, the text alone stays.
    """
    text, target, anchor = (
        link[1],
        posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2])),
        link[3] or "",
    )
    if not (ROOT / target).exists():
        log.warning("%s: there is no %s", source, target)
    here = INCLUDED.get(target, "index.md" if target == "README.md" else None)
    if here is None and target.startswith("docs/"):
        here = target.removeprefix("docs/")
    if here is not None:
        return f"[{text}]({posixpath.relpath(here, posixpath.dirname(page) or '.')}{anchor})"
    return f"[{text}]({repository.rstrip('/')}/blob/main/{target}{anchor})" if repository else text


def public_names() -> set[str]:
    """What `jaxfreeze.api` names in `__all__`."""
    for statement in ast.parse((ROOT / "jaxfreeze" / "api.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return set(ast.literal_eval(statement.value))
    raise AssertionError("jaxfreeze/api.py has no __all__")


def flags_of(command: Command) -> str:
    """The section of one command, in Markdown."""
    about = command.about if command.name != "train" and command.about else inspect.getdoc(command.configs[-1]) or ""
    lines = [f"## {command.name}", "", about, "", "```bash", f"jaxfreeze {command.example}", "```", ""]
    for heading, group in command.groups.items():
        if group:
            lines += ["" if heading == "flags" else f"**{heading[0].upper()}{heading[1:]}**", ""]
            lines += ["| flag | what it does |", "|---|---|"]
            lines += [f"| `{shown(setting)}` | {_cell(described(setting))} |" for setting in group.values()]
            lines += [""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text in a cell of a table; what stands between backticks stays as it is."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*<|])", r"\\\1", part) for part in parts)
