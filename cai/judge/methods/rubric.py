"""Scores each answer by the criteria of `judge.rubric`, one question a criterion, whatever the constitution says.

Its questions are not of principles, so `auto` and the commands that ask about a constitution leave it out: how criteria
are asked, scored and put together stands in cai/judge/rubric.py. Here is how a vote is read: how much more of its
points a criterion gives to a than to b, on the scale on which a whole rubric is as sure as a check.
"""

from cai.config.rubric import RUBRIC
from cai.core.odds import logit, sigmoid
from cai.core.records import Vote
from cai.judge.ballots import Method
from cai.judge.checkers import SURE

WHOLE = logit(SURE)  # log-odds where one answer earns a whole rubric and the other nothing of it


def favoured(vote: Vote) -> tuple[float, float]:
    """P(the criterion speaks for it) of a and of b: of Yes, or of No for a criterion with negative points."""
    for_a, against_a, for_b, against_b = vote.logprobs
    return sigmoid(for_a - against_a), sigmoid(for_b - against_b)


def _log_odds(vote: Vote) -> float:
    a, b = favoured(vote)
    return WHOLE * (a - b)


METHOD = Method(RUBRIC, 9, (RUBRIC,), _log_odds)
