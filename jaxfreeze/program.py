"""The program's name as the user called it, for usage lines, examples and commands to copy; and its version."""

import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path


def program() -> str:
    """`python run.py` in a clone, `python -m jaxfreeze` for the module, otherwise the console script `jaxfreeze`."""
    called = Path(sys.argv[0] if sys.argv else "")
    if called.name == "run.py":
        return "python run.py"
    if (called.parent.name, called.name) == ("jaxfreeze", "__main__.py"):
        return "python -m jaxfreeze"
    return "jaxfreeze"


def version() -> str:
    """The version of the installed package, which pyproject.toml states; "not installed" in a bare clone."""
    try:
        return installed_version("jaxfreeze")
    except PackageNotFoundError:
        return "not installed"
