"""A constitution tried on pairs: what each principle makes of them, and which principles decide nothing.

A principle that a judge cannot read shows in its votes: they are all about the same, whatever the answers are, or they
never differ from what the other principles say anyhow. Both are measured here, on pairs of the user's own.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cai.config.runtime import Runtime
from cai.config.sections import Judge
from cai.constitution import Constitution
from cai.constitution.lint import Warnings, short
from cai.core.errors import UserError
from cai.core.odds import side
from cai.core.records import Abstained, Label, Pair
from cai.data.comparisons import read_comparisons
from cai.judge.asked import AskedJudge
from cai.judge.asking import JudgeEngine, judge_pairs
from cai.judge.methods import log_odds
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
    """A judge that reads every principle, ready to be asked under any constitution. calls: where its answers are."""

    judge: AskedJudge
    engine: CachedEngine
    calls: Path

    def in_words(self) -> str:
        return f"{self.engine.asked} calls asked, {self.engine.found} found in {self.calls}"


def open_court(model: str, method: str = "rate", max_length: int = 1024, root: str = "runs") -> Court:
    """The judge behind a call cache: of the folder where experiments keep theirs, unless another root is named.

    Raises UserError where there is no such model.
    """
    settings = {"model": model, "method": method, "principles": "all", "max_length": max_length}
    work = Workbench.open(Runtime(root=root))
    dtype = pick_dtype("auto", work.device)
    judge = AskedJudge(Judge.model_validate(settings), find(model), (), {}, dtype, seed=0)
    return Court(judge, judge.engine(work), work.root / "calls")


def read_pairs(path: Path) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs of a file of any form that cai/data/comparisons.py knows, and (where, why) of each row that is left
    out.

    Pairs that nobody has judged will do. Raises UserError for a file without pairs.
    """
    comparisons = read_comparisons(path, judged=False)
    return list(comparisons.pairs), list(comparisons.faults)


def judge_all(
    engine: JudgeEngine, pairs: Sequence[Pair], constitution: Constitution, judge: AskedJudge
) -> list[Label | Abstained]:  # fmt: skip
    """Every principle on every pair that it applies to. Raises UserError where none applies to a pair's subset."""
    uncovered = {pair.prompt.subset for pair in pairs if not _applying(constitution, pair.prompt.subset)}
    if uncovered:
        names = ", ".join(f'"{name}"' for name in sorted(uncovered))
        remedy = 'change "Applies to:" of a principle, or add a principle without it'
        raise UserError(f"no principle applies to the pairs of subset {names}", str(constitution.path), remedy)
    return judge_pairs(engine, pairs, judge.under(constitution), title=f"judge by {constitution.path.name}")


def _applying(constitution: Constitution, subset: str) -> bool:
    return any(not p.applies_to or subset in p.applies_to for p in constitution.principles)


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


def track_records(constitution: Constitution, labels: Sequence[Label | Abstained]) -> list[Record]:
    """One record for each principle, in the order of the file. Of votes given one for each pair and principle."""
    by_pair = [{vote.principle: log_odds(vote) for vote in label.votes if not vote.fault} for label in labels]
    records = []
    for principle in constitution.principles:
        mine = [odds for odds in by_pair if principle.name in odds]
        own = [odds[principle.name] for odds in mine]
        # What the other principles prefer: their majority, by one vote each.
        others = [sum(side(value) for name, value in odds.items() if name != principle.name) for odds in mine]
        against = [side(value) * side(other) < 0 for value, other in zip(own, others, strict=True) if other]
        records.append(
            Record(
                name=principle.name,
                line=principle.line,
                n=len(own),
                strength=statistics.fmean(map(abs, own)) if own else math.nan,
                spread=statistics.pstdev(own) if own else math.nan,
                decided=len(against),
                dissent=sum(against) / len(against) if against else math.nan,
            )
        )
    return records


def idle(records: Sequence[Record]) -> Warnings:
    """Principles that never tell answers apart, or never say anything that the others do not say."""
    idling: Warnings = []
    for record in records:
        others = [r.spread for r in records if r is not record and r.n > 1]
        usual = statistics.median(others) if others else 0.0
        if not record.n:
            idling.append((record.line, f'"{record.name}" gave no readable vote on any pair'))
        elif record.n > 1 and record.spread <= FLAT * usual:
            idling.append((record.line, f'"{record.name}" hardly tells answers apart: its log-odds spread by '
                          f"{record.spread:.3f}, those of the other principles by {usual:.3f}"))  # fmt: skip
        if record.decided >= ENOUGH and not record.dissent:
            idling.append((record.line, f'"{record.name}" never decided against the majority of the other principles '
                          f"({record.decided} pairs): it adds no judgement of its own"))  # fmt: skip
    return idling


def table(records: Sequence[Record]) -> str:
    width = max(9, *(len(short(r.name)) for r in records))
    rows = [f"{'principle':{width}}  mean |log-odds|  spread  against the majority  pairs"]
    for r in records:
        dissent = f"{r.dissent:.0%} of {r.decided}" if r.decided else "-"
        strength, spread = (f"{r.strength:.3f}", f"{r.spread:.3f}") if r.n else ("-", "-")
        rows.append(f"{short(r.name):{width}}  {strength:>15}  {spread:>6}  {dissent:>20}  {r.n:5}")
    return "\n".join(rows)
