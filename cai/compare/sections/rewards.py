"""Reward models on the held-out pairs: is their P(a better) calibrated, and do they agree with one another?

A reward model's P is the sigmoid of the difference of its two rewards, as it was trained (Ouyang et al. 2022,
section 3.5). Two that agree with people equally often may still prefer different answers, and RL follows them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cai.compare.cells import Cell
from cai.compare.measures import HeldOutPairs
from cai.compare.section import ReportSection
from cai.core.records import Estimate
from cai.stats import agreement, calibration
from cai.stats import intervals as statistics


@dataclass(frozen=True, slots=True)
class Agreeing:
    """agree: share of pairs on which both prefer the same answer; kappa: Cohen's."""

    agree: Estimate
    kappa: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModelReport:
    """A reward model against people's P. reliability: (mean P claimed, people's, rows) of each bin.

    with_others: other reward model -> how they go together.
    """

    model: str
    arm: str
    seed: int
    brier: Estimate
    ece: Estimate
    log_loss: Estimate
    reliability: list[tuple[float, float, int]]
    with_others: dict[str, Agreeing]


def rewards(cells: Sequence[Cell], held_out: HeldOutPairs) -> list[RewardModelReport]:
    """One entry for each reward model that was trained."""
    models = {str(cell.reward.path): cell for cell in reversed(cells) if cell.reward}
    names_of = {cell.name for cell in models.values()}
    trained = [cell for cell in cells if cell.name in names_of]
    reports = []
    for cell in trained:
        mine = held_out.margins[cell.name]
        judged = [row for row in mine if row in held_out.human]
        p, human = [mine[row] for row in judged], [held_out.human[row] for row in judged]
        clusters = [held_out.cluster(row) for row in judged]
        others = {}
        for other in trained:
            if other is not cell:
                theirs = held_out.margins[other.name]
                both = [row for row in mine if row in theirs]
                x, y = [mine[row] for row in both], [theirs[row] for row in both]
                names = [held_out.cluster(row) for row in both]
                kappa = agreement.kappa(x, y, names)
                others[other.name] = Agreeing(statistics.accuracy(x, y, names), kappa)
        reports.append(
            RewardModelReport(
                model=cell.name,
                arm=cell.arm,
                seed=cell.seed,
                brier=calibration.brier(p, human, clusters),
                ece=calibration.ece(p, human, clusters),
                log_loss=calibration.log_loss(p, human, clusters),
                reliability=calibration.reliability(p, human) if judged else [],
                with_others=others,
            )
        )
    return reports


SECTION = ReportSection(
    "rewards", "Reward models", list[RewardModelReport], lambda run: rewards(run.cells, run.held_out), empty=(),
    chapter="rewards", template="rewards.html.jinja",
)  # fmt: skip
