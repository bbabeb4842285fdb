"""Both answers at once, (A) or (B) (Bai et al. 2022, section 4.1).

Departs from the paper, which shows the two answers in one order: here both orders are asked, and a vote needs both.
"""

from cai.constitution import Judging
from cai.core.records import Chat, Pair
from cai.data.shots import sides
from cai.judge.ballots import Ballot, Method, Templates, beside, letter, letter_odds, shown


def _ballots(pair: Pair, principle: Judging, templates: Templates) -> list[Ballot]:
    chats = shown("choice", pair, principle, templates)
    return [Ballot("choice", principle.name, order, (letter(chat),)) for order, chat in chats]


def _worked(pair: Pair, principle: Judging, templates: Templates, first: bool) -> tuple[Chat, str]:
    better, worse = sides(pair)
    shown_first, shown_second = (better, worse) if first else (worse, better)
    chat = templates["choice"].render(
        messages=pair.prompt.messages, principle=beside(principle, templates), first=shown_first, second=shown_second
    )
    return chat, "(A)" if first else "(B)"


METHOD = Method("choice", 2, ("choice",), letter_odds, _ballots, both_orders=True, worked=_worked)
