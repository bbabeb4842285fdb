"""`python -m cai.compare RUN RUN...`: finished runs beside one another, as if they were the arms of one experiment.

    python -m cai.compare runs/monday runs/tuesday

A run is a folder that `python -m cai.experiment` left. What it trained is taken from the store as it is (nothing is
trained here, and edits since then do not matter); the policies then answer and play under the first run's `evaluate:`,
and the report is that of any experiment, in runs/compare-monday-tuesday/.

A fair comparison changes one thing. Everything in which the runs differ is listed, on the terminal and in the report's
warnings; runs whose held-out prompts differ are refused, since what one holds out the other may have trained on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cai.compare.runs import FinishedRun, check, differences, experiment_of, read_run
from cai.compare.sections.provenance import begin
from cai.core.errors import run_main
from cai.core.places import check_run
from cai.core.progress import Board
from cai.core.store import Store
from cai.experiment.checks import FILES
from cai.experiment.evaluate import evaluate
from cai.models.workbench import Workbench


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.compare", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder like runs/quickstart")
    options = parser.parse_args(argv)
    runs = [read_run(path) for path in options.runs]
    check(runs)
    noted = differences(runs)
    for line in noted:
        print(f"differs: {line}", file=sys.stderr)
    return compare(runs, noted)


def compare(runs: Sequence[FinishedRun], noted: Sequence[str]) -> int:
    experiment, cells = experiment_of(runs)
    check_run(Path(experiment.runtime.root), [experiment.name], FILES)
    work = Workbench.open(experiment.runtime)
    began = begin()
    with Board([]) as board:
        store = Store(work.root, notify=board.began, noted=board.noted)
        measured = evaluate(store.stage_with(work), work, cells)

    from cai.compare.results import finish, tell  # numpy and matplotlib: only now

    home = work.root / experiment.name
    print(f"compare -> {home}", file=sys.stderr)
    made = {one.path: one for cell in cells for one in cell.artifacts}
    ledger = [*made.values(), *(one for one in store.ledger if one.path not in made)]
    tell(finish(experiment, cells, measured, ledger, work, began, noted), home)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
