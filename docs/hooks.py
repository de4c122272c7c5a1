"""What `mkdocs build` adds to the pages in this folder: files of the root, the notebook, and the table of all flags."""

import ast
import inspect
import json
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
    "docs/tour.ipynb": "tour.md",
}
"""Pages of the site that are made from other files of the repository."""
NOTEBOOK = "<!-- notebook -->"
"""Where a page that is made from a notebook links to it."""
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from other files."""
    from mkdocs.structure.files import File

    for source, name in INCLUDED.items():
        file = ROOT / source
        made = {"content": notebook_page(file)} if file.suffix == ".ipynb" else {"abs_src_path": str(file)}
        files.append(File.generated(config, name, **made))
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
    markdown = LINK.sub(lambda link: site_link(link, source, name, config.repo_url), markdown)
    return markdown.replace(NOTEBOOK, notebook_links(source, config.repo_url)) if NOTEBOOK in markdown else markdown


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


def notebook_page(file: Path) -> str:
    """A notebook, as it was executed, in Markdown: texts, code, what the code printed, and its pictures (PNG)."""
    parts = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                parts.append("```text\n" + "".join(output["text"]).rstrip() + "\n```")
            elif picture := output.get("data", {}).get("image/png"):
                parts.append(f"![Output of the code above](data:image/png;base64,{''.join(picture.split())})")
    return "\n\n".join([parts[0].replace("\n", f"\n\n{NOTEBOOK}\n", 1), *parts[1:]]) + "\n"


def notebook_links(source: str, repository: str | None) -> str:
    """Links to a notebook: the file, and Colab if the repository is on GitHub. source: the file, from the root."""
    links = f"[Download the notebook]({posixpath.basename(source)})"
    if found := re.match(r"https://github\.com/([^/]+/[^/]+?)(?:\.git)?/?$", repository or ""):
        links += f" or [open it in Colab](https://colab.research.google.com/github/{found[1]}/blob/main/{source})"
    return f"{links}."


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
