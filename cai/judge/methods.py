"""The ways to ask a judge which of two answers is better, all of them read off log-probabilities, never off text.

    rate        each answer alone: "would you choose it?"; log-odds of Yes for a, minus those for b
    choice      both answers at once, (A) or (B) (Bai et al. 2022, section 4.1); asked in both orders
    score       each answer alone, rated from 1 to 10; expected rating of a, minus that of b (Lee et al. 2023)
    contrast    how much likelier the principle makes each answer than its opposite does; a's gain, minus b's
    channel     how much likelier the principle is than its opposite, as the instruction behind answer a; less the same
                behind b (cai/judge/teaching/)
    reason      a chain of thought first, then as in `choice` (Bai et al. 2022, section 4.1)
    provenance  asks nothing: the answer that was written under the principle is the better one (RLCD, Yang et al. 2023)

What a vote's log-probabilities mean is known here and nowhere else: `ballots` asks, `log_odds` reads.
Departures: Bai et al. show the two answers in one order; `contrast` reads with the prompts that RLCD writes with.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cai.config.sections import ALONE, Judge
from cai.constitution import Constitution, Judging
from cai.constitution.negation import as_standard, negate
from cai.core.records import Chat, Message, Pair, Vote
from cai.core.refusals import declines
from cai.core.templates import Template, load_template
from cai.core.textstats import repetition
from cai.models.engines import Question, Reading, Reply

YES_NO = ("Yes", "No")
LETTERS = ("A", "B")
RATINGS = tuple(str(rating) for rating in range(1, 11))
OPTIONS = {"rate": YES_NO, "score": RATINGS}  # of the methods that ask about one answer
# Which files in prompts/ a method reads.
PROMPTS: dict[str, tuple[str, ...]] = {
    "rate": ("rate",),
    "choice": ("choice",),
    "score": ("score",),
    "contrast": ("contrast",),
    "reason": ("reason", "verdict"),
    "channel": ("channel",),
    "provenance": (),
}
ASKING = tuple(method for method in PROMPTS if PROMPTS[method])
BOTH_ORDERS = ("choice", "reason")  # a vote in one order alone is half a vote: the judge may only like a position
WITHOUT_OPTIONS = (
    "channel",
    "contrast",
    "provenance",
)  # nothing that could lack probability: their votes have no mass to speak of
SURE = 0.99  # what a verdict without a probability counts as

TOO_LONG = "longer than judge.max_length"
NO_MASS = "too little probability on the options"
NO_PROVENANCE = "nobody knows which instruction wrote which answer"
REFUSED = "the judge refused to reason"
NO_THOUGHT = "the judge wrote nothing before it chose"
RAMBLED = "the judge repeated itself"

Templates = Mapping[str, Template]


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote to be: the questions it rests on. fault: why it is void already, before anything is asked."""

    method: str
    principle: str
    order: str
    questions: tuple[Question, ...]
    reply: str = ""
    fault: str = ""


# 1. Which methods, which files ---------------------------------------------------------------------------------------


def methods_of(judge: Judge) -> tuple[str, ...]:
    """Those that the judge may be asked by; `auto` may come to be any but `provenance`, which asks nothing."""
    return ASKING if judge.method == "auto" else tuple(shares(judge))


def name_of(method: Any) -> str:
    """`rate`, or `rate 0.5 + choice 0.5` for a mix."""
    return method if isinstance(method, str) else " + ".join(f"{name} {weight:g}" for name, weight in method.items())


def principles_for(law: Constitution, judge: Judge) -> tuple[Judging, ...]:
    """What these methods read of a constitution: `Against:` is part of it only where it is read."""
    return law.contrasting if {"contrast", "channel"} & {*methods_of(judge)} else law.judging


def shares(judge: Judge) -> dict[str, float]:
    """Method -> its share of the label; they add up to 1."""
    weights = judge.method if isinstance(judge.method, dict) else {judge.method: 1.0}
    total = math.fsum(weights.values())
    return {method: weight / total for method, weight in weights.items()}


