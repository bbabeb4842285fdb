"""How much likelier the principle makes each answer than its opposite does; a's gain, minus b's.

Departs from RLCD (Yang et al. 2023), whose prompts these are: there they write answers, here they read them.
"""

from cai.constitution import Judging
from cai.core.records import Pair, Vote
from cai.judge.ballots import Ballot, Method, Templates, rendered
from cai.models.engines import Question


def _ballots(pair: Pair, principle: Judging, templates: Templates) -> list[Ballot]:
    chats = (rendered("contrast", templates, pair.prompt.messages, principle, side=side) for side in ("for", "against"))
    return [Ballot("contrast", principle.name, "each", tuple(Question(chat, (pair.a, pair.b)) for chat in chats))]


def _log_odds(vote: Vote) -> float:
    a_for, b_for, a_against, b_against = vote.logprobs
    return (a_for - a_against) - (b_for - b_against)


METHOD = Method("contrast", 4, ("contrast",), _log_odds, _ballots, options=False, against=True)
