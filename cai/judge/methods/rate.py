"""Each answer alone: "would you choose it?"; log-odds of Yes for a, minus those for b.

A method of our own: a small judge that is shown two answers likes a position better than either.
"""

from cai.constitution import Judging
from cai.core.records import Chat, Pair
from cai.data.shots import sides
from cai.judge.ballots import Alone, Templates, beside, method_alone, rendered
from cai.models.engines import Question


def _questions(messages: Chat, answer: str, principle: Judging, templates: Templates) -> tuple[Question, ...]:
    return (Question(rendered("rate", templates, messages, principle, answer=answer), ("Yes", "No")),)


def _worked(pair: Pair, principle: Judging, templates: Templates, first: bool) -> tuple[Chat, str]:
    better, worse = sides(pair)
    answer = better if first else worse
    asked = beside(principle, templates)
    chat = templates["rate"].render(messages=pair.prompt.messages, principle=asked, answer=answer)
    return chat, "Yes" if first else "No"


METHOD = method_alone("rate", 1, Alone(_questions, lambda logprobs: logprobs[0] - logprobs[1]), worked=_worked)
