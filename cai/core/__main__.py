"""`python -m cai.core COMMAND`: looks after the store of stages: is it whole, what can go, where did a stage come from.

It is the room's program because the store is this room's, and because it needs nothing else: no model, no experiment.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cai.core import upkeep
from cai.core.errors import run_main


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.core", description="Looks after the store of stages.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="read every file of every stage, and name what is damaged")
    check.set_defaults(run=run_check)
    gc = commands.add_parser("gc", help="what no run refers to, and what killed runs left; --yes removes it")
    gc.add_argument("--yes", action="store_true", help="remove it; without, it is only listed")
    gc.add_argument(
        "--days", type=float, default=7.0, help="what was used since then stays: a run may be at it (default: 7)"
    )
    gc.set_defaults(run=run_gc)
    show = commands.add_parser("show", help="what a stage was made from, when, and at what cost")
    show.add_argument("stage", help="its folder, its name, or the beginning of its name or key")
    show.set_defaults(run=run_show)
    for command in (check, gc, show):
        command.add_argument("--root", type=Path, default=Path("runs"), help="the folder that has `store` (runs)")
    args = parser.parse_args(argv)
    return args.run(args)


def run_check(args: argparse.Namespace) -> int:
    faults = upkeep.check(args.root)
    for folder, fault in faults:
        print(f"{folder}: {fault}")
    count = len(upkeep.stages(args.root))
    if faults:
        print(f"{len(faults)} of {count} stages are damaged; an experiment that needs one makes it again")
        return 1
    print(f"{count} stages, all whole")
    return 0


def run_gc(args: argparse.Namespace) -> int:
    found = upkeep.unneeded(args.root, args.days)
    for one in found:
        print(f"{upkeep.amount(one.bytes):>10}  {one.path.name}: {one.why}")
    total = upkeep.amount(sum(one.bytes for one in found))
    if not found:
        print("nothing can go")
    elif args.yes:
        print(f"removed: {upkeep.amount(upkeep.free(found))} of {total}")
    else:
        print(f"{len(found)} can go, {total}; nothing is removed without --yes")
    return 0


def run_show(args: argparse.Namespace) -> int:
    known = upkeep.manifests(args.root)
    print("\n".join(upkeep.origin(known, upkeep.find(known, args.stage))))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
