"""How much likelier the principle is than its opposite, as the instruction behind answer a; less the same behind b.

As a noisy channel turns round P(label | text) for classifiers (Min et al. 2022, "Noisy Channel Language Model
Prompting"). Departs from the paper in asking about the principle's opposite as well, and in being taught
(cai/judge/teaching/).
"""

from collections.abc import Sequence
from dataclasses import replace

from cai.constitution import Judging
from cai.constitution.negation import as_standard, negate
from cai.core.records import Chat, Vote
from cai.judge.ballots import WHY, Alone, Templates, method_alone, rendered, with_reason
from cai.models.engines import Question


def described(messages: Chat, answer: str, principle: Judging, templates: Templates) -> Question:
    """How likely the principle is as a description of an answer: P(principle | answer), by the words of the principle.

    What the principle's words are worth by themselves is the same for both answers and cancels. Its reason, where it is
    read, stands beside the question, and so the same one where the opposite is asked about.
    """
    chat = rendered("channel", templates, messages, principle, answer=answer)
    if why := getattr(principle, WHY, ""):
        chat = (*chat[:-1], replace(chat[-1], content=with_reason(chat[-1].content, why, templates[WHY])))
    return Question(chat, (principle.prefer,))


def both_sides(principle: Judging) -> tuple[Judging, ...]:
    """The principle and its opposite, `Against:` or by rule (cai/constitution/negation.py); alone where it has none.

    What an answer makes of the subject of a principle is the same on both sides and cancels; the sense is left.
    """
    opposite = as_standard(principle.against) if principle.against else negate(principle.prefer)
    return (principle,) if opposite is None else (principle, replace(principle, prefer=opposite, against=""))


def one_side(vote: Vote) -> Vote:
    """The vote by its principle alone, where the opposite was asked about too.

    With both, log-odds turn with the negation whatever the judge makes of it; on one side alone they need not.
    """
    sides = len(vote.logprobs) // 2
    return replace(vote, logprobs=vote.logprobs[::sides]) if vote.method == "channel" and sides else vote


def _questions(messages: Chat, answer: str, principle: Judging, templates: Templates) -> tuple[Question, ...]:
    return tuple(described(messages, answer, side, templates) for side in both_sides(principle))


def _value(logprobs: Sequence[float]) -> float:
    """Each side is a whole verdict, so it is their mean: two are not twice as sure."""
    return logprobs[0] if len(logprobs) == 1 else (logprobs[0] - logprobs[1]) / 2


METHOD = method_alone("channel", 6, Alone(_questions, _value), options=False, against=True, one_side=one_side)
