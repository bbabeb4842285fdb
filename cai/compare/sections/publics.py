"""Several publics: every arm by what each group of people says, and what a group loses where one arm is made for all.

    who by whom      how often an arm's reward models say what a group's people say of the held-out pairs, and how often
                     its policies win against the SFT policy by the group's own constitution
    merged less own  for each group, over prompts and seeds (cai/stats/crossed.py): what it loses, if that is shown
    welfare          of each arm: the mean over the groups, the least, and Nash's (cai/stats/welfare.py)
    among people     how often two groups want the same answer: where they do not, no arm can serve both

A group counts as one in each of these, however many people are in it. Pairs on which a group is split have no truth for
it, and are left out for it alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from cai.compare import plots
from cai.compare.cells import Cell, Measured, with_policy
from cai.compare.measures import HeldOutPairs, Rows, average, outcomes, wins_of
from cai.compare.plots import Dot, Scale
from cai.compare.section import Finished, ReportSection
from cai.config.publics import Family
from cai.core.records import Estimate, Label, Number, read_jsonl
from cai.data.publics import constitutions_of, families_of
from cai.stats import intervals as statistics
from cai.stats.crossed import Contrast, contrast
from cai.stats.welfare import Welfare, welfare

Of = Literal["agreement", "wins"]
MEASURES: dict[Of, str] = {
    "agreement": "reward models agree with the group's people",
    "wins": "wins against the SFT policy by the group's constitution",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicsRow:
    """One arm on one measure. by: group -> its rate, mean of the arm's seeds. welfare: over the groups."""

    arm: str
    labels: str
    by: dict[str, Estimate]
    welfare: Welfare


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicsLine:
    """What a group loses: the merged arm less the group's own, over prompts and seeds. own, merged: their rates."""

    group: str
    arm: str
    over: str
    own: Estimate
    merged: Estimate
    difference: Estimate
    p: Number
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstOff:
    """Under one merged arm. group: with the lowest rate; next: with the second lowest; gap: of these two, the lower
    less the higher, each by its own people (over prompts and seeds)."""

    arm: str
    group: str
    next: str
    gap: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicsMeasure:
    key: Of
    title: str
    rows: list[PublicsRow]
    lines: list[PublicsLine]
    worst: list[WorstOff]
    sentences: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicsReport:
    """groups: name -> people in it. among: share of held-out pairs on which two groups want the same answer, of those
    that both decided. constitutions: group -> the file by which its games are judged."""

    groups: dict[str, int]
    among: list[tuple[str, str, Estimate]]
    constitutions: dict[str, str]
    measures: list[PublicsMeasure]


@dataclass(frozen=True, slots=True)
class _Rates:
    """One measure: (cell, group) -> outcomes of 0 to 1. cluster: row -> prompt."""

    key: Of
    cells: Sequence[Cell]
    of: Callable[[Cell, str], Rows]
    cluster: Callable[[str], str]

    def seeds(self, arm: str, group: str) -> list[Rows]:
        return [self.of(cell, group) for cell in self.cells if cell.arm == arm]

    def mean(self, arm: str, group: str) -> Estimate:
        rows = average(self.seeds(arm, group))
        return statistics.mean(list(rows.values()), [self.cluster(row) for row in rows])

    def difference(self, first: tuple[str, str], second: tuple[str, str]) -> Contrast:
        """First less second, each an (arm, group), on the rows that every seed of both has."""
        a, b = self.seeds(*first), self.seeds(*second)
        rows = list(average([*a, *b]))
        values = outcomes(a, rows) - outcomes(b, rows)
        return contrast(values, [self.cluster(row) for row in rows], reach=1.0)


def publics_report(run: Finished) -> PublicsReport | None:
    """None where the experiment names no publics."""
    publics, measured = run.experiment.publics, run.measured
    if publics is None or not measured.publics:
        return None
    labels = {
        group: {row.pair_id: row.p_a for row in read_jsonl(artifact / "labels.jsonl", Label)
                if row.pair_id in run.held_out.pairs}
        for group, artifact in measured.publics.items()
    }  # fmt: skip
    those = families_of(run.experiment)
    measures = [
        measure(rates, list(publics.groups), those) for rates in _rates(run.cells, measured, run.held_out, labels)
    ]
    return PublicsReport(
        groups={group: len(raters) for group, raters in publics.groups.items()},
        among=[(a, b, among(labels[a], labels[b], run.held_out)) for a, b in combinations(labels, 2)],
        constitutions={
            group: run.experiment.arms[arm].constitution.file for group, arm in constitutions_of(run.experiment).items()
        },
        measures=[each for each in measures if any(e.n for row in each.rows for e in row.by.values())],
    )


def _rates(
    cells: Sequence[Cell], measured: Measured, held_out: HeldOutPairs, labels: Mapping[str, Rows]
) -> list[_Rates]:
    with_reward = [cell for cell in cells if cell.name in held_out.margins]
    agreement = _Rates(
        "agreement", with_reward, lambda cell, group: held_out.agreement(held_out.margins[cell.name], labels[group]),
        held_out.cluster,
    )  # fmt: skip
    played = with_policy(cells) if measured.public_games else []
    wins = _Rates(
        "wins", played, lambda cell, group: wins_of(measured.public_games[group, cell.name]), lambda prompt: prompt
    )
    return [rates for rates in (agreement, wins) if rates.cells]


