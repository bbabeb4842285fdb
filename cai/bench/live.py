"""`python -m cai.bench live`: does live feedback teach a real policy? Scripted raters teach, and fresh answers are measured.

    pairs    which of two answers                              words    up and down while an answer appears
    thumbs   up or down, once, for a whole answer

Every rater (raters.py: a taste, a seed; late, misses some, presses the wrong key now and then) teaches by the page's own
session (cai/annotate/live.py) until there are so many feedbacks. Then the policy answers prompts that nobody taught on,
`--candidates` times, and the answer that looks best to the human reward is measured by the rater's own measure, against
the mean of those answers: what the policy without feedback is worth on the very same draws. Effects are in units of the
measure's standard deviation over all answers; intervals are for other prompts and other raters (cai/stats/crossed.py).

All answers are drawn once, before the first rater comes, and kept in --bank: a second run draws nothing.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cai.bench.common import positive
from cai.bench.raters import MEASURES, Measure, ScriptedRater
from cai.config.sections import Policy
from cai.core.draws import seed_of
from cai.core.records import Chat, Estimate, Prompt
from cai.data.feedback import FeedbackLog
from cai.data.sources import read_source
from cai.stats.crossed import contrast

FORMS = ("pairs", "words", "thumbs")
SYSTEM = "You are a helpful assistant. Answer in one or two short sentences."
MOST_TURNS = 10  # for each feedback that is wanted; a rater whom nothing moves would never be done


@dataclass(frozen=True, slots=True)
class TaughtGain:
    """What one form of feedback gained. taste: of the raters, "all" for all of them. gain: in sd of the measure."""

    form: str
    taste: str
    feedbacks: int
    gain: Estimate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", default="helpful.jsonl", help="a file of prompts; teaches on train, tests on test")
    parser.add_argument("--teach", type=positive, default=18, metavar="N", help="prompts to teach on")
    parser.add_argument("--fresh", type=positive, default=12, metavar="N", help="prompts that nobody taught on")
    parser.add_argument("--candidates", type=positive, default=8, metavar="N", help="answers to a prompt")
    parser.add_argument("--tokens", type=positive, default=40, metavar="N", help="of an answer")
    parser.add_argument("--system", default=SYSTEM, help="the policy's system prompt")
    parser.add_argument("--feedbacks", type=positive, nargs="+", default=[20, 50, 100], metavar="N")
    parser.add_argument("--raters", type=positive, default=4, metavar="N", help="of each taste")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--bank", type=Path, metavar="FOLDER", help="where answers are kept (default: nowhere)")
