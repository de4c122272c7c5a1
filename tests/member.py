"""One process of several that stay: runs the commands it is given, so that a test does not pay for a start of each.

A line of JSON on standard input: the words of a command and a folder for the cache. A line on standard output: the exit
code, and what the command wrote to either stream.
"""

import contextlib
import io
import json
import os
import sys

from jaxfreeze import cli, imports


def main() -> None:
    """Answer until standard input ends."""
    imports.only_a_command = True
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # where gloo writes by itself
        for line in sys.stdin:
            words, cache = json.loads(line)
            os.environ["JAXFREEZE_CACHE"] = cache
            out, error = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                code = cli.main(words)
            print(json.dumps([code, out.getvalue(), error.getvalue()]), file=answers, flush=True)


if __name__ == "__main__":
    main()
