"""What `python -m cai.constitution` may be given, of those commands that ask a model."""

import argparse
import math
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m"


def add_revise(commands: Any) -> argparse.ArgumentParser:
    revise = commands.add_parser("revise", help="what its principles do to a model's revisions: placebos, opposites")
    revise.add_argument("file", help="a constitution")
    revise.add_argument("prompts", metavar="PROMPTS", help="rated-answers, or a file of prompts or pairs")
    revise.add_argument("--model", default=MODEL, help=f"whose drafts are revised ({MODEL})")
    revise.add_argument("--reviser", metavar="MODEL", help="who criticises and revises (default: the same)")
    revise.add_argument("--drafts", type=positive, default=24, metavar="N", help="drafts to revise (24)")
    revise.add_argument("--examples", metavar="FILE", help="worked rounds to show: prompts/examples/revise.jinja")
    revise.add_argument("--direct", action="store_true", help="ask for revisions without a critique first")
    revise.add_argument("--max-new-tokens", type=positive, default=64, metavar="N", help="length of each text (64)")
    revise.add_argument("--temperature", type=amount, default=0.7, help="of all draws (0.7)")
    revise.add_argument("--seed", type=count, default=0, help="of the sample and the draws (0)")
    revise.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    revise.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    revise.add_argument("--cache", default="runs", metavar="FOLDER", help="where the model's answers are kept")
    revise.add_argument("--json", action="store_true", help="print everything, each revision among it, as JSON")
    return revise


def add_infer(commands: Any) -> argparse.ArgumentParser:
    infer = commands.add_parser("infer", help="which principles explain these labels, or a run's policy? Read it back")
    infer.add_argument(
        "source", metavar="LABELS_OR_RUN", help="a file of judged pairs, a source of data, or a finished run"
    )
    _add_inferring(infer)
    infer.add_argument("--arm", metavar="NAME", help="of a run (default: the first)")
    stored = "ask no judge: take the votes in the file (ICAI), or in the run's store"
    infer.add_argument("--as-annotated", action="store_true", help=stored)
    infer.add_argument("--out", type=Path, metavar="FILE.txt", help="write the constitution there")
    infer.add_argument("--annotated", type=Path, metavar="FILE.json", help="write ICAI's annotated pairs, all votes in")
    infer.add_argument("--json", action="store_true", help="print everything as JSON")
    return infer


def _add_inferring(infer: argparse.ArgumentParser) -> None:
    """What is asked of a judge to read principles back out of labels."""
    infer.add_argument(
        "--constitution", action="append", default=[], metavar="FILE", help="its principles are candidates; repeatable"
    )
    infer.add_argument(
        "--bank", default="constitutions/bank/principles.txt", metavar="FILE", help="of candidates; none: no bank"
    )
    infer.add_argument("--decoys", type=count, default=6, metavar="N", help="candidates about other things (6)")
    infer.add_argument("--propose", type=count, default=0, metavar="N", help="candidates that a model proposes (0)")
    infer.add_argument("--proposer", metavar="MODEL", help="which model (default: the judge)")
    infer.add_argument("--model", help="the judge (smollm2-135m-judge; of a run: the arm's)")
    infer.add_argument("--method", help="how it is asked (channel; of a run: the arm's)")
    infer.add_argument("--max-length", type=positive, help="tokens of one question to the judge (1024)")
    infer.add_argument("--limit", type=positive, metavar="N", help="pairs of a sample of each set (default: all)")
    infer.add_argument(
        "--test", type=share, default=0.3, metavar="SHARE", help="of the prompts that are held out (0.3)"
    )
    infer.add_argument("--alpha", type=share, default=0.05, help="family-wise rate of false alarms (0.05)")
    infer.add_argument("--most", type=positive, default=8, metavar="N", help="principles at most (8)")
    infer.add_argument("--draw", type=count, default=0, metavar="N", help="seed of samples and proposals (0)")
    infer.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    infer.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    infer.add_argument("--server", metavar="URL", help="ask the judge at an OpenAI-compatible endpoint")
    infer.add_argument("--served-as", metavar="NAME", help="what it is called there (default: as in --model)")
    infer.add_argument("--cache", default="runs", metavar="FOLDER", help="where the judge's answers are kept")


def add_publics(commands: Any) -> argparse.ArgumentParser:
    publics = commands.add_parser("publics", help="a constitution for each group of people, and one for all of them")
    publics.add_argument("source", help="an export of Pol.is (its folder or participants-votes.csv), or judged pairs")
    publics.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a file for each group, merged.txt")
    publics.add_argument("--comments", type=Path, metavar="FILE", help="comments.csv (default: beside the votes)")
    publics.add_argument("--seen", type=positive, default=5, metavar="N", help="of a group who have voted on it (5)")
    publics.add_argument("--labels", metavar="FILE.jsonl", help="people's labels of these pairs: read back by group")
    whose = "whose labels are a group's (default: the file's column `group`); repeatable"
    publics.add_argument("--group", action="append", default=[], metavar="NAME=RATER,RATER", help=whose)
    _add_inferring(publics)
    publics.set_defaults(arm=None, as_annotated=False, json=False, annotated=None)
    return publics


def amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number from 0, such as 0.7')
    return number


def share(text: str) -> float:
    if not 0 < (number := amount(text)) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a share between 0 and 1, such as 0.3')
    return number


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number, such as 3')
    return int(text)


def positive(text: str) -> int:
    if not (number := count(text)):
        raise argparse.ArgumentTypeError("it must be above 0")
    return number
