"""Asks nothing: a program says which answer keeps to a principle's `Check:` (cai/judge/checkers/).

Such votes are there by every method, for the principles that have a check. As `judge.method` it labels by them alone.
"""

from cai.core.odds import logit
from cai.judge.ballots import Method
from cai.judge.checkers import SURE

METHOD = Method("check", 8, (), lambda vote: logit(vote.p_a, SURE), options=False)
