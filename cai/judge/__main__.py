"""`python -m cai.judge COMMAND`: tools for AI judges. Each command's own file says what it does."""

import argparse
import sys
from collections.abc import Sequence

from cai.core.errors import run_main
from cai.judge import bench, calculator, false_alarms
from cai.judge.reads import command as reads
from cai.judge.teaching import command as train

COMMANDS = (bench, reads, train, false_alarms, calculator)  # each adds its parser, and says what runs


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.judge", description="Tools for AI judges.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_command(commands)
    args = parser.parse_args(argv)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(run_main(main))
