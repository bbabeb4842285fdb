"""Each answer alone, rated from 1 to 10; the expected rating of a, minus that of b (Lee et al. 2023, RLAIF, app. A).

Departs from the paper in that the ratings' difference is taken for log-odds as it stands, and not normalised to 0 to 1.
"""

import math
from collections.abc import Sequence

from cai.constitution import Judging
from cai.core.records import Chat
from cai.judge.ballots import Alone, Templates, method_alone, rendered
from cai.models.engines import Question

RATINGS = tuple(str(rating) for rating in range(1, 11))


def _questions(messages: Chat, answer: str, principle: Judging, templates: Templates) -> tuple[Question, ...]:
    return (Question(rendered("score", templates, messages, principle, answer=answer), RATINGS),)


def expected(logprobs: Sequence[float]) -> float:
    """The mean rating, 1 to 10, among the probability that fell on ratings."""
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    return math.fsum(weight * rating for weight, rating in zip(weights, range(1, 11), strict=True)) / math.fsum(weights)


METHOD = method_alone("score", 3, Alone(_questions, expected))
