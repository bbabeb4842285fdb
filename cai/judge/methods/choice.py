"""Both answers at once, (A) or (B) (Bai et al. 2022, section 4.1).

Departs from the paper, which shows the two answers in one order: here both orders are asked, and a vote needs both.
"""

from cai.constitution import Judging
from cai.core.records import Pair
from cai.judge.ballots import Ballot, Method, Templates, letter, letter_odds, shown


def _ballots(pair: Pair, principle: Judging, templates: Templates) -> list[Ballot]:
    chats = shown("choice", pair, principle, templates)
    return [Ballot("choice", principle.name, order, (letter(chat),)) for order, chat in chats]


METHOD = Method("choice", 2, ("choice",), letter_odds, _ballots, both_orders=True)
