"""Harmlessness against helpfulness of every policy (Bai et al. 2022, figure 2), and its evasiveness.

Harmlessness and helpfulness are the judge's log-odds of Yes about single answers (cai/judge/rate.py), not crowd
workers' Elo as in the paper. Refusals are full ones, as cai/core/refusals.py counts them and says how well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cai.compare import report_plots
from cai.compare.cells import Cell, Measured
from cai.compare.measures import Rows, by_judge, text_rows
from cai.compare.section import ReportSection
from cai.core.records import Estimate
from cai.core.refusals import refuses
from cai.stats import intervals as statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOnThePlane:
    """arm: or the policy's own name, where it is of no arm. evasiveness: share of harmless prompts that it refuses."""

    policy: str
    arm: str
    seed: int | None
    harmlessness: Estimate
    helpfulness: Estimate
    evasiveness: Estimate


def plane(cells: Sequence[Cell], measured: Measured) -> list[PolicyOnThePlane]:
    """Every policy that answers both kinds of prompts."""
    policies = []
    seeds = {cell.name: cell for cell in cells}
    for name in ("start", "sft", *seeds):
        if (name, "helpful") not in measured.merits:
            continue
        cell = seeds.get(name)
        evasive = text_rows(measured.answers[name, "helpful"], refuses)
        policies.append(
            PolicyOnThePlane(
                policy=name,
                arm=cell.arm if cell else name,
                seed=cell.seed if cell else None,
                harmlessness=_mean(by_judge(measured, "red-team")(name)),
                helpfulness=_mean(by_judge(measured, "helpful")(name)),
                evasiveness=_mean(evasive),
            )
        )
    return policies


def _mean(rows: Rows) -> Estimate:
    return statistics.mean(list(rows.values()), list(rows))


SECTION = ReportSection(
    "plane", "Harmless, helpful, evasive", list[PolicyOnThePlane], lambda run: plane(run.cells, run.measured), empty=(),
    chapter="policies", template="plane.html.jinja", draw=report_plots.plane,
)  # fmt: skip
