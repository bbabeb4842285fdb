"""`python -m cai.compare RUN RUN...`: finished runs beside one another, as if they were the arms of one experiment.

    python -m cai.compare runs/monday runs/tuesday

A run is a folder that `python -m cai.experiment` left. What it trained is taken from the store as it is (nothing is
trained here, and edits since then do not matter); the policies then answer and play under the first run's `evaluate:`,
and the report is that of any experiment, in runs/compare-monday-tuesday/. Its warnings name the sections of the runs'
own reports that it does not have (cai/compare/carried.py), and where these are.

A fair comparison changes one thing. Everything in which the runs differ is listed, on the terminal and in the report's
warnings; runs whose held-out prompts differ are refused, since what one holds out the other may have trained on.

People may judge some of the games of the first arm against the second: `--games-to-label FILE` writes them for
`python -m cai.annotate FILE`, and `--human-games LOG` reads what it left (cai/compare/human_games.py).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cai.compare.human_games import games_of, write_games
from cai.compare.human_ratings import answers_of, write_answers
from cai.compare.runs import FinishedRun, agreed_publics, check, differences, experiment_of, read_run
from cai.compare.sections.provenance import begin
from cai.core.errors import UserError, run_main
from cai.core.places import check_file, check_run
from cai.core.progress import Board
from cai.core.store import Store
from cai.experiment.checks import FILES
from cai.experiment.evaluate import evaluate
from cai.experiment.publics import play_for_publics
from cai.models.workbench import Workbench


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.compare", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder like runs/quickstart")
    parser.add_argument(
        "--games-to-label", type=Path, metavar="FILE", help="write the games of the first two arms for people, and stop"
    )
    parser.add_argument("--human-games", type=Path, metavar="LOG", help="what people said of these games")
    rate = "write the policies' answers for people to rate, and stop"
    parser.add_argument("--answers-to-rate", type=Path, metavar="FILE", help=rate)
    parser.add_argument("--human-ratings", type=Path, metavar="FILE", help="the same with people's ratings")
    options = parser.parse_args(argv)
    for name in ("games_to_label", "human_games", "answers_to_rate", "human_ratings"):
        what, file = f"--{name.replace('_', '-')}", getattr(options, name)
        if file and file.suffix != ".jsonl":
            raise UserError(f"{what} is a .jsonl file, not {file}", what, "name one")
    for file in (options.games_to_label, options.answers_to_rate):
        if file:
            check_file(file, "name a file that can be written")
    if options.human_games and not options.human_games.is_file():
        remedy = "python -m cai.annotate GAMES.jsonl --out LOG.jsonl makes one"
        raise UserError("there is no such label log", str(options.human_games), remedy)
    if options.human_ratings and not options.human_ratings.is_file():
        remedy = "python -m cai.compare RUN --answers-to-rate FILE.jsonl makes one to fill in"
        raise UserError("there are no such ratings", str(options.human_ratings), remedy)
    runs = [read_run(path) for path in options.runs]
    check(runs)
    noted = differences(runs)
    for line in noted:
        print(f"differs: {line}", file=sys.stderr)
    return compare(runs, noted, options)


def compare(runs: Sequence[FinishedRun], noted: Sequence[str], options: argparse.Namespace) -> int:
    """options: where games or answers for people are to be written, instead of a report; and what people said."""
    experiment, cells = experiment_of(runs)
    check_run(Path(experiment.runtime.root), [experiment.name], FILES)
    work = Workbench.open(experiment.runtime)
    began = begin()
    with Board([]) as board:
        store = Store(work.root, notify=board.began, noted=board.noted)
        stage = store.stage_with(work)
        measured = replace(evaluate(stage, work, cells), human_games=options.human_games)
        measured = replace(measured, human_ratings=options.human_ratings, publics=agreed_publics(runs)[1])
        play_for_publics(stage, work, cells, experiment, measured)
    if to_label := options.games_to_label:
        games = games_of(cells, measured)
        write_games(games, to_label)
        print(f"{len(games)} games: python -m cai.annotate {to_label} --out LOG.jsonl")
    if to_rate := options.answers_to_rate:
        answers = answers_of(cells, measured)
        write_answers(answers, to_rate)
        print(f"{len(answers)} answers: fill in `rating`, 0 (harmless) to 1, from the first row on")
    if to_label or to_rate:
        return 0

    from cai.compare.carried import ComparedRuns  # numpy: only now
    from cai.compare.results import finish, tell

    home = work.root / experiment.name
    print(f"compare -> {home}", file=sys.stderr)
    made = {one.path: one for cell in cells for one in cell.artifacts}
    ledger = [*made.values(), *(one for one in store.ledger.values() if one.path not in made)]
    own = {str(run.home): {key for key, value in run.results.sections.items() if value} for run in runs}
    tell(finish(experiment, cells, measured, ledger, work, began, ComparedRuns(noted, own)), home)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
