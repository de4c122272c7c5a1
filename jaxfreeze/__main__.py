"""`python -m jaxfreeze`: the same as the console script `jaxfreeze`."""

import sys

from jaxfreeze.cli import main

if __name__ == "__main__":
    sys.exit(main())