def among(first: Rows, second: Rows, held_out: HeldOutPairs) -> Estimate:
    """How often two groups want the same answer, of the pairs that both decided."""
    decided = {row: p for row, p in first.items() if p != 0.5}
    same = held_out.agreement(decided, second)
    return statistics.mean(list(same.values()), [held_out.cluster(row) for row in same])


def measure(rates: _Rates, groups: Sequence[str], those: Sequence[Family]) -> PublicsMeasure:
    arms = {cell.arm: str(cell.settings.labels) for cell in rates.cells}
    lines = [
        _line(rates, group, family) for family in those if set(family.arms) <= arms.keys() for group in groups
    ]  # fmt: skip
    lines = [line for line in lines if line.difference.n]
    worst = [_worst(rates, family, groups) for family in those if set(family.arms) <= arms.keys()]
    return PublicsMeasure(
        key=rates.key, title=MEASURES[rates.key],
        rows=[_row(rates, arm, labels, groups) for arm, labels in arms.items()], lines=lines,
        worst=[each for each in worst if each], sentences=sentences(rates.key, lines, [each for each in worst if each]),
    )  # fmt: skip


def _row(rates: _Rates, arm: str, labels: str, groups: Sequence[str]) -> PublicsRow:
    means = {group: average(rates.seeds(arm, group)) for group in groups}
    by_group = [(list(rows.values()), [rates.cluster(row) for row in rows]) for rows in means.values()]
    by = {group: rates.mean(arm, group) for group in groups}
    return PublicsRow(arm=arm, labels=labels, by=by, welfare=welfare(by_group))


def _line(rates: _Rates, group: str, family: Family) -> PublicsLine:
    own, merged = family.own[group], family.merged
    found = rates.difference((merged, group), (own, group))
    return PublicsLine(
        group=group, arm=merged, over=own, own=rates.mean(own, group), merged=rates.mean(merged, group),
        difference=found.estimate, p=found.p, seeds=found.seeds,
    )  # fmt: skip


def _worst(rates: _Rates, family: Family, groups: Sequence[str]) -> WorstOff | None:
    """None where some group's rate is not known."""
    means = {group: rates.mean(family.merged, group) for group in groups}
    if not all(each.n for each in means.values()):
        return None
    least, second = sorted(groups, key=lambda group: means[group].value)[:2]
    gap = rates.difference((family.merged, least), (family.merged, second)).estimate
    return WorstOff(arm=family.merged, group=least, next=second, gap=gap)


# In words -------------------------------------------------------------------------------------------------------------


def sentences(key: Of, lines: Sequence[PublicsLine], worst: Sequence[WorstOff]) -> list[str]:
    """Who loses what by each merged arm, and who is worst off under it, no more than the intervals say."""
    told = []
    for arm in dict.fromkeys(line.arm for line in lines):
        mine = [line for line in lines if line.arm == arm]
        parts = []
        for way, of in (("loses", _below), ("gains", _above), ("is not shown to lose or gain", _neither)):
            if those := [line for line in mine if of(line.difference)]:
                amounts = "; ".join(f"{line.group} {_points(line.difference)}" for line in those)
                parts.append(f"{way}: {amounts}")
        seeds = mine[0].seeds
        over = f"over prompts and {seeds} seeds" if seeds > 1 else "for this seed only"
        told.append(f"By the arm {arm} instead of its own, {over} ({MEASURES[key]}), a group {', '.join(parts)}.")
        told += [_worst_in_words(each) for each in worst if each.arm == arm]
    return told


def _worst_in_words(of: WorstOff) -> str:
    shown = of.gap.n and of.gap.high < 0
    gap = f"{of.group} less {of.next}: {_points(of.gap)}" if of.gap.n else f"{of.group} and {of.next} share no prompt"
    if shown:
        return f"Worst off under {of.arm} is {of.group} ({gap})."
    return f"Who is worst off under {of.arm} cannot be told; {of.group} has the lowest rate ({gap})."


def _below(e: Estimate) -> bool:
    return bool(e.high < 0)


def _above(e: Estimate) -> bool:
    return bool(e.low > 0)


def _neither(e: Estimate) -> bool:
    return not (_below(e) or _above(e))


def _points(e: Estimate) -> str:
    """`−18.0 points [−26.9, −9.1]`"""
    value, low, high = (f"{100 * x:+.1f}".replace("-", "−") for x in (e.value, e.low, e.high))
    return f"{value} points" + ("" if np.isnan(e.low) else f" [{low}, {high}]")


def drawn(r: Mapping) -> list:
    """A plot a measure: rows are arms and groups, dots their rates."""
    found = r["publics"]
    pictures = []
    for each in found["measures"] if found else ():
        rows = [
            Dot(f"{row['arm']}, by {group}", estimate, plots.colour(row["arm"], r["arms"]))
            for group in found["groups"]
            for row in each["rows"]
            if plots.known(estimate := row["by"][group])
        ]
        title = (
            "Who is served by whose arm" if each["key"] == "agreement" else "Whose policy wins by whose constitution"
        )
        pictures.append(plots.dots(title, rows, Scale(each["title"], null=0.5)))
    return pictures


SECTION = ReportSection(
    "publics", "Several publics", PublicsReport | None, publics_report, chapter="rewards", draw=drawn,
    template="publics.html.jinja",
)  # fmt: skip
