"""`python -m cai.experiment FILE`: the whole pipeline (cai/experiment/command.py)."""

import sys

from cai.core.errors import run_main
from cai.experiment.command import main

if __name__ == "__main__":
    sys.exit(run_main(main))