def templates_for(judge: Judge, methods: Sequence[str] = ()) -> dict[str, Template]:
    """Every template that the judge's methods (or the given ones) read; worked examples as "examples/METHOD"."""
    wanted = methods or methods_of(judge)
    found = {name: load_template(name) for method in wanted for name in PROMPTS[method]}
    return found | {
        f"examples/{method}": load_template(file) for method, file in judge.examples.items() if method in wanted
    }


# 2. Asking -----------------------------------------------------------------------------------------------------------


def thoughts(pair: Pair, principle: Judging, templates: Templates) -> list[tuple[str, Chat]]:
    """(order, chat) of what `reason` must write before it can be asked for a letter."""
    return [
        (order, _with_examples("reason", templates, pair.prompt.messages, principle, first=first, second=second))
        for order, first, second in _orders(pair)
    ]


def ballots(method: str, pair: Pair, principle: Judging, templates: Templates) -> list[Ballot]:
    """The votes that one principle gives on one pair by any method but `reason`."""

    def ballot(order: str, *questions: Question, fault: str = "") -> Ballot:
        return Ballot(method, principle.name, order, questions, fault=fault)

    def ask(**values: Any) -> Chat:
        return _with_examples(method, templates, pair.prompt.messages, principle, **values)

    if method == "provenance":
        return [ballot("each", fault="" if pair.prompted is not None else NO_PROVENANCE)]
    if method in ALONE:
        asked = (alone(method, pair.prompt.messages, answer, principle, templates) for answer in (pair.a, pair.b))
        return [ballot("each", *(question for questions in asked for question in questions))]
    if method == "contrast":
        return [ballot("each", *(Question(ask(side=side), (pair.a, pair.b)) for side in ("for", "against")))]
    assert method == "choice", method
    return [
        ballot(order, _letter(ask(first=first, second=second))) for order, first, second in _orders(pair)
    ]  # fmt: skip


def alone(method: str, messages: Chat, answer: str, principle: Judging, templates: Templates) -> tuple[Question, ...]:
    """What one principle asks about one answer, by a method of ALONE."""
    if method == "channel":
        return tuple(described(messages, answer, side, templates) for side in both_sides(principle))
    return (Question(_with_examples(method, templates, messages, principle, answer=answer), OPTIONS[method]),)


def described(messages: Chat, answer: str, principle: Judging, templates: Templates) -> Question:
    """How likely the principle is as a description of an answer: P(principle | answer), by the words of the principle.

    As a noisy channel turns round P(label | text) for classifiers (Min et al. 2022, "Noisy Channel Language Model
    Prompting"). What the principle's words are worth by themselves is the same for both answers and cancels.
    """
    return Question(_with_examples("channel", templates, messages, principle, answer=answer), (principle.prefer,))


def both_sides(principle: Judging) -> tuple[Judging, ...]:
    """The principle and its opposite, `Against:` or by rule (cai/constitution/negation.py); alone where it has none.

    What an answer makes of the subject of a principle is the same on both sides and cancels; the sense is left.
    """
    opposite = as_standard(principle.against) if principle.against else negate(principle.prefer)
    return (principle,) if opposite is None else (principle, replace(principle, prefer=opposite, against=""))


def reasoned(principle: str, order: str, chat: Chat, reply: Reply | None, templates: Templates) -> Ballot:
    """The ballot that follows a chain of thought; void where the judge would not, or could not, think."""
    if reply is None:
        return Ballot("reason", principle, order, (), fault=TOO_LONG)
    fault = REFUSED if declines(reply.text[:120]) else RAMBLED if repetition(reply.text) > 0.5 else ""
    if not reply.text or fault:
        return Ballot("reason", principle, order, (), reply.text, fault or NO_THOUGHT)
    thought = (*chat, Message("assistant", reply.text))
    return Ballot("reason", principle, order, (_letter(templates["verdict"].render(messages=thought)),), reply.text)


def _orders(pair: Pair) -> tuple[tuple[str, str, str], ...]:
    return ("ab", pair.a, pair.b), ("ba", pair.b, pair.a)


