"""Train in a process of its own, for tests that kill it: run_training.py INPUT [RESTART]."""

import sys

from dpa2.training.run import train

train(sys.argv[1], restart=sys.argv[2] if len(sys.argv) > 2 else None, progress=False)
