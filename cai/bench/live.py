"""`python -m cai.bench live`: does live feedback teach a real policy? By scripted raters, and fresh answers.

    pairs    which of two answers                              words    up and down while an answer appears
    thumbs   up or down, once, for a whole answer

Every rater (raters.py: a taste, a seed; late, misses some, presses the wrong key now and then) teaches by the page's
own session (cai/annotate/live.py) until there are so many feedbacks. Then the policy answers prompts that nobody taught
on, `--candidates` times, and the answer that looks best to the human reward is measured by the rater's own measure,
against the mean of those answers: what the policy without feedback is worth on the very same draws. Effects are in
units of the measure's standard deviation over all answers; intervals are for other prompts and other raters
(cai/stats/crossed.py).

All answers are drawn once, before the first rater comes, and kept in --bank: a second run draws nothing.
"""

import argparse
from pathlib import Path

from cai.bench.common import positive

SYSTEM = "You are a helpful assistant. Answer in one or two short sentences."
SHIPPED = "experiments/data/helpful.jsonl"
# Of which cai/train/README.md has its figures.
MEASURED = [
    f"helpful-{number:03d}"
    for number in (1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 26, 27, 33, 36, 42)
]
FORMS, TASTES = ("pairs", "words", "thumbs"), ("short", "polite", "on topic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", default=SHIPPED, help="a file of prompts: train to teach on, test to measure on")
    parser.add_argument("--ids", nargs="+", metavar="ID", help="of these alone (default: of a file of one's own, all)")
    parser.add_argument("--candidates", type=positive, default=8, metavar="N", help="answers to a prompt")
    parser.add_argument("--tokens", type=positive, default=40, metavar="N", help="of an answer at most")
    parser.add_argument("--system", default=SYSTEM, help="the policy's system prompt")
    parser.add_argument("--feedbacks", type=positive, nargs="+", default=[20, 50, 100], metavar="N")
    parser.add_argument("--raters", type=positive, default=4, metavar="N", help="of each taste")
    parser.add_argument("--tastes", nargs="+", choices=TASTES, default=list(TASTES), help="of the raters")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument(
        "--policy",
        type=positive,
        metavar="ROLLOUTS",
        help="instead: so many rollouts of PPO on the log of a rater of the first taste",
    )
    parser.add_argument("--bank", type=Path, metavar="FOLDER", help="keep the answers there (default: nowhere)")


def run(args: argparse.Namespace) -> None:
    from cai.bench.live_forms import measured  # numpy: not for --help

    if args.prompts == SHIPPED and not args.ids:
        args.ids = MEASURED
    measured(args)
