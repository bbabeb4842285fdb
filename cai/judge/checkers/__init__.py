"""Votes that are computed, not asked: of a principle with `Check:` a program says which answer keeps to it.

One file a checker, found by the name that cai/constitution/checks.py reads off the constitution: a function
`check(arguments, prompt, answer) -> CheckResult`. The two answers of a pair are checked each alone:

    one holds, the other does not    the vote: P(a better) is SURE for the one that holds
    both hold, or neither does       no vote: the check does not tell them apart
    nothing to check in one of them  no vote

What is no vote is kept with its reason, counted, and takes no part: `Prefer:`, where the principle has one, is asked
instead. A half vote for either answer would only water down what the other principles say.

A constitution is text from strangers. So a checker that runs something (code in answers, a function of the user's)
runs only where `judge.checkers` of the experiment names it; all others read text, within bounds.
"""

import importlib
from collections.abc import Sequence
from functools import lru_cache

from cai.config.sections import Judge
from cai.constitution import Checked, Judging
from cai.constitution.checks import FUNCTION, Check, parse_check
from cai.core.errors import UserError
from cai.core.odds import logit
from cai.core.records import Pair, Prompt, Vote
from cai.judge.checkers import code, units
from cai.judge.checkers.function import Failed, load, source_digest
from cai.judge.checkers.result import CheckResult

__all__ = [
    "SURE", "WORTH", "CheckResult", "answer_checked", "answer_keeps", "answer_value", "check_allowed", "digests",
    "pair_checked",
]  # fmt: skip

SURE = 0.99  # as `provenance`: what a verdict without a probability counts as, 4.6 nats of log-odds
WORTH = logit(SURE) / 2  # what an answer that holds is worth by itself: of two answers, the difference is a vote's
ONE = "one answer keeps to it"  # what is counted as a vote
BOTH, NEITHER = "both answers keep to its check", "neither answer keeps to its check"
UNCHECKED, FAILED, NO_CHECK = "nothing to check in an answer", "its check failed", "a principle without a check"


def check_of(text: str) -> Check:
    check = parse_check(text)
    assert isinstance(check, Check), check  # the constitution's parser has refused all others
    return check


def check_allowed(principles: Sequence[Judging], judge: Judge, where: str = "") -> None:
    """Raises UserError for a check that runs something and is not named in `judge.checkers`, and for one that cannot
    run here. where: the constitution's file."""
    for principle in principles:
        if not isinstance(principle, Checked):
            continue
        check = check_of(principle.check)
        names = {check.runs, code.UNCONFINED} if check.runs == "code" else {check.runs}
        if check.runs and not names & {*judge.checkers}:
            what = "runs the code in answers" if check.runs == "code" else "runs a function that the constitution names"
            raise UserError(
                f'"{principle.name}": `Check: {check.text}` {what}, and nothing allows that',
                where or "judge.checkers",
                f"if you trust it, write `checkers: [{check.runs!r}]` in the `judge:` of an experiment; else remove it",
            )
        if check.runs == "code" and "code" in judge.checkers:
            code.ready()
        if check.checker == FUNCTION:
            load(check.text)
        if check.checker == "units":
            units.registry()


def digests(principles: Sequence[Judging]) -> dict[str, str]:
    """Check -> digest of the file that it runs, of the functions of the user's own."""
    checks = [check_of(p.check) for p in principles if isinstance(p, Checked)]
    return {check.text: source_digest(check.text) for check in checks if check.checker == FUNCTION}


@lru_cache(maxsize=4096)
def answer_checked(text: str, prompt: Prompt, answer: str, unconfined: bool) -> CheckResult:
    """What a check says of one answer. Raises Failed where a function of the user's own does."""
    check = check_of(text)
    run = importlib.import_module(f"{__name__}.{check.checker}").check
    return run({**check.arguments, **({code.UNCONFINED: "yes"} if unconfined else {})}, prompt, answer)


def pair_checked(pair: Pair, principle: Judging, judge: Judge) -> Vote:
    """The vote of a principle's check; with a fault where it is none, and what the check saw as its reply."""
    if not isinstance(principle, Checked):
        return _vote(principle, 0.5, NO_CHECK)
    try:
        run = _unconfined(judge)
        a, b = (answer_checked(principle.check, pair.prompt, answer, run) for answer in (pair.a, pair.b))
    except Failed as error:
        return _vote(principle, 0.5, FAILED, str(error))
    seen = f"checked by {principle.check}: a {_words(a)}; b {_words(b)}"
    if a.holds is None or b.holds is None:
        return _vote(principle, 0.5, UNCHECKED, seen)
    if a.holds == b.holds:
        return _vote(principle, 0.5, BOTH if a.holds else NEITHER, seen)
    return _vote(principle, SURE if a.holds else 1 - SURE, "", seen)


def answer_value(prompt: Prompt, answer: str, principle: Judging, judge: Judge) -> float | None:
    """What an answer alone is worth by a principle's check, in log-odds; None where that says nothing of it."""
    holds = answer_keeps(principle.check, prompt, answer, judge) if isinstance(principle, Checked) else None
    return None if holds is None else WORTH if holds else -WORTH


def answer_keeps(text: str, prompt: Prompt, answer: str, judge: Judge) -> bool | None:
    """Whether an answer keeps to a check; None where that says nothing of it."""
    try:
        return answer_checked(text, prompt, answer, _unconfined(judge)).holds
    except Failed:
        return None


def _vote(principle: Judging, p_a: float, fault: str, seen: str = "") -> Vote:
    mass = 0.0 if fault else 1.0
    return Vote(
        method="check", principle=principle.name, order="each", p_a=p_a, mass=mass, logprobs=(), fault=fault, reply=seen
    )


def _unconfined(judge: Judge) -> bool:
    return code.UNCONFINED in judge.checkers and "code" not in judge.checkers


def _words(outcome: CheckResult) -> str:
    if outcome.holds is None:
        return "has nothing to check"
    return ("holds" if outcome.holds else "does not hold") + (f" ({outcome.reason})" if outcome.reason else "")
