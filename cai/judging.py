"""The AI judge: principles and two answers in, P(a better) out, read off log-probabilities and never off written text.

Two ways to ask (Bai et al. 2022, section 4.1, asks the second):

    rate    each answer alone: "does it meet this standard?"; log-odds of Yes for a minus log-odds of Yes for b
    choice  both answers at once: (A) or (B); asked in both orders and averaged, because judges prefer a position

The principles of one pair are drawn by hash for its prompt, and their log-odds averaged. A vote whose options hold too
little probability is not counted; a pair without a readable vote is an abstention, never a tie.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cai.config import Judge
from cai.constitution import Judging, draw
from cai.engines import Question, Reading
from cai.records import Abstained, Label, Pair, Vote
from cai.templates import Template

YES_NO = ("Yes", "No")
LETTERS = ("A", "B")


class Chooser(Protocol):
    def choose(self, questions: Sequence[Question], max_length: int, title: str) -> list[Reading | None]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A vote to be: the questions it rests on, as places in the list of all questions."""

    pair: int
    principle: str
    order: str
    places: tuple[int, ...]


def judge_pairs(
    engine: Chooser,
    pairs: Sequence[Pair],
    judging: Sequence[Judging],
    judge: Judge,
    template: Template,
    *,
    seed: int,
    title: str,
) -> list[Label | Abstained]:
    """One label or abstention for each pair, in order. Equal questions are asked once."""
    questions: dict[Question, int] = {}
    asked: list[Asked] = []

    def place(question: Question) -> int:
        return questions.setdefault(question, len(questions))

    for index, pair in enumerate(pairs):
        n = len(judging) if judge.principles == "all" else judge.principles
        for principle in draw(judging, seed=seed, key=pair.prompt.id, subset=pair.prompt.subset, n=n):
            for order, wanted in _questions(pair, principle, judge, template):
                asked.append(Asked(index, principle.name, order, tuple(place(question) for question in wanted)))
    readings = engine.choose(list(questions), judge.max_length, title)
    votes: list[list[Vote]] = [[] for _ in pairs]
    too_long = [False] * len(pairs)
    for ask in asked:
        vote = _vote(ask, [readings[spot] for spot in ask.places])
        if vote is None:
            too_long[ask.pair] = True
        else:
            votes[ask.pair].append(vote)
    return [_verdict(pair, tuple(mine), judge, long) for pair, mine, long in zip(pairs, votes, too_long, strict=True)]


def _questions(
    pair: Pair, principle: Judging, judge: Judge, template: Template
) -> list[tuple[str, tuple[Question, ...]]]:
    """(order, questions) of each vote that one principle gives on one pair."""
    values = {"messages": pair.prompt.messages, "principle": principle}
    if judge.method == "rate":
        a, b = (Question(template.render(answer=answer, **values), YES_NO) for answer in (pair.a, pair.b))
        return [("each", (a, b))]
    # "(" is put into the judge's mouth, so that the letters compete with each other and not with other openings.
    ab = Question(template.render(first=pair.a, second=pair.b, **values), LETTERS, lead="(")
    ba = Question(template.render(first=pair.b, second=pair.a, **values), LETTERS, lead="(")
    return [("ab", (ab,)), ("ba", (ba,))]


def _vote(ask: Asked, readings: Sequence[Reading | None]) -> Vote | None:
    if any(reading is None for reading in readings):
        return None
    read = [reading for reading in readings if reading is not None]
    logprobs = tuple(value for reading in read for value in reading.logprobs)
    p_a = sigmoid(log_odds(ask.order, logprobs))
    return Vote(ask.principle, ask.order, p_a, min(reading.mass for reading in read), logprobs)


def _verdict(pair: Pair, votes: tuple[Vote, ...], judge: Judge, too_long: bool) -> Label | Abstained:
    """Average the readable votes in log-odds. A `choice` principle counts only when both of its orders can be read."""
    readable = [vote for vote in votes if vote.mass >= judge.min_mass]
    if judge.method == "choice":
        orders = {(vote.principle, vote.order) for vote in readable}
        readable = [vote for vote in readable if (vote.principle, vote.order[::-1]) in orders]
    if not readable:
        reason = "longer than judge.max_length" if too_long else "too little probability on the options"
        return Abstained(pair.id, reason, votes)
    mean = math.fsum(log_odds(vote.order, vote.logprobs) for vote in readable) / len(readable)
    return Label(pair.id, sigmoid(mean / judge.temperature), "ai", votes)


def log_odds(order: str, logprobs: Sequence[float]) -> float:
    """Of "a is better". Read off the raw log-probabilities: of a sure vote, P(a better) has been rounded to 0 or 1."""
    odds = [first - second for first, second in zip(logprobs[::2], logprobs[1::2], strict=True)]
    return odds[0] - odds[1] if order == "each" else odds[0] if order == "ab" else -odds[0]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
