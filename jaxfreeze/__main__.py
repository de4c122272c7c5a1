"""`python -m jaxfreeze`: the same as `python run.py`."""

import sys

from jaxfreeze.cli import main

if __name__ == "__main__":
    sys.exit(main())
