"""Asks nothing: the answer that was written under the principle is the better one (RLCD, Yang et al. 2023).

For pairs of `pairs.source: opposed`, which know under which instruction each answer was written.
"""

from cai.constitution import Judging
from cai.core.odds import logit
from cai.core.records import Pair
from cai.judge.ballots import NO_PROVENANCE, Ballot, Method, Templates

SURE = 0.99  # what a verdict without a probability counts as


def _ballots(pair: Pair, principle: Judging, templates: Templates) -> list[Ballot]:
    fault = "" if pair.prompted is not None else NO_PROVENANCE
    return [Ballot("provenance", principle.name, "each", fault=fault, p_a=pair.prompted)]


METHOD = Method("provenance", 7, (), lambda vote: logit(vote.p_a, SURE), _ballots, options=False)
