"""Label pairs in the browser: `python -m cai.annotate PAIRS --out labels.jsonl`.

PAIRS is a file of pairs in any form that `data.source` or `python -m cai.judge bench` takes, a folder of the store
with pairs, or a finished run (runs/NAME). Use the labels with `labels: {default: human, file: labels.jsonl}`, or turn
them into a file of pairs: `python -m cai.annotate PAIRS --export labels.jsonl --out pairs.jsonl`.

Or talk to a policy and teach it what you like: `python -m cai.annotate --live EXPERIMENT.yaml`. What the log then holds
can be a part of the reward: `rl: {feedback: {log: runs/NAME/feedback.jsonl}}`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.core.durable import make_folders
from cai.core.errors import UserError, run_main
from cai.core.places import check_file

if TYPE_CHECKING:
    from cai.annotate.sheet import PairsToLabel
    from cai.data.label_log import LabelLog

NAMED = 5  # faulty rows that are named one by one


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.live:
        if args.pairs or args.export or args.labels or args.scores or args.constitution:
            parser.error(
                "--live talks to a policy: of the other options it takes --policy, --form, --rater, --out and --port"
            )
        return _talk(args)
    if not args.pairs or not args.out:
        parser.error("give PAIRS and --out, or --live EXPERIMENT.yaml")
    from cai.annotate.sheet import find_pairs, judge_labels, reward_margins  # pydantic: not for --help

    place = find_pairs(args.pairs)
    _name(place.faults, "left out")
    if args.export:
        return _export(args, place)
    if args.labels:
        judge = judge_labels(args.labels)
        if not judge:
            raise UserError(
                "no label in this file is from an AI judge", str(args.labels), "give a judge's labels.jsonl"
            )
        place = replace(place, judge=_of_these(judge, place, args.labels))
    if args.scores:
        place = replace(place, margins=_of_these(reward_margins([args.scores]), place, args.scores))
    return _serve(args, place)


def _of_these(known: dict[str, float], place: "PairsToLabel", file: Path) -> dict[str, float]:
    """What a file says of pairs, where it says something of these; how many it leaves out is named."""
    ids = {pair.id for pair in place.pairs}
    missing = len(ids - known.keys())
    if missing == len(ids):
        raise UserError(f"nothing in it is of one of the {missing} pairs", str(file), "give the file of these pairs")
    if missing:
        print(f"note: {file}: nothing about {missing} of the {len(ids)} pairs", file=sys.stderr)
    return known


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cai.annotate", description="Label pairs in the browser: which of two answers is better?"
    )
    parser.add_argument(
        "pairs", nargs="?", type=Path, metavar="PAIRS", help="a file of pairs, or runs/NAME of a finished run"
    )
    parser.add_argument(
        "--out", type=Path, help="the log to append to (--live: runs/NAME/feedback.jsonl unless given); with --export: "
        "the pairs",
    )  # fmt: skip
    parser.add_argument("--rater", action="append", default=[], metavar="NAME", help="who may label (default: anyone)")
    parser.add_argument(
        "--order", choices=("given", "random", "uncertain"), default="random",
        help="random: by hash, one order for all (default); uncertain: where judge and reward model disagree or are "
        "unsure first; given: as in the file",
    )  # fmt: skip
    parser.add_argument("--labels", type=Path, metavar="FILE", help="the judge's labels.jsonl (a run has its own)")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="a reward model's scores.jsonl (a run has its own)")
    parser.add_argument("--constitution", metavar="FILE", help="ask for each of its principles, one at a time")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: any that is free)")
    parser.add_argument("--export", type=Path, metavar="LOG", help="write pairs with human P from this log, and stop")
    parser.add_argument("--live", type=Path, metavar="EXPERIMENT", help="talk to a policy of this experiment instead")
    parser.add_argument("--policy", default="sft", metavar="NAME", help="with --live: sft (default), or ARM/SEED")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="with --live: as the run had it"
    )
    parser.add_argument(
        "--form", choices=("pairs", "words"), default="pairs", help="with --live: which of two answers (default), or "
        "up and down while one appears",
    )  # fmt: skip
    parser.add_argument(
        "--pace", type=float, default=6.0, metavar="N", help="with --form words: tokens a second (default 6)"
    )
    return parser


def _export(args: argparse.Namespace, place: "PairsToLabel") -> int:
    from cai.annotate.export import export
    from cai.data.label_log import LabelLog

    if not args.export.is_file():
        raise UserError("there is no such label log", str(args.export), "give what --out named when you labelled")
    if args.out.exists() and args.out.resolve() in (args.export.resolve(), args.pairs.resolve()):
        raise UserError("this would overwrite what is read", str(args.out), "give --out another name")
    log = LabelLog(args.export)
    _name(log.faults, "not counted")
    check_file(args.out, "give --out a place that can be written to")
    for what, n in export(place, log, args.out).items():
        print(f"{n:6d}  {what}")
    print(f"{args.out}: data.source for an experiment with labels: human")
    return 0


def _serve(args: argparse.Namespace, place: "PairsToLabel") -> int:
    from cai.annotate.desk import Desk
    from cai.annotate.sheet import tasks
    from cai.constitution import read_constitution

    server = _server()
    constitution = read_constitution(args.constitution) if args.constitution else None
    asked = tasks(place, args.order, constitution)
    check_file(args.out, "give --out a place that can be written to")
    log = _open_log(args.out, place)
    raters = tuple(dict.fromkeys(args.rater))
    desk = Desk(name=args.pairs.resolve().name, tasks=asked, place=place, log=log, order=args.order, raters=raters)
    _check_names(raters)
    print(f"{len(place.pairs)} pairs, {len(asked)} questions, {len(log.in_force())} answered in {args.out}")
    _open(server, server.labelling(desk), args.port)
    return 0


def _talk(args: argparse.Namespace) -> int:
    from cai.annotate.talk import find_policy
    from cai.data.feedback import FeedbackLog

    server, raters = _server(), tuple(dict.fromkeys(args.rater))
    _check_names(raters)
    if not 0 < args.pace <= 1000:
        raise UserError(f"a pace of {args.pace:g} tokens a second cannot be shown", "--pace", "give one like 6")
    policy = find_policy(args.live, args.policy, args.set)
    out = args.out or policy.home / "feedback.jsonl"
    if args.out and not out.parent.is_dir():
        raise UserError("there is no such folder", str(out.parent), "make it, or mend --out")
    check_file(out, "give --out a place that can be written to")
    log = FeedbackLog(out)
    if log.faults and not log.answers and any(why != "a half-written line" for _, why in log.faults):
        raise UserError(
            "this file is no log of live feedback", str(out), "give --out the name of one, or of a new file"
        )
    _name(log.faults, "not learned from, and kept in the file")
    make_folders(out.parent)
    print(f"policy {args.policy} of {policy.name}: {log.keys()} presses in {out}", flush=True)
    from cai.annotate.live import Session  # torch: once all that can be wrong has been looked at

    session = Session(f"{policy.name}, {args.policy}", policy.voice(), policy.prompts, log, raters, form=args.form)
    _open(server, server.talking(session, args.pace), args.port)
    return 0


def _server() -> Any:
    """The module with the server. Raises UserError where its packages are missing."""
    try:
        from cai.annotate import server
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        remedy = "install the extra: pip install -c .ci/constraints.txt -e '.[annotate]'"
        raise UserError(f"the labelling page needs the package {error.name}", "", remedy) from None
    return server


def _check_names(raters: Sequence[str]) -> None:
    from cai.annotate.desk import known_rater

    for name in raters:
        if known_rater(name, raters) != name:
            raise UserError(f'the name "{name}" has blanks that cannot be typed', "--rater", "give it without them")


def _open(server: Any, app: Any, port: int) -> None:
    """Serve until Ctrl-C, and say where."""
    from cai.annotate.guard import new_token

    listener, token = server.listen(port), new_token()
    url = f"http://{server.HOST}:{listener.getsockname()[1]}/?token={token}"
    # Not opened for you: a program that is started with the address shows the token to all users of the machine.
    print(f"open this in a browser on this machine (Ctrl-C ends; every choice is kept):\n\n  {url}\n", flush=True)
    server.serve(app, listener, token)


def _open_log(path: Path, place: "PairsToLabel") -> "LabelLog":
    """The log, with all that is odd about it named. Raises UserError for a file that is something else."""
    from cai.data.label_log import LabelLog

    if not path.parent.is_dir():
        raise UserError("there is no such folder", str(path.parent), "make it, or mend --out")
    log = LabelLog(path)
    if log.faults and not log.rows and any(why != "a half-written line" for _, why in log.faults):
        raise UserError("this file is not a label log", str(path), "give --out the name of a log, or of a new file")
    known = {pair.id for pair in place.pairs}
    rows = [row for row in log.in_force() if row.pair_id not in known]
    strange = [(str(path), f'a label for "{row.pair_id}", which is no pair here') for row in rows]
    _name([*log.faults, *log.repeated(), *strange], "noted, and kept in the file")
    return log


def _name(faults: Sequence[tuple[str, str]], what: str) -> None:
    """The first few faults by line, and how many there are."""
    for where, why in faults[:NAMED]:
        print(f"note: {where}: {why}", file=sys.stderr)
    if faults:
        print(f"note: {len(faults)} rows {what}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_main(main))
