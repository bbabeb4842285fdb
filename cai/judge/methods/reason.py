"""A chain of thought first, then (A) or (B) as in `choice` (Bai et al. 2022, section 4.1).

Departs from the paper in asking both orders, and in averaging several thoughts where `judge.reason.samples` says so.
"""

from cai.constitution import Judging
from cai.core.records import Chat, Message, Pair
from cai.core.refusals import declines
from cai.core.textstats import repetition
from cai.judge.ballots import (
    NO_THOUGHT,
    RAMBLED,
    REFUSED,
    TOO_LONG,
    Ballot,
    Method,
    Templates,
    Thinking,
    letter,
    letter_odds,
    shown,
)
from cai.models.engines import Reply


def _chats(pair: Pair, principle: Judging, templates: Templates) -> list[tuple[str, Chat]]:
    return shown("reason", pair, principle, templates)


def reasoned(principle: str, order: str, chat: Chat, reply: Reply | None, templates: Templates) -> Ballot:
    """The ballot that follows a chain of thought; void where the judge would not, or could not, think."""
    if reply is None:
        return Ballot("reason", principle, order, fault=TOO_LONG)
    fault = REFUSED if declines(reply.text[:120]) else RAMBLED if repetition(reply.text) > 0.5 else ""
    if not reply.text or fault:
        return Ballot("reason", principle, order, reply=reply.text, fault=fault or NO_THOUGHT)
    thought = (*chat, Message("assistant", reply.text))
    return Ballot("reason", principle, order, (letter(templates["verdict"].render(messages=thought)),), reply.text)


METHOD = Method(
    "reason", 5, ("reason", "verdict"), letter_odds, both_orders=True, thinking=Thinking(_chats, reasoned)
)  # fmt: skip
