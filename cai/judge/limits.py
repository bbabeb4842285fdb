"""Hard limits (`Never:` of a constitution): does an answer do what no answer may do?

Each answer is looked at alone: by the limit's `Check:` where it has one that says something, else the judge is asked
(prompts/never.jinja), whatever its method compares by. An answer breaks the limit where P(Yes) / (P(Yes) + P(No)) is at
least `judge.breach`. Of two answers

    one breaks it      a vote, as sure as a program's (SURE)
    both do            no vote, but whoever breaks this limit is not saved by another (cai/judge/combine.py)
    neither does       no vote
    one is unreadable  no vote

By a method that asks nothing (`check`, `provenance`) only checks are looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cai.config.sections import Judge
from cai.constitution import Limit
from cai.core.odds import logit, sigmoid
from cai.core.records import Pair, Prompt, Vote
from cai.judge.ballots import NEVER, NO_MASS, TOO_LONG, Templates, rendered
from cai.judge.checkers import SURE, answer_keeps
from cai.judge.methods import ASKING, shares
from cai.models.engines import Question, Reading

ONE_BREAKS, BOTH_BREAK, NEITHER_BREAKS = "one answer breaks it", "both answers break it", "neither answer breaks it"
UNASKED = "a limit that no judge is asked about"
BOUND = 8.0  # with limits, no answer is worth more than this by its principles, nor less than its negative: P 0.9997
# What breaking a limit costs an answer that is rated alone, in nats: it then is worth less than any that breaks none,
# by the log-odds of SURE at least.
COST = 2 * BOUND + logit(SURE)

Answers = Mapping[Question, Reading | None]


@dataclass(frozen=True, slots=True)
class Look:
    """One answer before one limit. breaks: what its check says; None where that is silent, and `question` is asked."""

    limit: str
    breaks: bool | None = None
    question: Question | None = None

    def seen(self, answers: Answers, judge: Judge) -> tuple[bool | None, Reading | None, str]:
        """Whether it breaks the limit, None where that cannot be said; what was read; why it cannot be."""
        if self.breaks is not None:
            return self.breaks, None, ""
        if self.question is None:
            return None, None, UNASKED
        reading = answers[self.question]
        fault = TOO_LONG if reading is None else reading.fault or (NO_MASS if reading.mass < judge.min_mass else "")
        if reading is None or fault:
            return None, reading, fault
        yes, no = reading.logprobs
        return sigmoid(yes - no) >= judge.breach, reading, ""


def looks(prompt: Prompt, answer: str, limits: Sequence[Limit], judge: Judge, templates: Templates) -> list[Look]:
    """One for each limit that applies to the prompt, in order."""
    asks = bool({*shares(judge)} & {*ASKING})

    def look(limit: Limit) -> Look:
        keeps = answer_keeps(limit.check, prompt, answer, judge) if limit.check else None
        if keeps is not None or not asks:
            return Look(limit.name, None if keeps is None else not keeps)
        chat = rendered(NEVER, templates, prompt.messages, limit, answer=answer)
        return Look(limit.name, question=Question(chat, ("Yes", "No")))

    return [look(limit) for limit in applying(prompt, limits)]


def applying(prompt: Prompt, limits: Sequence[Limit]) -> tuple[Limit, ...]:
    return tuple(limit for limit in limits if not limit.applies_to or prompt.subset in limit.applies_to)


def sides(pair: Pair, limits: Sequence[Limit], judge: Judge, templates: Templates) -> list[tuple[Look, Look]]:
    """Both answers before each limit that applies."""
    a, b = (looks(pair.prompt, answer, limits, judge, templates) for answer in (pair.a, pair.b))
    return list(zip(a, b, strict=True))


def limit_vote(both: tuple[Look, Look], answers: Answers, judge: Judge) -> Vote:
    """The vote of a limit; with a fault where it is none, and what was seen as its reply."""
    seen = [look.seen(answers, judge) for look in both]
    (a, _, why_a), (b, _, why_b) = seen
    read = [reading for _, reading, _ in seen if reading is not None]
    unread = why_a or why_b
    fault = unread or ("" if a != b else BOTH_BREAK if a else NEITHER_BREAKS)
    words = "; ".join(f"{name} {_words(breaks)}" for name, breaks in (("a", a), ("b", b)))
    return Vote(
        method=NEVER, principle=both[0].limit, order="each", p_a=0.5 if fault else 1 - SURE if a else SURE,
        mass=min((reading.mass for reading in read), default=0.0 if unread else 1.0),
        logprobs=tuple(value for reading in read for value in reading.logprobs), fault=fault, reply=words,
    )  # fmt: skip


def _words(breaks: bool | None) -> str:
    return "cannot be read" if breaks is None else "breaks it" if breaks else "does not break it"


def worth_within(value: float | None, breaks: bool) -> float | None:
    """What an answer is worth where there are limits: by its principles within BOUND, less COST where it breaks one."""
    if value is None:
        return -COST if breaks else None
    return min(max(value, -BOUND), BOUND) - COST * breaks
