"""What a judge's method is made of: the questions of a vote (`Ballot`), how they are asked and read (`Method`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cai.constitution import Judging, Limit
from cai.core.records import Chat, Pair, Vote
from cai.core.templates import Template
from cai.models.engines import Question, Reading, Reply

TOO_LONG = "longer than judge.max_length"
NO_MASS = "too little probability on the options"
NO_PROVENANCE = "nobody knows which instruction wrote which answer"
REFUSED = "the judge refused to reason"
NO_THOUGHT = "the judge wrote nothing before it chose"
RAMBLED = "the judge repeated itself"

WHY = "why"  # the template by which a principle's reason stands beside it, where it is read
NEVER = "never"  # the method of votes on limits (limits.py), and their prompt
GATE = "only if"  # the method of votes on the conditions of a rubric's criteria (rubric.py)

Templates = Mapping[str, Template]


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote to be: the questions it rests on.

    order: "ab" or "ba", which answer is shown first; "each" where neither is. reply: the thought before the question.
    p_a: what is known without a question. fault: why it is void already, before anything is asked.
    """

    method: str
    principle: str
    order: str
    questions: tuple[Question, ...] = ()
    reply: str = ""
    fault: str = ""
    p_a: float | None = None


@dataclass(frozen=True, slots=True)
class Alone:
    """How a method asks about one answer by itself, and so can reward a single one.

    questions: (conversation, answer, principle, templates) -> what is asked. value: the log-probabilities of all their
    options, in order -> how good the answer is, in log-odds or points; a vote is the difference of two answers.
    """

    questions: Callable[[Chat, str, Judging, Templates], tuple[Question, ...]]
    value: Callable[[Sequence[float]], float]


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a method has the judge write before it is asked.

    chats: (order, chat) of each thought. ballot: (principle, order, chat, reply, templates) -> the vote that follows.
    """

    chats: Callable[[Pair, Judging, Templates], list[tuple[str, Chat]]]
    ballot: Callable[[str, str, Chat, Reply | None, Templates], Ballot]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to ask a judge which of two answers is better: one file in cai/judge/methods/, which is its name.

    place: where it stands among the others, in tables and where all are tried; cheap ones first.
    prompts: the files in prompts/ that it reads; none asks the judge nothing.
    ballots: the votes that one principle gives on one pair. log_odds: of "a is better", off a vote's log-probabilities.
    both_orders: a vote in one order alone is half a vote, for the judge may only like a position.
    options: whether the judge could answer something else, so that a vote has a mass; False: nothing could lack it.
    against: reads `Against:` of a principle. alone, thinking: see there; one that thinks has no ballots of its own.
    one_side: a vote by its principle alone, where a method asks about its opposite too.
    worked: (a pair that people judged, principle, templates, whether the first option is right) -> the question as it
    would be asked, and its answer, for `judge.shots`.
    """

    name: str
    place: int
    prompts: tuple[str, ...]
    log_odds: Callable[[Vote], float]
    ballots: Callable[[Pair, Judging, Templates], list[Ballot]] | None = None
    both_orders: bool = False
    options: bool = True
    against: bool = False
    alone: Alone | None = None
    thinking: Thinking | None = None
    one_side: Callable[[Vote], Vote] | None = None
    worked: Callable[[Pair, Judging, Templates, bool], tuple[Chat, str]] | None = None


def rendered(method: str, templates: Templates, messages: Chat, principle: Judging | Limit, **values: Any) -> Chat:
    """The question about a principle, behind the method's worked examples."""
    asked = beside(principle, templates)
    return behind_examples(method, templates, templates[method].render(messages=messages, principle=asked, **values))


def behind_examples(method: str, templates: Templates, chat: Chat) -> Chat:
    """The worked examples between a question's system turn and what is asked: all questions share them."""
    if examples := templates.get(f"examples/{method}"):
        start = int(chat[0].role == "system")
        return (*chat[:start], *examples.render(), *chat[start:])
    return chat


def beside(principle: Judging | Limit, templates: Templates) -> Judging | Limit:
    """The principle as it is shown: with its reason in its `prefer`, where the judge reads it."""
    why = getattr(principle, WHY, "")
    if not why or isinstance(principle, Limit):
        return principle
    return replace(principle, prefer=with_reason(principle.prefer, why, templates[WHY]))


def with_reason(text: str, why: str, template: Template) -> str:
    return template.render(text=text, why=why)[-1].content


# Methods that show both answers: (A) or (B), in both orders -----------------------------------------------------------


def shown(method: str, pair: Pair, principle: Judging, templates: Templates) -> list[tuple[str, Chat]]:
    """(order, chat) with either answer first."""
    orders = (("ab", pair.a, pair.b), ("ba", pair.b, pair.a))
    return [
        (order, rendered(method, templates, pair.prompt.messages, principle, first=first, second=second))
        for order, first, second in orders
    ]


def letter(chat: Chat) -> Question:
    # "(" is put into the judge's mouth, so that the letters compete with each other and not with other openings.
    return Question(chat, ("A", "B"), lead="(")


def letter_odds(vote: Vote) -> float:
    """Log-odds of a from those of the letters, whichever answer was shown first."""
    first, second = vote.logprobs
    return first - second if vote.order == "ab" else second - first


# Methods that ask about each answer alone -----------------------------------------------------------------------------


def method_alone(name: str, place: int, alone: Alone, **more: Any) -> Method:
    """A method whose vote is the value of a less that of b."""

    def ballots(pair: Pair, principle: Judging, templates: Templates) -> list[Ballot]:
        a, b = (alone.questions(pair.prompt.messages, answer, principle, templates) for answer in (pair.a, pair.b))
        return [Ballot(name, principle.name, "each", (*a, *b))]

    def log_odds(vote: Vote) -> float:
        asked = len(vote.logprobs) // 2
        return alone.value(vote.logprobs[:asked]) - alone.value(vote.logprobs[asked:])

    return Method(name, place, (name,), log_odds, ballots, alone=alone, **more)


def read_of(readings: Sequence[Reading | None]) -> tuple[float, ...]:
    """The log-probabilities of all options of the questions that could be read, in order."""
    return tuple(value for reading in readings if reading is not None for value in reading.logprobs)
