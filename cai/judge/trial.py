"""A constitution tried on pairs: what each principle makes of them, and which principles decide nothing.

A principle that a judge cannot read shows in its votes: they are all about the same, whatever the answers are, or they
never differ from what the other principles say anyhow. Both are measured here, on pairs of the user's own.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cai.config.sections import Judge, Runtime
from cai.constitution import Constitution
from cai.constitution.lint import Warnings, short
from cai.core.errors import UserError
from cai.core.records import Abstained, Label, Pair
from cai.data.comparisons import read_comparisons
from cai.judge.asking import Asked, judge_pairs
from cai.judge.methods import Templates, log_odds, principles_for, templates_for
from cai.models.engines.cached import CachedEngine
from cai.models.loading import pick_dtype
from cai.models.references import find
from cai.models.workbench import Workbench

# A principle whose votes spread less than this share of what is usual (the median of the others) tells answers apart
# no better than its wording happens to lean.
FLAT = 0.2
# Pairs that must have been decided before "never differs from the others" is more than luck: with none of 20, the
# share is below 14% (95%).
ENOUGH = 20


# 1. The judge and the pairs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Court:
    """A judge that reads every principle, ready to be asked."""

    judge: Judge
    engine: CachedEngine
    templates: Templates
    calls: Path

    def told(self) -> str:
        return f"{self.engine.asked} calls asked, {self.engine.found} found in {self.calls}"


def open_court(model: str, method: str = "rate", max_length: int = 1024) -> Court:
    """The judge behind the call cache that experiments use as well. Raises UserError where there is no such model."""
    settings = {"model": model, "method": method, "principles": "all", "max_length": max_length}
    judge = Judge.model_validate(settings)
    work = Workbench.open(Runtime())
    engine = work.engine(find(model), dtype=pick_dtype("auto", work.device), system=judge.system)
    return Court(judge, engine, templates_for(judge), work.root / "calls")


def read_pairs(path: Path) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs of a file of any form that cai/data/comparisons.py knows, and (where, why) of each row that is left
    out.

    Pairs that nobody has judged will do. Raises UserError for a file without pairs.
    """
    held = read_comparisons(path, judged=False)
    return list(held.pairs), list(held.faults)


def judge_all(
    engine: Asked, pairs: Sequence[Pair], law: Constitution, judge: Judge, templates: Templates
) -> list[Label | Abstained]:
    """Every principle on every pair that it applies to. Raises UserError where none applies to a pair's subset."""
    uncovered = {pair.prompt.subset for pair in pairs if not _applying(law, pair.prompt.subset)}
    if uncovered:
        names = ", ".join(f'"{name}"' for name in sorted(uncovered))
        remedy = 'change "Applies to:" of a principle, or add a principle without it'
        raise UserError(f"no principle applies to the pairs of subset {names}", str(law.path), remedy)
    title = f"judge by {law.path.name}"
    return judge_pairs(engine, pairs, principles_for(law, judge), judge, templates, seed=0, title=title)


def _applying(law: Constitution, subset: str) -> bool:
    return any(not p.applies_to or subset in p.applies_to for p in law.principles)


# 2. What each principle decides -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """What one principle made of the pairs.

    n: pairs with a readable vote. strength: mean |log-odds|. spread: standard deviation of the log-odds.
    decided: of these, pairs on which the other principles have a majority. dissent: the share of them on which this
    principle prefers the other side (a tie of its own is no dissent); NaN where `decided` is 0.
    """

    name: str
    line: int
    n: int
    strength: float
    spread: float
    decided: int
    dissent: float


def track_records(law: Constitution, labels: Sequence[Label | Abstained]) -> list[Record]:
    """One record for each principle, in the order of the file. Of votes given one for each pair and principle."""
    odds = [{vote.principle: log_odds(vote) for vote in label.votes if not vote.fault} for label in labels]
    return [_record(p.name, p.line, odds) for p in law.principles]


def _record(name: str, line: int, odds: Sequence[dict[str, float]]) -> Record:
    own = [votes[name] for votes in odds if name in votes]
    decided = dissenting = 0
    for votes in odds:
        majority = sum(_sign(value) for other, value in votes.items() if other != name)
        if name in votes and majority:
            decided += 1
            dissenting += _sign(votes[name]) * _sign(majority) < 0
    strength = statistics.fmean(map(abs, own)) if own else float("nan")
    spread = statistics.pstdev(own) if own else float("nan")
    return Record(name, line, len(own), strength, spread, decided, dissenting / decided if decided else float("nan"))


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


def idle(records: Sequence[Record]) -> Warnings:
    """Principles that never tell answers apart, or never say anything that the others do not say."""
    found: Warnings = []
    for record in records:
        others = [r.spread for r in records if r is not record and r.n > 1]
        usual = statistics.median(others) if others else 0.0
        if not record.n:
            found.append((record.line, f'"{record.name}" gave no readable vote on any pair'))
        elif record.n > 1 and record.spread <= FLAT * usual:
            found.append((record.line, f'"{record.name}" hardly tells answers apart: its log-odds spread by '
                          f"{record.spread:.3f}, those of the other principles by {usual:.3f}"))  # fmt: skip
        if record.decided >= ENOUGH and not record.dissent:
            found.append((record.line, f'"{record.name}" never decided against the majority of the other principles '
                          f"({record.decided} pairs): it adds no judgement of its own"))  # fmt: skip
    return found


def table(records: Sequence[Record]) -> str:
    width = max(9, *(len(short(r.name)) for r in records))
    rows = [f"{'principle':{width}}  mean |log-odds|  spread  against the majority  pairs"]
    for r in records:
        dissent = f"{r.dissent:.0%} of {r.decided}" if r.decided else "-"
        rows.append(f"{short(r.name):{width}}  {r.strength:15.3f}  {r.spread:6.3f}  {dissent:>20}  {r.n:5}")
    return "\n".join(rows)
