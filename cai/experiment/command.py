"""`python -m cai.experiment FILE [--plan] [--set key=value]`: check, plan, run, compare."""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cai.compare.sections.provenance import Began, begin
from cai.config.load import Experiment, read_sweep
from cai.config.sweep import size
from cai.constitution.each import expanded
from cai.core.progress import Board
from cai.core.store import Artifact, Store
from cai.data.publics import with_publics
from cai.experiment.check_servers import asked_servers
from cai.experiment.checks import check
from cai.experiment.needs import check_memory
from cai.experiment.pipeline import run
from cai.experiment.plan import add_options, plan_on, print_grid, print_plan
from cai.experiment.publics import check_publics
from cai.experiment.side_by_side import one_by_one, side_by_side
from cai.experiment.timings import Expected
from cai.models.workbench import Workbench
from cai.train.launch import refuse_bare_ranks


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cai.experiment", description="The whole pipeline, from a file like experiments/quickstart.yaml."
    )
    parser.add_argument("config", type=Path, help="a file like experiments/quickstart.yaml")
    parser.add_argument("--plan", action="store_true", help="say what would run and how long it takes, then stop")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file, or fix a swept one"
    )
    add_options(parser)
    options = parser.parse_args(argv)
    refuse_bare_ranks()
    began = None if options.plan else begin()
    grid = [expanded(with_publics(experiment)) for experiment in read_sweep(options.config, options.set)]
    check(*grid, plan=options.plan)
    for experiment in grid:
        check_publics(experiment, options.plan)
    work = Workbench.open(grid[0].runtime)
    if grid[0].point:
        print(f"{grid[0].sweep}: {size([each.point for each in grid])}", file=None if options.plan else sys.stderr)
    ledger, starts = plan(grid, work)
    planned = plan_on(grid[0], ledger, work, options)
    if options.plan and grid[0].point:
        print_grid(grid, starts, planned)
    elif options.plan:
        print_plan(grid[0], planned, options.all)
    if planned.capacity is not None:
        check_memory(grid[0], ledger, planned.capacity)
    if began is not None:
        run_all(grid, work, ledger, planned.expected, began)
    elif servers := asked_servers(grid[0]):
        print(*servers, sep="\n")
    return 0


def plan(grid: Sequence[Experiment], work: Workbench) -> tuple[list[Artifact], list[int]]:
    """(every stage of every point, once; where each point's own begin)."""
    store, starts = Store(work.root, plan=True), []
    for experiment in grid:
        starts.append(len(store.ledger))
        run(experiment, store, work)
    return list(store.ledger.values()), starts


def run_all(
    grid: Sequence[Experiment],
    work: Workbench,
    ledger: Sequence[Artifact],
    expected: Sequence[Expected],
    began: Began,
) -> None:
    """Every point of the grid, with its report. ledger, expected: the plan, for the board of progress."""
    from cai.compare.results import finish, tell  # numpy: only when there is something to compare
    from cai.compare.sweep import finish_sweep

    finished = []
    with Board([(artifact.stage, each.seconds) for artifact, each in zip(ledger, expected, strict=True)]) as board:
        runs = side_by_side(grid, work, board, began) if grid[0].runtime.executor else one_by_one(grid, work, board)
        began = replace(began, at=time.time())
        with closing(runs):  # workers end with it, whatever happens
            for ran in runs:
                print(f"compare -> {work.root / ran.experiment.name}", file=sys.stderr)
                finished.append(finish(ran.experiment, ran.cells, ran.measured, ran.ledger, work, began))
                if not grid[0].runtime.executor:
                    began = replace(began, at=time.time())
    if grid[0].point:
        finish_sweep(grid[0].sweep, finished, work.root)
    else:
        tell(finished[0], work.root / grid[0].name)
