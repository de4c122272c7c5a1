"""Fine-tune the last k layers of BERT or another encoder: `python run.py --task mnli --trainable_layers 3`."""

import sys

from jaxfreeze.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
