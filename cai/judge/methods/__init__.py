"""The ways to ask a judge which of two answers is better, all of them read off log-probabilities, never off text.

One file a method, found by its name: its questions, its reading, what it needs (`Method` in cai/judge/ballots.py) and
where it departs from the paper it follows. To add one: a file here with a `METHOD`, and its prompt in prompts/.
"""

import importlib
import math
import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cai.config.rubric import RUBRIC
from cai.config.sections import Judge
from cai.constitution import Constitution, Judging
from cai.core.odds import logit, sigmoid
from cai.core.records import Vote
from cai.core.templates import Template, load_template
from cai.judge.ballots import GATE, NEVER, NO_MASS, TOO_LONG, Ballot, Method, read_of
from cai.judge.checkers import SURE
from cai.models.engines import Reading


def _found() -> dict[str, Method]:
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    methods = [importlib.import_module(f"{__name__}.{name}").METHOD for name in names]
    assert [method.name for method in methods] == names, "a method's name is that of its file"
    return {method.name: method for method in sorted(methods, key=lambda method: (method.place, method.name))}


METHODS = _found()
# What votes may be of: a judge is asked about limits by all of the methods that ask, and by none is it asked for them;
# a vote on the condition of a rubric's criterion says nothing of which answer is better.
WAYS = METHODS | {
    NEVER: Method(NEVER, 9, (NEVER,), lambda vote: logit(vote.p_a, SURE)),
    GATE: Method(GATE, 9, (), lambda vote: 0.0),
}
# All that ask about principles.
ASKING = tuple(name for name, method in METHODS.items() if method.prompts and (method.ballots or method.thinking))
# Those that can reward a single answer; a check looks at each of two anyhow, and so does a rubric.
ALONE = tuple(name for name, method in METHODS.items() if method.alone or name in ("check", RUBRIC))


# 1. Which methods, which files ---------------------------------------------------------------------------------------


def methods_of(judge: Judge) -> tuple[str, ...]:
    """Those that the judge may be asked by; `auto` may come to be any but those that ask nothing."""
    return ASKING if judge.method == "auto" else tuple(shares(judge))


def name_of(method: Any) -> str:
    """`rate`, or `rate 0.5 + choice 0.5` for a mix."""
    return method if isinstance(method, str) else " + ".join(f"{name} {weight:g}" for name, weight in method.items())


def reads_against(judge: Judge) -> bool:
    """Whether one of its methods reads `Against:`."""
    return any(METHODS[name].against for name in methods_of(judge))


def principles_for(constitution: Constitution, judge: Judge) -> tuple[Judging, ...]:
    """What these methods read of a constitution, checks included: `Against:` is part of it only where it is read."""
    if judge.method == RUBRIC:
        return ()
    if reads_against(judge):
        return constitution.checking
    return tuple(replace(principle, against="") for principle in constitution.checking)


def shares(judge: Judge) -> dict[str, float]:
    """Method -> its share of the label; they add up to 1."""
    weights = judge.method if isinstance(judge.method, dict) else {judge.method: 1.0}
    total = math.fsum(weights.values())
    return {method: weight / total for method, weight in weights.items()}


def templates_for(judge: Judge, methods: Sequence[str] = ()) -> dict[str, Template]:
    """Every template that the judge's methods (or the given ones) read; worked examples as "examples/METHOD"."""
    wanted = methods or methods_of(judge)
    templates = {name: load_template(name) for method in wanted for name in METHODS[method].prompts}
    return templates | {
        f"examples/{method}": load_template(file) for method, file in judge.examples.items() if method in wanted
    }


# 2. Reading ----------------------------------------------------------------------------------------------------------


def cast(ballot: Ballot, readings: Sequence[Reading | None], min_mass: float) -> Vote:
    """What came of a ballot. A vote that cannot be read says why; its P of one half is never counted."""
    of = {"method": ballot.method, "principle": ballot.principle, "order": ballot.order, "reply": ballot.reply}
    logprobs, missing = read_of(readings), None in readings
    masses = [reading.mass for reading in readings if reading is not None]
    mass = min(masses, default=0.0) if METHODS[ballot.method].options else 1.0
    unreadable = next((reading.fault for reading in readings if reading and reading.fault), "")
    fault = ballot.fault or (TOO_LONG if missing else unreadable or (NO_MASS if mass < min_mass else ""))
    if ballot.fault or missing or unreadable:
        return Vote(**of, p_a=0.5, mass=0.0, logprobs=logprobs, fault=fault)
    if ballot.p_a is not None:
        return Vote(**of, p_a=ballot.p_a, mass=mass, logprobs=())
    unread = Vote(**of, p_a=0.5, mass=mass, logprobs=logprobs, fault=fault)
    return Vote(**of, p_a=sigmoid(log_odds(unread)), mass=mass, logprobs=logprobs, fault=fault)


def log_odds(vote: Vote) -> float:
    """Of "a is better". Read off the raw log-probabilities: of a sure vote, P(a better) has been rounded to 0 or 1."""
    return WAYS[vote.method].log_odds(vote)