def _letter(chat: Chat) -> Question:
    # "(" is put into the judge's mouth, so that the letters compete with each other and not with other openings.
    return Question(chat, LETTERS, lead="(")


def _with_examples(method: str, templates: Templates, messages: Chat, principle: Judging, **values: Any) -> Chat:
    """The question, with the worked examples between its system turn and what is asked: all questions share them."""
    chat = templates[method].render(messages=messages, principle=principle, **values)
    if examples := templates.get(f"examples/{method}"):
        start = int(chat[0].role == "system")
        return (*chat[:start], *examples.render(), *chat[start:])
    return chat


# 3. Reading ----------------------------------------------------------------------------------------------------------


def cast(ballot: Ballot, pair: Pair, readings: Sequence[Reading | None], min_mass: float) -> Vote:
    """What came of a ballot. A vote that cannot be read says why; its P of one half is never counted."""
    of = {"method": ballot.method, "principle": ballot.principle, "order": ballot.order, "reply": ballot.reply}
    read = [reading for reading in readings if reading is not None]
    logprobs = tuple(value for reading in read for value in reading.logprobs)
    mass = 1.0 if ballot.method in WITHOUT_OPTIONS else min((reading.mass for reading in read), default=0.0)
    unread = next((reading.fault for reading in read if reading.fault), "")
    fault = ballot.fault or (TOO_LONG if len(read) < len(readings) else unread or (NO_MASS if mass < min_mass else ""))
    if ballot.fault or unread or len(read) < len(readings):
        return Vote(**of, p_a=0.5, mass=0.0, logprobs=logprobs, fault=fault)
    if ballot.method == "provenance":
        assert pair.prompted is not None
        return Vote(**of, p_a=pair.prompted, mass=mass, logprobs=())
    read_vote = Vote(**of, p_a=0.5, mass=mass, logprobs=logprobs, fault=fault)
    return Vote(**of, p_a=sigmoid(log_odds(read_vote)), mass=mass, logprobs=logprobs, fault=fault)


def log_odds(vote: Vote) -> float:
    """Of "a is better". Read off the raw log-probabilities: of a sure vote, P(a better) has been rounded to 0 or 1."""
    values = vote.logprobs
    if vote.method == "provenance":
        return logit(vote.p_a)
    if vote.method in ALONE:
        asked = len(values) // 2
        return merit(vote.method, values[:asked]) - merit(vote.method, values[asked:])
    if vote.method in BOTH_ORDERS:
        first, second = values
        return first - second if vote.order == "ab" else second - first
    assert vote.method == "contrast", vote.method
    a_for, b_for, a_against, b_against = values
    return (a_for - a_against) - (b_for - b_against)


def one_side(vote: Vote) -> Vote:
    """The vote by its principle alone, where the opposite was asked about too.

    With both, log-odds turn with the negation whatever the judge makes of it; on one side alone they need not.
    """
    sides = len(vote.logprobs) // 2
    return replace(vote, logprobs=vote.logprobs[::sides]) if vote.method == "channel" and sides else vote


def merit(method: str, logprobs: Sequence[float]) -> float:
    """How good one answer is by itself: the log-odds of Yes, the mean rating, or how much likelier the principle is
    behind it than the opposite. Each side of that is a whole opinion, so it is their mean: two are not twice as sure.
    """
    if method == "channel":
        return logprobs[0] if len(logprobs) == 1 else (logprobs[0] - logprobs[1]) / 2
    return _expected(logprobs) if method == "score" else logprobs[0] - logprobs[1]


def _expected(logprobs: Sequence[float]) -> float:
    """The mean rating, 1 to 10, among the probability that fell on ratings."""
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    return math.fsum(weight * rating for weight, rating in zip(weights, range(1, 11), strict=True)) / math.fsum(weights)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def logit(p: float, most: float = SURE) -> float:
    """Log-odds of a probability, which is taken to be no surer than `most` either way."""
    p = min(max(p, 1 - most), most)
    return math.log(p / (1 - p))
