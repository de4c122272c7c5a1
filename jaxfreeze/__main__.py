"""A command in a process of its own: `python -m jaxfreeze`, and the console script `jaxfreeze`."""

import sys

from jaxfreeze import cli, imports


def main() -> int:
    """Run the command that this process was started for -> its exit code."""
    imports.only_a_command = True
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
