"""What each candidate principle makes of each pair: log-odds of "a is better", by an ordinary method of the judge.

Everything goes through the call cache: a further label set over the same pairs, or a further candidate, asks what is
new. Where a method puts its principle last (`channel`, `rate`, `choice`), all candidates share one reading of a pair.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cai.core.records import Pair
from cai.judge.asked import AskedJudge
from cai.judge.asking import Job, JudgeEngine, judge_jobs
from cai.judge.combine import combine
from cai.judge.inferring.candidates import Candidate, constitution_of


@dataclass(frozen=True, slots=True)
class VoteTable:
    """names: of the candidates. odds: pair id -> log-odds by each candidate, NaN where it does not apply to the pair or
    cannot be read. undecided: ids of pairs that no judge is asked about, for one answer has no words."""

    names: tuple[str, ...]
    odds: dict[str, tuple[float, ...]]
    undecided: frozenset[str]

    def rows(self, pairs: Sequence[Pair]) -> list[tuple[float, ...]]:
        """(pairs, candidates)."""
        return [self.odds[pair.id] for pair in pairs]


def cast_votes(
    engine: JudgeEngine, pairs: Sequence[Pair], judge: AskedJudge, rows: Sequence[Candidate], title: str
) -> VoteTable:
    """Every candidate on every pair that it applies to. judge: by which method, asked by `all` principles."""
    assert judge.settings.principles == "all"
    judge = judge.under(constitution_of(rows))
    distinct = list({pair.id: pair for pair in pairs}.values())
    jobs = [
        Job(pair, tuple(p for p in judge.principles if not p.applies_to or pair.prompt.subset in p.applies_to))
        for pair in distinct
    ]
    verdicts = judge_jobs(engine, jobs, judge, title=title)
    names = tuple(row.name for row in rows)
    odds, undecided = {}, set()
    for pair, verdict in zip(distinct, verdicts, strict=True):
        votes: dict[str, list] = {name: [] for name in names}
        for vote in verdict.votes:
            votes[vote.principle].append(vote)
        if getattr(verdict, "source", "") == "empty answer":
            undecided.add(pair.id)
        values = (combine(votes[name], judge.settings, {name: 1.0}) for name in names)
        odds[pair.id] = tuple(math.nan if value is None else value for value in values)
    return VoteTable(names, odds, frozenset(undecided))
